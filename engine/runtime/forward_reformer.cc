// A Reformer as a function: whole sequences with a mask, other rounds of hashing or given rotations; a first piece and then single tokens; decoding, greedy or by beams.
#include <algorithm>
#include <cstring>

#include "engine/runtime/beam_text.h"
#include "engine/runtime/forward_parts.h"

namespace tern {
namespace {

class ReformerForward {
 public:
  ReformerForward(std::shared_ptr<const Model> model, const ReformerConfig& config, const ForwardOptions& options)
      : given_model_(std::move(model)), model_(given_model_), c_(config), options_(options) {}

  Result<std::vector<NamedTensor>> Run(const std::vector<NamedInput>& inputs) {
    for (const NamedInput& in : inputs) TERN_RETURN_IF_ERROR(Read(in));
    if (batch_ < 0) return UsageError("the input 'input_ids' is missing");
    if (batch_ == 0 || time_ == 0) return UsageError("the input 'input_ids' is empty");
    if (!mask_.empty() && mask_.size() != ids_.size()) return UsageError("the inputs have different shapes").Where("input 'attention_mask'").Got(mask_.size(), ids_.size());
    TERN_ASSIGN(const std::vector<int64_t> pieces, Pieces(options_, time_));
    TERN_RETURN_IF_ERROR(Check(pieces));
    if (rounds_ != c_.num_hashes) {
      TERN_ASSIGN(model_, model_->With("num_hashes", std::to_string(rounds_)));
    }
    TERN_RETURN_IF_ERROR(Outputs(pieces));
    if (options_.generate > 0) TERN_RETURN_IF_ERROR(Generate());
    return std::move(out_);
  }

 private:
  bool decoder() const { return c_.head == ReformerHead::kLm; }

  Status Read(const NamedInput& in) {
    const ConstTensor& t = in.tensor;
    if (in.name == "input_ids") {
      TERN_ASSIGN(ids_, InputIds(t, in.name, c_.vocab_size));
      batch_ = t.shape[0], time_ = t.shape[1];
      return {};
    }
    if (in.name == "attention_mask") {
      if (t.type == DType::boolean && t.shape.rank() == 2) {
        mask_.assign(t.as<uint8_t>(), t.as<uint8_t>() + t.shape.elements());
        return {};
      }
      TERN_ASSIGN(mask_, InputIds(t, in.name, 2));
      return {};
    }
    if (in.name == "num_hashes") {
      if ((t.type != DType::i64 && t.type != DType::i32) || t.shape.elements() != 1) return UsageError("an input has the wrong shape or type").Where("input 'num_hashes'").Got(t.shape, "one integer");
      rounds_ = t.type == DType::i64 ? *t.as<int64_t>() : *t.as<int32_t>();
      if (rounds_ < 1 || rounds_ > 256) return UsageError("the number of rounds is out of range").Where("input 'num_hashes'").Got(rounds_, "1 to 256");
      return {};
    }
    if (in.name == "rotations") {
      if (t.type != DType::f32 || t.shape.rank() != 4) return UsageError("an input has the wrong shape or type").Where("input 'rotations'").Got(Str(DTypeName(t.type), " ", t.shape), "f32, four dimensions");
      rotations_ = t;
      given_.assign(t.as<float>(), t.as<float>() + t.shape.elements());
      return {};
    }
    return UsageError("the model takes no such input").Where(Str("input '", Printable(in.name), "'")).Hint("It takes input_ids, attention_mask, num_hashes and rotations");
  }

