// What every tokenizer that could be made must survive: texts of all kinds, ids of all kinds, and the trip through its
// own serialization.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

#include "formats/tokenizer.h"

namespace tern {

inline void UseTokenizer(const Tokenizer& t) {
  static constexpr char kOdd[] = "\0\xFF\xC3 [MASK] </s> <0x41>\n\t x";
  const std::string texts[] = {"",
                               " ",
                               "Hello, world! 1,000 don't",
                               "a\xCC\x81 \xE3\x81\x8B\xE3\x82\x99 \xEF\xAC\x81 \xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD",
                               std::string(300, 'a'),
                               std::string(kOdd, sizeof kOdd - 1)};
  EncodeOptions all;
  all.offsets = all.pieces = true;
  for (const std::string& text : texts) {
    std::vector<int32_t> ids, streamed;
    const Status status = t.EncodeIds(text, false, &ids);
    for (int32_t id : ids)
      if (status.ok() && (id < 0 || id >= t.vocab_size())) std::abort();
    (void)t.Encode(text, all);
    (void)t.EncodePair(text, "b", all);
    (void)t.EncodeWindows("q", text, 12, 2);
    (void)t.Decode(ids);
    auto stream = t.NewEncodeStream();
    bool streams = true;
    for (size_t i = 0; i < text.size() && streams; i += 5)
      streams = stream->Push(std::string_view(text).substr(i, 5), &streamed).ok();
    if (streams) streams = stream->Finish(&streamed).ok();
    if (status.ok() && streams && streamed != ids && t.kind() != "xl-pretok" && t.kind() != "xl-lm1b") std::abort();
  }
  const int32_t strange[] = {0, 1, 2, 5, -1, INT32_MAX, static_cast<int32_t>(t.vocab_size()) - 1, 7, 8, 9};
  (void)t.Decode(strange);
  (void)t.IdOf("a");
  (void)t.special_ids();
  const std::string bytes = t.Serialize();
  if (!Tokenizer::Deserialize({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}).ok()) std::abort();
}

inline void MakeAndUse(const char* kind, std::vector<std::pair<std::string, std::string>> files) {
  TokenizerFiles bag;
  bag.kind = kind;
  bag.files = std::move(files);
  auto made = MakeTokenizer(std::move(bag));
  if (made.ok()) UseTokenizer(**made);
}

}  // namespace tern
