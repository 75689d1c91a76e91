// tokenizer.json: every component, patterns included.
#include "use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tern::MakeAndUse("json", {{"tokenizer.json", std::string(reinterpret_cast<const char*>(data), size)}});
  return 0;
}
