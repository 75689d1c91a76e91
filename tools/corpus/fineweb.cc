// FineWeb's additions to the rules of C4 and Gopher, and encoding damage.
#include <algorithm>

#include "tools/corpus/chars.h"
#include "tools/corpus/rules.h"

namespace tern::corpus {
namespace {

double Ratio(int64_t part, int64_t whole) { return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole); }

class FineWeb : public RuleSet {
 public:
  std::string_view name() const override { return "fineweb"; }
  std::string_view summary() const override { return "line endings, short lines, repeated lines, line feeds per word"; }
  std::vector<std::string_view> reasons() const override {
    return {"empty", "line_punct_ratio", "short_line_ratio", "char_dup_ratio", "list_ratio"};
  }
  std::vector<Limit> limits() override {
    return {{"min_line_punct_ratio", &min_punct_}, {"max_short_line_ratio", &max_short_}, {"short_line_length", &short_length_},
            {"max_char_dup_ratio", &max_dup_},     {"max_list_ratio", &max_list_}};
  }

  Verdict Judge(TextUnits& units) const override {
    thread_local std::vector<std::string_view> lines;
    std::string_view text = units.text();
    lines.clear();
    int64_t punctuated = 0, short_lines = 0, feeds = 0;
    for (size_t begin = 0; begin <= text.size();) {
      size_t end = std::min(text.find('\n', begin), text.size());
      std::string_view line = text.substr(begin, end - begin);
      begin = end + 1;
      feeds += end < text.size();
      if (IsBlank(line)) continue;
      lines.push_back(line);
      punctuated += (RuleBits(LastChar(line)) & kTerminal) != 0;
      // A character takes one to four bytes: long lines need not be counted.
      short_lines += static_cast<double>(line.size()) <= 4 * short_length_ && static_cast<double>(CountCodePoints(line)) <= short_length_;
    }
    int64_t n = static_cast<int64_t>(lines.size());
    if (n == 0) return {"empty", 1, 0};
    if (double v = Ratio(punctuated, n); v < min_punct_) return {"line_punct_ratio", v, min_punct_};
    if (double v = Ratio(short_lines, n); v > max_short_) return {"short_line_ratio", v, max_short_};
    double repeated = Ratio(units.CountRepeats(lines).repeated_chars, units.chars() - feeds);
    if (repeated > max_dup_) return {"char_dup_ratio", repeated, max_dup_};
    if (double v = Ratio(feeds, feeds == 0 ? 1 : units.token_count()); v > max_list_) return {"list_ratio", v, max_list_};
    return {};
  }

 private:
  double min_punct_ = .12, max_short_ = .67, short_length_ = 30, max_dup_ = .01, max_list_ = .3;
};

class Encoding : public RuleSet {
 public:
  std::string_view name() const override { return "encoding"; }
  std::string_view summary() const override { return "replacement and control characters, UTF-8 that was read as Latin-1"; }
  std::vector<std::string_view> reasons() const override { return {"replacement_chars", "control_chars", "mojibake"}; }
  std::vector<Limit> limits() override {
    return {{"max_replacement_chars", &max_replacement_}, {"max_control_chars", &max_control_}, {"max_mojibake", &max_mojibake_}};
  }

  Verdict Judge(TextUnits& units) const override {
    std::string_view text = units.text();
    int64_t replacement = 0, control = 0, mojibake = 0;
    char32_t before = 0;
    for (size_t at = 0; at < text.size();) {
      char32_t c = NextChar(text, &at);
      replacement += c == 0xfffd;
      control += (c < 0x20 && (RuleBits(c) & kLineBreak) == 0 && c != '\t') || (c >= 0x7f && c < 0xa0 && c != 0x85);
      // C3 A9 (e acute) read as Latin-1 or Windows-1252 gives A-tilde and a copyright sign; E2 80 99 gives a-circumflex and a euro sign.
      mojibake += ((before == 0xc2 || before == 0xc3) && c >= 0x80 && c <= 0xbf) || (before == 0xe2 && (c == 0x20ac || c == 0x80));
      before = c;
    }
    int64_t chars = units.chars();
    if (double v = Ratio(replacement, chars); v > max_replacement_) return {"replacement_chars", v, max_replacement_};
    if (double v = Ratio(control, chars); v > max_control_) return {"control_chars", v, max_control_};
    if (double v = Ratio(mojibake, chars); v > max_mojibake_) return {"mojibake", v, max_mojibake_};
    return {};
  }

 private:
  double max_replacement_ = .001, max_control_ = .001, max_mojibake_ = .002;
};

}  // namespace

std::unique_ptr<RuleSet> MakeFineWeb() { return std::make_unique<FineWeb>(); }
std::unique_ptr<RuleSet> MakeEncoding() { return std::make_unique<Encoding>(); }

}  // namespace tern::corpus
