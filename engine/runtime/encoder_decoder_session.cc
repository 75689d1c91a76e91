#include "engine/runtime/encoder_decoder_session.h"

#include <algorithm>
#include <limits>

namespace tern {
namespace {

// What the inputs of a graph are bound to, by name in the graph's order.
struct Binding {
  std::string_view name;
  const void* data;
};
Status RunBound(Executor& executor, Gang& gang, const RunContext& run, std::initializer_list<Binding> bindings) {
  std::array<const void*, 8> inputs{};
  const auto& named = executor.plan().graph.inputs;
  for (size_t i = 0; i < named.size() && i < inputs.size(); ++i) {
    auto it = std::find_if(bindings.begin(), bindings.end(), [&](const Binding& b) { return b.name == named[i].name; });
    if (it == bindings.end()) return InternalError(Str("nothing to bind to the input '", named[i].name, "'"));
    inputs[i] = it->data;
  }
  Status status;
  gang.Run([&] { status = executor.Run(run, {inputs.data(), named.size()}); });
  return status;
}

std::vector<std::string> OutputNames(const Executor& executor) {
  std::vector<std::string> names;
  for (const auto& out : executor.plan().graph.outputs) names.push_back(out.name);
  return names;
}

}  // namespace

Result<std::unique_ptr<EncoderDecoderSession>> EncoderDecoderSession::Create(std::shared_ptr<const Model> model, const EncoderDecoderOptions& options) {
  const auto* network = dynamic_cast<const EncoderDecoderNetwork*>(&model->network());
  if (!network) return UsageError("the model is no encoder-decoder").File(model->file().path()).Got(model->network().architecture(), "t5 or switch");
  if (options.beams < 1 || options.beams > 1000) return UsageError("the number of beams is out of range").Got(options.beams, "1 to 1000");
  if (options.positions < 1 || options.positions > (1 << 24)) return UsageError("the number of new tokens is out of range").Got(options.positions, Str("1 to ", 1 << 24));
  std::unique_ptr<EncoderDecoderSession> s(new EncoderDecoderSession());
  s->model_ = std::move(model);
  s->network_ = network;
  s->options_ = options;
  s->gang_ = std::make_unique<Gang>(options.threads);
  return s;
}

Status EncoderDecoderSession::Pack(std::span<const EncoderInput> sources) {
  const T5Config& c = network_->t5();
  ids_.clear(), starts_.clear(), kept_rows_.clear(), kept_starts_.clear(), lane_starts_.clear(), source_lengths_.clear();
  key_bias_.clear(), row_of_.clear(), token_begin_.clear();
  biased_ = false, longest_ = 0;
  starts_.push_back(0), kept_starts_.push_back(0), lane_starts_.push_back(0);
  for (size_t s = 0; s < sources.size(); ++s) {
    const EncoderInput& in = sources[s];
    auto where = [&] { return Str("source ", s); };
    if (!in.mask.empty() && in.mask.size() != in.ids.size()) return UsageError("ids and mask have different lengths").Where(where());
    auto kept = [&](size_t i) { return in.mask.empty() || in.mask[i] != 0; };
    size_t first = 0, last = in.ids.size();
    while (last > 0 && !kept(last - 1)) --last;
    if (last == 0) return UsageError("the source is empty").Where(where());
    if (c.family == T5Family::kT5 || c.capacity_policy == CapacityPolicy::kNone)
      while (!kept(first)) ++first;
    token_begin_.push_back(static_cast<int64_t>(row_of_.size()));
    for (size_t i = 0; i < in.ids.size(); ++i) {
      const int32_t id = in.ids[i];
      if (id < 0 || id >= c.vocab_size) return UsageError("a token id lies outside the vocabulary").Where(where()).Got(id, Str("0 to ", c.vocab_size - 1));
      if (i < first || i >= last) {
        row_of_.push_back(-1);
        continue;
      }
      const int32_t row = static_cast<int32_t>(ids_.size());
      row_of_.push_back(row);
      ids_.push_back(id);
      key_bias_.push_back(kept(i) ? 0.0f : -std::numeric_limits<float>::infinity());
      if (kept(i)) kept_rows_.push_back(row);
      else biased_ = true;
    }
    starts_.push_back(static_cast<int32_t>(ids_.size()));
    source_lengths_.push_back(static_cast<int32_t>(kept_rows_.size()) - kept_starts_.back());
    kept_starts_.push_back(static_cast<int32_t>(kept_rows_.size()));
    lane_starts_.push_back(static_cast<int32_t>((s + 1) * static_cast<size_t>(options_.beams)));
    longest_ = std::max(longest_, static_cast<int64_t>(last - first));
  }
  sources_ = static_cast<int64_t>(sources.size());
  return {};
}

Result<std::unique_ptr<Executor>> EncoderDecoderSession::Prepare(const EntryOptions& entry, Region* arena, std::shared_ptr<const Region>* constants) {
  Builder b;
  network_->Build(entry, b);
  TERN_RETURN_IF_ERROR(b.status());
  TERN_ASSIGN(Plan plan, MakePlan(std::move(b).TakeGraph(), QueriesFor(*model_, gang_->threads())));
  const bool new_state = plan.state_bytes > state_.bytes();
  const int64_t needed = plan.run.arena_bytes + plan.constants_bytes + plan.constants.arena_bytes + (new_state ? plan.state_bytes : 0);
  const int64_t limit = options_.memory_limit > 0 ? options_.memory_limit : AvailableMemory();
  if (needed > limit)
    return MemoryError("the batch would exceed memory").File(model_->file().path()).Got(Str("needs ", needed, " bytes"), Str("at most ", limit)).Hint("Use shorter or fewer sources, fewer beams or fewer new tokens");
  if (new_state) {
    state_ = Region();
    TERN_ASSIGN(state_, Region::Create(plan.state_bytes));
  }
  TERN_ASSIGN(*arena, Region::Create(plan.run.arena_bytes));
  auto made = model_->Constants(plan.constants_key, plan.constants_bytes, [&](uint8_t* data) -> Status {
    TERN_ASSIGN(Region temporary, Region::Create(plan.constants.arena_bytes));
    Executor maker(*model_, plan, arena->data(), data, gang_->threads());
    return maker.ComputeConstants(temporary.data(), gang_.get());
  });
  if (!made.ok()) return made.status();
  *constants = std::move(made).value();
  memory_.constants_arena = std::max(memory_.constants_arena, plan.constants.arena_bytes);
  return std::make_unique<Executor>(*model_, std::move(plan), arena->data(), const_cast<uint8_t*>((*constants)->data()), gang_->threads());
}

// Plans of one entry share their constants.
void EncoderDecoderSession::CountMemory() {
  memory_.weights = model_->weight_bytes();
  memory_.state = state_.bytes();
  memory_.arena = encoder_arena_.bytes();
  std::vector<const Region*> constants{encoder_constants_.get()};
  for (const DecoderPlan& p : decoders_) {
    memory_.arena += p.arena.bytes();
    if (std::find(constants.begin(), constants.end(), p.constants.get()) == constants.end()) constants.push_back(p.constants.get());
  }
  memory_.constants = 0;
  for (const Region* region : constants) memory_.constants += region->bytes();
}

// One more batch of about this size costs nothing: capacities only grow, by half beyond the first.
Status EncoderDecoderSession::GrowEncoder() {
  const int64_t rows = static_cast<int64_t>(ids_.size());
  // The decoder's lanes are sources times beams, so a plan is for one number of sources.
  if (encoder_ && rows <= capacity_.tokens && sources_ == capacity_.sources && longest_ <= capacity_.source_tokens) return {};
  auto grown = [&](int64_t now, int64_t before) { return encoder_ && now > before ? std::max(now, before + before / 2) : std::max(now, before); };
  EntryOptions entry;
  entry.entry = "encode", entry.trace = options_.trace;
  entry.tokens = grown(rows, capacity_.tokens), entry.source_tokens = grown(longest_, capacity_.source_tokens);
  entry.sources = sources_, entry.batch = lanes(), entry.positions = options_.positions;
  decoders_.clear(), decoder_ = nullptr;
  encoder_.reset();
  encoder_arena_ = Region();
  TERN_ASSIGN(encoder_, Prepare(entry, &encoder_arena_, &encoder_constants_));
  capacity_ = entry;
  CountMemory();
  return {};
}

Status EncoderDecoderSession::GrowDecoder(int64_t tokens) {
  const DecoderPlan* best = nullptr;
  for (const DecoderPlan& p : decoders_)
    if (p.tokens >= tokens && (!best || p.tokens < best->tokens)) best = &p;
  // One token at a time is the loop; it gets a plan of its own beside a larger one.
  if (best && (tokens > 1 || best->tokens == 1)) {
    decoder_ = best->executor.get();
    return {};
  }
  EntryOptions entry = capacity_;
  entry.entry = "decode", entry.tokens = tokens, entry.logits = options_.logits;
  DecoderPlan plan{tokens, Region(), nullptr, nullptr};
  TERN_ASSIGN(plan.executor, Prepare(entry, &plan.arena, &plan.constants));
  decoder_ = plan.executor.get();
  decoders_.push_back(std::move(plan));
  CountMemory();
  return {};
}

Status EncoderDecoderSession::Encode(std::span<const EncoderInput> sources) {
  if (sources.empty()) return UsageError("the batch is empty");
  TERN_RETURN_IF_ERROR(Pack(sources));
  TERN_RETURN_IF_ERROR(GrowEncoder());
  RunContext run;
  run.gang = gang_.get(), run.model = model_.get(), run.cancel = options_.cancel, run.observer = options_.observer;
  run.states = state_.data();
  run.lengths = {static_cast<int64_t>(ids_.size()), sources_, sources_ + 1, static_cast<int64_t>(kept_rows_.size())};
  TERN_RETURN_IF_ERROR(RunBound(*encoder_, *gang_, run,
                                {{"input_ids", ids_.data()},
                                 {"starts", starts_.data()},
                                 {"key_bias", biased_ ? key_bias_.data() : nullptr},
                                 {"kept_rows", kept_rows_.data()},
                                 {"kept_starts", kept_starts_.data()}}));
  tokens_seen_ = 0;
  pages_.Reset(lanes(), options_.positions);
  return {};
}

Status EncoderDecoderSession::Decode(std::span<const int32_t> ids) {
  if (!encoder_ || !has_decoder()) return UsageError(has_decoder() ? "nothing was encoded yet" : "the model has an encoder only");
  const T5Config& c = network_->t5();
  const int64_t count = static_cast<int64_t>(ids.size()), tokens = count / lanes();
  if (count == 0 || count % lanes() != 0) return UsageError("the ids do not fill the lanes").Got(count, Str("a multiple of ", lanes()));
  if (tokens_seen_ + tokens > options_.positions) return UsageError("more tokens than the session was made for").Got(tokens_seen_ + tokens, Str("at most ", options_.positions));
  for (int32_t id : ids)
    if (id < 0 || id >= c.vocab_size) return UsageError("a token id lies outside the vocabulary").Got(id, Str("0 to ", c.vocab_size - 1));
  TERN_RETURN_IF_ERROR(GrowDecoder(tokens));
  const Plan& plan = decoder_->plan();
  pages_.Prepare(tokens_seen_, tokens, [&](int32_t from, int32_t to) {
    for (size_t i = 0; i < plan.graph.states.size(); ++i)
      if (plan.graph.states[i].paged) CopyKvPage(plan.graph.states[i], state_.data() + plan.state_offset[i], from, to);
  });
  RunContext run;
  run.gang = gang_.get(), run.model = model_.get(), run.cancel = options_.cancel, run.observer = options_.observer;
  run.states = state_.data();
  run.lengths = {tokens, sources_, sources_ + 1, 0};
  run.position = tokens_seen_;
  run.pages = pages_.tables(), run.pages_per_lane = pages_.per_lane();
  TERN_RETURN_IF_ERROR(RunBound(*decoder_, *gang_, run,
                                {{"decoder_input_ids", ids.data()}, {"lane_starts", lane_starts_.data()}, {"source_lengths", source_lengths_.data()}}));
  tokens_seen_ += tokens;
  return {};
}

Result<SessionPlan> PlanEncoderDecoder(const Model& model, const EncoderDecoderOptions& options, int64_t sources, int64_t source_tokens) {
  const int threads = options.threads > 0 ? options.threads : AvailableThreads();
  SessionPlan out;
  out.memory.weights = model.weight_bytes();
  int64_t arenas = 0;
  for (const std::string& name : model.network().entries()) {
    EntryOptions entry;
    entry.entry = name, entry.sources = sources, entry.source_tokens = source_tokens, entry.positions = options.positions;
    entry.batch = sources * options.beams, entry.tokens = name == "encode" ? sources * source_tokens : 1, entry.logits = options.logits;
    Builder b;
    model.network().Build(entry, b);
    TERN_RETURN_IF_ERROR(b.status());
    TERN_ASSIGN(Plan plan, MakePlan(std::move(b).TakeGraph(), QueriesFor(model, threads)));
    arenas += plan.run.arena_bytes;  // both are kept
    out.memory.state = std::max(out.memory.state, plan.state_bytes);
    out.memory.constants += plan.constants_bytes;
    out.memory.constants_arena = std::max(out.memory.constants_arena, plan.constants.arena_bytes);
    out.plans.push_back(std::move(plan));
  }
  out.memory.arena = arenas;
  return out;
}

std::vector<std::string> EncoderDecoderSession::encoded_names() const { return OutputNames(*encoder_); }
std::vector<std::string> EncoderDecoderSession::output_names() const { return OutputNames(*decoder_); }
int64_t EncoderDecoderSession::RowOf(int64_t source, int64_t position) const { return row_of_[static_cast<size_t>(token_begin_[static_cast<size_t>(source)] + position)]; }

}  // namespace tern
