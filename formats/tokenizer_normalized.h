// NormalizedText: a text on its way through normalizers and pre-tokenizers, and for each of its bytes the bytes of the
// original it stands for. The rules for what an inserted, replaced or removed character is aligned to are those of the
// tokenizers library, so that offsets agree with it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tern {

struct Alignment {  // bytes of the original, half-open
  uint32_t begin = 0, end = 0;
};

struct NormalizedText {
  std::string text;
  std::vector<Alignment> align;  // one per byte of text, or none where nobody asked for offsets
  uint32_t origin = 0;           // where the part of the original begins that this text came from
  bool tracked = false;
  int32_t added_id = -1;  // >= 0: this part is an added token and is touched no more

  void Assign(std::string_view original, bool track);
  NormalizedText Slice(size_t begin, size_t end) const;
  size_t size() const { return text.size(); }
};

// Builds the new text from the old one, left to right. Finish puts it in place.
class Rewriter {
 public:
  explicit Rewriter(NormalizedText* text) : t_(text) { out_.reserve(text->text.size() + 16); }

  size_t at() const { return at_; }
  void Keep(size_t bytes);                   // the next bytes of the old text, as they are; whole characters
  void Skip(size_t bytes) { at_ += bytes; }  // leaves bytes out
  // `c` in place of the next character, of `old_bytes` bytes.
  void Put(char32_t c, size_t old_bytes);
  void Put(std::string_view c, size_t old_bytes);
  // `c` as a new character behind what was consumed last: it shares that alignment.
  void Insert(char32_t c);
  void Insert(std::string_view c);
  void Finish();

 private:
  void Append(std::string_view c, Alignment alignment);
  NormalizedText* t_;
  std::string out_;
  std::vector<Alignment> align_;
  size_t at_ = 0;
};

}  // namespace tern
