// Blocks of a retrieval database: whatever the bytes, opening, verifying, reading and searching them ends in a status.
//
// The header's digest is brought up to date in every second input (chosen by the last byte), or no change would ever pass it.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "engine/base/hash.h"
#include "engine/retrieval/block.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  void* memory = nullptr;  // aligned as a mapping, and not a byte longer than the input
  if (posix_memalign(&memory, 64, size) != 0) return 0;
  std::unique_ptr<void, decltype(&std::free)> owner(memory, std::free);
  auto* bytes = static_cast<uint8_t*>(memory);
  if (size > 0) std::memcpy(bytes, data, size);
  if (size >= 128 && data[size - 1] % 2 == 0) {
    const uint64_t digest = tern::Xxh3({bytes, 96});
    std::memcpy(bytes + 96, &digest, 8);
  }
  auto block = tern::Block::Parse({bytes, size}, "input");
  if (!block.ok()) {
    (void)block.status().message();
    return 0;
  }
  const tern::Block& b = **block;
  (void)b.Verify();
  for (int64_t i = 0; i < b.chunks(); ++i)
    if (b.Payload(i).size() > size || b.DocumentOf(i) < b.first_document()) std::abort();
  for (int64_t i = 0; i < b.documents(); ++i) (void)b.Document(i);
  tern::VectorSet set;
  set.dim = b.dim(), set.longest = b.longest();
  set.blocks.push_back(b.Vectors());
  const std::vector<float> query(static_cast<size_t>(b.dim()), 0.5f);
  tern::SearchOptions options;
  options.k = 3;
  tern::Gang gang(1);
  if (b.dim() <= 4096) (void)tern::Search(set, query, options, &gang);
  return 0;
}
