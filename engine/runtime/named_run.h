// NamedRun: one entry of a network as a function of named inputs, each call from an empty state: whole sequences, with masks or a context beside them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/base/parallel.h"
#include "engine/runtime/execute.h"
#include "engine/runtime/session.h"

namespace tern {

class NamedRun {
 public:
  // Plans `entry` for its capacities. kMemory if it would need more than the system has left.
  static Result<std::unique_ptr<NamedRun>> Create(std::shared_ptr<const Model> model, const EntryOptions& entry, int threads, const CancelToken* cancel);

  // The caller's memory for one input of the graph, rows as the graph says; an input that is never bound is null: ops that allow it do without.
  void Bind(std::string_view name, const void* data);
  // `lengths` in the order of the graph's. Allocates nothing.
  Status Run(std::array<int64_t, 4> lengths);
  void Observe(OpObserver* observer) { observer_ = observer; }
  const Operand& output(std::string_view name) const { return executor_->output(name); }
  std::vector<std::string> output_names() const;
  const MemoryUse& memory() const { return memory_; }

 private:
  NamedRun() = default;
  void ResetStates();

  std::shared_ptr<const Model> model_;
  const CancelToken* cancel_ = nullptr;
  OpObserver* observer_ = nullptr;
  std::unique_ptr<Gang> gang_;
  MemoryUse memory_;
  Region arena_, state_;
  std::shared_ptr<const Region> constants_;
  std::unique_ptr<Executor> executor_;
  std::vector<const void*> inputs_;  // beside the graph's inputs
};

}  // namespace tern
