// What a scan keeps and how it is scored again: shared by the exhaustive search (search.h) and the inverted lists (ivf.h).
//
// A scan gives q.x of consecutive rows in f32. The best of these are kept by a total order (score, then the lower id), so that the result does not depend on
// the order rows came in, and scored again in double, in one order of sums on every machine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "engine/kernels/kernels.h"
#include "engine/retrieval/search.h"

namespace tern {

struct Candidate {
  double score;  // larger is nearer
  int64_t id;
};
inline bool Better(const Candidate& a, const Candidate& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// The best `most` candidates so far: a heap with the worst on top.
class Best {
 public:
  void Reset(int64_t most) {
    most_ = static_cast<size_t>(most);
    heap_.clear();
  }
  bool Wants(const Candidate& c) const { return heap_.size() < most_ || Better(c, heap_.front()); }
  void Add(const Candidate& c) {
    if (heap_.size() == most_) std::pop_heap(heap_.begin(), heap_.end(), Better), heap_.pop_back();
    heap_.push_back(c);
    std::push_heap(heap_.begin(), heap_.end(), Better);
  }
  // No candidate below this score is wanted.
  double least() const { return heap_.size() < most_ ? -std::numeric_limits<double>::infinity() : heap_.front().score; }
  std::vector<Candidate>& list() { return heap_; }

 private:
  size_t most_ = 0;
  std::vector<Candidate> heap_;
};

// Consecutive rows as a scan scored them.
struct ScannedRows {
  Metric metric = Metric::kIp;       // ip: q.x; l2: 2 q.x - |x|^2; cos: q.x / |x|
  const float* products = nullptr;   // [rows] q.x
  const float* squares = nullptr;    // [rows] |x|^2, of l2 and cos
  int64_t rows = 0;
  double offset = 0;                 // added to every score
  const int64_t* ids = nullptr;      // [rows]; or
  int64_t first = 0;                 // first, first + 1, ...
};
constexpr double kTinySquare = 0x1p-100;  // cos: squares up to here have lost digits in f32, or are zero

// Adds what is good enough to `best`. allowed (empty: all) is asked about wanted rows only; exact gives the score of a row of cos whose square is tiny.
// A score that is NaN counts as the lowest.
void KeepBest(const ScannedRows& rows, const std::function<bool(int64_t id)>& allowed, const std::function<double(int64_t id)>& exact, Best* best);

// |q|; NaN or infinity if q holds one.
double LengthOf(const float* q, int64_t dim);

// Scores rows again, by id. Immutable; a buffer per thread.
class ExactScorer {
 public:
  ExactScorer(const VectorSet& rows, Metric metric, const KernelTable& kernels) : rows_(rows), metric_(metric), k_(kernels) {}
  // q [dim] of length `length`: inner product, cosine or minus the squared distance; a NaN counts as the lowest.
  double Score(const float* q, double length, int64_t id, std::vector<float>* buffer) const;
  // All of a list, which is then in order, best first.
  void Rescore(const float* q, double length, std::vector<Candidate>* list, std::vector<float>* buffer) const;

 private:
  const VectorBlock& BlockOf(int64_t id) const;
  void Prefetch(int64_t id) const;
  const VectorSet& rows_;
  const Metric metric_;
  const KernelTable& k_;
};

// Over f32 rows: could a row that a scan dropped, with at most the score `last` there, be nearer than one of exact score `worst`? By the bound on the error
// of an f32 product of `dim` terms.
bool MayHaveDropped(Metric metric, int64_t dim, double q_length, double longest, double worst, double last);

}  // namespace tern
