// Session: one conversation with a model - its state, its plans, its arena. Used by one thread at a time; the Model is shared.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/base/parallel.h"
#include "engine/runtime/execute.h"
#include "engine/runtime/model.h"
#include "engine/runtime/neighbor_feed.h"

namespace tern {

using LogitsMode = EntryOptions::Logits;

// A plan a session is to be ready for: up to `tokens` new tokens per lane and call.
struct PlanRequest {
  int64_t tokens = 1;
  LogitsMode logits = LogitsMode::kLast;
  bool trace = false;
  std::string entry = "step";
};

struct SessionOptions {
  int threads = 0;           // 0: all processors this process may use
  int64_t batch = 1;
  std::vector<PlanRequest> plans;
  int64_t context = -1;      // EntryOptions::context
  bool call_is_segment = false;  // a recurrent network (models/architecture.h): every Feed is a segment of its own, instead of the next part of one
  int64_t memory_limit = 0;  // bytes; 0: what the system has left. Exceeding it is kMemory before anything is allocated
  const CancelToken* cancel = nullptr;
  RetrievalOptions retrieval;  // RETRO
  OpObserver* observer = nullptr;
};

// Bytes by owner (design: the four memories). peak = weights + constants + state + arena + what the kernels' constants need while they are made.
struct MemoryUse {
  int64_t weights = 0, constants = 0, state = 0, arena = 0, constants_arena = 0;
  int64_t peak() const { return weights + constants + state + std::max(arena, constants_arena); }
};

// The plans of a session without the session: what `tern plan` prints. No weight is read.
struct SessionPlan {
  std::vector<Plan> plans;  // as requested
  MemoryUse memory;
};
Result<SessionPlan> PlanSession(const Model& model, const SessionOptions& options);

class Session {
 public:
  static Result<std::unique_ptr<Session>> Create(std::shared_ptr<const Model> model, const SessionOptions& options);

  // Feeds T new tokens to each of the batch's lanes: ids [batch, T], targets likewise for kTarget (negative: not scored). T is at most the largest planned
  // capacity for these logits. Allocates nothing. After kCancelled the state is as before the call for attention within this chunk's positions: Feed again.
  Status Feed(std::span<const int32_t> ids, LogitsMode logits, std::span<const int32_t> targets = {}, bool trace = false);
  // Output of the last Feed: logits [batch * T, V] (kAll) or [batch, V] (kLast), log_probs [batch * T, 1]; hidden_states.N with trace. Valid until the next.
  const Operand& output(std::string_view name) const { return last_->output(name); }
  // Inputs that only some networks have; they must outlive the calls of Feed. Empty: none.
  struct ExtraInputs {
    std::span<const int32_t> token_type_ids;  // [batch, T] of the next Feed
    std::span<const int32_t> sticky_bins;     // draws to be replayed, [updates, layers, batch, samples], as many as there will be updates
  };
  void SetExtraInputs(const ExtraInputs& extra) { extra_ = extra; }
  std::vector<std::string> output_names() const;
  // Memory of the caller for an input that a network can do without (attention_mask, rotations), read by every Feed until bound to something else; null: none.
  // kUsage if no plan has an input of this name.
  Status Bind(std::string_view input, const void* data);

  void Reset();                                        // an empty conversation
  Result<std::unique_ptr<Session>> Fork() const;       // a second conversation that continues from here
  // Lane i goes on from where lane parents[i] stands: every state that changes hands is copied. The first call allocates; kMemory if it cannot.
  Status Reorder(std::span<const int32_t> parents);
  // The state and what the caller wants kept with it, to be restored by a session of the same model, settings, batch and plans. Restore gives `extra` back.
  Status Save(const std::string& path, const Json& extra) const;
  Result<Json> Restore(const std::string& path);

  int64_t tokens_seen() const { return tokens_seen_; }  // per lane, since the start
  int64_t segment_begin() const { return segment_begin_; }  // of the present segment, in tokens since the start
  const Plan& plan() const { return last_->plan(); }        // of the last call
  const uint8_t* state_data() const { return state_.data(); }
  const MemoryUse& memory() const { return memory_; }
  const Model& model() const { return *model_; }
  int threads() const { return gang_->threads(); }
  const SessionOptions& options() const { return options_; }
  int64_t max_tokens() const;  // the largest planned capacity
  // Tokens that one call may still feed: what is left of the segment (models/architecture.h), at most max_tokens(). 0: the context is full, only Reset helps.
  int64_t room() const;

 private:
  Session() = default;
  Status Prepare(SessionPlan plan);
  Result<int32_t*> BindInputs(std::span<const int32_t> ids, std::span<const int32_t> targets, RunContext* run, std::array<const void*, 12>* inputs, const Graph& graph);
  Status FeedOneByOne(std::span<const int32_t> ids, LogitsMode logits, bool trace);
  Executor* Choose(int64_t tokens, LogitsMode logits, bool trace);

  std::shared_ptr<const Model> model_;
  SessionOptions options_;
  std::unique_ptr<Gang> gang_;
  std::unique_ptr<NeighborFeed> neighbors_;  // RETRO only
  MemoryUse memory_;
  Region arena_, state_, spare_;  // spare_: of Reorder
  std::vector<std::shared_ptr<const Region>> constants_;
  std::vector<std::unique_ptr<Executor>> executors_;  // beside options_.plans
  Executor* last_ = nullptr;
  int64_t tokens_seen_ = 0;
  int64_t segment_begin_ = 0;     // tokens seen before the present segment
  int64_t segment_previous_ = 0;  // tokens of the one before
  int64_t segment_index_ = 0;     // segments before
  ExtraInputs extra_;
  std::vector<std::pair<std::string, const void*>> bound_;
  std::vector<int32_t> single_;  // [batch], of FeedOneByOne
};

}  // namespace tern
