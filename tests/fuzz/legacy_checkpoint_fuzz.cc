// torch legacy files: the bytes as a file; and behind the three leading pickles, so that changes reach the object and
// the storages.
#include <string>

#include "tests/fuzz/read_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace std::string_literals;
  tern::OpenAndRead({data, size});
  static const std::string kStart = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."s +
                                    "\x80\x02M\xe9\x03."s + "\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."s;
  const std::string file = kStart + std::string(reinterpret_cast<const char*>(data), size);
  tern::OpenAndRead({reinterpret_cast<const uint8_t*>(file.data()), file.size()});
  return 0;
}
