// Mixtures of experts: the op against a slow version in double, eight-bit experts, what lies in memory, and how load is counted.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/base/dtype.h"
#include "engine/base/rng.h"
#include "engine/runtime/convert.h"
#include "engine/runtime/encoder_decoder_session.h"
#include "engine/runtime/expert_usage.h"
#include "engine/runtime/routing.h"
#include "tests/reference/scratch.h"
#include "tests/reference/switch_checkpoint.h"

using namespace tern;

namespace {

using Tensors = std::map<std::string, std::vector<float>>;

void ConvertFolder(const std::string& folder, const std::string& path, const std::string& type) {
  ConvertOptions convert;
  convert.source = folder, convert.output = path, convert.type = type, convert.tokenizer = "none";
  Status s = Convert(convert, nullptr, {}, nullptr);
  REQUIRE_MESSAGE(s.ok(), s.message());
}

std::shared_ptr<const Model> OpenModel(const std::string& path, const ModelOptions& options = {}) {
  auto model = Model::Open(path, options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return *model;
}

std::vector<std::vector<int32_t>> Texts(const std::vector<int64_t>& lengths, int64_t vocabulary) {
  std::vector<std::vector<int32_t>> texts;
  Rng rng(5);
  for (int64_t n : lengths) {
    texts.emplace_back();
    for (int64_t i = 0; i < n; ++i) texts.back().push_back(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(vocabulary))));
  }
  return texts;
}

std::vector<float> Rows(const Operand& o) {
  std::vector<float> all;
  for (int64_t r = 0; r < o.rows; ++r) all.insert(all.end(), o.f32() + r * o.stride, o.f32() + r * o.stride + o.cols);
  return all;
}

// An encoder of one sparse layer without attention, in double: embedding, norm, router, capacity, expert, norm.
struct Reference {
  const SwitchShape& s;
  const Tensors& t;
  DType type;  // that tables and matrices were stored in

  double At(const std::string& name, int64_t i) const {
    const float v = t.at(name)[static_cast<size_t>(i)];
    return type == DType::bf16 ? Bf16ToF32(F32ToBf16(v)) : v;
  }
  std::vector<double> Norm(const std::vector<double>& x, const std::string& name) const {
    double square = 0;
    for (double v : x) square += v * v;
    std::vector<double> y(x);
    for (size_t i = 0; i < y.size(); ++i) y[i] *= t.at(name)[i] / std::sqrt(square / static_cast<double>(x.size()) + 1e-6);
    return y;
  }
  std::vector<double> Run(const std::vector<std::vector<int32_t>>& texts) const {
    const std::string mlp = "encoder.block.0.layer.1.mlp.";
    std::vector<double> out;
    for (const auto& ids : texts) {
      std::vector<int64_t> taken(static_cast<size_t>(s.experts));
      for (int32_t id : ids) {
        std::vector<double> x, logits;
        for (int64_t c = 0; c < s.d_model; ++c) x.push_back(At("shared.weight", id * s.d_model + c));
        const std::vector<double> in = Norm(x, "encoder.block.0.layer.1.layer_norm.weight");
        for (int64_t e = 0; e < s.experts; ++e) {
          double sum = 0;
          for (int64_t c = 0; c < s.d_model; ++c) sum += in[static_cast<size_t>(c)] * t.at(mlp + "router.classifier.weight")[static_cast<size_t>(e * s.d_model + c)];
          logits.push_back(sum);
        }
        const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
        double all = 0;
        for (int64_t e = 0; e < s.experts; ++e) {
          all += std::exp(logits[static_cast<size_t>(e)] - logits[static_cast<size_t>(best)]);
          if (e != best) REQUIRE(logits[static_cast<size_t>(best)] - logits[static_cast<size_t>(e)] > 1e-5);  // else f32 may choose otherwise
        }
        const bool room = ++taken[static_cast<size_t>(best)] <= s.capacity || s.policy == "none";
        if (room) {
          const std::string expert = Str(mlp, "experts.expert_", best, ".");
          std::vector<double> inner;
          for (int64_t f = 0; f < s.d_ff; ++f) {
            double sum = 0;
            for (int64_t c = 0; c < s.d_model; ++c) sum += At(expert + "wi.weight", f * s.d_model + c) * in[static_cast<size_t>(c)];
            inner.push_back(std::max(sum, 0.0));
          }
          for (int64_t c = 0; c < s.d_model; ++c)
            for (int64_t f = 0; f < s.d_ff; ++f) x[static_cast<size_t>(c)] += At(expert + "wo.weight", c * s.d_ff + f) * inner[static_cast<size_t>(f)] / all;
        } else if (s.policy == "hf_clone") {
          for (int64_t c = 0; c < s.d_model; ++c) x[static_cast<size_t>(c)] += in[static_cast<size_t>(c)] / all;
        }
        for (double v : Norm(x, "encoder.final_layer_norm.weight")) out.push_back(v);
      }
    }
    return out;
  }
};

