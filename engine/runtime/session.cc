#include "engine/runtime/session.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace tern {
namespace {

// Sums and other plain arrays cannot be fed twice: a call that changes them is not cut short.
bool Indivisible(const Plan& plan) {
  return std::any_of(plan.graph.states.begin(), plan.graph.states.end(), [](const StateSpec& s) { return s.elements > 0; });
}

// Rows of memory a conversation starts with: positions 0 .. initial-1; the first token stands behind them.
int64_t InitialRows(const Plan& plan) {
  int64_t rows = 0;
  for (const StateSpec& s : plan.graph.states) rows = std::max(rows, s.initial);
  return rows;
}

}  // namespace

Result<SessionPlan> PlanSession(const Model& model, const SessionOptions& options) {
  if (options.plans.empty()) return InternalError("a session without plans");
  const std::vector<std::string> entries = model.network().entries();
  if (std::find(entries.begin(), entries.end(), options.plans[0].entry) == entries.end()) {
    return UsageError(Str("a model of kind ", model.network().architecture(), " is no decoder: it cannot be fed token by token")).File(model.file().path());
  }
  if (options.batch < 1 || options.batch > 65536) return UsageError("the batch is out of range").Got(options.batch, "1 to 65536");
  const int threads = options.threads > 0 ? options.threads : AvailableThreads();
  int64_t chunk = 1;
  for (const PlanRequest& p : options.plans) {
    if (p.tokens < 1 || p.tokens > (16 << 20)) return UsageError("the number of tokens at once is out of range").Got(p.tokens, Str("1 to ", 16 << 20));
    chunk = std::max(chunk, p.tokens);
  }
  SessionPlan out;
  out.memory.weights = model.weight_bytes();
  std::vector<std::string> keys;
  for (const PlanRequest& request : options.plans) {
    EntryOptions entry;
    entry.entry = request.entry, entry.context = options.context;
    if (options.retrieval.neighbors > 0) entry.entry = "retrieve";
    entry.neighbors = options.retrieval.neighbors, entry.neighbor_length = options.retrieval.length;
    entry.batch = options.batch, entry.tokens = request.tokens, entry.chunk = chunk, entry.logits = request.logits, entry.trace = request.trace;
    Builder b;
    model.network().Build(entry, b);
    TERN_RETURN_IF_ERROR(b.status());
    TERN_ASSIGN(Plan plan, MakePlan(std::move(b).TakeGraph(), QueriesFor(model, threads)));
    out.memory.arena = std::max(out.memory.arena, plan.run.arena_bytes);
    out.memory.state = plan.state_bytes;  // the same for every plan of a session: the chunk sizes it
    if (std::find(keys.begin(), keys.end(), plan.constants_key) == keys.end()) {
      keys.push_back(plan.constants_key);
      out.memory.constants += plan.constants_bytes;
      out.memory.constants_arena = std::max(out.memory.constants_arena, plan.constants.arena_bytes);
    }
    out.plans.push_back(std::move(plan));
  }
  return out;
}

Result<std::unique_ptr<Session>> Session::Create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  std::unique_ptr<Session> s(new Session());
  s->model_ = std::move(model);
  s->options_ = options;
  s->gang_ = std::make_unique<Gang>(options.threads);
  s->options_.threads = s->gang_->threads();
  TERN_ASSIGN(SessionPlan plan, PlanSession(*s->model_, s->options_));
  s->single_.resize(static_cast<size_t>(options.batch));
  s->memory_ = plan.memory;
  // Weights are file pages, which the system can drop: only what must be in memory counts against the limit.
  const int64_t needed = plan.memory.peak() - plan.memory.weights;
  const int64_t limit = options.memory_limit > 0 ? options.memory_limit : AvailableMemory();
  if (needed > limit)
    return MemoryError("the session would exceed memory").File(s->model_->file().path()).Got(Str("needs ", needed, " bytes"), Str("at most ", limit)).Hint("Use fewer tokens at once, a smaller batch or a shorter memory (--set mem_len=N)");
  TERN_ASSIGN(s->neighbors_, NeighborFeed::Create(s->model_->network(), options.retrieval, options.batch, s->max_tokens()));
  TERN_RETURN_IF_ERROR(s->Prepare(std::move(plan)));
  s->Reset();
  return s;
}

Status Session::Prepare(SessionPlan plan) {
  TERN_ASSIGN(arena_, Region::Create(plan.memory.arena));
  TERN_ASSIGN(state_, Region::Create(plan.memory.state));
  for (Plan& p : plan.plans) {
    const std::string key = p.constants_key;
    const int64_t bytes = p.constants_bytes;
    auto constants = model_->Constants(key, bytes, [&](uint8_t* data) -> Status {
      TERN_ASSIGN(Region temporary, Region::Create(p.constants.arena_bytes));
      Executor maker(*model_, p, arena_.data(), data, gang_->threads());
      return maker.ComputeConstants(temporary.data(), gang_.get());
    });
    if (!constants.ok()) return constants.status();
    executors_.push_back(std::make_unique<Executor>(*model_, std::move(p), arena_.data(), const_cast<uint8_t*>((*constants)->data()), gang_->threads()));
    constants_.push_back(std::move(constants).value());
  }
  last_ = executors_.front().get();
  return {};
}

