#include "engine/runtime/seq2seq.h"

#include <cmath>
#include <limits>
#include <memory>

namespace tern {
namespace {

// One lane per source.
class OneByOne {
 public:
  OneByOne(EncoderDecoderSession& session, const Seq2seqOptions& options, const std::function<bool(int32_t)>& on_token, std::vector<Decoded>* out)
      : session_(session), config_(session.network().t5()), o_(options), on_token_(on_token), out_(*out) {}

  Status Run() {
    const size_t lanes = static_cast<size_t>(session_.lanes());
    ids_.assign(lanes, static_cast<int32_t>(config_.decoder_start_token_id));
    open_.assign(lanes, 1);
    out_.assign(lanes, {});
    row_.resize(o_.no_repeat_ngram_size > 0 ? static_cast<size_t>(config_.vocab_size) : 0);
    for (size_t i = 0; i < lanes; ++i) {
      SamplerOptions sampler = o_.sampler;
      sampler.seed += i;
      samplers_.emplace_back(sampler, config_.vocab_size, session_.model().kernels());
      out_[i].ids.reserve(static_cast<size_t>(o_.new_tokens + 1));
      out_[i].ids.push_back(ids_[i]);
    }
    size_t left = lanes;
    for (int64_t step = 0; step < o_.new_tokens && left > 0; ++step) {
      TERN_RETURN_IF_ERROR(session_.Decode(ids_));
      const Operand& logits = session_.output("logits");
      for (size_t i = 0; i < lanes; ++i) {
        ids_[i] = static_cast<int32_t>(config_.pad_token_id);
        if (!open_[i]) continue;
        TERN_RETURN_IF_ERROR(Choose(i, logits.f32() + static_cast<int64_t>(i) * logits.stride));
        if (!open_[i]) --left;
      }
    }
    return {};
  }

 private:
  Status Choose(size_t lane, const float* logits) {
    const size_t vocabulary = static_cast<size_t>(config_.vocab_size);
    if (o_.no_repeat_ngram_size > 0) {
      std::copy_n(logits, vocabulary, row_.begin());
      BanRepeats(out_[lane].ids, o_.no_repeat_ngram_size, row_.data());
      logits = row_.data();
    }
    const int32_t id = samplers_[lane].Sample({logits, vocabulary});
    if (id < 0) return Status(Code::kNumeric, "the logits are not finite").Hint("Check the weights with tern verify");
    samplers_[lane].Accept(id);
    out_[lane].ids.push_back(id);
    ids_[lane] = id;
    out_[lane].ended = !o_.ignore_eos && id == config_.eos_token_id;
    if (out_[lane].ended || (on_token_ && !on_token_(id))) open_[lane] = 0;
    return {};
  }

  EncoderDecoderSession& session_;
  const T5Config& config_;
  const Seq2seqOptions& o_;
  const std::function<bool(int32_t)>& on_token_;
  std::vector<Decoded>& out_;
  std::vector<int32_t> ids_;
  std::vector<uint8_t> open_;
  std::vector<float> row_;
  std::vector<Sampler> samplers_;
};

Status Beams(EncoderDecoderSession& session, const Seq2seqOptions& o, std::vector<Decoded>* out) {
  const T5Config& c = session.network().t5();
  BeamOptions options;
  options.beams = session.options().beams;
  options.new_tokens = o.new_tokens, options.length_penalty = o.length_penalty, options.early_stopping = o.early_stopping;
  options.no_repeat_ngram_size = o.no_repeat_ngram_size;
  options.start_id = static_cast<int32_t>(c.decoder_start_token_id), options.pad_id = static_cast<int32_t>(c.pad_token_id);
  options.eos_id = o.ignore_eos ? -1 : c.eos_token_id;
  std::vector<BeamSearch> searches;
  for (int64_t s = 0; s < session.sources(); ++s) searches.emplace_back(options, c.vocab_size, session.model().kernels());
  std::vector<int32_t> ids(static_cast<size_t>(session.lanes()), options.start_id), parents(ids.size());
  Status status;
  for (bool open = o.new_tokens > 0; open;) {
    status = session.Decode(ids);
    if (!status.ok()) break;
    const Operand& logits = session.output("logits");
    open = false;
    for (size_t s = 0; s < searches.size(); ++s) {
      const size_t first = s * static_cast<size_t>(options.beams);
      TERN_RETURN_IF_ERROR(searches[s].Step(logits.f32() + static_cast<int64_t>(first) * logits.stride, logits.stride));
      for (size_t k = 0; k < static_cast<size_t>(options.beams); ++k) {
        ids[first + k] = searches[s].tokens()[k];
        parents[first + k] = static_cast<int32_t>(first) + searches[s].parents()[k];
      }
      open = open || !searches[s].done();
    }
    if (open) session.Reorder(parents);
  }
  out->clear();
  for (const BeamSearch& search : searches) {
    const auto best = search.best();
    out->push_back({{best.begin(), best.end()}, search.best_score(), best.size() > 1 && best.back() == options.eos_id});
  }
  return status;
}

}  // namespace

Status DecodeSources(EncoderDecoderSession& session, std::span<const EncoderInput> sources, const Seq2seqOptions& options, const std::function<bool(int32_t)>& on_token,
                     std::vector<Decoded>* out) {
  if (!session.network().t5().head) return UsageError("the model has no output head: it cannot write").File(session.model().file().path());
  TERN_RETURN_IF_ERROR(session.Encode(sources));
  return session.options().beams > 1 ? Beams(session, options, out) : OneByOne(session, options, on_token, out).Run();
}

Result<TargetScore> ScoreTarget(EncoderDecoderSession& session, const EncoderInput& source, std::span<const int32_t> target) {
  const T5Config& c = session.network().t5();
  if (!c.head) return UsageError("the model has no output head: it cannot score").File(session.model().file().path());
  if (target.empty()) return UsageError("the target is empty");
  for (int32_t id : target)
    if (id < 0 || id >= c.vocab_size) return UsageError("a token id lies outside the vocabulary").Got(id, Str("0 to ", c.vocab_size - 1));
  TERN_RETURN_IF_ERROR(session.Encode({&source, 1}));
  std::vector<int32_t> in{static_cast<int32_t>(c.decoder_start_token_id)};
  in.insert(in.end(), target.begin(), target.end() - 1);
  TERN_RETURN_IF_ERROR(session.Decode(in));
  const Operand& logits = session.output("logits");
  TargetScore score;
  for (size_t t = 0; t < target.size(); ++t) {
    const float* row = logits.f32() + static_cast<int64_t>(t) * logits.stride;
    score.log_probs.push_back(row[target[t]] - session.model().kernels().log_sum_exp(row, logits.cols));
    score.nll -= static_cast<double>(score.log_probs.back());
    ++score.tokens;
  }
  if (!std::isfinite(score.nll)) return Status(Code::kNumeric, "the logits are not finite").Hint("Check the weights with tern verify");
  return score;
}

}  // namespace tern
