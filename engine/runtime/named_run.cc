#include "engine/runtime/named_run.h"

namespace tern {

Result<std::unique_ptr<NamedRun>> NamedRun::Create(std::shared_ptr<const Model> model, const EntryOptions& entry, int threads, const CancelToken* cancel) {
  std::unique_ptr<NamedRun> r(new NamedRun());
  r->model_ = std::move(model);
  r->cancel_ = cancel;
  r->gang_ = std::make_unique<Gang>(threads);
  Builder b;
  r->model_->network().Build(entry, b);
  TERN_RETURN_IF_ERROR(b.status());
  TERN_ASSIGN(Plan plan, MakePlan(std::move(b).TakeGraph(), QueriesFor(*r->model_, r->gang_->threads())));
  r->memory_ = {r->model_->weight_bytes(), plan.constants_bytes, plan.state_bytes, plan.run.arena_bytes, plan.constants.arena_bytes};
  if (const int64_t needed = r->memory_.peak() - r->memory_.weights, limit = AvailableMemory(); needed > limit)
    return MemoryError("the run would exceed memory").File(r->model_->file().path()).Got(Str("needs ", needed, " bytes"), Str("at most ", limit)).Hint("Use fewer or shorter sequences");
  TERN_ASSIGN(r->arena_, Region::Create(plan.run.arena_bytes));
  TERN_ASSIGN(r->state_, Region::Create(plan.state_bytes));
  TERN_ASSIGN(r->constants_, r->model_->Constants(plan.constants_key, plan.constants_bytes, [&](uint8_t* data) -> Status {
    TERN_ASSIGN(Region temporary, Region::Create(plan.constants.arena_bytes));
    return Executor(*r->model_, plan, r->arena_.data(), data, r->gang_->threads()).ComputeConstants(temporary.data(), r->gang_.get());
  }));
  r->executor_ = std::make_unique<Executor>(*r->model_, std::move(plan), r->arena_.data(), const_cast<uint8_t*>(r->constants_->data()), r->gang_->threads());
  r->inputs_.assign(r->executor_->plan().graph.inputs.size(), nullptr);
  return r;
}

void NamedRun::Bind(std::string_view name, const void* data) {
  const auto& inputs = executor_->plan().graph.inputs;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].name == name) inputs_[i] = data;
}

void NamedRun::ResetStates() {
  const Plan& plan = executor_->plan();
  for (size_t i = 0; i < plan.graph.states.size(); ++i) ResetState(plan.graph.states[i], state_.data() + plan.state_offset[i], nullptr);
}

Status NamedRun::Run(std::array<int64_t, 4> lengths) {
  ResetStates();
  RunContext run;
  run.gang = gang_.get(), run.model = model_.get(), run.cancel = cancel_, run.observer = observer_;
  run.states = state_.data();
  run.lengths = lengths;
  Status status;
  gang_->Run([&] { status = executor_->Run(run, inputs_); });
  return status;
}

std::vector<std::string> NamedRun::output_names() const {
  std::vector<std::string> names;
  for (const auto& out : executor_->plan().graph.outputs) names.push_back(out.name);
  return names;
}

}  // namespace tern
