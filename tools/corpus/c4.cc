// C4's rules: line by line, then sentences; and mC4's rule on paragraphs.
#include <algorithm>
#include <cstring>

#include "tools/corpus/chars.h"
#include "tools/corpus/phrases.h"
#include "tools/corpus/rules.h"

namespace tern::corpus {
namespace {

// Phrases are searched in lower case by a letter of theirs that is rare in text: `anchor` is its place.
constexpr Phrase kLoremIpsum = {"lorem ipsum", 7}, kJavascript = {"javascript", 0};
constexpr Phrase kPolicyPhrases[] = {{"terms of use", 7},  {"privacy policy", 3}, {"cookie policy", 3},
                                     {"uses cookies", 8}, {"use of cookies", 10}, {"use cookies", 7}};

// White-space words of a line, and the code points of the longest. Stops at `enough` words if no word of the line can be longer than `longest`.
struct LineWords {
  int64_t words = 0, longest = 0;
};

LineWords CountLineWords(std::string_view line, double enough, double longest) {
  LineWords w;
  bool stop_early = static_cast<double>(line.size()) <= longest;
  int64_t chars = 0;
  for (size_t at = 0; at < line.size();) {
    unsigned char b = static_cast<unsigned char>(line[at]);
    bool blank = false;
    if (b > ' ' && b < 0x80) {
      ++at;
    } else {
      blank = (RuleBits(NextChar(line, &at)) & kBlank) != 0;
    }
    if (!blank) {
      w.words += chars == 0;
      if (stop_early && static_cast<double>(w.words) >= enough) return w;
      w.longest = std::max(w.longest, ++chars);
    } else {
      chars = 0;
    }
  }
  return w;
}

// Bytes of the citation that begins at line[at], which is '[': "[", digits, "]" or "[edit]" or "[citation needed]"; or 0.
size_t CitationAt(std::string_view line, size_t at) {
  std::string_view rest = line.substr(at);
  for (std::string_view mark : {"[edit]", "[citation needed]"})
    if (rest.starts_with(mark)) return mark.size();
  size_t end = at + 1;
  while (end < line.size()) {
    size_t next = end;
    char32_t c = NextChar(line, &next);
    if (c == ']') return next - at;
    if ((RuleBits(c) & kDigit) == 0) return 0;
    end = next;
  }
  return 0;
}

// `line` without citations: itself if it has none, else *scratch.
std::string_view WithoutCitations(std::string_view line, std::string* scratch) {
  size_t at = line.find('['), from = 0;
  scratch->clear();
  for (; at != std::string_view::npos; at = line.find('[', at)) {
    size_t bytes = CitationAt(line, at);
    if (bytes == 0) {
      ++at;
      continue;
    }
    scratch->append(line.substr(from, at - from));
    from = at += bytes;
  }
  if (from == 0) return line;
  scratch->append(line.substr(from));
  return *scratch;
}

bool EndsASentence(std::string_view line) {
  return !line.empty() && std::strchr(".?!\"'", line.back()) != nullptr && line.back() != 0 && !line.ends_with("...");
}

class C4 : public RuleSet {
 public:
  std::string_view name() const override { return "c4"; }
  std::string_view summary() const override { return "keeps lines that are sentences; rewrites the text"; }
  std::vector<std::string_view> reasons() const override { return {"lorem_ipsum", "curly_bracket", "too_few_sentences"}; }
  bool rewrites() const override { return true; }
  std::vector<Limit> limits() override {
    return {{"min_sentences", &min_sentences_}, {"min_line_words", &min_line_words_}, {"max_word_length", &max_word_length_}};
  }

  Verdict Judge(TextUnits& units) const override {
    thread_local std::string kept, scratch, lower;
    std::string_view text = units.text(), fail;
    kept.clear();
    kept.reserve(text.size());
    // Most documents hold no phrase at all; deleting a citation could make one, so then every line is looked at.
    bool look = text.find('[') != std::string_view::npos;
    if (!look) {
      LowerForPhrases(text, &lower);
      look = HasPhrase(lower, kLoremIpsum) || HasPhrase(lower, kJavascript) || HasPolicy(lower);
    }
    bool curly = text.find('{') != std::string_view::npos;
    int64_t sentences = 0;
    bool first = true;
    ForEachLine(text, [&](std::string_view line) {
      if (!fail.empty()) return;
      line = Trimmed(line);
      LineWords words = CountLineWords(line, min_line_words_, max_word_length_);
      if (static_cast<double>(words.longest) > max_word_length_) return;
      line = WithoutCitations(line, &scratch);
      if (!EndsASentence(line) || static_cast<double>(words.words) < min_line_words_) return;
      if (look) {
        LowerForPhrases(line, &lower);
        if (HasPhrase(lower, kLoremIpsum)) return void(fail = "lorem_ipsum");
        if (HasPhrase(lower, kJavascript)) return;
      }
      if (curly && line.find('{') != std::string_view::npos) return void(fail = "curly_bracket");
      if (look && HasPolicy(lower)) return;
      sentences += CountSentences(line);
      if (!first) kept += '\n';
      first = false;
      kept += line;
    });
    if (!fail.empty()) return {fail, 1, 0};
    double found = static_cast<double>(sentences);
    if (found < min_sentences_) return {"too_few_sentences", found, min_sentences_};
    units.Rewrite(Trimmed(kept));
    return {};
  }

 private:
  static bool HasPolicy(std::string_view lower) {
    return std::any_of(std::begin(kPolicyPhrases), std::end(kPolicyPhrases), [&](Phrase p) { return HasPhrase(lower, p); });
  }
  double min_sentences_ = 5, min_line_words_ = 3, max_word_length_ = 1000;
};

class C4Paragraphs : public RuleSet {
 public:
  std::string_view name() const override { return "c4-paragraphs"; }
  std::string_view summary() const override { return "at least three lines of 200 characters"; }
  std::vector<std::string_view> reasons() const override { return {"too_few_long_lines"}; }
  std::vector<Limit> limits() override { return {{"min_long_lines", &min_lines_}, {"min_long_line", &min_chars_}}; }

  Verdict Judge(TextUnits& units) const override {
    std::string_view text = units.text();
    double found = 0;
    for (size_t begin = 0; begin <= text.size();) {
      size_t end = std::min(text.find('\n', begin), text.size());
      // A character takes at most four bytes, so a short line need not be counted.
      if (end - begin >= min_chars_ && static_cast<double>(CountCodePoints(text.substr(begin, end - begin))) >= min_chars_) ++found;
      begin = end + 1;
    }
    if (found < min_lines_) return {"too_few_long_lines", found, min_lines_};
    return {};
  }

 private:
  double min_lines_ = 3, min_chars_ = 200;
};

}  // namespace

std::unique_ptr<RuleSet> MakeC4() { return std::make_unique<C4>(); }
std::unique_ptr<RuleSet> MakeC4Paragraphs() { return std::make_unique<C4Paragraphs>(); }

}  // namespace tern::corpus