std::vector<EncoderInput> Inputs(const std::vector<std::vector<int32_t>>& texts) {
  std::vector<EncoderInput> inputs;
  for (const auto& ids : texts) inputs.push_back({ids});
  return inputs;
}

std::unique_ptr<EncoderDecoderSession> SessionOf(std::shared_ptr<const Model> model, int threads, OpObserver* observer = nullptr, int64_t positions = 1) {
  EncoderDecoderOptions options;
  options.threads = threads, options.observer = observer, options.positions = positions;
  auto session = EncoderDecoderSession::Create(std::move(model), options);
  REQUIRE_MESSAGE(session.ok(), session.status().message());
  return std::move(*session);
}

// What every row chose, in the order of the ops.
struct Choices : OpObserver {
  std::vector<int32_t> all;
  void Before(const OpCall& call) override {
    const auto* op = std::get_if<ExpertsOp>(&call.op.spec);
    if (!op) return;
    std::vector<float> p(static_cast<size_t>(op->experts));
    for (int64_t r = 0; r < call.in(1).rows; ++r) all.push_back(ChooseExpert(call.kernels(), call.in(1).f32() + r * call.in(1).stride, op->experts, p.data()).expert);
  }
};

}  // namespace

TEST_CASE("experts: route, sort, two grouped products and scatter agree with double at awkward sizes, for every policy, type and target") {
  struct Size {
    int64_t d_model, d_ff, experts, capacity;
    std::vector<int64_t> lengths;
  };
  const std::vector<Size> sizes = {{1, 1, 1, 1, {1}},           {15, 17, 2, 3, {1, 7}},      {16, 16, 3, 2, {31}},          {17, 33, 7, 1, {13, 1, 5}},
                                   {31, 15, 8, 5, {64}},        {33, 47, 13, 1000, {2, 63}}, {48, 97, 64, 2, {17, 29, 11}}, {64, 130, 5, 7, {101}}};
  ScratchFolder scratch;
  const std::string path = scratch / "m.tern";
  for (const Size& size : sizes)
    for (const char* policy : {"hf_zero", "hf_clone", "none"}) {
      SwitchShape s;
      s.d_model = size.d_model, s.d_ff = size.d_ff, s.experts = size.experts, s.capacity = size.capacity, s.policy = policy;
      s.layers = 1, s.every_layer = true, s.encoder_only = true, s.attends = false;
      const Tensors tensors = WriteSwitchCheckpoint(scratch / "source", s);
      const auto texts = Texts(size.lengths, s.vocabulary);
      for (DType type : {DType::f32, DType::bf16}) {
        const std::vector<double> want = Reference{s, tensors, type}.Run(texts);
        ConvertFolder(scratch / "source", path, std::string(DTypeName(type)));
        for (std::string_view target : KernelTargets()) {
          ModelOptions options;
          options.target = std::string(target);
          const auto model = OpenModel(path, options);
          std::vector<float> one;
          for (int threads : {1, 2, 3}) {
            auto session = SessionOf(model, threads);
            Status ran = session->Encode(Inputs(texts));
            REQUIRE_MESSAGE(ran.ok(), ran.message());
            const std::vector<float> got = Rows(session->encoded("last_hidden_state"));
            REQUIRE(got.size() == want.size());
            if (threads == 1) one = got;
            CHECK(got == one);
          }
          double worst = 0;
          for (size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::fabs(one[i] - want[i]));
          CHECK_MESSAGE(worst < 2e-5, "D ", s.d_model, ", F ", s.d_ff, ", E ", s.experts, ", ", policy, ", ", DTypeName(type), ", ", target, ": ", worst);
        }
      }
    }
}

