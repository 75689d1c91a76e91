#include "engine/runtime/expert_usage.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/runtime/routing.h"

namespace tern {

int64_t ExpertUsage::Layer::tokens() const { return std::accumulate(load.begin(), load.end(), int64_t{0}); }
int64_t ExpertUsage::Layer::used() const { return static_cast<int64_t>(load.size()) - std::count(load.begin(), load.end(), 0); }
int64_t ExpertUsage::Layer::largest() const { return load.empty() ? 0 : *std::max_element(load.begin(), load.end()); }
double ExpertUsage::Layer::Imbalance() const {
  const int64_t all = tokens();
  return all > 0 ? static_cast<double>(largest()) * static_cast<double>(load.size()) / static_cast<double>(all) : 0;
}
double ExpertUsage::Layer::Evenness() const {
  const auto all = static_cast<double>(tokens());
  if (load.size() < 2 || all == 0) return all > 0 ? 1 : 0;
  double entropy = 0;
  for (int64_t n : load)
    if (n > 0) entropy -= static_cast<double>(n) / all * std::log(static_cast<double>(n) / all);
  return entropy / std::log(static_cast<double>(load.size()));
}

ExpertUsage::Layer& ExpertUsage::LayerOf(const std::string& op, int64_t experts) {
  const std::string name = op.substr(0, op.find(".experts"));
  for (Layer& l : layers_)
    if (l.name == name) return l;
  return layers_.emplace_back(Layer{name, std::vector<int64_t>(static_cast<size_t>(experts)), 0});
}

void ExpertUsage::Before(const OpCall& call) {
  const auto* op = std::get_if<ExpertsOp>(&call.op.spec);
  if (!on_ || !op) return;
  const Operand& logits = call.in(1);
  const auto rows = static_cast<size_t>(logits.rows), experts = static_cast<size_t>(op->experts);
  expert_.resize(rows), order_.resize(rows), offsets_.resize(experts + 1), counts_.resize(experts), active_.resize(experts), probabilities_.resize(experts);
  Layer& layer = LayerOf(call.op.name, op->experts);
  for (size_t r = 0; r < rows; ++r) {
    expert_[r] = ChooseExpert(call.kernels(), logits.f32() + static_cast<int64_t>(r) * logits.stride, op->experts, probabilities_.data()).expert;
    ++layer.load[static_cast<size_t>(expert_[r])];
  }
  const int32_t* starts = op->starts ? call.in(4).i32() : nullptr;
  SortRows(*op, {expert_.data(), order_.data(), offsets_.data(), counts_.data(), active_.data()}, logits.rows, starts, starts ? call.in(4).rows - 1 : 0);
  layer.dropped += logits.rows - offsets_[experts];
}

}  // namespace tern
