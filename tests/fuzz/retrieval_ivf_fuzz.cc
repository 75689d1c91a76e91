// Inverted lists: whatever the bytes, opening, verifying and searching them ends in a status, and no id lies outside of the rows.
//
// The digests of header and tables are brought up to date by the last byte's lowest bits, or no change would ever pass them.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "engine/base/checked.h"
#include "engine/base/hash.h"
#include "engine/retrieval/ivf.h"
#include "engine/retrieval/ivf_file.h"
#include "engine/retrieval/pq.h"

using namespace tern;

namespace {

// Where the codes begin, if the header's sizes are small enough to be true.
uint64_t CodesBegin(const IvfHeader& h, size_t size) {
  if (h.dim < 1 || h.dim > 65536 || h.lists > size || h.rows > size || h.parts > 1024 || h.lists * h.dim * 4 > size) return 0;
  uint64_t at = static_cast<uint64_t>(kIvfHeader);
  const uint64_t codebook = h.type == 2 && h.parts > 0 ? static_cast<uint64_t>(CodebookSize(static_cast<int64_t>(h.dim), h.parts)) * 4 : 0;
  for (uint64_t bytes : {h.lists * h.dim * 4, (h.lists + 1) * 8, h.rows * 8, h.rows * 4, codebook}) at = static_cast<uint64_t>(RoundUp(static_cast<int64_t>(at + bytes), 64));
  return at <= size ? at : 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  void* memory = nullptr;  // aligned as a mapping, and not a byte longer than the input
  if (posix_memalign(&memory, 64, size) != 0) return 0;
  std::unique_ptr<void, decltype(&std::free)> owner(memory, std::free);
  auto* bytes = static_cast<uint8_t*>(memory);
  if (size > 0) std::memcpy(bytes, data, size);
  if (size >= static_cast<size_t>(kIvfHeader)) {
    IvfHeader h;
    std::memcpy(&h, bytes, sizeof h);
    if (const uint64_t codes = CodesBegin(h, size); codes > 0 && (data[size - 1] & 2) == 0) h.tables_digest = Xxh3({bytes + kIvfHeader, codes - static_cast<uint64_t>(kIvfHeader)});
    std::memcpy(bytes, &h, sizeof h);
    if ((data[size - 1] & 1) == 0) h.own_digest = Xxh3({bytes, kIvfDigested});
    std::memcpy(bytes, &h, sizeof h);
  }
  auto index = IvfIndex::Parse({bytes, size});
  if (!index.ok()) {
    (void)index.status().message();
    return 0;
  }
  const IvfIndex& x = **index;
  (void)x.Verify();
  const int64_t n = x.rows(), d = x.dim();
  if (n > 4096 || d > 512) return 0;
  std::vector<float> rows(static_cast<size_t>(n * d), 0.25f), squares(static_cast<size_t>(n), 0.0625f * static_cast<float>(d));
  VectorBlock block;
  block.rows = n, block.f32 = rows.data(), block.squares = squares.data();
  VectorSet set;
  set.dim = d, set.longest = 100, set.blocks = {block};
  const std::vector<float> query(static_cast<size_t>(d), 0.5f);
  SearchOptions options;
  options.k = 3;
  Gang gang(1);
  auto hits = x.Find(set, query, 2, options, &gang);
  if (hits.ok())
    for (const SearchHit& h : *hits)
      if (h.id < -1 || h.id >= n) std::abort();
  return 0;
}
