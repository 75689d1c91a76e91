// SentencePiece models: the protocol buffer, the charsmap, the pieces; as the library uses them and as ALBERT, T5 and
// Reformer do.
#include "use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  tern::MakeAndUse("spm", {{"tokenizer.model", bytes}});
  for (const char* kind : {"albert", "t5", "reformer"})
    tern::MakeAndUse(kind, {{"spiece.model", bytes}, {"tokenizer_config.json", "{\"extra_ids\":2}"}});
  return 0;
}
