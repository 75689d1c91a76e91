// Eight-bit weights from the checkpoint to the answer: close to f32, the same bits in any company, stored as the rule says.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "engine/runtime/calibrate.h"
#include "engine/runtime/convert.h"
#include "engine/runtime/encoder_session.h"
#include "engine/runtime/forward.h"
#include "tests/reference/golden.h"
#include "tests/reference/scratch.h"

using namespace tern;

namespace {

ConvertReport ConvertTo(const std::string& source, const std::string& path, const std::string& type) {
  ConvertOptions convert;
  convert.source = source, convert.output = path, convert.type = type;
  ConvertReport report;
  Status converted = Convert(convert, nullptr, {}, &report);
  REQUIRE_MESSAGE(converted.ok(), source << ": " << converted.message());
  return report;
}

std::shared_ptr<const Model> OpenModel(const std::string& path, const std::string& target = "") {
  ModelOptions options;
  options.target = target;
  options.verify = true;
  auto model = Model::Open(path, options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return *model;
}

std::vector<NamedTensor> RunCase(const GoldenCase& golden, const std::string& path, int threads, const std::string& target = "") {
  std::vector<NamedInput> inputs;
  for (const auto& item : golden.inputs.items()) inputs.push_back({item.name, item.tensor});
  ForwardOptions forward;
  forward.chunks = golden.Chunks();
  forward.threads = threads;
  auto out = Forward(OpenModel(path, target), inputs, forward);
  REQUIRE_MESSAGE(out.ok(), golden.name << ": " << out.status().message());
  return std::move(out).value();
}

// |a - b| / |b|, Frobenius.
double Distance(const NamedTensor& a, const NamedTensor& b) {
  REQUIRE(a.bytes.size() == b.bytes.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i + 4 <= a.bytes.size(); i += 4) {
    float x, y;
    std::memcpy(&x, a.bytes.data() + i, 4), std::memcpy(&y, b.bytes.data() + i, 4);
    difference += (static_cast<double>(x) - y) * (static_cast<double>(x) - y), norm += static_cast<double>(y) * y;
  }
  return std::sqrt(difference / norm);
}

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("q8: every golden encoder stays near f32, with the same bits for any number of threads") {
  ScratchFolder scratch;
  const std::string f32 = scratch.path() + "/f32.tern", q8 = scratch.path() + "/q8.tern";
  for (const char* family : {"albert", "bert"}) {
    auto cases = LoadGoldenCases(TERN_SOURCE_DIR, family);
    REQUIRE_MESSAGE(cases.ok(), cases.status().message());
    for (const GoldenCase& golden : *cases) {
      CAPTURE(golden.name);
      ConvertTo(golden.folder + "/model", f32, "f32");
      ConvertReport report = ConvertTo(golden.folder + "/model", q8, "q8");
      CHECK(report.type == "q8");
      CHECK(!FileExists(q8 + ".f32"));
      REQUIRE(!report.errors.empty());
      // A step is the row's largest weight / 127: for normally distributed rows of these widths 0.6 % of their norm.
      for (size_t i = 1; i < report.errors.size(); ++i) CHECK(report.errors[i].relative <= report.errors[i - 1].relative);
      CHECK(report.errors[0].relative < 0.012);
      for (std::string_view target : KernelTargets()) {
        CAPTURE(target);
        auto exact = RunCase(golden, f32, 1, std::string(target)), one = RunCase(golden, q8, 1, std::string(target));
        REQUIRE(one.size() == exact.size());
        for (size_t i = 0; i < one.size(); ++i) {
          CAPTURE(one[i].name);
          const double distance = Distance(one[i], exact[i]);
          CHECK(distance > 0);
          // A layer adds about 1 % (weights 0.6 %, rows of x 0.6 %); the cases have up to ten, and heads that end in small numbers.
          CHECK(distance < 0.08);
        }
        for (int threads : {2, 3}) {
          auto more = RunCase(golden, q8, threads, std::string(target));
          for (size_t i = 0; i < one.size(); ++i) CHECK_MESSAGE(one[i].bytes == more[i].bytes, one[i].name << " has other bits with " << threads << " threads");
        }
      }
    }
  }
}

TEST_CASE("q8: a sequence's numbers do not depend on its neighbours") {
  ScratchFolder scratch;
  const std::string path = scratch.path() + "/m.tern";
  ConvertTo(TERN_SOURCE_DIR "/tests/golden/albert/groups2_inner2_layers5/model", path, "q8");
  EncoderOptions options;
  options.threads = 2;
  auto session = EncoderSession::Create(OpenModel(path), options);
  REQUIRE(session.ok());
  std::vector<std::vector<int32_t>> texts = {{5, 9, 3}, {7}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {4, 4}};
  std::vector<EncoderInput> batch;
  for (const auto& ids : texts) batch.push_back({ids});
  auto rows = [&](int64_t sequence) {
    const Operand& out = (*session)->output("last_hidden_state");
    std::vector<float> all;
    for (size_t i = 0; i < batch[static_cast<size_t>(sequence)].ids.size(); ++i) {
      const float* row = out.f32() + (*session)->RowOf(sequence, static_cast<int64_t>(i)) * out.stride;
      all.insert(all.end(), row, row + out.cols);
    }
    return all;
  };
  REQUIRE((*session)->Run(batch).ok());
  std::vector<std::vector<float>> together;
  for (size_t i = 0; i < texts.size(); ++i) together.push_back(rows(static_cast<int64_t>(i)));
  for (size_t i = 0; i < texts.size(); ++i) {
    REQUIRE((*session)->Run({&batch[i], 1}).ok());
    const Operand& out = (*session)->output("last_hidden_state");
    REQUIRE(together[i].size() == texts[i].size() * static_cast<size_t>(out.cols));
    for (size_t t = 0; t < texts[i].size(); ++t)
      CHECK(std::memcmp(together[i].data() + t * static_cast<size_t>(out.cols), out.f32() + static_cast<int64_t>(t) * out.stride, static_cast<size_t>(out.cols) * 4) == 0);
  }
}

TEST_CASE("q8: what is stored how, and a q8 file as a source") {
  ScratchFolder scratch;
  const std::string path = scratch.path() + "/m.tern", again = scratch.path() + "/again.tern";
  ConvertTo(TERN_SOURCE_DIR "/tests/golden/albert/masked_lm/model", path, "q8");
  auto model = OpenModel(path);
  for (const TensorRecord& t : model->file().tensors()) {
    CAPTURE(t.name);
    const bool eight = t.type == DType::i8;
    if (t.shape.rank() == 1) CHECK(t.type == DType::f32);
    if (t.name.ends_with("qkv.weight")) CHECK((eight && t.layout == Layout::kPanel16 && t.splits > 0));
    if (t.name == "embed.words") CHECK((eight && t.layout == Layout::kPanel16));  // tied: looked up and multiplied
    if (t.name == "embed.types") CHECK(t.type == DType::f32);  // two rows
    if (t.name == "embed.positions") CHECK((eight && t.layout == Layout::kRowsQ8));
  }
  ConvertTo(path, again, "");
  CHECK(Slurp(path) == Slurp(again));
  ConvertTo(path, again, "q8");
  CHECK(Slurp(path) == Slurp(again));
  for (const char* type : {"f32", "bf16", "f16"}) {
    ConvertOptions back;
    back.source = path, back.output = again, back.type = type;
    Status s = Convert(back, nullptr, {}, nullptr);
    CHECK(s.code() == Code::kUsage);
  }
  // A file of ours in f32 becomes the same as the checkpoint does.
  const std::string f32 = scratch.path() + "/f32.tern";
  ConvertTo(TERN_SOURCE_DIR "/tests/golden/albert/masked_lm/model", f32, "f32");
  ConvertTo(f32, again, "q8");
  CHECK(Slurp(path) == Slurp(again));
}

TEST_CASE("q8: the first file of its kind keeps loading") {
  auto cases = LoadGoldenCases(TERN_SOURCE_DIR, "albert");
  REQUIRE(cases.ok());
  ScratchFolder scratch;
  for (const GoldenCase& golden : *cases) {
    if (!golden.folder.ends_with("/masked_lm")) continue;
    ConvertTo(golden.folder + "/model", scratch / "f32.tern", "f32");
    const auto exact = RunCase(golden, scratch / "f32.tern", 1), kept = RunCase(golden, TERN_SOURCE_DIR "/tests/fixtures/albert-v1-q8.tern", 1);
    REQUIRE(kept.size() == exact.size());
    for (size_t i = 0; i < kept.size(); ++i) CHECK(Distance(kept[i], exact[i]) < 0.08);
    return;
  }
  FAIL("the golden case masked_lm is gone");
}

TEST_CASE("q8: a decoder with an adaptive softmax keeps its clusters in 16 bits") {
  auto cases = LoadGoldenCases(TERN_SOURCE_DIR, "transformer-xl");
  REQUIRE(cases.ok());
  ScratchFolder scratch;
  const std::string f32 = scratch.path() + "/f32.tern", q8 = scratch.path() + "/q8.tern";
  int eights = 0, halves = 0;
  for (const GoldenCase& golden : *cases) {
    CAPTURE(golden.name);
    ConvertTo(golden.folder + "/model", f32, "f32");
    ConvertTo(golden.folder + "/model", q8, "q8");
    const auto exact = RunCase(golden, f32, 1), got = RunCase(golden, q8, 2);
    for (size_t i = 0; i < got.size(); ++i)
      if (got[i].name == "logits") CHECK(Distance(got[i], exact[i]) < 0.05);
    const auto model = OpenModel(q8);
    for (const TensorRecord& t : model->file().tensors()) eights += t.type == DType::i8, halves += t.type == DType::bf16;
  }
  CHECK(eights > 0);
  CHECK(halves > 0);
}

TEST_CASE("q8: the columns that are split are those that are large") {
  std::vector<float> maxima(64, 1.0f);
  maxima[10] = 30, maxima[40] = 3;
  CHECK(ChooseSplits(maxima) == std::vector<int32_t>(8, 10));
  maxima.assign(256, 1.0f);
  maxima[0] = 8, maxima[255] = 4;
  const auto sources = ChooseSplits(maxima);
  CHECK(sources.size() == 16);
  CHECK(std::count(sources.begin(), sources.end(), 0) >= 7);
  CHECK(std::is_sorted(sources.begin(), sources.end()));
  CHECK(ChooseSplits(std::vector<float>(7, 1.0f)).empty());
}
