#include <algorithm>

#include "formats/tokenizer_moses.h"
#include "formats/tokenizer_moses_chars.h"
#include "formats/tokenizer_unicode.h"

namespace tern {
namespace {

void Unescape(std::string* word) {
  if (word->find('&') == std::string::npos) return;
  static constexpr std::string_view kEscapes[][2] = {{"&bar;", "|"}, {"&#124;", "|"}, {"&lt;", "<"},    {"&gt;", ">"},
                                                     {"&bra;", "["}, {"&ket;", "]"},  {"&quot;", "\""}, {"&apos;", "'"},
                                                     {"&#91;", "["}, {"&#93;", "]"},  {"&amp;", "&"}};
  for (const auto& [from, to] : kEscapes) {
    std::string out;
    StreamReplacer(std::string(from), std::string(to)).Push(*word, true, &out);
    *word = std::move(out);
  }
}

template <class Test>
bool All(std::u32string_view word, Test test) {
  return std::all_of(word.begin(), word.end(), test);
}
bool OneOf(char32_t c, std::u32string_view set) {
  return set.find(c) != std::u32string_view::npos;
}

}  // namespace

std::string MosesJoiner::Push(std::string_view token) {
  std::string out;
  if (token == "@-@" && !space_used_) {
    word_ += '-';
    space_used_ = true;
    return "";
  }
  if (!space_used_) EndWord(&out);
  word_ += token;
  space_used_ = false;
  return Filter(out, false);
}

std::string MosesJoiner::Finish() {
  std::string out;
  EndWord(&out);
  return Filter(out, true);
}

// The word's text once nothing can be joined to it any more.
void MosesJoiner::EndWord(std::string* out) {
  Unescape(&word_);
  const std::u32string text = ToCodePoints(word_);
  word_.clear();
  for (size_t i = 0; i < text.size();) {  // symbols of a vocabulary may hold white space
    size_t end = i;
    while (end < text.size() && !IsPythonSpace(text[end])) ++end;
    if (end > i) Word(ToUtf8(std::u32string_view(text).substr(i, end - i)), out);
    i = end + 1;
  }
}

void MosesJoiner::Word(std::string_view word, std::string* out) {
  const std::u32string w = ToCodePoints(word);
  bool left = false;   // no space before the word
  bool right = false;  // none behind it
  if (moses::IsCjk(w[0])) {
    left = any_out_ && moses::IsCjk(previous_last_);
  } else if (All(w, [](char32_t c) { return moses::IsCurrency(c) || OneOf(c, U"([{\u00BF\u00A1"); })) {
    right = true;
  } else if (All(w, [](char32_t c) { return OneOf(c, U",.?!:;\\%}])"); })) {
    left = true;
  } else if (any_out_ && w.size() >= 2 && w[0] == '\'' && moses::IsDetokenizerAlpha(w[1])) {
    left = true;
  } else if (All(w, [](char32_t c) { return OneOf(c, U"'\"\u201E\u201C`"); })) {
    // Quotation marks open and close in turn; an apostrophe behind an s is a possessive.
    const bool curly = All(w, [](char32_t c) { return c == 0x201E || c == 0x201C; });
    int64_t& count = quotes_[curly ? "\"" : std::string(word)];
    if (count % 2 == 0 && word == "'" && previous_last_ == 's') {
      left = true;
    } else {
      left = count % 2 == 1;
      right = !left;
      ++count;
    }
  }
  if (!left && prepend_space_ && any_out_) *out += ' ';
  *out += word;
  any_out_ = true;
  prepend_space_ = !right;
  previous_last_ = w.back();
}

std::string MosesJoiner::Filter(const std::string& text, bool last) {
  std::string commas, out;
  comma_.Push(text, last, &commas);
  dot_.Push(commas, last, &out);
  return out;
}

}  // namespace tern
