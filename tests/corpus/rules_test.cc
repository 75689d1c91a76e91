// The quality rules: their counts against slow, obvious ones on random texts, and their verdicts at the edges.
#include "tools/corpus/rules.h"

#include <doctest/doctest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/base/rng.h"
#include "engine/base/utf8.h"
#include "tools/corpus/chars.h"
#include "tools/corpus/filter.h"
#include "tools/corpus/rules_file.h"

namespace tern::corpus {
namespace {

std::vector<std::string> SlowTokens(const std::string& text) {
  std::vector<std::string> tokens;
  bool open = false;
  for (size_t at = 0; at < text.size();) {
    Utf8Char c = DecodeUtf8(text, at);
    std::string_view bytes = std::string_view(text).substr(at, c.bytes);
    at += c.bytes;
    bool in_run = (CharBits(c.code) & kWordBits) != 0;
    if (in_run && open) {
      tokens.back() += bytes;
    } else if (!IsSpaceChar(c.code)) {
      tokens.emplace_back(bytes);
    }
    open = in_run;
  }
  return tokens;
}

std::string Join(const std::vector<std::string>& tokens, size_t begin, size_t n, const char* between) {
  std::string joined;
  for (size_t i = begin; i < begin + n; ++i) joined += (i > begin ? between : "") + tokens[i];
  return joined;
}

TextUnits::TopGram SlowTop(const std::vector<std::string>& tokens, size_t n) {
  std::map<std::string, int64_t> count;
  TextUnits::TopGram top;
  for (size_t i = 0; i + n <= tokens.size(); ++i) ++count[Join(tokens, i, n, " ")];
  for (size_t i = 0; i + n <= tokens.size(); ++i) {
    std::string gram = Join(tokens, i, n, " ");
    if (count[gram] > top.count) top = {count[gram], CountCodePoints(gram)};
  }
  return top;
}

int64_t SlowDuplicated(const std::vector<std::string>& tokens, size_t n) {
  std::set<std::string> seen;
  int64_t chars = 0;
  for (size_t i = 0; i + n <= tokens.size();) {
    std::string gram = Join(tokens, i, n, "");
    bool fresh = seen.insert(gram).second;
    if (!fresh) chars += CountCodePoints(gram);
    i += fresh ? 1 : n;
  }
  return chars;
}

// Texts of few different pieces, so that everything repeats; among them tokens whose join is ambiguous ("a" "ab" and "aa" "b").
std::string RandomText(Rng& rng) {
  static const std::vector<std::string> kPieces[] = {
      {"a", "b", "ab", "ba", "aab", " "},
      {"one", "two", "three", ".", ",", " ", "\n", "\n\n"},
      {"\xc3\xa9t\xc3\xa9", "e\xcc\x81", "\xe4\xb8\xad\xe6\x96\x87", "\xe2\x80\xa6", "\xf0\x9d\x90\x80", "\xf0\x9f\x98\x80", "\xc2\xa0", " ", "\xe2\x80\xa8", "x"},
      {"a-token-with-hyphens", "averyveryverylongtokenwithoutend", "averyveryverylongtokenwithoutenD", "sixteenletters16", "#", "...", " "},
  };
  const auto& pieces = kPieces[rng.Below(4)];
  std::string text;
  for (uint64_t i = 0, n = rng.Below(120); i < n; ++i) {
    text += pieces[rng.Below(pieces.size())];
    if (rng.Below(3) > 0) text += ' ';
  }
  return text;
}

Verdict JudgeBy(const char* rules, const std::string& text, std::string* rewritten = nullptr) {
  static std::map<std::string, std::unique_ptr<RuleSet>> made;
  auto& set = made[rules];
  if (!set) set = std::move(MakeRuleSet(rules)).value();
  static TextUnits units;
  units.Reset(text);
  Verdict v = set->Judge(units);
  if (rewritten) *rewritten = units.text();
  return v;
}

std::string Repeat(const std::string& piece, int n) {
  std::string text;
  for (int i = 0; i < n; ++i) text += piece;
  return text;
}

}  // namespace

TEST_CASE("tokens and their repetitions equal slow counts on random texts") {
  Rng rng(7);
  TextUnits units;
  for (int round = 0; round < 3000; ++round) {
    std::string text = RandomText(rng);
    units.Reset(text);
    std::vector<std::string> tokens = SlowTokens(text);
    const Tokens& got = units.tokens();
    REQUIRE(got.size() == static_cast<int64_t>(tokens.size()));
    for (size_t i = 0; i < tokens.size(); ++i) REQUIRE(got.text(static_cast<int64_t>(i)) == tokens[i]);
    CHECK(got.chars_before.back() == static_cast<uint32_t>(CountCodePoints(Join(tokens, 0, tokens.size(), ""))));
    for (int n = 2; n <= 4; ++n) {
      TextUnits::TopGram want = SlowTop(tokens, static_cast<size_t>(n)), top = units.Top(n);
      CHECK(top.count == want.count);
      if (want.count > 0) CHECK(top.chars == want.chars);
      CHECK(units.TopBound(n) >= want.count * want.chars);
    }
    for (int n = 5; n <= 10; ++n) CHECK(units.DuplicatedChars(n) == SlowDuplicated(tokens, static_cast<size_t>(n)));
  }
}

TEST_CASE("gopher: limits are strict, and checks come in their order") {
  CHECK(JudgeBy("gopher", "").reason == "gopher_short_doc");
  std::string words49 = Repeat("these cats and of ", 12) + "one";
  CHECK(JudgeBy("gopher", words49).value == 49);
  CHECK(JudgeBy("gopher", words49 + " two").passes());
  CHECK(JudgeBy("gopher", Repeat("to be ", 30)).reason == "gopher_below_avg_threshold");
  CHECK(JudgeBy("gopher", Repeat("extraordinarily thoroughgoing ", 30)).reason == "gopher_above_avg_threshold");
  CHECK(JudgeBy("gopher", Repeat("the tail #wagged ", 30)).reason == "gopher_too_many_hashes");
  CHECK(JudgeBy("gopher", Repeat("and then\xe2\x80\xa6 ", 30)).reason == "gopher_too_many_ellipsis");
  CHECK(JudgeBy("gopher", Repeat("  - the cat and of words\n", 20)).reason == "gopher_too_many_bullets");
  CHECK(JudgeBy("gopher", Repeat("with that being said, the cat sat on the mat and of course ...\n", 20)).reason == "gopher_too_many_end_ellipsis");
  CHECK(JudgeBy("gopher", Repeat("the price and 1234 5678 ", 20)).reason == "gopher_below_alpha_threshold");
  CHECK(JudgeBy("gopher", Repeat("The cat sat Of mats ", 20)).reason == "gopher_enough_stop_words");
}

TEST_CASE("gopher-rep: lines, paragraphs and runs") {
  CHECK(JudgeBy("gopher-rep", "").reason == "empty");
  CHECK(JudgeBy("gopher-rep", "\n\n").reason == "dup_line_frac");  // two empty lines
  CHECK(JudgeBy("gopher-rep", "a\n\na").reason == "dup_para_frac");
  CHECK(JudgeBy("gopher-rep", "one\ntwo\none\ntwo").reason == "dup_line_frac");
  Verdict v = JudgeBy("gopher-rep", "a b c d a b e f");
  CHECK(v.reason == "top_2_gram");
  CHECK(v.value == 6.0 / 15);
}

TEST_CASE("c4: which lines stay, and what fails the document") {
  std::string kept;
  std::string five = "This is the first line.\nHere comes one more!\nIs that the third?\nIt says \"four words here.\"\nAnd this is five.";
  CHECK(JudgeBy("c4", five, &kept).passes());
  CHECK(kept == five);
  CHECK(JudgeBy("c4", "two words.\n" + five + "\r\nno end here\nThe end...\nuse coo\xe2\x84\xaaies on it.\nJavaScript is off here.", &kept).passes());
  CHECK(kept == five);
  CHECK(JudgeBy("c4", "A line with marks[1][edit] of it.\n" + five, &kept).passes());
  CHECK(kept == "A line with marks of it.\n" + five);
  CHECK(JudgeBy("c4", "A line that ends so.[1] \xc2\xa0\n" + five, &kept).passes());
  CHECK(kept == "A line that ends so.\n" + five);
  CHECK(JudgeBy("c4", "Here is java[2]script now.\n" + five, &kept).passes());
  CHECK(kept == five);
  CHECK(JudgeBy("c4", five + "\nLorem Ipsum is here.").reason == "lorem_ipsum");
  CHECK(JudgeBy("c4", five + "\nint main() { it is.").reason == "curly_bracket");
  CHECK(JudgeBy("c4", five + "\nint main() { is not a sentence").passes());  // the line is dropped before
  CHECK(JudgeBy("c4", "Only one sentence here.").reason == "too_few_sentences");
  CHECK(JudgeBy("c4", five + "\n" + std::string(1001, 'x') + " is too long.", &kept).passes());
  CHECK(kept == five);
}

TEST_CASE("sentences") {
  CHECK(CountSentences("") == 0);
  CHECK(CountSentences("...") == 0);
  CHECK(CountSentences("One") == 1);
  CHECK(CountSentences("One. Two? \"Three!\" Four") == 4);
  CHECK(CountSentences("Pi is 3.14 exactly.") == 1);
  CHECK(CountSentences("\xe4\xb8\xad\xe6\x96\x87\xe3\x80\x82 \xe4\xb8\xad.)x") == 2);
}

TEST_CASE("fineweb") {
  CHECK(JudgeBy("fineweb", " \n\n").reason == "empty");
  CHECK(JudgeBy("fineweb", "no end mark here").reason == "line_punct_ratio");
  CHECK(JudgeBy("fineweb", "Short.\nLines.\nOnly.").reason == "short_line_ratio");
  std::string line = "This is a line of more than thirty characters.";
  CHECK(JudgeBy("fineweb", line + "\n" + line).reason == "char_dup_ratio");
  CHECK(JudgeBy("fineweb", line + "\n\n\n\n\n\n\n").reason == "list_ratio");
  CHECK(JudgeBy("fineweb", line).passes());
}

TEST_CASE("pii: what is masked and what is not") {
  auto masked = [](const std::string& text) {
    std::string out;
    CHECK(JudgeBy("pii", text, &out).passes());
    return out;
  };
  CHECK(masked("write to <jane.doe@example.org>, please") == "write to <<EMAIL>>, please");
  CHECK(masked("a@b is none, x@y.z. is one") == "a@b is none, <EMAIL>. is one");
  CHECK(masked("8.8.8.8 and 10.0.0.1 and 1.2.3.4.5 and 256.1.1.1") == "<IP> and 10.0.0.1 and 1.2.3.4.5 and 256.1.1.1");
  CHECK(masked("call +44 20 7946 0018 now") == "call <PHONE> now");
  CHECK(masked("card 4111 1111 1111 1111, not 4111 1111 1111 1112") == "card <CARD>, not 4111 1111 1111 1112");
  CHECK(masked(Repeat("@", 50)) == Repeat("@", 50));
}

TEST_CASE("encoding damage") {
  CHECK(JudgeBy("encoding", "caf\xc3\xa9 is fine").passes());
  CHECK(JudgeBy("encoding", "caf\xc3\x83\xc2\xa9 is not").reason == "mojibake");
  CHECK(JudgeBy("encoding", "lost \xef\xbf\xbd").reason == "replacement_chars");
  CHECK(JudgeBy("encoding", std::string("bell \a")).reason == "control_chars");
}

TEST_CASE("a rules file: sets with other limits, lines, own rules") {
  auto sets = ParseRulesText(R"({"use": [{"set": "gopher", "limits": {"min_words": 2}}], "lines": {"drop": ["BUY now"], "drop_repeated": true},
    "rules": [{"reason": "loud", "measure": "upper_ratio", "max": 0.5}, {"reason": "advert", "contains": ["sale"], "max": 1}]})", "mine");
  REQUIRE(sets.ok());
  REQUIRE(sets->size() == 3);
  TextUnits units;
  units.Reset("a text\nbuy NOW or never\na text\nthe end");
  CHECK((*sets)[1]->Judge(units).passes());
  CHECK(units.text() == "a text\nthe end");
  units.Reset("SHOUTING it");
  CHECK((*sets)[2]->Judge(units).reason == "loud");
  units.Reset("sale Sale");
  CHECK((*sets)[2]->Judge(units).value == 2);
  CHECK((*sets)[2]->name() == "mine");
}

