#include "engine/runtime/lsh_step.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/runtime/carve.h"
#include "engine/runtime/lsh_attention.h"

namespace tern {
namespace {

// A token number out of a state, which may have come from a file: 0 .. last.
int32_t Within(int32_t token, int64_t last) { return static_cast<int32_t>(std::clamp<int64_t>(token, 0, last)); }

int64_t MostKeys(const LshSpec& spec) { return std::max(spec.chunk + 1, (spec.before + 1 + spec.after) * spec.chunk); }

struct Scratch {
  Scratch(uint8_t* base, const LshSpec& spec) {
    Carve carve(base);
    scores = carve.Take<float>(MostKeys(spec));
    keys = carve.Take<int32_t>(MostKeys(spec));
    visible = carve.Take<int32_t>(MostKeys(spec));
    rotated = carve.Take<float>(spec.num_hashes * MostDirections(spec, std::max(spec.context, spec.chunk)));
    rounds = carve.Take<float>(spec.num_hashes * spec.head_width);
    lse = carve.Take<float>(spec.num_hashes);
    bytes = carve.bytes();
  }
  float *scores, *rotated, *rounds, *lse;
  int32_t *keys, *visible;
  int64_t bytes;
};

class HeadStep {
 public:
  HeadStep(const LshStep& step, LshState& state, uint8_t* scratch) : s_(step), spec_(*step.spec), k_(*step.kernels), state_(state), w_(scratch, spec_) {}

  int32_t Run() {
    const int64_t tokens = s_.position + 1;
    if (state_.hashed()) return Hashed(tokens);
    for (int64_t j = 0; j < tokens; ++j) w_.keys[j] = static_cast<int32_t>(j);
    Attend(tokens, s_.out, &w_.lse[0]);
    return tokens >= spec_.chunk ? HashAll(tokens) : -1;
  }

 private:
  const float* Query(int64_t t) const { return state_.qk + t * spec_.width() + s_.head * spec_.head_width; }
  const float* ValueRow(int64_t t) const { return state_.v + t * spec_.width() + s_.head * spec_.head_width; }
  int32_t* Line(int32_t* all, int64_t round) const { return all + (s_.head * spec_.num_hashes + round) * spec_.context; }

  // The new token over w_.keys[0..n).
  void Attend(int64_t n, float* out, float* lse) {
    const int64_t d = spec_.head_width;
    const float* q = Query(s_.position);
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    for (int64_t j = 0; j < n; ++j) {
      const float* key = Query(w_.keys[j]);
      w_.scores[j] = k_.dot(q, key, d) * (scale * LshKeyScale(k_, key, d));
    }
    std::fill_n(w_.visible, n, 0);
    k_.chunk_softmax(w_.scores, w_.keys, w_.visible, n, static_cast<int32_t>(s_.position), true, lse);
    std::fill_n(out, d, 0.0f);
    for (int64_t j = 0; j < n; ++j) k_.add_scaled(ValueRow(w_.keys[j]), w_.scores[j], d, out);
  }

  // Ids of token t in every round.
  void Hash(int64_t t) {
    const int64_t directions = s_.buckets.directions(), all = spec_.num_hashes * directions;
    std::fill_n(w_.rotated, all, 0.0f);
    const float* q = Query(t);
    for (int64_t i = 0; i < spec_.head_width; ++i) k_.add_scaled(s_.rotations + i * all, q[i], all, w_.rotated);
    for (int64_t r = 0; r < spec_.num_hashes; ++r)
      Line(state_.ids, r)[t] = BucketOf(k_, s_.buckets, w_.rotated + r * directions) + static_cast<int32_t>(r * s_.stride);
  }

  int32_t HashAll(int64_t tokens) {
    int32_t largest = -1;
    for (int64_t t = 0; t < tokens; ++t) Hash(t);
    for (int64_t r = 0; r < spec_.num_hashes; ++r) {
      const int32_t* ids = Line(state_.ids, r);
      int32_t* order = Line(state_.order, r);
      // About one chunk of tokens: insertion is the plainest stable sort, and needs no counts.
      for (int64_t t = 0; t < tokens; ++t) Insert(ids, order, t);
      largest = std::max(largest, *std::max_element(ids, ids + tokens));
    }
    return largest;
  }

