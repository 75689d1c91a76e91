// ExpertUsage: which experts the tokens of a run take, layer by layer: load and balance of a mixture of experts.
//
// An observer (SessionOptions): it repeats the router's choice from the logits that the op is about to read, so what it counts is what is computed. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/runtime/execute.h"

namespace tern {

class ExpertUsage : public OpObserver {
 public:
  struct Layer {
    std::string name;           // "decoder.layers.3"
    std::vector<int64_t> load;  // [E] tokens whose router chose the expert
    int64_t dropped = 0;        // of them those over its capacity

    int64_t tokens() const;
    int64_t used() const;        // experts with a token
    int64_t largest() const;     // load of the busiest
    double Imbalance() const;    // largest / mean load: 1 is even, E one expert for all; 0 without tokens
    double Evenness() const;     // entropy of the load / ln E: 1 is even, 0 one expert for all
  };

  // Counts only between these two; off at first.
  void Start() { on_ = true; }
  void Stop() { on_ = false; }
  void Before(const OpCall& call) override;

  const std::vector<Layer>& layers() const { return layers_; }  // in the order in which they were computed first

 private:
  Layer& LayerOf(const std::string& op, int64_t experts);
  bool on_ = false;
  std::vector<Layer> layers_;
  std::vector<int32_t> expert_, order_, offsets_, counts_, active_;
  std::vector<float> probabilities_;
};

}  // namespace tern