TEST_CASE("a rules file that is wrong says where") {
  auto message = [](const char* text) {
    auto sets = ParseRulesText(text, "x");
    return sets.ok() ? std::string("ok") : sets.status().message();
  };
  CHECK(message("[]").find("expected an object") != std::string::npos);
  CHECK(message("{}").find("holds no rules") != std::string::npos);
  CHECK(message(R"({"rulez": []})").find("unknown key 'rulez'") != std::string::npos);
  CHECK(message(R"({"rules": [{"reason": "a", "measure": "wordz", "min": 1}]})").find("rules[0].measure") != std::string::npos);
  CHECK(message(R"({"rules": [{"reason": "a", "measure": "words"}]})").find("needs min or max") != std::string::npos);
  CHECK(message(R"({"rules": [{"reason": "a", "measure": "words", "min": "5"}]})").find("expected a number") != std::string::npos);
  CHECK(message(R"({"use": [{"set": "gopher", "limits": {"words": 1}}]})").find("use[0].limits") != std::string::npos);
  CHECK(message(R"({"use": [{"set": "gofer"}]})").find("no rule set 'gofer'") != std::string::npos);
}

TEST_CASE("numbers are written as integers or as their shortest decimals") {
  auto text = [](double v) {
    std::string out;
    AppendJsonNumber(v, &out);
    return out;
  };
  CHECK(text(50) == "50");
  CHECK(text(0.1) == "0.1");
  CHECK(text(18.0 / 74) == "0.24324324324324326");
}

}  // namespace tern::corpus
