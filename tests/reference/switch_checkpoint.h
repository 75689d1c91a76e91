// A Switch Transformer checkpoint of any shape with random weights, as Hugging Face stores one, for tests that need other sizes than the golden files have.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace tern {

struct SwitchShape {
  int64_t vocabulary = 40, d_model = 16, d_ff = 24, heads = 2, d_kv = 4, layers = 2, experts = 4, capacity = 64;
  std::string policy = "hf_zero";
  bool every_layer = false;   // a mixture in every layer; else in the odd ones
  bool encoder_only = false;
  bool attends = true;        // false: output projections of attention are zero
  uint64_t seed = 1;
};

// Writes config.json and model.safetensors into `folder` (made if it is not there) and gives every tensor by its foreign name.
std::map<std::string, std::vector<float>> WriteSwitchCheckpoint(const std::string& folder, const SwitchShape& shape);

}  // namespace tern
