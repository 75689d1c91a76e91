#include "engine/retrieval/pq.h"

#include <algorithm>

#include "engine/base/checked.h"

namespace tern {
namespace {

// Part p of rows [n, dim], filled up with zeros: out [n, width].
void CutPart(const float* rows, int64_t n, int64_t dim, int64_t p, int64_t width, float* out) {
  const int64_t begin = std::min(p * width, dim), count = std::min(width, dim - begin);
  for (int64_t r = 0; r < n; ++r) {
    std::copy_n(rows + r * dim + begin, count, out + r * width);
    std::fill(out + r * width + count, out + (r + 1) * width, 0.0f);
  }
}

}  // namespace

int64_t DefaultParts(int64_t dim) { return std::clamp<int64_t>(RoundUp(CeilDiv(dim, 4), kPartGroup), kPartGroup, 96); }

Result<std::vector<float>> TrainCodebook(const float* rows, int64_t n, int64_t dim, int64_t parts, const CancelToken* cancel, Gang* gang) {
  const int64_t width = PartWidth(dim, parts);
  std::vector<float> codebook(static_cast<size_t>(CodebookSize(dim, parts))), part(static_cast<size_t>(n * width));
  KMeansOptions o;
  o.cancel = cancel;
  for (int64_t p = 0; p < parts; ++p) {
    CutPart(rows, n, dim, p, width, part.data());
    TERN_ASSIGN(auto words, KMeans(part.data(), width, n, width, kCodewords, o, gang));
    for (int64_t c = 0; c < kCodewords; ++c)
      for (int64_t j = 0; j < width; ++j) codebook[static_cast<size_t>((p * width + j) * kCodewords + c)] = words[static_cast<size_t>(c * width + j)];
  }
  return codebook;
}

Result<PqEncoder> PqEncoder::Create(const float* codebook, int64_t dim, int64_t parts) {
  PqEncoder e;
  e.dim_ = dim;
  const int64_t width = PartWidth(dim, parts);
  std::vector<float> words(static_cast<size_t>(kCodewords * width));
  for (int64_t p = 0; p < parts; ++p) {
    for (int64_t c = 0; c < kCodewords; ++c)
      for (int64_t j = 0; j < width; ++j) words[static_cast<size_t>(c * width + j)] = codebook[(p * width + j) * kCodewords + c];
    TERN_ASSIGN(auto part, NearestCentroid::Create(words.data(), kCodewords, width, true, NearestCentroid::Precision::kF32));
    e.words_.push_back(std::move(part));
  }
  return e;
}

void PqEncoder::Encode(const float* rows, int64_t n, NearestCentroid::Workspace* w, uint8_t* codes, int64_t stride) const {
  const int64_t parts = static_cast<int64_t>(words_.size()), width = PartWidth(dim_, parts);
  std::vector<float> part(static_cast<size_t>(n * width));
  int32_t nearest[NearestCentroid::kRowsAtOnce];
  for (int64_t p = 0; p < parts; ++p) {
    CutPart(rows, n, dim_, p, width, part.data());
    words_[static_cast<size_t>(p)].Nearest(part.data(), width, n, w, nearest);
    for (int64_t r = 0; r < n; ++r) codes[(p / kPartGroup * stride + r) * kPartGroup + p % kPartGroup] = static_cast<uint8_t>(nearest[r]);
  }
}

void PqTable(const float* codebook, const float* q, int64_t dim, int64_t parts, float* table) {
  const int64_t width = PartWidth(dim, parts);
  std::fill_n(table, parts * kCodewords, 0.0f);
  for (int64_t p = 0; p < parts; ++p)
    for (int64_t j = 0; j < std::min(width, dim - p * width); ++j) {
      const float* words = codebook + (p * width + j) * kCodewords;
      const float x = q[p * width + j];
      float* out = table + p * kCodewords;
      for (int64_t c = 0; c < kCodewords; ++c) out[c] += x * words[c];
    }
}

void PqScan(const float* table, int64_t parts, const uint8_t* codes, int64_t stride, int64_t row, int64_t n, float* sums) {
  std::fill_n(sums, n, 0.0f);
  for (int64_t g = 0; g < parts / kPartGroup; ++g) {
    const float* t = table + g * kPartGroup * kCodewords;
    const uint8_t* c = codes + (g * stride + row) * kPartGroup;
    for (int64_t r = 0; r < n; ++r, c += kPartGroup) sums[r] += (t[c[0]] + t[kCodewords + c[1]]) + (t[2 * kCodewords + c[2]] + t[3 * kCodewords + c[3]]);
  }
}

}  // namespace tern
