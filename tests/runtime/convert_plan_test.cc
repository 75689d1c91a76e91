// Which foreign rows make up which tensor, what is refused, and converting models whose parts this release does not yet
// run (experts).
#include "engine/runtime/convert_plan.h"

#include <doctest/doctest.h>

#include "engine/runtime/convert.h"

namespace tern {
namespace {

WeightSpec Matrix(std::string name, int64_t out, int64_t in) {
  return {std::move(name), Shape{out, in}, Role::kMatrix, true, false};
}
WeightSpec Vector(std::string name, int64_t n) {
  return {std::move(name), Shape{n}, Role::kVector};
}

bool Has(const ConvertPlan& plan, ConvertProblem::Kind kind, std::string_view words) {
  for (const ConvertProblem& p : plan.problems)
    if (p.kind == kind && p.text.find(words) != std::string::npos) return true;
  return false;
}
using Kind = ConvertProblem::Kind;

TEST_CASE("parts stand one after the other, whole, cut, or transposed") {
  std::vector<WeightSpec> manifest = {Matrix("qkv", 9, 4), Matrix("low", 2, 4), Matrix("turned", 3, 4)};
  Import import;
  import.rules.push_back({"qkv", {{{ "q" }}, {{ "k" }}, { { "v.old", "v" } }}, {}});
  import.rules.push_back({"low", {{ {"q"}, 1, 2 }}, {}});
  import.rules.push_back({"turned", {{ {"t"}, 0, -1, true }}, {}});
  std::vector<SourceTensor> source = {
      {"t", DType::f32, {4, 3}}, {"q", DType::f16, {3, 4}}, {"k", DType::f32, {3, 4}}, {"v", DType::bf16, {3, 4}}};
  ConvertPlan plan = PlanConversion(manifest, import, source, {});
  REQUIRE(plan.status().ok());
  REQUIRE(plan.tensors.size() == 3);
  CHECK(plan.tensors[0].parts.size() == 3);
  CHECK(plan.tensors[0].parts[2].source == 3);
  CHECK(plan.tensors[0].parts[2].rows == 3);
  CHECK(plan.tensors[1].parts[0].first_row == 1);
  CHECK(plan.tensors[2].parts[0].transposed);
  CHECK(plan.tensors[2].parts[0].rows == 3);
}

TEST_CASE("what does not fit is listed in full") {
  std::vector<WeightSpec> manifest = {Matrix("a", 3, 4), Matrix("b", 3, 4), Vector("c", 5),
                                      Vector("d", 2),    Matrix("e", 4, 4), Vector("f", 1)};
  Import import;
  for (const char* name : {"a", "b", "c", "d", "e"})
    import.rules.push_back({name, {{ { std::string("model.") + name } }}, {}});
  import.rules[4].parts[0].first_row = 2, import.rules[4].parts[0].rows = 4;
  std::vector<SourceTensor> source = {{"model.aa", DType::f32, {3, 4}}, {"model.b", DType::f32, {4, 3}},
                                      {"model.c", DType::i64, {5}},     {"model.d", DType::f32, {1, 2, 1}},
                                      {"model.e", DType::f32, {5, 4}},  {"adam.m", DType::f32, {9}}};
  ConvertPlan plan = PlanConversion(manifest, import, source, {});
  CHECK(plan.status().code() == Code::kIncomplete);
  CHECK(plan.problems.size() == 7);
  CHECK(Has(plan, Kind::kMissing, "'model.a' [3, 4], the model's 'a'; the nearest name is 'model.aa'"));
  CHECK(Has(plan, Kind::kMissing, "'f'"));  // no rule at all
  CHECK(Has(plan, Kind::kMisshapen, "'b' (got 'model.b' [4, 3], expected [3, 4])"));
  CHECK(Has(plan, Kind::kMisshapen, "'e'"));  // rows 2..5 of 5
  CHECK(Has(plan, Kind::kWrongType, "'model.c' (got i64"));
  CHECK(Has(plan, Kind::kExtra, "'model.aa' [3, 4]"));
  CHECK(Has(plan, Kind::kExtra, "'adam.m' [9]"));
  CHECK(PlanConversion(manifest, import, source, {"adam.*"}).problems.size() == 6);
}

TEST_CASE("ignored, shared and computed tensors") {
  std::vector<WeightSpec> manifest = {Matrix("table", 3, 4), Vector("freq", 2)};
  Import import;
  import.rules.push_back({"table", {{ { "in", "out" } }}, {}});
  import.rules.push_back({"freq", {{{"inv_freq"}}}, [] { return std::vector<float>{1, 2};
}
}  // namespace
);
import.ignore = {"*.position_ids"};
std::vector<SourceTensor> source = {
    {"in", DType::f32, {3, 4}}, {"out", DType::f32, {3, 4}}, {"model.position_ids", DType::i64, {1, 9}}};
ConvertPlan plan = PlanConversion(manifest, import, source, {});
REQUIRE(plan.status().ok());
CHECK(plan.unused == std::vector<std::string>{"model.position_ids"});
CHECK(plan.tensors[1].values == std::vector<float>{1, 2});
import.rules[1].otherwise = [] { return std::vector<float>{1};
};  // namespace tern
CHECK(PlanConversion(manifest, import, source, {}).status().code() == Code::kIncomplete);
}

TEST_CASE("experts arrive one by one or stacked, and each is a range of its own") {
  WeightSpec experts{"layers.1.ff.experts.wi", Shape{3, 5, 4}, Role::kExperts, true, false};
  Import one_by_one, stacked;
  ImportRule rule{experts.name, {}, {}};
  for (int i = 0; i < 3; ++i) rule.parts.push_back({{Str("expert_", i)}});
  one_by_one.rules.push_back(rule);
  stacked.rules.push_back({experts.name, {{{"all"}}}, {}});
  std::vector<SourceTensor> three = {
      {"expert_0", DType::f32, {5, 4}}, {"expert_1", DType::f32, {5, 4}}, {"expert_2", DType::f32, {5, 4}}};
  CHECK(PlanConversion({experts}, one_by_one, three, {}).status().ok());
  CHECK(PlanConversion({experts}, stacked, {{"all", DType::f32, {3, 5, 4}}}, {}).status().ok());
  CHECK(!PlanConversion({experts}, stacked, {{"all", DType::f32, {2, 5, 4}}}, {}).status().ok());
  three[1].shape = {4, 5};
  CHECK(!PlanConversion({experts}, one_by_one, three, {}).status().ok());

  std::vector<TensorSpec> stored = StoredAs(experts, DType::bf16);
  REQUIRE(stored.size() == 3);
  CHECK(stored[2].name == "layers.1.ff.experts.wi.2");
  CHECK(stored[2].group == "layers.1.ff.experts.2");
  CHECK(stored[2].layout == Layout::kPanel16);
  CHECK(stored[2].shape == Shape{5, 4});
  Import own = ImportByName({experts});
  CHECK(own.rules[0].parts.size() == 3);
}

TEST_CASE("roles decide how a weight is kept") {
  CHECK(StoredAs(Vector("v", 3), DType::bf16)[0].type == DType::f32);
  CHECK(StoredAs(Matrix("m", 3, 3), DType::bf16)[0].layout == Layout::kPanel16);
  WeightSpec table{"t", Shape{9, 3}, Role::kTable, false, true};
  CHECK(StoredAs(table, DType::f16)[0].layout == Layout::kRows);
  CHECK(StoredAs(table, DType::f16)[0].type == DType::f16);
  table.multiplied = true;  // tied to the output
  CHECK(StoredAs(table, DType::f16)[0].layout == Layout::kPanel16);
}

TEST_CASE("globs") {
  CHECK(MatchesGlob("*", ""));
  CHECK(MatchesGlob("a*c", "abbbc"));
  CHECK(MatchesGlob("*.bias", "x.bias"));
  CHECK(MatchesGlob("a*b*c", "aXbYbZc"));
  CHECK(!MatchesGlob("a*c", "abbbd"));
  CHECK(!MatchesGlob("", "a"));
  CHECK(!MatchesGlob("?", "a"));
  CHECK(MatchesGlob(std::string(30, '*') + "b", std::string(10000, 'a') + "b"));
}

TEST_CASE("nearest names stay quick among thousands of long ones") {
  std::vector<WeightSpec> manifest;
  std::vector<SourceTensor> source;
  Import import;
  for (int i = 0; i < 3000; ++i) {
    manifest.push_back(Vector(Str("ours", i), 1));
    import.rules.push_back({Str("ours", i), {{ { std::string(400, 'x') + Str(i) } }}, {}});
    source.push_back({std::string(400, 'y') + Str(i), DType::f32, {1}});
  }
  ConvertPlan plan = PlanConversion(manifest, import, source, {});
  CHECK(plan.problems.size() == 6000);
}

}  // namespace
}  // namespace tern
