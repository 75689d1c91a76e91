#include "engine/runtime/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace tern {
namespace {

constexpr float kOut = -1e9f;  // added to what may not be chosen

float LengthFactor(int64_t length, float penalty) { return static_cast<float>(std::pow(static_cast<double>(length), static_cast<double>(penalty))); }

}  // namespace

void BanRepeats(std::span<const int32_t> ids, int64_t n, float* row) {
  const int64_t length = static_cast<int64_t>(ids.size());
  if (n < 1 || length + 1 < n) return;
  const auto tail = ids.last(static_cast<size_t>(n - 1));
  for (int64_t i = 0; i + n <= length; ++i)
    if (std::equal(tail.begin(), tail.end(), ids.begin() + i)) row[ids[static_cast<size_t>(i + n - 1)]] = -std::numeric_limits<float>::infinity();
}

BeamSearch::BeamSearch(const BeamOptions& options, int64_t vocab_size, const KernelTable& kernels, std::span<const int32_t> prompt)
    : o_(options), vocab_size_(vocab_size), kernels_(kernels) {
  if (prompt.empty()) prompt = {&o_.start_id, 1};
  const size_t beams = static_cast<size_t>(o_.beams), keep = static_cast<size_t>(std::min(2 * o_.beams, vocab_size_));
  for (auto* list : {&running_, &next_, &finished_}) list->resize(beams);
  merged_.resize(3 * beams);
  for (auto* list : {&running_, &next_, &finished_, &merged_})
    for (Hypothesis& h : *list) h.ids.reserve(prompt.size() + static_cast<size_t>(o_.new_tokens));
  for (size_t k = 0; k < beams; ++k) {
    running_[k].ids.assign(prompt.begin(), prompt.end());
    running_[k].score = k == 0 ? 0.0f : kOut;  // the beams are still alike: only the first counts
    finished_[k].ids = running_[k].ids;
    finished_[k].score = kOut;
  }
  candidates_.reserve(2 * beams), all_.reserve(beams * keep);
  order_.resize(3 * beams), tokens_.resize(beams), parents_.resize(beams);
  row_.resize(static_cast<size_t>(vocab_size_)), top_values_.resize(keep), top_ids_.resize(keep);
  if (o_.new_tokens <= 0) done_ = true;
  Idle();
}

void BeamSearch::Idle() {
  std::fill(tokens_.begin(), tokens_.end(), o_.pad_id);
  std::iota(parents_.begin(), parents_.end(), 0);
}

// The best 2 x beams continuations of all beams, in order; equal scores by beam, then id.
Status BeamSearch::Candidates(const float* logits, int64_t stride) {
  const int64_t keep = static_cast<int64_t>(top_ids_.size());
  all_.clear();
  for (size_t k = 0; k < running_.size(); ++k) {
    kernels_.log_softmax(logits + static_cast<int64_t>(k) * stride, vocab_size_, row_.data());
    if (!std::isfinite(kernels_.max(row_.data(), vocab_size_))) return Status(Code::kNumeric, "the logits are not finite").Hint("Check the weights with tern verify");
    BanRepeats(running_[k].ids, o_.no_repeat_ngram_size, row_.data());
    for (float& v : row_) v += running_[k].score;
    kernels_.top_k(row_.data(), vocab_size_, keep, top_values_.data(), top_ids_.data());
    for (size_t i = 0; i < top_ids_.size(); ++i) {
      const bool ends = top_ids_[i] == o_.eos_id || generated_ + 1 >= o_.new_tokens;
      all_.push_back({top_values_[i], static_cast<int32_t>(k), top_ids_[i], ends});
    }
  }
  const size_t wanted = std::min(all_.size(), 2 * running_.size());
  std::partial_sort(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(wanted), all_.end(), [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.beam != b.beam ? a.beam < b.beam : a.id < b.id;
  });
  candidates_.assign(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(wanted));
  return {};
}

// The best of what was finished before and what ends now among the first `beams` candidates.
void BeamSearch::TakeFinished() {
  const size_t beams = running_.size();
  const bool full = std::all_of(finished_.begin(), finished_.end(), [](const Hypothesis& h) { return h.finished; });
  const float factor = LengthFactor(generated_ + 1, o_.length_penalty);
  for (size_t k = 0; k < beams; ++k) std::swap(merged_[k], finished_[k]);
  for (size_t i = 0; i < candidates_.size(); ++i) {
    const Candidate& c = candidates_[i];
    Hypothesis& h = merged_[beams + i];
    h.finished = c.ends && i < beams;
    h.score = c.score / factor;
    if (full && o_.early_stopping == EarlyStopping::kFirst) h.score += kOut;
    if (!may_improve_) h.score += kOut;
    if (!h.finished) h.score += kOut;
    h.ids.clear();
    if (h.finished) {
      const std::vector<int32_t>& from = running_[static_cast<size_t>(c.beam)].ids;
      h.ids.assign(from.begin(), from.end());
      h.ids.push_back(c.id);
    }
  }
  const size_t count = beams + candidates_.size();
  std::iota(order_.begin(), order_.end(), 0);
  // By hand, since std::stable_sort allocates: the first of equal scores stays first.
  std::sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(count), [this](int32_t a, int32_t b) {
    const float x = merged_[static_cast<size_t>(a)].score, y = merged_[static_cast<size_t>(b)].score;
    return x != y ? x > y : a < b;
  });
  for (size_t k = 0; k < beams; ++k) std::swap(finished_[k], merged_[static_cast<size_t>(order_[k])]);
}

// The best candidates that go on; ended ones only where there are no others.
void BeamSearch::TakeRunning() {
  size_t k = 0;
  for (bool ended : {false, true})
    for (const Candidate& c : candidates_) {
      if (c.ends != ended || k == next_.size()) continue;
      Hypothesis& h = next_[k];
      const std::vector<int32_t>& from = running_[static_cast<size_t>(c.beam)].ids;
      h.ids.assign(from.begin(), from.end());
      h.ids.push_back(c.id);
      h.score = ended ? c.score + kOut : c.score;
      tokens_[k] = c.id, parents_[k] = c.beam;
      ++k;
    }
  for (; k < next_.size(); ++k) next_[k].score = kOut, tokens_[k] = o_.pad_id, parents_[k] = 0, next_[k].ids.assign(1, o_.start_id);
  std::swap(running_, next_);
}

Status BeamSearch::Step(const float* logits, int64_t stride) {
  if (done_) return {};
  TERN_RETURN_IF_ERROR(Candidates(logits, stride));
  TakeFinished();
  TakeRunning();
  ++generated_;
  const bool full = std::all_of(finished_.begin(), finished_.end(), [](const Hypothesis& h) { return h.finished; });
  const bool longest = o_.early_stopping == EarlyStopping::kNever && o_.length_penalty > 0;
  const float possible = running_[0].score / LengthFactor(longest ? o_.new_tokens : generated_, o_.length_penalty);
  may_improve_ = may_improve_ && possible > (full ? finished_.back().score : kOut);
  done_ = !may_improve_ || (full && o_.early_stopping == EarlyStopping::kFirst) || generated_ >= o_.new_tokens;
  if (done_) Idle();
  return {};
}

}  // namespace tern
