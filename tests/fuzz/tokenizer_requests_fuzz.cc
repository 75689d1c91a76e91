// `tern tokenize --jsonl`: any line gets an answer of one line.
#include "formats/tokenizer_jsonl.h"
#include "use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* tokenizer = [] {
    tern::TokenizerFiles files;
    files.kind = "bert";
    files.files.emplace_back("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##c\n,\n");
    return std::move(tern::MakeTokenizer(std::move(files))).value().release();
  }();
  const std::string answer = tern::AnswerTokenizerRequest(*tokenizer, {reinterpret_cast<const char*>(data), size});
  if (answer.empty() || answer.find('\n') != std::string::npos) std::abort();
  return 0;
}