void Session::Reset() {
  tokens_seen_ = segment_begin_ = segment_previous_ = segment_index_ = 0;
  const Plan& plan = executors_.front()->plan();
  for (size_t i = 0; i < plan.graph.states.size(); ++i) {
    const StateSpec& s = plan.graph.states[i];
    const float* row = s.initial_row < 0 ? nullptr
                                         : reinterpret_cast<const float*>(constants_.front()->data() + plan.offset[static_cast<size_t>(s.initial_row)]) +
                                               plan.graph.values[static_cast<size_t>(s.initial_row)].column;
    ResetState(s, state_.data() + plan.state_offset[i], row);
  }
}

Executor* Session::Choose(int64_t tokens, LogitsMode logits, bool trace) {
  Executor* best = nullptr;
  int64_t capacity = 0;
  for (size_t i = 0; i < options_.plans.size(); ++i) {
    const PlanRequest& p = options_.plans[i];
    if (p.logits == logits && p.trace == trace && p.tokens >= tokens && (!best || p.tokens < capacity)) best = executors_[i].get(), capacity = p.tokens;
  }
  return best;
}

Status Session::Feed(std::span<const int32_t> ids, LogitsMode logits, std::span<const int32_t> targets, bool trace) {
  const int64_t count = static_cast<int64_t>(ids.size());
  if (count == 0) return {};
  if (count % options_.batch != 0) return UsageError("the ids do not fill the batch").Got(count, Str("a multiple of ", options_.batch));
  const int64_t tokens = count / options_.batch;
  const SegmentRule rule = model_->network().segments();
  if (rule.one_by_one && tokens_seen_ > 0 && tokens > 1) return FeedOneByOne(ids, logits, trace);
  Executor* executor = Choose(tokens, logits, trace);
  if (!executor) return UsageError("more tokens at once than the session was made for").Got(tokens, Str("at most ", max_tokens()));
  const int64_t vocabulary = model_->network().vocab_size();
  for (int32_t id : ids)
    if (id < 0 || id >= vocabulary) return UsageError("a token id lies outside the vocabulary").Got(id, Str("0 to ", vocabulary - 1));
  const bool scored = logits == LogitsMode::kTarget;
  if (scored && targets.size() != ids.size()) return UsageError("there must be as many targets as ids").Got(targets.size(), ids.size());
  for (int32_t id : targets)
    if (id >= vocabulary) return UsageError("a target lies outside the vocabulary").Got(id, Str("0 to ", vocabulary - 1));

  // A full segment ends when the next one begins, not before: what follows a call may still look at it.
  const bool whole = rule.recurrent && options_.call_is_segment;
  if (rule.length > 0 && !whole && tokens > room())
    return UsageError("the tokens do not fit into the context").Got(tokens, Str("at most ", room())).Hint(Str("The model has ", rule.length, " positions"));
  int64_t begin = segment_begin_, previous = segment_previous_, index = segment_index_;
  if (rule.length == 0 || whole || (rule.recurrent && tokens_seen_ - segment_begin_ == rule.length)) {
    begin = tokens_seen_, previous = tokens_seen_ - segment_begin_;
    if (tokens_seen_ > 0) ++index;
    if (rule.recurrent) TERN_RETURN_IF_ERROR(model_->network().CheckSegment(tokens_seen_, previous, tokens));
  }

  RunContext run;
  run.gang = gang_.get(), run.model = model_.get(), run.cancel = options_.cancel, run.observer = options_.observer;
  if (run.cancel && Indivisible(executor->plan())) {
    if (run.cancel->cancelled()) return {Code::kCancelled, "cancelled"};
    run.cancel = nullptr;
  }
  run.states = state_.data();
  run.lengths[0] = tokens;
  run.lengths[1] = tokens_seen_ == 0 ? model_->network().padded_length(tokens) : tokens;
  const int64_t initial = InitialRows(executor->plan());
  run.position = initial + tokens_seen_;
  run.segment_begin = initial + begin, run.segment_previous = previous, run.segment_index = index;
  run.sticky_bins = extra_.sticky_bins.empty() ? nullptr : extra_.sticky_bins.data();
  std::array<const void*, 12> inputs{};
  const Graph& graph = executor->plan().graph;
  TERN_ASSIGN(int32_t* kept, BindInputs(ids, targets, &run, &inputs, graph));
  Status status;
  gang_->Run([&] { status = executor->Run(run, {inputs.data(), graph.inputs.size()}); });
  if (!status.ok()) return status;
  if (kept) neighbors_->End(ids, kept);
  last_ = executor;
  tokens_seen_ += tokens;
  segment_begin_ = begin, segment_previous_ = previous, segment_index_ = index;
  return {};
}

