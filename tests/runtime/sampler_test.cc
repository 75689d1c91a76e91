#include "engine/runtime/sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>

using namespace tern;

namespace {

std::map<int32_t, int> Draw(const SamplerOptions& options, const std::vector<float>& logits, int times) {
  Sampler s(options, static_cast<int64_t>(logits.size()), Kernels());
  std::map<int32_t, int> counts;
  for (int i = 0; i < times; ++i) counts[s.Sample(logits)]++;
  return counts;
}

}  // namespace

TEST_CASE("greedy takes the largest, the lowest id on ties") {
  CHECK(Draw({}, {1, 3, 3, 2}, 3) == std::map<int32_t, int>{{1, 3}});
}

TEST_CASE("draws follow the probabilities, and temperature changes them") {
  std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  SamplerOptions o;
  o.temperature = 1;
  auto counts = Draw(o, logits, 20000);
  CHECK(counts[0] / 20000.0 == doctest::Approx(0.5).epsilon(0.03));
  CHECK(counts[2] / 20000.0 == doctest::Approx(0.2).epsilon(0.05));
  o.temperature = 0.5;  // p^2, normalised
  CHECK(Draw(o, logits, 20000)[0] / 20000.0 == doctest::Approx(0.25 / 0.38).epsilon(0.03));
}

TEST_CASE("top_k, top_p and min_p leave out what they say") {
  std::vector<float> logits;
  for (float p : {0.4f, 0.3f, 0.2f, 0.06f, 0.04f}) logits.push_back(std::log(p));
  SamplerOptions o;
  o.temperature = 1;
  o.top_k = 2;
  CHECK(Draw(o, logits, 500).size() == 2);
  o.top_k = 0, o.top_p = 0.69;
  CHECK(Draw(o, logits, 500).size() == 2);
  o.top_p = 0.71;
  CHECK(Draw(o, logits, 500).size() == 3);
  o.top_p = 1, o.min_p = 0.4;
  CHECK(Draw(o, logits, 500).size() == 3);
  o.min_p = 0, o.top_p = 1e-6;
  CHECK(Draw(o, logits, 100) == std::map<int32_t, int>{{0, 100}});
}

TEST_CASE("top_p looks further than the first few hundred tokens when it must") {
  std::vector<float> flat(5000, 0.0f);
  SamplerOptions o;
  o.temperature = 1, o.top_p = 0.9;
  int32_t largest = 0;
  for (const auto& [id, n] : Draw(o, flat, 4000)) largest = std::max(largest, id);
  CHECK(largest > 4000);
  CHECK(largest < 4500);
}

TEST_CASE("the same seed gives the same draws; a restored sampler goes on with them") {
  std::vector<float> logits(100);
  for (size_t i = 0; i < 100; ++i) logits[i] = std::sin(static_cast<float>(i));
  SamplerOptions o{1.0, 50, 0.9};
  o.seed = 7, o.repetition_penalty = 1.3;
  Sampler a(o, 100, Kernels()), b(o, 100, Kernels());
  std::vector<int32_t> first, second;
  for (int i = 0; i < 50; ++i) {
    first.push_back(a.Sample(logits));
    a.Accept(first.back());
  }
  for (int i = 0; i < 20; ++i) {
    second.push_back(b.Sample(logits));
    b.Accept(second.back());
  }
  Sampler c(o, 100, Kernels());
  REQUIRE(c.Restore(b.State()).ok());
  for (int i = 20; i < 50; ++i) {
    second.push_back(c.Sample(logits));
    c.Accept(second.back());
  }
  CHECK(first == second);
}

TEST_CASE("a repetition penalty makes recent tokens less likely, whatever the sign of their logits") {
  SamplerOptions o;
  o.repetition_penalty = 2;
  Sampler s(o, 3, Kernels());
  s.Accept(0);
  CHECK(s.Sample(std::vector<float>{1.0f, 0.6f, 0}) == 1);
  CHECK(s.Sample(std::vector<float>{-0.4f, -0.6f, -9}) == 1);
}

TEST_CASE("no finite logit, no token") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  CHECK(Draw({}, {-inf, -inf}, 1).begin()->first == -1);
  CHECK(Draw({}, {nan, nan}, 1).begin()->first == -1);
  CHECK(Draw({}, {nan, 1, -inf}, 1).begin()->first == 1);
}

TEST_CASE("options out of range are refused") {
  CHECK_FALSE(CheckSamplerOptions({-1}).ok());
  CHECK_FALSE(CheckSamplerOptions({std::nan("")}).ok());
  CHECK_FALSE(CheckSamplerOptions({1, 0, 0}).ok());
  CHECK_FALSE(CheckSamplerOptions({1, -2}).ok());
  CHECK(CheckSamplerOptions({}).ok());
}
