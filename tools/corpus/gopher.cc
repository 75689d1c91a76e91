// Gopher's rules for quality and repetition.
#include <array>
#include <cstring>

#include "tools/corpus/chars.h"
#include "tools/corpus/rules.h"

namespace tern::corpus {
namespace {

constexpr std::string_view kEllipsis = "\xe2\x80\xa6";  // U+2026
constexpr std::string_view kBullet = "\xe2\x80\xa2";    // U+2022

// Up to four bytes as one number; no two words have the same.
constexpr uint32_t ShortWord(std::string_view word) {
  uint32_t key = 0;
  for (size_t i = 0; i < word.size(); ++i) key |= static_cast<uint32_t>(static_cast<unsigned char>(word[i])) << 8 * i;
  return key;
}
constexpr uint32_t kStopWords[] = {ShortWord("the"), ShortWord("be"),   ShortWord("to"),   ShortWord("of"),
                                   ShortWord("and"), ShortWord("that"), ShortWord("have"), ShortWord("with")};

// Occurrences that do not overlap, from the left.
int64_t CountOf(std::string_view text, std::string_view piece) {
  int64_t count = 0;
  for (size_t at = 0; (at = text.find(piece, at)) != std::string_view::npos; at += piece.size()) ++count;
  return count;
}

double Ratio(int64_t part, int64_t whole) { return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole); }

struct TokenCounts {
  int64_t tokens = 0, worded = 0, worded_chars = 0, alphabetic = 0, stop_words = 0;
};

// Looks at each different token once.
TokenCounts CountTokens(const Tokens& t) {
  TokenCounts c;
  c.tokens = t.size();
  for (size_t id = 0; id < t.count.size(); ++id) {
    std::string_view token = t.text(t.first[id]);
    int64_t count = t.count[id];
    bool worded = false, alphabetic = false;
    for (size_t at = 0; at < token.size() && !(worded && alphabetic);) {
      uint8_t bits = RuleBits(NextChar(token, &at));
      worded |= (bits & kPunctuation) == 0;
      alphabetic |= (bits & kAlphabetic) != 0;
    }
    if (worded) {
      c.worded += count;
      c.worded_chars += count * (t.chars_before[t.first[id] + 1] - t.chars_before[t.first[id]]);
    }
    if (alphabetic) c.alphabetic += count;
    if (token.size() >= 2 && token.size() <= 4) {
      uint32_t key = ShortWord(token);
      for (uint32_t word : kStopWords) c.stop_words += key == word;
    }
  }
  return c;
}

class GopherQuality : public RuleSet {
 public:
  std::string_view name() const override { return "gopher"; }
  std::string_view summary() const override { return "words, their mean length, symbols, bullets, letters, stop words"; }
  std::vector<std::string_view> reasons() const override {
    return {"gopher_short_doc",          "gopher_long_doc",          "gopher_below_avg_threshold",   "gopher_above_avg_threshold",
            "gopher_too_many_hashes",    "gopher_too_many_ellipsis", "gopher_too_many_bullets",      "gopher_too_many_end_ellipsis",
            "gopher_below_alpha_threshold", "gopher_enough_stop_words"};
  }
  std::vector<Limit> limits() override {
    return {{"min_words", &min_words_},       {"max_words", &max_words_},       {"min_mean_length", &min_mean_},
            {"max_mean_length", &max_mean_},  {"max_symbols", &max_symbols_},   {"max_bullet_lines", &max_bullets_},
            {"max_ellipsis_lines", &max_ellipses_}, {"min_alphabetic", &min_alphabetic_}, {"min_stop_words", &min_stop_words_}};
  }

  Verdict Judge(TextUnits& units) const override {
    std::string_view text = units.text();
    TokenCounts c = CountTokens(units.tokens());
    double worded = static_cast<double>(c.worded), mean = Ratio(c.worded_chars, c.worded);
    if (worded < min_words_) return {"gopher_short_doc", worded, min_words_};
    if (worded > max_words_) return {"gopher_long_doc", worded, max_words_};
    if (mean < min_mean_) return {"gopher_below_avg_threshold", mean, min_mean_};
    if (mean > max_mean_) return {"gopher_above_avg_threshold", mean, max_mean_};
    double hashes = Ratio(CountOf(text, "#"), c.tokens);
    if (hashes > max_symbols_) return {"gopher_too_many_hashes", hashes, max_symbols_};
    double ellipses = Ratio(CountOf(text, "...") + CountOf(text, kEllipsis), c.tokens);
    if (ellipses > max_symbols_) return {"gopher_too_many_ellipsis", ellipses, max_symbols_};
    int64_t lines = 0, bullets = 0, ends = 0;
    ForEachLine(text, [&](std::string_view line) {
      line = Trimmed(line);
      ++lines;
      bullets += line.starts_with('-') || line.starts_with(kBullet);
      ends += line.ends_with("...") || line.ends_with(kEllipsis);
    });
    if (Ratio(bullets, lines) > max_bullets_) return {"gopher_too_many_bullets", Ratio(bullets, lines), max_bullets_};
    if (Ratio(ends, lines) > max_ellipses_) return {"gopher_too_many_end_ellipsis", Ratio(ends, lines), max_ellipses_};
    double alphabetic = Ratio(c.alphabetic, c.tokens);
    if (alphabetic < min_alphabetic_) return {"gopher_below_alpha_threshold", alphabetic, min_alphabetic_};
    double stop_words = static_cast<double>(c.stop_words);
    if (stop_words < min_stop_words_) return {"gopher_enough_stop_words", stop_words, min_stop_words_};
    return {};
  }

