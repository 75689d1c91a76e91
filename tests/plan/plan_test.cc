#include "engine/plan/plan.h"

#include <doctest/doctest.h>

#include "engine/base/rng.h"
#include "engine/plan/layout.h"
#include "models/registry.h"

using namespace tern;

namespace {

PlanQueries SimpleQueries() {
  return {[](const Graph& g, const Op& op) { return std::holds_alternative<AttendXlOp>(op.spec) ? g.Capacity(g.values[static_cast<size_t>(op.output)].extent.rows) * 640 : 0; },
          [](const Graph& g, int32_t v) { return g.Capacity(g.values[static_cast<size_t>(v)].extent.rows) * g.values[static_cast<size_t>(v)].extent.cols * 4; },
          [](const StateSpec& s) { return s.lanes * s.heads * s.slots * s.head_width * 8; }};
}

Json BaseConfig() {
  return {{"architecture", "transformer-xl"}, {"vocab_size", 1000}, {"d_model", 64}, {"d_embed", 64}, {"n_heads", 4}, {"d_head", 16}, {"d_inner", 256},
          {"n_layers", 4}, {"cutoffs", Json::array()}, {"mem_len", 32}, {"same_length", true}};
}

Graph BuildXl(const Json& config, EntryOptions options) {
  auto network = FindArchitecture("transformer-xl")->parse(config, {});
  REQUIRE_MESSAGE(network.ok(), network.status().message());
  Builder b;
  (*network)->Build(options, b);
  REQUIRE_MESSAGE(b.status().ok(), b.status().message());
  return std::move(b).TakeGraph();
}

}  // namespace

TEST_CASE("random lifetimes: nothing that is live together overlaps, and the layout is near the bound") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    std::vector<Placement> items;
    int32_t steps = 20 + static_cast<int32_t>(rng.Below(60));
    for (int i = 0; i < 100; ++i) {
      int32_t first = static_cast<int32_t>(rng.Below(static_cast<uint64_t>(steps)));
      int32_t last = std::min<int32_t>(steps - 1, first + static_cast<int32_t>(rng.Below(6)));
      items.push_back({i, first, 0, static_cast<int64_t>(1 + rng.Below(100000)), first, last});
    }
    int64_t bound = LiveBound(items, steps, nullptr);
    int64_t end = LayOut(&items);
    Plan plan;
    plan.run.placements = items, plan.run.arena_bytes = end;
    CHECK(CheckPlan(plan).ok());
    CHECK(end <= bound * 1.25);
    CHECK(end >= bound - 64 * 100);
  }
}

TEST_CASE("Transformer-XL: the arena is as small as its live bytes, whatever the shape") {
  for (int64_t tokens : {1, 7, 128}) {
    for (auto logits : {EntryOptions::Logits::kAll, EntryOptions::Logits::kLast, EntryOptions::Logits::kTarget}) {
      EntryOptions options;
      options.tokens = options.chunk = tokens, options.batch = 3, options.logits = logits;
      auto plan = MakePlan(BuildXl(BaseConfig(), options), SimpleQueries());
      REQUIRE(plan.ok());
      CHECK(CheckPlan(*plan).ok());
      CHECK(plan->run.arena_bytes <= plan->run.bound_bytes);
      CHECK(!plan->constants.ops.empty());
      CHECK(plan->state_bytes > 0);
      CHECK(PlanToSvg(*plan).find("<svg") == 0);
      CHECK(PlanToJson(*plan)["run"]["arena_bytes"] == plan->run.arena_bytes);
    }
  }
}

TEST_CASE("position tables are computed once and shared by the plans of a session") {
  EntryOptions step, prefill;
  step.chunk = prefill.chunk = 128, prefill.tokens = 128;
  auto a = MakePlan(BuildXl(BaseConfig(), step), SimpleQueries()), b = MakePlan(BuildXl(BaseConfig(), prefill), SimpleQueries());
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  CHECK(a->constants_key == b->constants_key);
  CHECK(a->state_bytes == b->state_bytes);
}

TEST_CASE("configs out of range are refused with the field's name") {
  auto refuse = [](const char* field, Json value) {
    Json j = BaseConfig();
    j[field] = value;
    auto r = FindArchitecture("transformer-xl")->parse(j, {});
    REQUIRE_FALSE(r.ok());
    CHECK_MESSAGE(r.status().message().find(field) != std::string::npos, r.status().message());
  };
  refuse("n_layers", 1000000000);
  refuse("n_heads", 0);
  refuse("d_model", 63);
  refuse("vocab_size", "many");
  refuse("cutoffs", {500, 400});
  refuse("cutoffs", {0});
  refuse("cutoffs", {1000});
  refuse("mem_len", -1);
  refuse("layer_norm_epsilon", -1);
  refuse("attn_type", 1);
  refuse("div_val", 2.5);
}

TEST_CASE("absurd sizes are refused, not allocated") {
  Json j = BaseConfig();
  j["mem_len"] = 16 << 20, j["n_layers"] = 4096, j["n_heads"] = 16, j["d_head"] = 4096;
  EntryOptions options;
  options.batch = 1024;
  CHECK(MakePlan(BuildXl(j, options), SimpleQueries()).status().code() == Code::kMemory);
}
