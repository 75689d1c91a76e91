// Beam search with decoders: whatever their state is made of, a beam that goes on from another has taken all of it over.
#include "engine/runtime/beam_text.h"

#include <doctest/doctest.h>

#include <cmath>

#include "engine/runtime/forward.h"
#include "tests/reference/golden_model.h"

using namespace tern;

namespace {

// One of each kind of state: rings that keep the last, rings that only grow, sums, hashed layers, refitted memories.
constexpr const char* kModels[] = {"transformer-xl/clamp",           "transformer-xl/untie_r_batch3", "gpt2/cached_odd_batch2",
                                   "performer/pieces_softmax",       "performer/all_causal",          "reformer/lm_cached_padded",
                                   "reformer/lm_cached_from_one_rounds3", "infinite-former/sort_long_48", "infinite-former/gpt2_long_45"};
const std::vector<int32_t> kPrompt = {5, 9, 3, 16, 4, 4, 1};

std::unique_ptr<Session> Start(const std::shared_ptr<const Model>& model, int64_t lanes) {
  SessionOptions options;
  options.threads = 2, options.batch = lanes, options.plans = {{1, LogitsMode::kLast}, {8, LogitsMode::kLast}};
  auto session = Session::Create(model, options);
  REQUIRE_MESSAGE(session.ok(), session.status().message());
  return std::move(*session);
}

BeamOptions Options(int64_t beams, int64_t new_tokens) {
  BeamOptions o;
  o.beams = beams, o.new_tokens = new_tokens, o.eos_id = -1;
  return o;
}

Decoded Search(const std::shared_ptr<const Model>& model, const BeamOptions& options) {
  auto found = SearchText(*Start(model, options.beams), kPrompt, options);
  REQUIRE_MESSAGE(found.ok(), found.status().message());
  return *found;
}

// The sum of the log-probabilities of `ids` behind the prompt, token by token in one lane.
double LogProbability(const std::shared_ptr<const Model>& model, std::span<const int32_t> ids, std::vector<int32_t>* likeliest = nullptr) {
  auto session = Start(model, 1);
  double sum = 0;
  std::span<const int32_t> rest(kPrompt);
  while (!rest.empty()) {
    const size_t n = std::min(rest.size(), static_cast<size_t>(session->room()));
    REQUIRE(session->Feed(rest.first(n), LogitsMode::kLast).ok());
    rest = rest.subspan(n);
  }
  for (size_t t = 0; t < ids.size(); ++t) {
    if (t > 0) REQUIRE(session->Feed(ids.subspan(t - 1, 1), LogitsMode::kLast).ok());
    const Operand& o = session->output("logits");
    sum += static_cast<double>(o.f32()[ids[t]]) - static_cast<double>(model->kernels().log_sum_exp(o.f32(), o.cols));
    if (likeliest) likeliest->push_back(static_cast<int32_t>(model->kernels().argmax(o.f32(), o.cols)));
  }
  return sum;
}

}  // namespace

TEST_CASE("the score of what beams find is what one lane gives it; one beam takes the likeliest token") {
  ScratchFolder scratch;
  for (const char* name : kModels) {
    CAPTURE(name);
    auto model = GoldenModel(scratch, name);
    for (int64_t beams : {1, 3, 8}) {
      CAPTURE(beams);
      const Decoded found = Search(model, Options(beams, 9));
      REQUIRE(found.ids.size() == 9);
      std::vector<int32_t> likeliest;
      CHECK(found.score * 9 == doctest::Approx(LogProbability(model, found.ids, &likeliest)).epsilon(1e-4));
      if (beams == 1) CHECK(found.ids == likeliest);
    }
  }
}

TEST_CASE("as many beams as symbols find the best of all pairs") {
  ScratchFolder scratch;
  for (const char* name : {"reformer/lm_cached_padded", "infinite-former/gpt2_long_45", "performer/pieces_softmax"}) {
    CAPTURE(name);
    auto model = GoldenModel(scratch, name);
    const int64_t symbols = model->network().vocab_size();
    double best = -INFINITY;
    for (int32_t a = 0; a < symbols; ++a)
      for (int32_t b = 0; b < symbols; ++b) best = std::max(best, LogProbability(model, std::vector<int32_t>{a, b}));
    CHECK(Search(model, Options(symbols, 2)).score * 2 == doctest::Approx(best).epsilon(1e-4));
  }
}

TEST_CASE("beams: n-grams of the prompt count, a context ends the text, what cannot be is refused") {
  ScratchFolder scratch;
  auto model = GoldenModel(scratch, "reformer/lm_cached_padded");
  BeamOptions o = Options(3, 12);
  o.no_repeat_ngram_size = 1;
  const Decoded found = Search(model, o);
  std::vector<int32_t> all = kPrompt;
  all.insert(all.end(), found.ids.begin(), found.ids.end());
  for (size_t i = kPrompt.size(); i < all.size(); ++i) CHECK(std::count(all.begin(), all.begin() + static_cast<int64_t>(i), all[i]) == 0);

  CHECK(Search(model, Options(2, 1000)).ids.size() == 48 - kPrompt.size() + 1);  // 48 positions; what comes last needs none
  CHECK(Search(model, Options(2, 0)).ids.empty());
  CHECK(SearchText(*Start(model, 2), {}, Options(2, 5)).status().code() == Code::kUsage);
  CHECK(SearchText(*Start(model, 2), std::vector<int32_t>(60, 3), Options(2, 5)).status().code() == Code::kUsage);
  auto xl = GoldenModel(scratch, "transformer-xl/clamp");
  CHECK(SearchText(*Start(xl, 2), kPrompt, Options(2, int64_t{1} << 50)).status().code() == Code::kMemory);
}

TEST_CASE("forward --generate --beams: a Reformer's rows, each on its own") {
  ScratchFolder scratch;
  auto model = GoldenModel(scratch, "reformer/lm_cached_padded");
  std::vector<int32_t> ids = kPrompt;
  ids.insert(ids.end(), kPrompt.rbegin(), kPrompt.rend());
  const int64_t tokens = static_cast<int64_t>(kPrompt.size());
  ForwardOptions options;
  options.generate = 5, options.beams = {1, 3};
  auto both = Forward(model, {{"input_ids", {ids.data(), DType::i32, {2, tokens}}}}, options);
  REQUIRE_MESSAGE(both.ok(), both.status().message());
  auto one = Forward(model, {{"input_ids", {ids.data(), DType::i32, {1, tokens}}}}, options);
  REQUIRE(one.ok());
  for (const char* name : {"greedy_ids", "beam3_ids"}) {
    CAPTURE(name);
    auto find = [&](const std::vector<NamedTensor>& out) -> const NamedTensor& { return *std::find_if(out.begin(), out.end(), [&](const NamedTensor& t) { return t.name == name; }); };
    const NamedTensor &a = find(*both), &b = find(*one);
    REQUIRE(a.shape[0] == 2);
    REQUIRE(b.shape[1] <= a.shape[1]);
    CHECK(std::equal(b.bytes.begin(), b.bytes.end(), a.bytes.begin()));
  }
}
