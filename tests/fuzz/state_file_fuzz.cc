// Saved conversations: whatever the bytes, reading them ends in a status. The digest is brought up to date first, or no change would ever pass it.
#include <cstring>
#include <vector>

#include "engine/base/hash.h"
#include "engine/runtime/state_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  if (size > 24 && data[size - 1] % 2 == 0) {
    const uint64_t digest = tern::Xxh3({bytes.data() + 24, size - 24});
    std::memcpy(bytes.data() + 16, &digest, 8);
  }
  auto saved = tern::ParseState(bytes);
  if (!saved.ok()) {
    (void)saved.status().message();
    return 0;
  }
  if (saved->tokens_seen < 0 || saved->state.size() > size) __builtin_trap();
  return 0;
}