  Status Check(const std::vector<int64_t>& pieces) const {
    if (pieces.size() > 1 && !decoder()) return UsageError("this head reads a sequence whole; --chunks is for language models");
    if (options_.generate > 0 && !decoder()) return UsageError("this head does not generate").Where("--generate");
    if (const int64_t padded = c_.PaddedLength(pieces[0]); padded > c_.longest())
      return UsageError("the sequence has more rows than the model has positions").Where("input 'input_ids'").Got(Str(pieces[0], " tokens, ", padded, " with padding"), Str("at most ", c_.longest()));
    if (time_ + options_.generate > c_.longest() + 1)
      return UsageError("the sequence is longer than the model's positions").Where("input 'input_ids'").Got(Str(time_ + options_.generate, " tokens"), Str("at most ", c_.longest()));
    if (given_.empty()) return {};
    LshSpec spec;
    spec.chunk = c_.lsh_chunk, spec.buckets = c_.buckets, spec.max_positions = c_.max_positions;
    const Shape wanted{c_.n_heads, c_.d_head, rounds_, BucketsFor(spec, c_.PaddedLength(pieces[0])).directions()};
    if (!(rotations_.shape == wanted)) return UsageError("the rotations do not fit").Where("input 'rotations'").Got(rotations_.shape, wanted);
    return {};
  }

  Result<std::unique_ptr<Session>> Open(std::vector<PlanRequest> plans, int64_t context, int64_t lanes) {
    SessionOptions options;
    options.batch = lanes, options.threads = options_.threads, options.cancel = options_.cancel;
    options.context = context;
    for (PlanRequest& p : plans) p.entry = decoder() ? "step" : "encode";
    options.plans = std::move(plans);
    TERN_ASSIGN(auto session, Session::Create(model_, options));
    if (!given_.empty()) TERN_RETURN_IF_ERROR(session->Bind("rotations", given_.data()));
    return session;
  }
  // The mask belongs to the first piece; a later token sees all that is kept, as published.
  Status Feed(Session* session, int64_t begin, int64_t count, LogitsMode logits, bool trace) {
    const std::vector<int32_t> ids = ColumnsOf(ids_, batch_, begin, count), mask = ColumnsOf(mask_, batch_, begin, count);
    TERN_RETURN_IF_ERROR(session->Bind("attention_mask", begin == 0 && !mask.empty() ? mask.data() : nullptr));
    Status s = session->Feed(ids, logits, {}, trace);
    TERN_RETURN_IF_ERROR(session->Bind("attention_mask", nullptr));
    return s;
  }

  Status Outputs(const std::vector<int64_t>& pieces) {
    const int64_t most = *std::max_element(pieces.begin(), pieces.end());
    TERN_ASSIGN(auto session, Open({{most, LogitsMode::kAll, options_.trace}}, pieces.size() > 1 ? time_ : 0, batch_));
    std::vector<Joined> joined;
    int64_t begin = 0;
    for (int64_t tokens : pieces) {
      TERN_RETURN_IF_ERROR(Feed(session.get(), begin, tokens, LogitsMode::kAll, options_.trace));
      if (begin == 0)
        for (const std::string& name : session->output_names()) {
          const Operand& o = session->output(name);
          TERN_ASSIGN(Joined j, Joined::Create(name, batch_, PerSequence(o) ? 1 : time_, o.cols));
          joined.push_back(std::move(j));
        }
      for (Joined& j : joined) j.Take(session->output(j.tensor.name), begin, PerSequence(session->output(j.tensor.name)) ? 1 : tokens);
      begin += tokens;
    }
    for (Joined& j : joined) {
      if (j.tensor.name == "start_logits" || j.tensor.name == "end_logits") j.tensor.shape = {batch_, time_};
      if (c_.head == ReformerHead::kSequence && j.tensor.name == "logits") j.tensor.shape = {batch_, c_.n_labels};
      out_.push_back(std::move(j.tensor));
    }
    return {};
  }
  bool PerSequence(const Operand& o) const { return c_.head == ReformerHead::kSequence && o.cols == c_.n_labels && o.rows == batch_; }

