// Attention as the formula says, in double, one score at a time: the truth of the attention kernels' tests.
#pragma once

#include <cstdint>
#include <vector>

namespace tern::reference {

// One key/value head with G query heads. Keys are the rows of positions first_position, first_position + 1, ...
struct Attention {
  int64_t T = 0, G = 1, Dh = 0, Dv = 0;
  std::vector<float> q;     // [T][G][Dh]
  std::vector<float> k, v;  // [positions][Dh], [positions][Dv]
  int64_t first_position = 0;
  int64_t q_position = 0;
  double scale = 1;
  int64_t first_key = 0, last_key = -1;
  bool causal = false;
  int64_t window = 0;
  std::vector<float> relative_bias;  // [G][relative_max - relative_min + 1], or empty
  int64_t relative_min = 0, relative_max = 0;
  std::vector<float> slopes;    // [G], or empty
  std::vector<float> key_bias;  // by j - first_key, or empty
  std::vector<float> rk, bias_u, bias_v;  // [max_distance + 1][Dh], [Dh], [Dh]; rk empty: no relative positions
  int64_t max_distance = 0;
};

struct AttentionResult {
  std::vector<double> out;    // [T][G][Dv]
  std::vector<double> lse;    // [T][G]
  double largest_score = 0;   // max |score| over finite valid scores
  double largest_value = 0;   // max |v| over valid keys
};

AttentionResult Attend(const Attention& a);

}  // namespace tern::reference
