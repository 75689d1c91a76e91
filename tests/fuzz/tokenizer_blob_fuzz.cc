// The tokenizer inside a .tern file. The digest is put right first, so that the fuzzer reaches what lies behind it.
#include <cstring>

#include "engine/base/hash.h"
#include "use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  for (int round = 0; round < 2; ++round) {
    auto made = tern::Tokenizer::Deserialize({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    if (made.ok()) tern::UseTokenizer(**made);
    if (bytes.size() < 8) break;
    const uint64_t digest = tern::Xxh3({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size() - 8});
    std::memcpy(bytes.data() + bytes.size() - 8, &digest, 8);
  }
  return 0;
}
