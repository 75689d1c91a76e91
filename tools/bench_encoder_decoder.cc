#include "tools/bench_encoder_decoder.h"

#include <algorithm>
#include <numeric>

#include "engine/runtime/beam_search.h"
#include "tools/expert_picture.h"
#include "tools/text_to_text.h"

namespace tern {
namespace {

class Bench {
 public:
  Bench(std::shared_ptr<const Model> model, const EncoderDecoderWork& work, const RepeatFlags& flags, Console& console)
      : model_(std::move(model)), w_(work), flags_(flags), console_(console) {}

  Status Run() {
    EncoderDecoderOptions options;
    options.threads = static_cast<int>(flags_.threads), options.cancel = &console_.cancel(), options.observer = model_->pager() ? &usage_ : nullptr;
    options.beams = w_.beams;
    options.positions = w_.new_tokens > 0 ? w_.new_tokens : std::max<int64_t>(1, w_.decoder_ids.tokens);
    options.logits = w_.new_tokens > 0 ? LogitsMode::kLast : LogitsMode::kAll;
    TERN_ASSIGN(session_, EncoderDecoderSession::Create(model_, options));
    const double load_seconds = (static_cast<double>(NowNs()) - w_.begin_ns) * 1e-9;
    mask_.assign(w_.mask.values.begin(), w_.mask.values.end());
    for (int64_t b = 0; b < w_.ids.batch; ++b) {
      const size_t at = static_cast<size_t>(b * w_.ids.tokens), count = static_cast<size_t>(w_.ids.tokens);
      EncoderInput input{std::span<const int32_t>(w_.ids.values).subspan(at, count)};
      if (!mask_.empty()) input.mask = std::span<const uint8_t>(mask_).subspan(at, count);
      sources_.push_back(input);
    }
    BenchRow row;
    TERN_ASSIGN(row.measured, Repeat(flags_, console_.cancel(), [&] { return Pass(); }));
    if (w_.new_tokens > 0) {  // the steps alone; the source is prefill
      const size_t kept = std::min(row.measured.seconds.size(), decode_.size());
      const double cpu_share = row.measured.cpu_seconds / row.measured.Median();
      row.measured.seconds.assign(decode_.end() - static_cast<int64_t>(kept), decode_.end());
      prefill_.erase(prefill_.begin(), prefill_.end() - static_cast<int64_t>(kept));
      row.measured.cpu_seconds = cpu_share * row.measured.Median();
    }
    if (model_->pager()) {  // what is routed where: one pass more, untimed
      usage_.Start();
      TERN_RETURN_IF_ERROR(Pass());
    }
    return Report(row, load_seconds);
  }

 private:
  Status Pass() {
    int64_t begin = NowNs();
    TERN_RETURN_IF_ERROR(session_->Encode(sources_));
    if (w_.new_tokens == 0) return w_.decoder_ids.tokens > 0 ? session_->Decode(w_.decoder_ids.values) : Status();
    prefill_.push_back(static_cast<double>(NowNs() - begin) * 1e-9);
    begin = NowNs();
    TERN_RETURN_IF_ERROR(w_.beams == 1 ? Greedy() : Beams());
    decode_.push_back(static_cast<double>(NowNs() - begin) * 1e-9);
    return {};
  }

  Status Greedy() {
    std::vector<int32_t> next(static_cast<size_t>(session_->lanes()), static_cast<int32_t>(session_->network().t5().decoder_start_token_id));
    for (int64_t i = 0; i < w_.new_tokens; ++i) {
      TERN_RETURN_IF_ERROR(session_->Decode(next));
      const Operand& out = session_->output("logits");
      for (size_t b = 0; b < next.size(); ++b) next[b] = static_cast<int32_t>(model_->kernels().argmax(out.f32() + static_cast<int64_t>(b) * out.stride, out.cols));
    }
    return {};
  }