TEST_CASE("experts in eight bits: scales of their own, router in f32, near f32, routed alike, the same bits for any threads and any bound") {
  SwitchShape s;
  s.d_model = 64, s.d_ff = 160, s.experts = 8, s.heads = 4, s.d_kv = 16, s.vocabulary = 96, s.layers = 4;
  ScratchFolder scratch;
  WriteSwitchCheckpoint(scratch / "source", s);
  ConvertFolder(scratch / "source", scratch / "f32.tern", "f32");
  ConvertFolder(scratch / "source", scratch / "q8.tern", "q8");
  const auto plain = OpenModel(scratch / "f32.tern"), q8 = OpenModel(scratch / "q8.tern");
  std::map<std::string, uint64_t> digests;
  for (const TensorRecord& t : q8->file().tensors()) {
    digests[t.name] = t.digest;
    if (!t.group.empty()) CHECK(t.type == DType::i8);
    if (t.name.find("router") != std::string::npos) CHECK(t.type == DType::f32);
    CHECK(t.splits == 0);
  }
  CHECK(q8->expert_bytes() < plain->expert_bytes() * 3 / 10);
  CHECK(q8->pager()->stats().experts == 4 * 8);
  // From a file of ours: the same bytes.
  ConvertFolder(scratch / "f32.tern", scratch / "again.tern", "q8");
  const auto again = OpenModel(scratch / "again.tern");
  REQUIRE(again->file().tensors().size() == digests.size());
  for (const TensorRecord& t : again->file().tensors()) CHECK(digests.at(t.name) == t.digest);

  const auto texts = Texts({50, 23, 7}, s.vocabulary);
  const std::vector<int32_t> target = Texts({3 * 40}, s.vocabulary)[0];
  struct Run {
    std::vector<float> hidden, logits;
    std::vector<int32_t> choices;
  };
  auto run = [&](const std::shared_ptr<const Model>& model, int threads) {
    Choices choices;
    auto session = SessionOf(model, threads, &choices, 40);
    REQUIRE(session->Encode(Inputs(texts)).ok());
    REQUIRE(session->Decode(target).ok());
    return Run{Rows(session->encoded("encoder_last_hidden_state")), Rows(session->output("logits")), choices.all};
  };
  const Run exact = run(plain, 1), one = run(q8, 1);
  for (int threads : {2, 3}) {
    const Run more = run(q8, threads);
    CHECK(more.hidden == one.hidden);
    CHECK(more.logits == one.logits);
  }
  int64_t equal = 0;
  REQUIRE(one.choices.size() == exact.choices.size());
  for (size_t i = 0; i < one.choices.size(); ++i) equal += one.choices[i] == exact.choices[i];
  MESSAGE("routed alike: ", equal, " of ", one.choices.size());
  CHECK(equal >= static_cast<int64_t>(one.choices.size()) * 9 / 10);
  // A row that another expert computed is another row; of the rest a layer adds about 1 %.
  std::vector<double> distance;
  for (size_t r = 0; r < exact.logits.size(); r += static_cast<size_t>(s.vocabulary)) {
    double difference = 0, norm = 0;
    for (size_t c = r; c < r + static_cast<size_t>(s.vocabulary); ++c) difference += std::pow(one.logits[c] - exact.logits[c], 2), norm += std::pow(exact.logits[c], 2);
    distance.push_back(std::sqrt(difference / norm));
  }
  std::sort(distance.begin(), distance.end());
  MESSAGE("distance of a row of logits: median ", distance[distance.size() / 2], ", largest ", distance.back());
  CHECK(distance[distance.size() / 2] > 0);
  CHECK(distance[distance.size() / 2] < 0.05);

  ModelOptions bounded;
  bounded.expert_memory = 2 * (64 * 160 * 2 + (160 + 64) * 8 + 4096), bounded.prefetch = true;
  const auto small = OpenModel(scratch / "q8.tern", bounded);
  const Run paged = run(small, 2);
  CHECK(paged.hidden == one.hidden);
  CHECK(paged.logits == one.logits);
  CHECK(small->pager()->stats().evictions > 0);
  CHECK(small->pager()->stats().resident_bytes <= bounded.expert_memory);
}

