// The long-term memory of the infinity-former (Martins, Marinho & Martins 2022): what its three ops share, and how its state lies.
//
// The past is kept as B [N, e], the coefficients of N Gaussian basis functions over [0, 1], time 1 being the end of the last segment. When a segment
// ends, its rows X enter: the first time B = G_fit^T X, afterwards B = P B + G_new^T X, where P squeezes the old signal into [0, tau]. Queries read it by
// integrating the signal against a normal density N(t; mu, sigma^2).
//
// Letters: N basis functions, e width of the rows (= A = H * Dh), L rows an update takes, M rows that attention still sees (they enter later).
#pragma once

#include <array>
#include <cstdint>

namespace tern {

enum class MemoryMask : uint8_t { kNone, kConvolution, kAffine };
// How sticky memories choose where the old signal is sampled again: every (i + 1/2)-th quantile, or seeded draws.
enum class StickyChoice : uint8_t { kSystematic, kDraws };

struct LongTermMemory {
  static constexpr int64_t kBins = 128;  // of the attention's histogram (sticky)
  static constexpr int kMostWidths = 8;

  int64_t batch = 1, heads = 1, head_width = 1;
  int64_t basis = 1;                 // N
  int64_t length = 1;                // L
  int64_t short_memory = 0;          // M
  int64_t queries = 1;               // the most a segment has
  int64_t layer = 0, layers = 1;
  int64_t calls_per_fit = 0;         // > 0: every so many updates the memory starts anew with a fit (1: finite memory); 0: never
  int64_t samples = 512;             // at which the old signal is read again
  double tau = 0.5, ridge = 0.5, least_variance = 1e-4;
  std::array<double, kMostWidths> widths{};
  int n_widths = 0;
  MemoryMask mask = MemoryMask::kNone;
  bool affines = true;               // mu and sigma are learned functions of the scores, else moments of softmax(scores)
  bool sparsemax = false;            // a truncated parabola instead of the normal density
  bool sticky = false;               // the old signal is sampled where the last segment's queries looked
  StickyChoice choice = StickyChoice::kSystematic;
  uint64_t seed = 0;
  bool imported = false;             // the regression tables come with the model

  int64_t width() const { return heads * head_width; }
  int64_t capacity() const { return short_memory + length; }
};

// Where a lane's parts lie, in f32 from the lane's start. Rows of 16 as the kernels' panels have them.
struct LongTermMemoryLayout {
  static constexpr int64_t Panels(int64_t n) { return (n + 15) / 16 * 16; }

  int64_t header = 0;    // [16] i32: 0: number + 1 of the segment before which B was last renewed, 0 if there is no memory yet
  int64_t b = 0;         // B [N, e]
  int64_t values = 0;    // per head: the columns of B Wv^T, packed [Dh, N]
  int64_t keys = 0;      // affines: k_mu [A], k_sigma [A], scaled by 1/sqrt(Dh); else per head the rows of B Wk^T, packed [N, Dh]
  int64_t rows = 0;      // the last M + L rows [M + L, e], the row of position p at p mod (M + L)
  int64_t looks = 0;     // mu, sigma^2 of every query of the segment [H, queries, 2]
  int64_t elements = 0;

  explicit LongTermMemoryLayout(const LongTermMemory& m) {
    auto take = [this](int64_t* at, int64_t n) { *at = elements, elements += Panels(n); };
    take(&header, 16);
    take(&b, m.basis * m.width());
    take(&values, m.heads * Panels(m.head_width) * m.basis);
    take(&keys, m.affines ? 2 * m.width() : m.heads * Panels(m.basis) * m.head_width);
    take(&rows, m.capacity() * m.width());
    take(&looks, m.heads * m.queries * 2);
  }
};

// What happens to the memory at the start of a segment; a function of where the segment stands.
struct MemoryUpdate {
  enum class Kind : uint8_t { kNone, kFit, kUpdate } kind = Kind::kNone;
  int64_t first = 0, rows = 0;  // positions that enter: [first, first + rows)
  int64_t sticky_update = -1;   // kUpdate: its number, from 0
};
// `begin`: positions before this segment, `previous`: how many of them the last one had, `index`: segments before this one.
inline MemoryUpdate UpdateAt(const LongTermMemory& m, int64_t begin, int64_t previous, int64_t index) {
  MemoryUpdate u;
  if (begin <= m.short_memory) return u;
  u.first = begin > m.capacity() ? begin - m.capacity() : 0;
  u.rows = begin - m.short_memory - u.first;
  if (m.calls_per_fit > 0) {
    const int64_t before = index - 1;  // updates of earlier segments (M is 0 here)
    u.kind = before % m.calls_per_fit == 0 ? MemoryUpdate::Kind::kFit : MemoryUpdate::Kind::kUpdate;
    u.sticky_update = before - (before + m.calls_per_fit - 1) / m.calls_per_fit;
  } else {
    u.kind = begin - previous <= m.short_memory ? MemoryUpdate::Kind::kFit : MemoryUpdate::Kind::kUpdate;
    u.sticky_update = index - 2;
  }
  return u;
}

}  // namespace tern