  // Exactly new_tokens steps: no end symbol.
  Status Beams() {
    const T5Config& c = session_->network().t5();
    BeamOptions options;
    options.beams = w_.beams, options.new_tokens = w_.new_tokens, options.early_stopping = EarlyStopping::kFirst, options.eos_id = -1;
    options.start_id = static_cast<int32_t>(c.decoder_start_token_id), options.pad_id = static_cast<int32_t>(c.pad_token_id);
    std::vector<BeamSearch> searches;
    for (int64_t s = 0; s < session_->sources(); ++s) searches.emplace_back(options, c.vocab_size, model_->kernels());
    std::vector<int32_t> next(static_cast<size_t>(session_->lanes()), options.start_id), parents(next.size());
    for (int64_t i = 0; i < w_.new_tokens; ++i) {
      TERN_RETURN_IF_ERROR(session_->Decode(next));
      const Operand& out = session_->output("logits");
      for (size_t s = 0; s < searches.size(); ++s) {
        const size_t first = s * static_cast<size_t>(w_.beams);
        TERN_RETURN_IF_ERROR(searches[s].Step(out.f32() + static_cast<int64_t>(first) * out.stride, out.stride));
        for (size_t k = 0; k < static_cast<size_t>(w_.beams); ++k)
          next[first + k] = searches[s].tokens()[k], parents[first + k] = static_cast<int32_t>(first) + searches[s].parents()[k];
      }
      session_->Reorder(parents);
    }
    return {};
  }

  StepCost Cost() const {
    EntryOptions entry;
    entry.sources = w_.ids.batch, entry.source_tokens = w_.ids.tokens, entry.batch = session_->lanes(), entry.positions = session_->options().positions;
    if (w_.new_tokens > 0) {
      entry.entry = "decode", entry.tokens = 1, entry.logits = LogitsMode::kLast;
      StepCost one = CostOf(*model_, entry, static_cast<double>(w_.ids.tokens));
      return {one.flops * static_cast<double>(w_.new_tokens), one.bytes * static_cast<double>(w_.new_tokens)};
    }
    entry.entry = "encode", entry.tokens = w_.ids.batch * w_.ids.tokens;
    StepCost cost = CostOf(*model_, entry, static_cast<double>(w_.ids.tokens));
    if (w_.decoder_ids.tokens > 0) {
      entry.entry = "decode", entry.tokens = w_.decoder_ids.tokens;
      const StepCost decode = CostOf(*model_, entry, static_cast<double>(w_.ids.tokens));
      cost.flops += decode.flops, cost.bytes += decode.bytes;
    }
    return cost;
  }

  Status Report(BenchRow& row, double load_seconds) {
    TERN_ASSIGN(const Machine machine, MeasureMachine(flags_.threads, model_->kernels(), model_->file().mapped()->bytes()));
    row.json = CommonJson(w_.verb, row.measured, machine);
    const bool decodes = w_.new_tokens > 0;
    const int64_t tokens = decodes ? w_.new_tokens * w_.ids.batch : w_.ids.batch * w_.ids.tokens;
    const double rate = static_cast<double>(tokens) / row.measured.Median();
    if (decodes) row.json["prefill_seconds"] = prefill_, row.json["tokens_per_second"] = rate;
    else row.json["tokens"] = tokens;
    AddMemory(&row.json, load_seconds, session_->memory(), *model_, flags_);
    if (model_->pager()) row.json["experts"] = ExpertJson(*model_), row.json["experts"]["layers"] = ExpertLayersJson(usage_);
    row.work = decodes ? Str(w_.new_tokens, " tokens after ", w_.ids.tokens, w_.beams > 1 ? Str(", ", w_.beams, " beams") : "") : Str(w_.ids.batch, "x", w_.ids.tokens, " tokens");
    row.extra = Fixed(rate, 1) + " tok/s";
    const StepCost cost = Cost();
    SetBound(&row, cost.flops, cost.bytes, machine);
    RepeatFlags flags = flags_;
    if (model_->pager()) flags.svg.reset();  // of these models the picture is where tokens went
    TERN_RETURN_IF_ERROR(ReportBench(w_.verb, {row}, machine, flags, console_));
    if (!model_->pager()) return {};
    if (!console_.json) {
      console_.Print("\n" + ExpertTable(usage_, console_));
      console_.Note(ExpertSummary(*model_));
    }
    if (!flags_.svg) return {};
    return WriteExpertSvg(*flags_.svg, Str("tern ", w_.verb, ", ", row.work, ": tokens per layer and expert"), usage_);
  }

  std::shared_ptr<const Model> model_;
  const EncoderDecoderWork& w_;
  const RepeatFlags& flags_;
  Console& console_;
  std::unique_ptr<EncoderDecoderSession> session_;
  std::vector<uint8_t> mask_;
  std::vector<EncoderInput> sources_;
  std::vector<double> prefill_, decode_;
  ExpertUsage usage_;
};

}  // namespace

Status BenchEncoderDecoder(const std::shared_ptr<const Model>& model, const EncoderDecoderWork& work, const RepeatFlags& flags, Console& console) {
  return Bench(model, work, flags, console).Run();
}

}  // namespace tern