  // Puts token t behind all of 0..t-1 whose id is not larger; returns its place.
  static int64_t Insert(const int32_t* ids, int32_t* order, int64_t t) {
    const int64_t place = std::upper_bound(order, order + t, ids[t], [&](int32_t id, int32_t token) { return id < ids[Within(token, t)]; }) - order;
    std::memmove(order + place + 1, order + place, static_cast<size_t>(t - place) * 4);
    order[place] = static_cast<int32_t>(t);
    return place;
  }

  int32_t Hashed(int64_t tokens) {
    Hash(s_.position);
    int32_t largest = -1;
    const int64_t keys = (spec_.before + 1 + spec_.after) * spec_.chunk, d = spec_.head_width;
    for (int64_t r = 0; r < spec_.num_hashes; ++r) {
      const int32_t* ids = Line(state_.ids, r);
      int32_t* order = Line(state_.order, r);
      const int64_t place = Insert(ids, order, s_.position);
      largest = std::max(largest, ids[s_.position]);
      const int64_t start = (place / spec_.chunk - spec_.before) * spec_.chunk;
      for (int64_t j = 0; j < keys; ++j) w_.keys[j] = Within(order[((start + j) % tokens + tokens) % tokens], tokens - 1);
      Attend(keys, spec_.num_hashes == 1 ? s_.out : w_.rounds + r * d, w_.lse + r);
    }
    if (spec_.num_hashes > 1) MergeRounds(k_, w_.rounds, w_.lse, spec_.num_hashes, 1, d, 0, 1, s_.out, d);
    return largest;
  }

  const LshStep& s_;
  const LshSpec& spec_;
  const KernelTable& k_;
  LshState& state_;
  const Scratch w_;
};

}  // namespace

LshState::LshState(const LshSpec& spec, uint8_t* lane) {
  qk = reinterpret_cast<float*>(lane);
  v = qk + spec.context * spec.width();
  ids = reinterpret_cast<int32_t*>(v + spec.context * spec.width());
  order = ids + spec.heads * spec.num_hashes * spec.context;
  notes = order + spec.heads * spec.num_hashes * spec.context;
}

BucketFactors LshState::buckets(const LshSpec& spec) const {
  BucketFactors b;
  b.count = std::clamp(notes[3], 0, BucketFactors::kMost);
  std::copy_n(notes + 4, BucketFactors::kMost, b.factor.begin());
  // What a state file says must not lead out of the planned buffers.
  const auto end = b.factor.begin() + b.count;
  const bool sound = b.count > 0 && std::all_of(b.factor.begin(), end, [](int32_t f) { return f >= 2 && f < (1 << 24) && f % 2 == 0; }) &&
                     b.directions() <= MostDirections(spec, std::max(spec.context, spec.chunk)) && b.buckets() <= MostBuckets(spec, spec.context);
  return sound ? b : BucketsFor(spec, spec.context);
}

void LshState::set_buckets(const BucketFactors& b) {
  notes[3] = b.count;
  std::copy_n(b.factor.begin(), BucketFactors::kMost, notes + 4);
}

int64_t LshStepScratchBytes(const LshSpec& spec) { return spec.context > 0 ? Scratch(nullptr, spec).bytes : 0; }

int32_t StepLshHead(const LshStep& step, LshState& state, uint8_t* scratch) { return HeadStep(step, state, scratch).Run(); }

void ForgetFrom(const LshSpec& spec, LshState& state, int64_t position) {
  if (state.ordered() <= position) return;
  if (state.hashed_at() == position) return state.set_hashed(false), void(state.ordered() = 0);
  for (int64_t line = 0; line < spec.heads * spec.num_hashes; ++line) {
    int32_t* order = state.order + line * spec.context;
    (void)std::remove_if(order, order + std::min<int64_t>(state.ordered(), spec.context), [&](int32_t t) { return t >= position; });
  }
  state.ordered() = static_cast<int32_t>(position);
}

}  // namespace tern