TEST_CASE("experts: of the file at most 1.05 x (dense weights + touched experts) lies in memory, f32 and q8") {
  SwitchShape s;
  s.d_model = 64, s.d_ff = 256, s.experts = 64, s.heads = 2, s.d_kv = 16, s.vocabulary = 512, s.layers = 4;
  ScratchFolder scratch;
  WriteSwitchCheckpoint(scratch / "source", s);
  for (const char* type : {"f32", "q8"}) {
    CAPTURE(type);
    const std::string path = scratch / "m.tern";
    ConvertFolder(scratch / "source", path, type);
    {
      auto file = ModelFile::Open(path);
      REQUIRE(file.ok());
      (*file)->mapped()->Advise(MappedFile::Advice::kEvict, 0, (*file)->file_bytes());
      if ((*file)->mapped()->ResidentBytes(0, (*file)->file_bytes()) > 0) {
        MESSAGE("this file system keeps what it was told to drop: residency was not checked");
        return;
      }
    }
    const auto model = OpenModel(path);
    const ModelFile& file = model->file();
    auto session = SessionOf(model, 2, nullptr, 8);
    const auto texts = Texts({9}, s.vocabulary);
    REQUIRE(session->Encode(Inputs(texts)).ok());
    std::vector<int32_t> next{0};
    for (int i = 0; i < 8; ++i) {
      REQUIRE(session->Decode(next).ok());
      const Operand& o = session->output("logits");
      next[0] = static_cast<int32_t>(model->kernels().argmax(o.f32(), o.cols));
    }
    const auto stats = model->pager()->stats();
    const int64_t expert = static_cast<int64_t>(file.Group("encoder.layers.1.experts.0").bytes);
    REQUIRE(expert > 0);
    int64_t dense = static_cast<int64_t>(file.file_bytes());  // groups stand last
    for (const TensorRecord& t : file.tensors())
      if (!t.group.empty()) dense = std::min(dense, static_cast<int64_t>(t.offset));
    const int64_t needed = dense + stats.touched * expert, in_memory = file.mapped()->ResidentBytes(0, file.file_bytes());
    MESSAGE(type, ": ", in_memory, " bytes in memory, needed ", needed, " of ", file.file_bytes(), "; ", stats.touched, " of ", stats.experts, " experts touched");
    CHECK(stats.touched * 4 < stats.experts);  // else there is nothing to see
    CHECK(static_cast<double>(in_memory) <= 1.05 * static_cast<double>(needed));
    CHECK(in_memory >= stats.touched * expert);
    CHECK(stats.bytes_read <= stats.touched * expert);
  }
}

