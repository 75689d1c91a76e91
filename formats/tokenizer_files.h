// TokenizerFiles: the files a tokenizer is made from, by name, and the makers of each kind. Internal to
// formats/tokenizer*.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/status.h"

namespace tern {

class Tokenizer;

struct TokenizerFiles {
  static constexpr uint64_t kMaxFileBytes = 256 << 20;

  std::string kind;
  std::vector<std::pair<std::string, std::string>> files;  // name, bytes

  const std::string* Find(std::string_view name) const {
    for (const auto& [file, bytes] : files)
      if (file == name) return &bytes;
    return nullptr;
  }

  // Our bounded layout: "TERNTOK1", kind, count, then name and bytes of each, every string behind its u32 length, XXH3
  // of all at the end.
  std::string Serialize() const;
  static Result<TokenizerFiles> Deserialize(std::span<const uint8_t> bytes);
};

Result<std::unique_ptr<Tokenizer>> MakeTokenizer(TokenizerFiles files);  // by files.kind
Result<std::unique_ptr<Tokenizer>> MakeSpmTokenizer(TokenizerFiles files);
Result<std::unique_ptr<Tokenizer>> MakeByteTokenizer(TokenizerFiles files);
Result<std::unique_ptr<Tokenizer>> MakeJsonTokenizer(TokenizerFiles files);
Result<std::unique_ptr<Tokenizer>> MakeConvertedTokenizer(TokenizerFiles files);
Result<std::unique_ptr<Tokenizer>> MakeXlTokenizer(TokenizerFiles files);  // file "symbols": XlVocabulary

}  // namespace tern
