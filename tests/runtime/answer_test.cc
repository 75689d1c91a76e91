// Extractive answers from hand-made logits, and the official SQuAD figures.
#include "engine/runtime/answer.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "engine/runtime/squad.h"

using namespace tern;

namespace {

// "[CLS] q [SEP] w0 w1 w2 ... [SEP]" over the context "aa bb cc dd ee ff": word i is code points 3i .. 3i+2.
const std::string kContext = "aa bb cc dd ee ff";
WindowLogits Window(int64_t first_word, int64_t words, std::vector<float> start, std::vector<float> end) {
  WindowLogits w;
  w.first_context_token = 3, w.last_context_token = 2 + words;
  w.offsets = {{0, 0}, {0, 1}, {0, 0}};
  for (int64_t i = first_word; i < first_word + words; ++i) w.offsets.push_back({i ? 3 * i - 1 : 0, 3 * i + 2});  // with the space before it
  w.offsets.push_back({0, 0});
  w.start = std::move(start), w.end = std::move(end);
  return w;
}

}  // namespace

TEST_CASE("the best span of all windows wins, as an exact substring without its leading space") {
  auto a = ChooseAnswers({Window(0, 4, {1, 9, 0, 0, 2, 1, 0, 0}, {1, 0, 9, 0, 0, 3, 0, 0}), Window(2, 4, {0, 0, 0, 1, 4, 0, 0, 0}, {0, 0, 0, 0, 0, 4, 1, 0})}, kContext, {});
  REQUIRE(!a.best.empty());
  CHECK(a.best[0].text == "dd ee");
  CHECK(a.best[0].begin == 9);
  CHECK(a.best[0].score == 8);
  CHECK(a.null_score == 0);
  CHECK(a.best_score == 8);
  double sum = 0;
  for (const Answer& x : a.best) sum += x.probability;
  CHECK(sum == doctest::Approx(1));
}

TEST_CASE("SQuAD 2.0: none wins only above the threshold, and always stands in the list") {
  const std::vector<WindowLogits> w = {Window(0, 2, {3, 0, 0, 2, 0, 0}, {3, 0, 0, 0, 2, 0})};
  AnswerOptions options;
  options.may_be_empty = true;
  CHECK(ChooseAnswers(w, kContext, options).best[0].text.empty());
  options.null_threshold = 2.5;
  auto a = ChooseAnswers(w, kContext, options);
  CHECK(a.best[0].text == "aa bb");
  CHECK(std::any_of(a.best.begin(), a.best.end(), [](const Answer& x) { return x.text.empty(); }));
}

TEST_CASE("spans that are too long, reversed or outside the context are no answers; ties go to the earlier") {
  AnswerOptions options;
  options.max_answer_tokens = 2;
  auto a = ChooseAnswers({Window(0, 3, {0, 0, 0, 5, 0, 5, 0}, {0, 0, 0, 0, 0, 5, 9})}, kContext, options);
  CHECK(a.best[0].text == "cc");
  for (const Answer& x : a.best) CHECK(x.end - x.begin <= 5);
  a = ChooseAnswers({Window(0, 2, {0, 0, 0, 1, 1, 0}, {0, 0, 0, 1, 1, 0})}, kContext, {});
  CHECK(a.best[0].text == "aa");
}

TEST_CASE("no candidate at all is no answer") {
  auto a = ChooseAnswers({}, kContext, {});
  REQUIRE(a.best.size() == 1);
  CHECK(a.best[0].text.empty());
  CHECK(a.best[0].probability == 1);
}

TEST_CASE("answers are normalised as the official script does: punctuation before articles") {
  CHECK(NormalizeAnswer("The  Cat, an a-an U.S.A.") == "cat aan usa");
  CHECK(NormalizeAnswer("\xc3\x89t\xc3\xa9") == "\xc3\xa9t\xc3\xa9");
  CHECK(NormalizeAnswer("the") == "");
  CHECK(NormalizeAnswer("...") == "");
  CHECK(NormalizeAnswer("other then") == "other then");
}

TEST_CASE("exact match and F1 by hand") {
  CHECK(ExactMatch("the cat", {"Cat!"}) == 1);
  CHECK(F1("big cat", {"the cat", "dog"}) == doctest::Approx(2 * 0.5 * 1 / 1.5));
  CHECK(F1("", {}) == 1);
  CHECK(F1("x", {}) == 0);
  CHECK(ExactMatch("", {"the"}) == 1);  // a gold that is empty after normalisation does not count
  CHECK(F1("a a", {"b"}) == 0);
}

TEST_CASE("figures over questions with and without answers, and the best threshold") {
  std::vector<SquadQuestion> q(4);
  q[0] = {"1", {"cat"}, "cat", -5};       // right
  q[1] = {"2", {"dog"}, "cat", -1};       // wrong
  q[2] = {"3", {}, "cat", 3};             // should have been none, and the score says so
  q[3] = {"4", {}, "", 9};                // right
  Json f = SquadFigures(q);
  CHECK(f["exact"] == 50);
  CHECK(f["total"] == 4);
  CHECK(f["HasAns_exact"] == 50);
  CHECK(f["NoAns_exact"] == 50);
  CHECK(f["best_exact"] == 75);  // none for scores above -5
  CHECK(f["best_exact_thresh"] == -5);
}
