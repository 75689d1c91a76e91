// The file of inverted lists. Little-endian; sections at multiples of 64, in this order:
//   header 128 | f32 centroids [lists, dim] | i64 borders [lists + 1] | i64 ids [rows] | f32 |x|^2 [rows], in the order of ids | f32 codebook (pq) | lists
// A list is a packed matrix of its rows (f32, q8) or their codes (pq.h), filled up to a multiple of 64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tern {

constexpr std::string_view kIvfMagic = "TERNIVF2";
constexpr int64_t kIvfHeader = 128, kMostLists = 1 << 22;

struct IvfHeader {
  char magic[8];
  uint32_t metric, type;
  uint64_t dim, lists, rows;
  uint32_t parts, nothing;
  uint64_t tables_digest;  // XXH3-64 of everything between header and lists
  uint64_t codes_digest;   // of the lists
  uint64_t own_digest;     // of the bytes of the header before it; zeros follow
};
static_assert(sizeof(IvfHeader) == 72);
constexpr size_t kIvfDigested = offsetof(IvfHeader, own_digest);

}  // namespace tern
