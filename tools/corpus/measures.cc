// What the rules of a rules file can look at.
#include "tools/corpus/chars.h"
#include "tools/corpus/rules_file.h"

namespace tern::corpus {
namespace {

double Ratio(double part, double whole) { return whole == 0 ? 0 : part / whole; }

// Code points of `text` for which f holds.
template <class F>
double CountChars(std::string_view text, F&& f) {
  int64_t count = 0;
  for (size_t at = 0; at < text.size();) count += f(NextChar(text, &at));
  return static_cast<double>(count);
}

double CountPieces(std::string_view text, std::string_view piece) {
  double count = 0;
  for (size_t at = 0; (at = text.find(piece, at)) != std::string_view::npos; at += piece.size()) ++count;
  return count;
}

double Chars(TextUnits& u) { return static_cast<double>(u.chars()); }
double Words(TextUnits& u) { return static_cast<double>(u.tokens().size()); }

double MeanWordLength(TextUnits& u) {
  const Tokens& t = u.tokens();
  return Ratio(t.chars_before[static_cast<size_t>(t.size())], Words(u));
}
double Lines(TextUnits& u) {
  double lines = 0;
  ForEachLine(u.text(), [&](std::string_view) { ++lines; });
  return lines;
}
double UpperRatio(TextUnits& u) {
  double upper = 0;
  double letters = CountChars(u.text(), [&](char32_t c) {
    uint32_t bits = CharBits(c);
    if ((bits & kLetter) && LowerOf(bits) != c) ++upper;
    return (bits & kLetter) != 0;
  });
  return Ratio(upper, letters);
}
template <uint8_t kBits>
double ShareOf(TextUnits& u) {
  return Ratio(CountChars(u.text(), [](char32_t c) { return (RuleBits(c) & kBits) != 0; }), Chars(u));
}
template <int kN>
double TopShare(TextUnits& u) {
  TextUnits::TopGram top = u.Top(kN);
  return Ratio(static_cast<double>(top.count * top.chars), Chars(u));
}
template <int kN>
double DuplicatedShare(TextUnits& u) {
  return Ratio(static_cast<double>(u.DuplicatedChars(kN)), Chars(u));
}

}  // namespace

const std::vector<Measure>& Measures() {
  static const std::vector<Measure> all = {
      {"bytes", "UTF-8 bytes", [](TextUnits& u) { return static_cast<double>(u.text().size()); }},
      {"chars", "code points", Chars},
      {"words", "tokens: words, and symbols by themselves", Words},
      {"different_words", "different tokens per token", [](TextUnits& u) { return Ratio(static_cast<double>(u.tokens().count.size()), Words(u)); }},
      {"mean_word_length", "code points per token", MeanWordLength},
      {"lines", "lines", Lines},
      {"sentences", "sentences", [](TextUnits& u) { return static_cast<double>(CountSentences(u.text())); }},
      {"upper_ratio", "capital letters per letter", UpperRatio},
      {"letter_ratio", "letters per code point", ShareOf<kAlphabetic>},
      {"digit_ratio", "digits per code point", ShareOf<kDigit>},
      {"space_ratio", "white space per code point", ShareOf<kBlank>},
      {"punctuation_ratio", "punctuation per code point", ShareOf<kPunctuation>},
      {"urls", "http:// and https://", [](TextUnits& u) { return CountPieces(u.text(), "http://") + CountPieces(u.text(), "https://"); }},
      {"repeated_lines", "lines that stood before, per line", [](TextUnits& u) { Repeats r = u.RepeatedLines(); return Ratio(static_cast<double>(r.repeated), static_cast<double>(r.members)); }},
      {"repeated_paragraphs", "paragraphs that stood before, per paragraph", [](TextUnits& u) { Repeats r = u.RepeatedParagraphs(); return Ratio(static_cast<double>(r.repeated), static_cast<double>(r.members)); }},
      {"top_2_gram", "characters of the most frequent pair of words, per character", TopShare<2>},
      {"top_3_gram", "the same of three words", TopShare<3>},
      {"top_4_gram", "the same of four words", TopShare<4>},
      {"duplicated_5_grams", "characters in repeated runs of 5 words, per character", DuplicatedShare<5>},
      {"duplicated_10_grams", "the same of 10 words", DuplicatedShare<10>},
  };
  return all;
}

}  // namespace tern::corpus
