#include "engine/runtime/encoder_session.h"

#include <algorithm>
#include <limits>

#include "models/reformer.h"

namespace tern {

// Groups are closed at this many rows: enough for the products to reach their speed, few enough for the widest activations to stay in the last cache.
constexpr int64_t kGroupRows = 128;

Result<std::unique_ptr<EncoderSession>> EncoderSession::Create(std::shared_ptr<const Model> model, const EncoderOptions& options) {
  const auto* network = dynamic_cast<const EncoderNetwork*>(&model->network());
  if (!network) return UsageError("the model is no encoder").File(model->file().path()).Got(model->network().architecture(), "albert, bert, roberta or distilbert");
  const std::vector<std::string> entries = network->entries();
  if (std::find(entries.begin(), entries.end(), options.entry) == entries.end())
    return UsageError(Str("a model of kind ", network->architecture(), " with this head has no entry '", options.entry, "'")).File(model->file().path());
  std::unique_ptr<EncoderSession> s(new EncoderSession());
  s->whole_ = s->gathers_ = dynamic_cast<const ReformerNetwork*>(network) != nullptr;
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
  MakeGroups(static_cast<int64_t>(batch.size()));
  int64_t most_rows = 0, most_sequences = 0;
  for (const Group& g : groups_) {
    most_rows = std::max({most_rows, int64_t{starts_[static_cast<size_t>(g.end)]} - starts_[static_cast<size_t>(g.begin)], g.selected});
    most_sequences = std::max(most_sequences, g.end - g.begin);
  }
  TERN_RETURN_IF_ERROR(Grow(most_rows, most_sequences));
  gathers_ = groups_.size() > 1;
  if (!gathers_) return RunGroup(groups_[0]);
  TERN_RETURN_IF_ERROR(PrepareGathered());
  for (const Group& g : groups_) {
    TERN_RETURN_IF_ERROR(RunGroup(g));
    Gather(g);
  }
  return {};
}

void EncoderSession::MakeGroups(int64_t sequences) {
  groups_.clear();
  for (int64_t s = 0; s < sequences; ++s) {
    if (groups_.empty() || starts_[static_cast<size_t>(s)] - starts_[static_cast<size_t>(groups_.back().begin)] >= kGroupRows) groups_.push_back({s, s, 0});
    groups_.back().end = s + 1;
  }
  for (Group& g : groups_)
    g.selected = std::count_if(selected_.begin(), selected_.end(), [&](int32_t row) { return row >= starts_[static_cast<size_t>(g.begin)] && row < starts_[static_cast<size_t>(g.end)]; });
}

Status EncoderSession::RunGroup(const Group& group) {
  const auto begin = static_cast<size_t>(group.begin), end = static_cast<size_t>(group.end);
  const int32_t row = starts_[begin], row_end = starts_[end];
  group_starts_.clear(), group_first_rows_.clear(), group_selected_.clear(), places_.clear();
  for (size_t s = begin; s <= end; ++s) group_starts_.push_back(starts_[s] - row);
  for (size_t s = begin; s < end; ++s) group_first_rows_.push_back(first_rows_[s] - row);
  for (size_t i = 0; i < selected_.size(); ++i)
    if (selected_[i] >= row && selected_[i] < row_end) group_selected_.push_back(selected_[i] - row), places_.push_back(i);
  bool biased = false;
  for (int32_t r = row; r < row_end; ++r) biased = biased || key_bias_[static_cast<size_t>(r)] != 0;

  RunContext run;
  run.gang = gang_.get(), run.model = model_.get(), run.cancel = options_.cancel, run.observer = options_.observer;
  run.lengths = {row_end - row, group.end - group.begin, group.end - group.begin + 1, group.selected};
  // By name, in the order the graph has them.
  std::array<const void*, 8> inputs{};
  const auto& named = executor_->plan().graph.inputs;
  for (size_t i = 0; i < named.size() && i < inputs.size(); ++i) {
    const std::string& name = named[i].name;
    if (name == "input_ids") inputs[i] = ids_.data() + row;
    else if (name == "token_type_ids") inputs[i] = types_.data() + row;
    else if (name == "position_ids") inputs[i] = positions_.data() + row;
    else if (name == "starts") inputs[i] = group_starts_.data();
    else if (name == "first_rows") inputs[i] = group_first_rows_.data();
    else if (name == "rows") inputs[i] = group_selected_.data();
    else if (name == "key_bias") inputs[i] = biased ? key_bias_.data() + row : nullptr;
    else return InternalError(Str("nothing to bind to the input '", name, "'"));
  }
  Status status;
  gang_->Run([&] { status = executor_->Run(run, {inputs.data(), named.size()}); });
  return status;
}

// A row of an output belongs to a token, a sequence or a selected token.
Status EncoderSession::PrepareGathered() {
  const Graph& g = executor_->plan().graph;
  gathered_.resize(g.outputs.size());
  int64_t bytes = 0;
  for (size_t i = 0; i < g.outputs.size(); ++i) {
    const Extent& extent = g.values[static_cast<size_t>(g.outputs[i].value)].extent;
    Gathered& to = gathered_[i];
    to.name = g.outputs[i].name, to.length = extent.rows.length;
    to.operand.rows = to.length == 0 ? rows() : static_cast<int64_t>(to.length == 1 ? first_rows_.size() : selected_.size());
    to.operand.cols = to.operand.stride = extent.cols;
    bytes += to.operand.rows * to.operand.cols * 4;
  }
  const int64_t arena = executor_->plan().run.arena_bytes;
  if (memory_.arena < arena + bytes) {
    const int64_t limit = options_.memory_limit > 0 ? options_.memory_limit : AvailableMemory();
    if (bytes > limit - arena)
      return MemoryError("the outputs of the batch would exceed memory").File(model_->file().path()).Got(Str("needs ", arena + bytes, " bytes"), Str("at most ", limit)).Hint("Use smaller batches");
    memory_.arena = arena + bytes;
  }
  for (Gathered& to : gathered_) {
    to.values.resize(static_cast<size_t>(to.operand.rows * to.operand.cols));
    to.operand.data = reinterpret_cast<uint8_t*>(to.values.data());
  }
  return {};
}

void EncoderSession::Gather(const Group& group) {
  for (Gathered& to : gathered_) {
    const Operand& o = executor_->output(to.name);
    for (int64_t r = 0; r < o.rows; ++r) {
      const int64_t row = to.length == 0   ? starts_[static_cast<size_t>(group.begin)] + r
                          : to.length == 1 ? group.begin + r
                                           : static_cast<int64_t>(places_[static_cast<size_t>(r)]);
      std::copy_n(o.f32() + r * o.stride, o.cols, to.values.begin() + row * o.cols);
    }
  }
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
      g.length = network_->encoder().head != EncoderHead::kSequence || names[i] != "logits" ? 0 : 1;
      auto take = [&](int64_t row) { g.values.insert(g.values.end(), o.f32() + row * o.stride, o.f32() + row * o.stride + o.cols); };
      if (g.length != 0) {
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
  static const Operand none;
  if (!gathers_) return executor_->output(name);
  for (const Gathered& g : gathered_)
    if (g.name == name) return g.operand;
  return none;
}

std::vector<std::string> EncoderSession::output_names() const {
  std::vector<std::string> names;
  if (gathers_)
    for (const Gathered& g : gathered_) names.push_back(g.name);
  else
    for (const auto& out : executor_->plan().graph.outputs) names.push_back(out.name);
  return names;
}

bool EncoderSession::per_token(std::string_view name) const {
  if (gathers_) {
    for (const Gathered& g : gathered_)
      if (g.name == name) return g.length == 0;
    return false;
  }
  const Graph& g = executor_->plan().graph;
  for (const auto& out : g.outputs)
    if (out.name == name) return g.values[static_cast<size_t>(out.value)].extent.rows.length == 0;
  return false;
}

}  // namespace tern
