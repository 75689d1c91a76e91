#include "engine/runtime/encoder_session.h"

#include <algorithm>
#include <limits>

#include "models/reformer.h"

namespace tern {

Result<std::unique_ptr<EncoderSession>> EncoderSession::Create(std::shared_ptr<const Model> model, const EncoderOptions& options) {
  const auto* network = dynamic_cast<const EncoderNetwork*>(&model->network());
  if (!network) return UsageError("the model is no encoder").File(model->file().path()).Got(model->network().architecture(), "albert, bert, roberta or distilbert");
  const std::vector<std::string> entries = network->entries();
  if (std::find(entries.begin(), entries.end(), options.entry) == entries.end())
    return UsageError(Str("a model of kind ", network->architecture(), " with this head has no entry '", options.entry, "'")).File(model->file().path());
  std::unique_ptr<EncoderSession> s(new EncoderSession());
  s->whole_ = dynamic_cast<const ReformerNetwork*>(network) != nullptr;
  s->model_ = std::move(model);
  s->network_ = network;
  s->options_ = options;
  s->gang_ = std::make_unique<Gang>(options.threads);
  return s;
}

int64_t EncoderSession::longest() const {
  const EncoderConfig& c = network_->encoder();
  return c.max_length > 0 ? std::min(c.max_length, c.longest()) : c.longest();
}

// Plans for at least these capacities; grows by half so that a stream of batches settles.
Status EncoderSession::Grow(int64_t rows, int64_t sequences) {
  if (executor_ && rows <= row_capacity_ && sequences <= sequence_capacity_) return {};
  EntryOptions entry;
  entry.entry = options_.entry, entry.logits = options_.logits, entry.trace = options_.trace;
  entry.tokens = executor_ ? std::max(rows, row_capacity_ + row_capacity_ / 2) : rows;
  entry.batch = executor_ ? std::max(sequences, sequence_capacity_ + sequence_capacity_ / 2) : sequences;
  Builder b;
  network_->Build(entry, b);
  TERN_RETURN_IF_ERROR(b.status());
  TERN_ASSIGN(Plan plan, MakePlan(std::move(b).TakeGraph(), QueriesFor(*model_, gang_->threads())));
  const int64_t limit = options_.memory_limit > 0 ? options_.memory_limit : AvailableMemory();
  if (plan.run.arena_bytes > limit)
    return MemoryError("the batch would exceed memory").File(model_->file().path()).Got(Str("needs ", plan.run.arena_bytes, " bytes"), Str("at most ", limit)).Hint("Use smaller batches");
  executor_.reset();
  arena_ = Region();
  TERN_ASSIGN(arena_, Region::Create(plan.run.arena_bytes));
  memory_ = {model_->weight_bytes(), plan.constants_bytes, 0, plan.run.arena_bytes, 0};
  executor_ = std::make_unique<Executor>(*model_, std::move(plan), arena_.data(), nullptr, gang_->threads());
  row_capacity_ = entry.tokens, sequence_capacity_ = entry.batch;
  return {};
}

Status EncoderSession::Pack(std::span<const EncoderInput> batch) {
  const EncoderConfig& c = network_->encoder();
  ids_.clear(), types_.clear(), positions_.clear(), starts_.clear(), first_rows_.clear(), key_bias_.clear(), row_of_.clear(), token_begin_.clear();
  biased_ = false;
  starts_.push_back(0);
  for (size_t s = 0; s < batch.size(); ++s) {
    const EncoderInput& in = batch[s];
    auto where = [&] { return Str("sequence ", s); };
    if (static_cast<int64_t>(in.ids.size()) > longest()) return UsageError("the sequence is too long").Where(where()).Got(Str(in.ids.size(), " tokens"), Str("at most ", longest()));
    if (in.ids.empty()) return UsageError("the sequence is empty").Where(where());
    if ((!in.type_ids.empty() && in.type_ids.size() != in.ids.size()) || (!in.mask.empty() && in.mask.size() != in.ids.size()))
      return UsageError("ids, types and mask have different lengths").Where(where());
    token_begin_.push_back(static_cast<int64_t>(row_of_.size()));
    first_rows_.push_back(static_cast<int32_t>(ids_.size()));
    int64_t counted = 0;  // RoBERTa: tokens that are no padding, so far
    for (size_t i = 0; i < in.ids.size(); ++i) {
      const int32_t id = in.ids[i], type = in.type_ids.empty() ? 0 : in.type_ids[i];
      if (id < 0 || id >= c.vocab_size) return UsageError("a token id lies outside the vocabulary").Where(where()).Got(id, Str("0 to ", c.vocab_size - 1));
      if (c.type_vocab_size > 0 && (type < 0 || type >= c.type_vocab_size)) return UsageError("a token type is out of range").Where(where()).Got(type, Str("0 to ", c.type_vocab_size - 1));
      const bool key = in.mask.empty() || in.mask[i] != 0;
      const bool padding = c.family == EncoderFamily::kRoberta && id == c.pad_token_id;
      if (!padding) ++counted;
      const int64_t position = c.family == EncoderFamily::kRoberta ? c.pad_token_id + (padding ? 0 : counted) : static_cast<int64_t>(i);
      // The first row stays even if it is masked: heads read it.
      if (!key && i > 0) {
        row_of_.push_back(-1);
        continue;
      }
      row_of_.push_back(key ? static_cast<int64_t>(ids_.size()) : -1);
      ids_.push_back(id), types_.push_back(type), positions_.push_back(static_cast<int32_t>(position));
      key_bias_.push_back(key ? 0.0f : -std::numeric_limits<float>::infinity());
      biased_ = biased_ || !key;
    }
    starts_.push_back(static_cast<int32_t>(ids_.size()));
  }
  return {};
}

Status EncoderSession::Run(std::span<const EncoderInput> batch, std::span<const Place> selected) {
  if (batch.empty()) return UsageError("the batch is empty");
  TERN_RETURN_IF_ERROR(Pack(batch));
  selected_.clear();
  for (const Place& p : selected) {
    if (p.sequence < 0 || p.sequence >= static_cast<int64_t>(batch.size()) || p.position < 0 ||
        p.position >= static_cast<int64_t>(batch[static_cast<size_t>(p.sequence)].ids.size()) || RowOf(p.sequence, p.position) < 0)
      return UsageError("a selected token is not in the batch");
    selected_.push_back(static_cast<int32_t>(RowOf(p.sequence, p.position)));
  }
  if (whole_) return RunWhole(batch);
  const int64_t sequences = static_cast<int64_t>(batch.size());
  TERN_RETURN_IF_ERROR(Grow(std::max(rows(), static_cast<int64_t>(selected_.size())), sequences));

  RunContext run;
  run.gang = gang_.get(), run.model = model_.get(), run.cancel = options_.cancel, run.observer = options_.observer;
  run.lengths = {rows(), sequences, sequences + 1, static_cast<int64_t>(selected_.size())};
  // By name, in the order the graph has them.
  std::array<const void*, 8> inputs{};
  const auto& named = executor_->plan().graph.inputs;
  for (size_t i = 0; i < named.size() && i < inputs.size(); ++i) {
    const std::string& name = named[i].name;
    if (name == "input_ids") inputs[i] = ids_.data();
    else if (name == "token_type_ids") inputs[i] = types_.data();
    else if (name == "position_ids") inputs[i] = positions_.data();
    else if (name == "starts") inputs[i] = starts_.data();
    else if (name == "first_rows") inputs[i] = first_rows_.data();
    else if (name == "rows") inputs[i] = selected_.data();
    else if (name == "key_bias") inputs[i] = biased_ ? key_bias_.data() : nullptr;
    else return InternalError(Str("nothing to bind to the input '", name, "'"));
  }
  Status status;
  gang_->Run([&] { status = executor_->Run(run, {inputs.data(), named.size()}); });
  return status;
}

// Packed rows as Pack made them are still the rows of the outputs, but every sequence is given whole, with its mask.
Status EncoderSession::RunWhole(std::span<const EncoderInput> batch) {
  gathered_.clear();
  std::vector<int32_t> mask;
  for (size_t s = 0; s < batch.size(); ++s) {
    const EncoderInput& in = batch[s];
    const int64_t tokens = static_cast<int64_t>(in.ids.size());
    if (!session_ || session_->max_tokens() < tokens) {
      SessionOptions options;
      options.threads = gang_->threads(), options.memory_limit = options_.memory_limit, options.cancel = options_.cancel;
      options.context = 0;
      options.plans = {{tokens, LogitsMode::kAll, options_.trace, options_.entry}};
      session_.reset();
      TERN_ASSIGN(session_, Session::Create(model_, options));
      memory_ = session_->memory();
    }
    session_->Reset();
    mask.assign(in.mask.begin(), in.mask.end());
    TERN_RETURN_IF_ERROR(session_->Bind("attention_mask", mask.empty() ? nullptr : mask.data()));
    TERN_RETURN_IF_ERROR(session_->Feed(in.ids, LogitsMode::kAll, {}, options_.trace));
    const auto names = session_->output_names();
    gathered_.resize(names.size());
    for (size_t i = 0; i < names.size(); ++i) {
      const Operand& o = session_->output(names[i]);
      Gathered& g = gathered_[i];
      g.name = names[i], g.operand.cols = g.operand.stride = o.cols;
      g.per_token = network_->encoder().head != EncoderHead::kSequence || names[i] != "logits";
      auto take = [&](int64_t row) { g.values.insert(g.values.end(), o.f32() + row * o.stride, o.f32() + row * o.stride + o.cols); };
      if (!g.per_token) {
        take(0);
      } else if (selected_.empty() || names[i] != "logits") {
        // The first row is there even if it is masked.
        for (int64_t t = 0; t < tokens; ++t)
          if (t == 0 || RowOf(static_cast<int64_t>(s), t) >= 0) take(t);
      } else {
        for (int32_t row : selected_)
          for (int64_t t = 0; t < tokens; ++t)
            if (RowOf(static_cast<int64_t>(s), t) == row) take(t);
      }
    }
  }
  for (Gathered& g : gathered_) {
    g.operand.data = reinterpret_cast<uint8_t*>(g.values.data());
    g.operand.rows = static_cast<int64_t>(g.values.size()) / std::max<int64_t>(1, g.operand.cols);
  }
  return {};
}

const Operand& EncoderSession::output(std::string_view name) const {
  for (const Gathered& g : gathered_)
    if (g.name == name) return g.operand;
  static const Operand none;
  return whole_ ? none : executor_->output(name);
}

std::vector<std::string> EncoderSession::output_names() const {
  std::vector<std::string> names;
  for (const Gathered& g : gathered_) names.push_back(g.name);
  if (whole_) return names;
  for (const auto& out : executor_->plan().graph.outputs) names.push_back(out.name);
  return names;
}

bool EncoderSession::per_token(std::string_view name) const {
  for (const Gathered& g : gathered_)
    if (g.name == name) return g.per_token;
  if (whole_) return false;
  const Graph& g = executor_->plan().graph;
  for (const auto& out : g.outputs)
    if (out.name == name) return g.values[static_cast<size_t>(out.value)].extent.rows.length == 0;
  return false;
}

}  // namespace tern