  // greedy_ids, beamK_ids [B, longest] i64: the prompt, then what was generated; rows end with the end symbol and are filled with padding.
  Status Generate() {
    // As published: generation of this model hands neither a mask nor another number of rounds on, nor rotations.
    mask_.clear(), given_.clear();
    model_ = given_model_;
    for (int64_t beams : options_.beams.empty() ? std::vector<int64_t>{1} : options_.beams) {
      std::vector<std::vector<int64_t>> rows(static_cast<size_t>(batch_));
      for (int64_t b = 0; b < batch_; ++b) rows[static_cast<size_t>(b)].assign(ids_.begin() + b * time_, ids_.begin() + (b + 1) * time_);
      TERN_RETURN_IF_ERROR(beams == 1 ? Greedy(&rows) : Beams(beams, &rows));
      size_t longest = 0;
      for (const auto& row : rows) longest = std::max(longest, row.size());
      NamedTensor t{beams == 1 ? "greedy_ids" : Str("beam", beams, "_ids"), DType::i64, {batch_, static_cast<int64_t>(longest)}, {}};
      for (auto& row : rows) {
        row.resize(longest, c_.pad_token_id);
        t.bytes.insert(t.bytes.end(), reinterpret_cast<const uint8_t*>(row.data()), reinterpret_cast<const uint8_t*>(row.data() + row.size()));
      }
      out_.push_back(std::move(t));
    }
    return {};
  }

  // The likeliest token at every step, all lanes together.
  Status Greedy(std::vector<std::vector<int64_t>>* rows) {
    TERN_ASSIGN(auto session, Open({{1, LogitsMode::kLast}, {time_, LogitsMode::kLast}}, time_ + options_.generate, batch_));
    TERN_RETURN_IF_ERROR(Feed(session.get(), 0, time_, LogitsMode::kLast, false));
    std::vector<uint8_t> done(rows->size());
    std::vector<int32_t> next(rows->size());
    for (int64_t step = 0; step < options_.generate; ++step) {
      const Operand& logits = session->output("logits");
      for (size_t b = 0; b < rows->size(); ++b) {
        const int64_t id = done[b] ? c_.pad_token_id : model_->kernels().argmax(logits.f32() + static_cast<int64_t>(b) * logits.stride, logits.cols);
        (*rows)[b].push_back(id);
        next[b] = static_cast<int32_t>(id);
        done[b] = done[b] || id == c_.eos_token_id;
      }
      if (std::all_of(done.begin(), done.end(), [](uint8_t d) { return d != 0; })) break;
      if (step + 1 < options_.generate) TERN_RETURN_IF_ERROR(session->Feed(next, LogitsMode::kLast));
    }
    return {};
  }

  // One sequence after the other.
  Status Beams(int64_t beams, std::vector<std::vector<int64_t>>* rows) {
    BeamOptions options;
    options.beams = beams, options.new_tokens = options_.generate;
    options.pad_id = static_cast<int32_t>(c_.pad_token_id), options.eos_id = c_.eos_token_id;
    TERN_ASSIGN(auto session, Open({{1, LogitsMode::kLast}, {time_, LogitsMode::kLast}}, time_ + options_.generate, beams));
    for (int64_t b = 0; b < batch_; ++b) {
      session->Reset();
      TERN_ASSIGN(const Decoded found, SearchText(*session, std::span<const int32_t>(ids_).subspan(static_cast<size_t>(b * time_), static_cast<size_t>(time_)), options));
      (*rows)[static_cast<size_t>(b)].insert((*rows)[static_cast<size_t>(b)].end(), found.ids.begin(), found.ids.end());
    }
    return {};
  }

  const std::shared_ptr<const Model> given_model_;
  std::shared_ptr<const Model> model_;  // with the rounds that were asked for
  const ReformerConfig c_;
  const ForwardOptions& options_;
  std::vector<int32_t> ids_, mask_;
  ConstTensor rotations_;
  std::vector<float> given_;
  int64_t batch_ = -1, time_ = 0, rounds_ = c_.num_hashes;
  std::vector<NamedTensor> out_;
};

}  // namespace

Result<std::vector<NamedTensor>> ForwardReformer(std::shared_ptr<const Model> model, const ReformerConfig& config, const std::vector<NamedInput>& inputs,
                                                 const ForwardOptions& options) {
  return ReformerForward(std::move(model), config, options).Run(inputs);
}

}  // namespace tern
