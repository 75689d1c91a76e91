// Every golden case of tests/golden: converted, run on every SIMD target, with 1, 2 and 3 threads.
#include <doctest/doctest.h>

#include <cstring>

#include "engine/runtime/convert.h"
#include "engine/runtime/forward.h"
#include "tests/reference/golden.h"
#include "tests/reference/scratch.h"

using namespace tern;

namespace {

std::vector<NamedTensor> RunCase(const GoldenCase& golden, const std::string& model_path, const std::string& target, int threads, const std::vector<int64_t>& chunks) {
  ModelOptions options;
  options.target = target;
  auto model = Model::Open(model_path, options);
  REQUIRE_MESSAGE(model.ok(), golden.name << ": " << model.status().message());
  std::vector<NamedInput> inputs;
  for (const auto& item : golden.inputs.items()) inputs.push_back({item.name, item.tensor});
  ForwardOptions forward;
  forward.chunks = chunks;
  forward.threads = threads;
  golden.Generation(&forward.generate, &forward.beams);
  auto out = Forward(*model, inputs, forward);
  REQUIRE_MESSAGE(out.ok(), golden.name << ": " << out.status().message());
  return std::move(out).value();
}

void ConvertCase(const GoldenCase& golden, const std::string& path) {
  ConvertOptions convert;
  convert.source = golden.folder + "/model";
  convert.output = path;
  Status converted = Convert(convert, nullptr, {}, nullptr);
  REQUIRE_MESSAGE(converted.ok(), golden.name << ": " << converted.message());
}

void RunFamily(const std::string& family) {
  auto cases = LoadGoldenCases(TERN_SOURCE_DIR, family);
  REQUIRE_MESSAGE(cases.ok(), cases.status().message());
  ScratchFolder scratch;
  for (const GoldenCase& golden : *cases) {
    CAPTURE(golden.name);
    const std::string path = scratch.path() + "/m.tern";
    ConvertCase(golden, path);
    for (std::string_view target : KernelTargets()) {
      CAPTURE(target);
      auto one = RunCase(golden, path, std::string(target), 1, golden.Chunks());
      for (const auto& item : golden.outputs.items()) {
        const NamedTensor* got = nullptr;
        for (const NamedTensor& t : one)
          if (t.name == item.name) got = &t;
        REQUIRE_MESSAGE(got, item.name << " is missing");
        CHECK_EQ(CompareGolden(golden, item.name, {got->bytes.data(), got->type, got->shape}), "");
      }
      for (int threads : {2, 3}) {
        auto more = RunCase(golden, path, std::string(target), threads, golden.Chunks());
        REQUIRE(more.size() == one.size());
        for (size_t i = 0; i < one.size(); ++i) CHECK_MESSAGE(one[i].bytes == more[i].bytes, one[i].name << " has other bits with " << threads << " threads");
      }
    }
  }
}

}  // namespace

TEST_CASE("transformer-xl: golden cases on every target, the same bits for any number of threads") { RunFamily("transformer-xl"); }

TEST_CASE("albert: golden cases of every head") { RunFamily("albert"); }
TEST_CASE("performer: golden cases of every option, whole and in pieces") { RunFamily("performer"); }
TEST_CASE("infinity-former: golden cases of the three hosts") { RunFamily("infinite-former"); }
TEST_CASE("gpt2: golden cases, whole and with cached steps") { RunFamily("gpt2"); }
TEST_CASE("retro: golden cases of the dialects, whole and in pieces") { RunFamily("retro"); }
TEST_CASE("reformer: golden cases of every head, whole and decoded token by token") { RunFamily("reformer"); }
TEST_CASE("bert, roberta, distilbert: golden cases") { RunFamily("bert"); }

TEST_CASE("t5: golden cases, greedy and with beams") { RunFamily("t5"); }
TEST_CASE("switch: golden cases under both capacity policies") {
  RunFamily("switch-zero");
  RunFamily("switch");
}

TEST_CASE("transformer-xl: with same_length the way a text is cut changes nothing but rounding") {
  auto cases = LoadGoldenCases(TERN_SOURCE_DIR, "transformer-xl");
  REQUIRE(cases.ok());
  ScratchFolder scratch;
  int tried = 0;
  for (const GoldenCase& golden : *cases) {
    const std::string path = scratch.path() + "/m.tern";
    ConvertCase(golden, path);
    auto model = Model::Open(path);
    REQUIRE(model.ok());
    if (!(*model)->network().chunk_invariant()) continue;
    ++tried;
    const int64_t time = golden.inputs.Find("input_ids")->shape[1];
    for (const auto& chunks : {std::vector<int64_t>(static_cast<size_t>(time), 1), std::vector<int64_t>{time}, std::vector<int64_t>{1, time - 1}}) {
      auto out = RunCase(golden, path, "", 2, chunks);
      CHECK_EQ(CompareGolden(golden, "logits", {out[0].bytes.data(), out[0].type, out[0].shape}), "");
    }
  }
  CHECK(tried >= 5);
}
