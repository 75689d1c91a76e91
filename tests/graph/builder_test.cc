#include "engine/graph/builder.h"

#include <doctest/doctest.h>

#include "engine/graph/cost.h"

using namespace tern;

TEST_CASE("asking twice for one name is sharing; two shapes for it are a mistake") {
  Builder b;
  Value a = b.Matrix("w", 3, 4), c = b.Matrix("w", 3, 4);
  CHECK(a.id == c.id);
  CHECK(b.graph().weights.size() == 1);
  CHECK(b.status().ok());
  b.Matrix("w", 4, 3);
  CHECK(b.status().code() == Code::kInternal);
}

TEST_CASE("scopes name weights; shared ones stand outside") {
  Builder b;
  Builder::Scope layers(b, "layers", 3), part(b, "attention");
  b.Vector("norm", 8);
  b.Shared("u", 2, 4);
  CHECK(b.graph().weights[0].name == "layers.3.attention.norm");
  CHECK(b.graph().weights[1].name == "u");
}

TEST_CASE("shapes are checked, the first mistake is kept") {
  Builder b;
  Dim t = b.AddLength("T", 16);
  Value x = b.Input("x", DType::f32, t, 8);
  b.MatMul(x, b.Matrix("w", 4, 9));
  CHECK(b.status().what().find("matmul") != std::string::npos);
}

TEST_CASE("ops of weights alone are constant; cost counts the others") {
  Builder b;
  Dim t = b.AddLength("T", 16);
  Value x = b.Input("x", DType::f32, t, 8);
  Value table = b.MatMul(b.Sinusoid(b.Vector("f", 4), 5), b.Matrix("r", 6, 8));
  Value y = b.MatMul(x, b.Matrix("w", 4, 8));
  b.Output("y", y);
  REQUIRE(b.status().ok());
  const Graph& g = b.graph();
  CHECK(g.values[static_cast<size_t>(table.id)].kind == ValueKind::kConstant);
  CHECK(g.values[static_cast<size_t>(y.id)].kind == ValueKind::kActivation);
  int64_t lengths[] = {3};
  CHECK(RunCost(g, lengths, 0).flops == 2 * 3 * 4 * 8);
}