TEST_CASE("experts: load is counted as it is computed, dropped tokens too") {
  SwitchShape s;
  s.experts = 5, s.capacity = 2, s.layers = 2;
  ScratchFolder scratch;
  WriteSwitchCheckpoint(scratch / "source", s);
  ConvertFolder(scratch / "source", scratch / "m.tern", "f32");
  const auto model = OpenModel(scratch / "m.tern");
  ExpertUsage usage;
  auto session = SessionOf(model, 2, &usage, 8);
  const auto texts = Texts({20, 11}, s.vocabulary);
  REQUIRE(session->Encode(Inputs(texts)).ok());
  CHECK(usage.layers().empty());  // not started
  usage.Start();
  REQUIRE(session->Encode(Inputs(texts)).ok());
  REQUIRE(session->Decode(std::vector<int32_t>{0, 3, 5, 0, 4, 6}).ok());
  REQUIRE(usage.layers().size() == 2);
  const ExpertUsage::Layer &encoder = usage.layers()[0], &decoder = usage.layers()[1];
  CHECK(encoder.name == "encoder.layers.1");
  CHECK(decoder.name == "decoder.layers.1");
  CHECK(encoder.tokens() == 31);
  CHECK(decoder.tokens() == 6);
  // 31 tokens of two texts, of which five experts take two each and text.
  CHECK(encoder.dropped >= 31 - 2 * 2 * 5);
  CHECK(encoder.used() + decoder.used() == model->pager()->stats().touched);
  CHECK(encoder.Imbalance() >= 1);
  CHECK(encoder.Evenness() > 0);
  CHECK(encoder.Evenness() <= 1);

  ExpertUsage::Layer even{"", {3, 3, 3}, 0}, one{"", {0, 7, 0}, 0}, none{"", {0, 0}, 0};
  CHECK(even.Imbalance() == 1);
  CHECK(even.Evenness() == doctest::Approx(1));
  CHECK(one.Imbalance() == 3);
  CHECK(one.Evenness() == 0);
  CHECK(none.Imbalance() == 0);
}

TEST_CASE("encoder-decoders: what cannot be read is refused before anything runs") {
  SwitchShape s;
  ScratchFolder scratch;
  WriteSwitchCheckpoint(scratch / "source", s);
  ConvertFolder(scratch / "source", scratch / "m.tern", "f32");
  const auto model = OpenModel(scratch / "m.tern");
  auto session = SessionOf(model, 1, nullptr, 4);
  CHECK(session->Encode({}).code() == Code::kUsage);
  const EncoderInput empty;
  CHECK(session->Encode({&empty, 1}).code() == Code::kUsage);
  const std::vector<int32_t> ids{3, 4};
  const std::vector<uint8_t> mask{0, 0};
  const EncoderInput masked{ids, {}, mask};
  CHECK(session->Encode({&masked, 1}).code() == Code::kUsage);
  CHECK(session->Decode(std::vector<int32_t>{0}).code() == Code::kUsage);  // nothing was encoded
  const std::vector<int32_t> outside{3, 40};
  const EncoderInput wrong{outside};
  CHECK(session->Encode({&wrong, 1}).code() == Code::kUsage);
  EncoderDecoderOptions options;
  for (int64_t beams : {int64_t{0}, int64_t{1001}, int64_t{-1}}) {
    options.beams = beams;
    CHECK(EncoderDecoderSession::Create(model, options).status().code() == Code::kUsage);
  }
  // A source that does not fit: the pager has not been asked for a single expert.
  options.beams = 1, options.threads = 1, options.memory_limit = 1 << 20;
  auto tight = EncoderDecoderSession::Create(model, options);
  REQUIRE(tight.ok());
  const auto long_text = Texts({100'000}, s.vocabulary);
  const Status refused = (*tight)->Encode(Inputs(long_text));
  CHECK(refused.code() == Code::kMemory);
  CHECK(refused.message().find("memory") != std::string::npos);
  CHECK(model->pager()->stats().requests == 0);
  const auto short_text = Texts({10}, s.vocabulary);
  CHECK((*tight)->Encode(Inputs(short_text)).ok());  // and goes on
}