// The memory of every input of the graph, by name. Gives the state "chunk" of a session with retrieval.
Result<int32_t*> Session::BindInputs(std::span<const int32_t> ids, std::span<const int32_t> targets, RunContext* run, std::array<const void*, 12>* inputs,
                                     const Graph& graph) {
  int32_t* kept = nullptr;
  if (neighbors_) {
    const Plan& plan = executors_.front()->plan();
    for (size_t i = 0; i < plan.graph.states.size(); ++i)
      if (plan.graph.states[i].name == "chunk") kept = reinterpret_cast<int32_t*>(state_.data() + plan.state_offset[i]);
    TERN_RETURN_IF_ERROR(neighbors_->Begin(ids, tokens_seen_, kept));
    neighbors_->SetLengths(&run->lengths);
    if (neighbors_->indivisible()) run->cancel = nullptr;
  }
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const std::string& name = graph.inputs[i].name;
    const void* memory = name == "input_ids" ? ids.data() : name == "targets" ? targets.data() : neighbors_ ? neighbors_->Input(name) : nullptr;
    for (const auto& [bound, data] : bound_)
      if (bound == name) memory = data;
    if (name == "token_type_ids" && extra_.token_type_ids.size() == ids.size()) memory = extra_.token_type_ids.data();
    if ((!memory && !graph.inputs[i].optional && name != "token_type_ids") || i >= inputs->size()) return InternalError(Str("nothing to bind to the input '", name, "'"));
    (*inputs)[i] = memory;
  }
  return kept;
}

// Later tokens of a network that takes them singly. Only the last one's logits remain.
Status Session::FeedOneByOne(std::span<const int32_t> ids, LogitsMode logits, bool trace) {
  if (logits != LogitsMode::kLast && logits != LogitsMode::kNone)
    return UsageError("after the first piece of a text this model reads one token at a time").Got(ids.size() / static_cast<size_t>(options_.batch), "1");
  const size_t lanes = static_cast<size_t>(options_.batch), tokens = ids.size() / lanes;
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t lane = 0; lane < lanes; ++lane) single_[lane] = ids[lane * tokens + t];
    TERN_RETURN_IF_ERROR(Feed(single_, logits, {}, trace));
  }
  return {};
}

Status Session::Bind(std::string_view input, const void* data) {
  bool known = false;
  for (const auto& executor : executors_)
    for (const auto& named : executor->plan().graph.inputs) known = known || named.name == input;
  if (!known) return UsageError("the model takes no such input").Where(Str("input '", Printable(input), "'"));
  std::erase_if(bound_, [&](const auto& b) { return b.first == input; });
  if (data) bound_.emplace_back(input, data);
  return {};
}

std::vector<std::string> Session::output_names() const {
  std::vector<std::string> names;
  for (const auto& out : last_->plan().graph.outputs) names.push_back(out.name);
  return names;
}

int64_t Session::room() const {
  const SegmentRule rule = model_->network().segments();
  if (rule.length == 0 || (rule.recurrent && options_.call_is_segment)) return max_tokens();
  if (rule.one_by_one) {
    const int64_t context = options_.context < 0 ? rule.context : options_.context;
    if (tokens_seen_ > 0) return tokens_seen_ < std::min(context, rule.length) ? 1 : 0;
    return std::min({max_tokens(), rule.first, context > 0 ? context : rule.first});
  }
  const int64_t left = rule.length - (tokens_seen_ - segment_begin_);
  return std::min(max_tokens(), left == 0 && rule.recurrent ? rule.length : left);
}

int64_t Session::max_tokens() const {
  int64_t most = 0;
  for (const PlanRequest& p : options_.plans) most = std::max(most, p.tokens);
  return most;
}

Status Session::Reorder(std::span<const int32_t> parents) {
  if (static_cast<int64_t>(parents.size()) != options_.batch) return InternalError("a parent for every lane");
  if (spare_.bytes() < memory_.state) {
    TERN_ASSIGN(spare_, Region::Create(memory_.state));
  }
  const Plan& plan = executors_.front()->plan();
  for (size_t i = 0; i < plan.graph.states.size(); ++i) {
    const StateSpec& s = plan.graph.states[i];
    if (s.lanes != options_.batch) continue;  // what all lanes share
    const int64_t bytes = s.elements > 0 ? s.elements * static_cast<int64_t>(sizeof(float)) : s.heads * KvHeadBytes(s);
    uint8_t *from = state_.data() + plan.state_offset[i], *to = spare_.data() + plan.state_offset[i];
    for (int pass = 0; pass < 2; ++pass)  // aside, then back
      for (int64_t lane = 0; lane < s.lanes; ++lane) {
        const int64_t parent = parents[static_cast<size_t>(lane)];
        if (parent == lane) continue;
        if (pass == 0) std::memcpy(to + lane * bytes, from + parent * bytes, static_cast<size_t>(bytes));
        else std::memcpy(from + lane * bytes, to + lane * bytes, static_cast<size_t>(bytes));
      }
  }
  return {};
}

Result<std::unique_ptr<Session>> Session::Fork() const {
  TERN_ASSIGN(auto other, Create(model_, options_));
  std::memcpy(other->state_.data(), state_.data(), static_cast<size_t>(state_.bytes()));
  other->tokens_seen_ = tokens_seen_;
  other->segment_begin_ = segment_begin_, other->segment_previous_ = segment_previous_, other->segment_index_ = segment_index_;
  return other;
}

}  // namespace tern
