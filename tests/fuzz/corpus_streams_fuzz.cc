// gzip and zstd streams on any bytes: an end or an error, bounded memory.
#include <cstdint>
#include <string>

#include "tools/corpus/byte_stream.h"

using namespace tern;
using namespace tern::corpus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto stream = ByteStream::OverBytes(std::string(reinterpret_cast<const char*>(data), size));
  static std::string buffer(1 << 16, '\0');
  for (int i = 0; i < 256; ++i) {  // a bomb is cut off after 16 MiB: the caller reads in blocks
    auto n = stream->Read(buffer.data(), static_cast<int64_t>(buffer.size()));
    if (!n.ok() || *n == 0) break;
  }
  return 0;
}