 private:
  double min_words_ = 50, max_words_ = 100000, min_mean_ = 3, max_mean_ = 10, max_symbols_ = .1, max_bullets_ = .9, max_ellipses_ = .3;
  double min_alphabetic_ = .8, min_stop_words_ = 2;
};

class GopherRepetition : public RuleSet {
 public:
  std::string_view name() const override { return "gopher-rep"; }
  std::string_view summary() const override { return "repeated lines, paragraphs and runs of words"; }
  std::vector<std::string_view> reasons() const override {
    return {"empty",       "dup_para_frac", "dup_para_char_frac", "dup_line_frac", "dup_line_char_frac", kTop[0],        kTop[1],
            kTop[2],       kDuplicated[0],  kDuplicated[1],       kDuplicated[2],  kDuplicated[3],       kDuplicated[4], kDuplicated[5]};
  }
  std::vector<Limit> limits() override {
    std::vector<Limit> all = {{"max_para_frac", &para_}, {"max_para_char_frac", &para_chars_}, {"max_line_frac", &line_}, {"max_line_char_frac", &line_chars_}};
    for (int i = 0; i < 3; ++i) all.push_back({kTopLimit[i], &top_[i]});
    for (int i = 0; i < 6; ++i) all.push_back({kDuplicatedLimit[i], &duplicated_[i]});
    return all;
  }

  Verdict Judge(TextUnits& units) const override {
    if (units.text().empty()) return {"empty", 1, 0};
    int64_t chars = units.chars();
    Repeats paras = units.RepeatedParagraphs();
    if (double v = Ratio(paras.repeated, paras.members); v > para_) return {"dup_para_frac", v, para_};
    if (double v = Ratio(paras.repeated_chars, chars); v > para_chars_) return {"dup_para_char_frac", v, para_chars_};
    Repeats lines = units.RepeatedLines();
    if (double v = Ratio(lines.repeated, lines.members); v > line_) return {"dup_line_frac", v, line_};
    if (double v = Ratio(lines.repeated_chars, chars); v > line_chars_) return {"dup_line_char_frac", v, line_chars_};
    for (int n = 2; n <= 4; ++n) {
      if (Ratio(units.TopBound(n), chars) <= top_[n - 2]) continue;
      TextUnits::TopGram top = units.Top(n);
      if (double v = Ratio(top.chars * top.count, chars); v > top_[n - 2]) return {kTop[n - 2], v, top_[n - 2]};
    }
    for (int n = 5; n <= 10; ++n)
      if (double v = Ratio(units.DuplicatedChars(n), chars); v > duplicated_[n - 5]) return {kDuplicated[n - 5], v, duplicated_[n - 5]};
    return {};
  }

 private:
  static constexpr const char* kTop[] = {"top_2_gram", "top_3_gram", "top_4_gram"};
  static constexpr const char* kDuplicated[] = {"duplicated_5_n_grams", "duplicated_6_n_grams", "duplicated_7_n_grams",
                                                "duplicated_8_n_grams", "duplicated_9_n_grams", "duplicated_10_n_grams"};
  static constexpr const char* kTopLimit[] = {"max_top_2_gram", "max_top_3_gram", "max_top_4_gram"};
  static constexpr const char* kDuplicatedLimit[] = {"max_duplicated_5_gram", "max_duplicated_6_gram", "max_duplicated_7_gram",
                                                     "max_duplicated_8_gram", "max_duplicated_9_gram", "max_duplicated_10_gram"};
  double para_ = .3, para_chars_ = .2, line_ = .3, line_chars_ = .2;
  std::array<double, 3> top_ = {.20, .18, .16};
  std::array<double, 6> duplicated_ = {.15, .14, .13, .12, .11, .10};
};

}  // namespace

std::unique_ptr<RuleSet> MakeGopherQuality() { return std::make_unique<GopherQuality>(); }
std::unique_ptr<RuleSet> MakeGopherRepetition() { return std::make_unique<GopherRepetition>(); }

}  // namespace tern::corpus
