// Vocabularies: vocab.txt of BERT; vocab.json with merges.txt (a NUL byte between the two); Transformer-XL's pickles
// and word lists.
#include "formats/tokenizer_xl_vocabulary.h"
#include "use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  tern::MakeAndUse("bert", {{"vocab.txt", bytes}});
  if (const size_t cut = bytes.find('\0'); cut != std::string::npos) {
    tern::MakeAndUse("gpt2", {{"vocab.json", bytes.substr(0, cut)}, {"merges.txt", bytes.substr(cut + 1)}});
    tern::MakeAndUse("roberta", {{"vocab.json", bytes.substr(0, cut)}, {"merges.txt", bytes.substr(cut + 1)}});
  }
  for (auto vocabulary : {tern::XlVocabulary::FromPickle({data, size}), tern::XlVocabulary::FromText(bytes),
                          tern::XlVocabulary::Deserialize(bytes)}) {
    if (!vocabulary.ok()) continue;
    for (const char* kind : {"transfo-xl", "xl-pretok", "xl-lm1b", "xl-text8", "xl-bytes-decimal"})
      tern::MakeAndUse(kind, {{"symbols", vocabulary->Serialize()}});
  }
  return 0;
}
