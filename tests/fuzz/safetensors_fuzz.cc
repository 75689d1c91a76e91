// safetensors: any bytes; and any bytes as a header whose length is right, before a little data.
#include <cstring>
#include <vector>

#include "tests/fuzz/read_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tern::OpenAndRead({data, size});
  std::vector<uint8_t> framed(8 + size + 64);
  const uint64_t header_bytes = size;
  std::memcpy(framed.data(), &header_bytes, 8);
  if (size > 0) std::memcpy(framed.data() + 8, data, size);
  for (size_t data_bytes : {0, 4, 8, 64}) tern::OpenAndRead({framed.data(), 8 + size + data_bytes});
  return 0;
}
