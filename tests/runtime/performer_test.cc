// Performers in sessions: prefix sums as a state, what is refused, and the random features of models that bring none.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "engine/base/rng.h"
#include "engine/runtime/convert.h"
#include "engine/runtime/forward.h"
#include "engine/runtime/session.h"
#include "models/performer_features.h"
#include "tests/reference/golden.h"
#include "tests/reference/golden_model.h"

using namespace tern;

namespace {

std::string Folder(const std::string& name) { return GoldenFolder("performer/" + name); }

std::unique_ptr<Session> Make(std::shared_ptr<const Model> model, int64_t batch = 1) {
  SessionOptions options;
  options.threads = 2, options.batch = batch;
  options.plans = {{1, LogitsMode::kLast, false}, {8, LogitsMode::kLast, false}, {24, LogitsMode::kAll, false}, {24, LogitsMode::kTarget, false}};
  auto session = Session::Create(std::move(model), options);
  REQUIRE_MESSAGE(session.ok(), session.status().message());
  return std::move(*session);
}

std::vector<float> Last(const Session& s) {
  const Operand& o = s.output("logits");
  return {o.f32() + (o.rows - 1) * o.stride, o.f32() + (o.rows - 1) * o.stride + o.cols};
}

std::vector<int32_t> Ids(int64_t n) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(i * 11 % 17));
  return ids;
}

// The model's folder with one line of config.json changed.
std::string Changed(const ScratchFolder& scratch, const std::string& name, const std::string& key, const Json& value) {
  const std::string folder = scratch / "changed";
  std::filesystem::remove_all(folder);
  std::filesystem::copy(Folder(name), folder, std::filesystem::copy_options::recursive);
  std::ifstream in(folder + "/config.json");
  Json config = Json::parse(in);
  config[key] = value;
  std::ofstream(folder + "/config.json") << config.dump();
  return folder;
}

}  // namespace

TEST_CASE("performer: a conversation is a value: reset, fork, save, restore; local windows and shifted tokens too") {
  ScratchFolder scratch;
  for (const char* name : {"pieces_softmax", "pieces_relu_local_shift", "pieces_noproj", "all_causal"}) {
    CAPTURE(name);
    auto model = ModelOf(scratch, Folder(name));
    auto a = Make(model);
    const auto ids = Ids(20);
    auto feed = [&](Session& s, size_t from, size_t to) {
      for (size_t i = from; i < to; ++i) REQUIRE(s.Feed({&ids[i], 1}, LogitsMode::kLast).ok());
      return Last(s);
    };
    feed(*a, 0, 9);
    REQUIRE(a->Save(scratch / "state", {}).ok());
    auto fork = a->Fork();
    REQUIRE(fork.ok());
    const auto want = feed(*a, 9, 20);
    CHECK(feed(**fork, 9, 20) == want);
    auto b = Make(model);
    REQUIRE(b->Restore(scratch / "state").ok());
    CHECK(feed(*b, 9, 20) == want);
    a->Reset();
    feed(*a, 0, 9);
    CHECK(feed(*a, 9, 20) == want);
  }
}

TEST_CASE("performer: a call that was cancelled leaves the sums as they were, and can be made again") {
  ScratchFolder scratch;
  auto model = ModelOf(scratch, Folder("pieces_softmax"));
  CancelToken cancel;
  SessionOptions options;
  options.threads = 1, options.cancel = &cancel;
  options.plans = {{8, LogitsMode::kLast, false}};
  auto session = Session::Create(model, options);
  REQUIRE(session.ok());
  const auto ids = Ids(16);
  REQUIRE((*session)->Feed({ids.data(), 8}, LogitsMode::kLast).ok());
  auto fork = (*session)->Fork();
  REQUIRE(fork.ok());
  cancel.Cancel();
  CHECK((*session)->Feed({ids.data() + 8, 8}, LogitsMode::kLast).code() == Code::kCancelled);
  CHECK((*session)->tokens_seen() == 8);
  cancel.Reset();
  REQUIRE((*session)->Feed({ids.data() + 8, 8}, LogitsMode::kLast).ok());
  REQUIRE((*fork)->Feed({ids.data() + 8, 8}, LogitsMode::kLast).ok());
  CHECK(Last(**session) == Last(**fork));
}

TEST_CASE("performer: without a stabiliser any way to cut a sequence gives the same numbers, and scoring agrees with the logits") {
  ScratchFolder scratch;
  for (const char* name : {"pieces_relu_local_shift", "noproj_causal_learned", "sigmoid_causal"}) {
    CAPTURE(name);
    auto model = ModelOf(scratch, Folder(name));
    CHECK(model->network().chunk_invariant());
    auto s = Make(model);
    const auto ids = Ids(24);
    REQUIRE(s->Feed(ids, LogitsMode::kAll).ok());
    const Operand& o = s->output("logits");
    std::vector<float> whole(o.f32(), o.f32() + o.rows * o.cols);
    std::vector<int32_t> targets(ids.begin() + 1, ids.end());
    targets.push_back(-1);
    s->Reset();
    REQUIRE(s->Feed(ids, LogitsMode::kTarget, targets).ok());
    for (size_t t = 0; t + 1 < ids.size(); ++t) {
      const float* row = whole.data() + static_cast<int64_t>(t) * o.cols;
      const double want = row[targets[t]] - model->kernels().log_sum_exp(row, o.cols);
      CHECK(std::fabs(s->output("log_probs").f32()[t] - want) <= 1e-5);
    }
    s->Reset();
    size_t at = 0;
    for (size_t piece : {3u, 1u, 8u, 1u, 1u, 5u, 5u}) {
      REQUIRE(s->Feed({ids.data() + at, piece}, LogitsMode::kLast).ok());
      at += piece;
      const auto last = Last(*s);
      for (size_t c = 0; c < last.size(); ++c) CHECK(std::fabs(last[c] - whole[(at - 1) * last.size() + c]) <= 2e-5);
    }
  }
}

TEST_CASE("performer: what cannot be is refused in a line that says why") {
  ScratchFolder scratch;
  auto converted = [&](const std::string& folder) {
    ConvertOptions convert;
    convert.source = folder, convert.output = scratch / "bad.tern";
    return Convert(convert, nullptr, {}, nullptr);
  };
  const std::pair<const char*, Json> kBad[] = {{"nb_features", 0}, {"nb_features", -3}, {"dim_head", 0}, {"dim", 13}, {"local_window_size", 0}, {"local_attn_heads", 9},
                                               {"local_attn_heads", Json::array({1, 1, 1})}, {"heads", 0}, {"max_seq_len", 0}, {"depth", 1 << 20}, {"nb_features", 1 << 30}};
  for (const auto& [key, value] : kBad) {
    const Status s = converted(Changed(scratch, "softmax_mask", key, value));
    CAPTURE(key);
    CAPTURE(s.message());
    CHECK(s.code() == Code::kMalformed);
    CHECK(s.message().find(key) != std::string::npos);
  }
  CHECK(converted(Changed(scratch, "softmax_mask", "nb_features", 7)).code() == Code::kIncomplete);  // the projections have another shape
  CHECK(converted(Changed(scratch, "noproj_axial_tied", "axial_position_shape", Json::array({2, 3}))).code() == Code::kMalformed);
  CHECK(converted(Changed(scratch, "sigmoid_causal", "kernel_fn", "cosine")).code() == Code::kMalformed);
  // Sizes that a config claims and no tensor bears out: told at once, not computed.
  for (const auto& [key, value] : {std::pair<const char*, Json>{"depth", 4096}, {"max_seq_len", 16 << 20}, {"dim_head", 4096}, {"nb_features", 65536}}) {
    CAPTURE(key);
    CHECK(converted(Changed(scratch, "softmax_mask", key, value)).code() == Code::kIncomplete);
  }

  // Longer than its positions, whole or in pieces.
  auto model = ModelOf(scratch, Folder("pieces_softmax"));
  const auto ids = Ids(25);
  auto run = [&](std::vector<int64_t> chunks) {
    ForwardOptions options;
    options.chunks = std::move(chunks);
    return Forward(model, {{"input_ids", {ids.data(), DType::i32, {1, 25}}}}, options).status().code();
  };
  CHECK(run({}) == Code::kUsage);
  CHECK(run({20, 5}) == Code::kUsage);
  auto s = Make(model);
  REQUIRE(s->Feed({ids.data(), 24}, LogitsMode::kAll).ok());
  CHECK(s->room() == 0);
  CHECK(s->Feed({ids.data(), 1}, LogitsMode::kLast).code() == Code::kUsage);

  // A model that is not causal is no decoder; one with cross attention wants its context.
  SessionOptions options;
  options.plans = {{1, LogitsMode::kLast, false}};
  CHECK(Session::Create(ModelOf(scratch, Folder("softmax_mask")), options).status().code() == Code::kUsage);
  model = ModelOf(scratch, Folder("cross_rezero_mask"));
  CHECK(Forward(model, {{"input_ids", {ids.data(), DType::i32, {1, 5}}}}, {}).status().message().find("context") != std::string::npos);
}

TEST_CASE("performer: a NaN among the weights is named by the op it began in") {
  ScratchFolder scratch;
  const std::string folder = scratch / "nan";
  std::filesystem::copy(Folder("pieces_softmax"), folder, std::filesystem::copy_options::recursive);
  const std::string path = folder + "/model.safetensors";
  auto file = Safetensors::Open(path);
  REQUIRE(file.ok());
  const ConstTensor* t = file->Find("performer.net.layers.0.0.fn.to_k.weight");
  REQUIRE(t);
  std::ifstream in(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const std::string needle(static_cast<const char*>(t->data), 64);
  const size_t at = bytes.find(needle);
  REQUIRE(at != std::string::npos);
  const float nan = NAN;
  std::memcpy(bytes.data() + at, &nan, 4);
  std::ofstream(path, std::ios::binary) << bytes;
  auto s = Make(ModelOf(scratch, folder));
  const auto ids = Ids(8);
  const Status status = s->Feed(ids, LogitsMode::kLast);
  CHECK(status.code() == Code::kNumeric);
  CHECK(status.message().find("layers.0.attention") != std::string::npos);
}

TEST_CASE("features for models without: orthogonal within a block, lengths of Gaussian rows, the same for a seed; a checkpoint without projections converts") {
  constexpr int64_t d = 20, m = 50;
  const auto p = OrthogonalFeatures(m, d, 3);
  REQUIRE(p.size() == m * d);
  CHECK(p == OrthogonalFeatures(m, d, 3));
  CHECK(p != OrthogonalFeatures(m, d, 4));
  double squares = 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      double dot = 0;
      for (int64_t c = 0; c < d; ++c) dot += static_cast<double>(p[static_cast<size_t>(i * d + c)]) * p[static_cast<size_t>(j * d + c)];
      if (i == j) squares += dot;
      else if (i / d == j / d) CHECK(std::fabs(dot) <= 1e-5 * d);
    }
  CHECK(std::fabs(squares / m - d) < 0.15 * d);  // mean of chi-square with d degrees of freedom

  ScratchFolder scratch;
  const std::string folder = scratch / "bare";
  std::filesystem::copy(Folder("pieces_softmax"), folder, std::filesystem::copy_options::recursive);
  std::ifstream in(folder + "/model.safetensors", std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const size_t at = bytes.find("performer.net.layers.0.0.fn.fast_attention.projection_matrix");
  REQUIRE(at != std::string::npos);
  std::memcpy(bytes.data() + at, "performer.proj_updater.x", 24);  // what is ignored
  std::ofstream(folder + "/model.safetensors", std::ios::binary) << bytes;
  auto s = Make(ModelOf(scratch, folder));
  REQUIRE(s->Feed(Ids(8), LogitsMode::kLast).ok());
  for (float x : Last(*s)) CHECK(std::isfinite(x));
}

TEST_CASE("the error of random features falls with the root of their number, and orthogonal ones are no worse than independent ones") {
  // Small norms (sigma 0.5): at larger ones the variance of exp features has no use for a law. Softmax attention in double is the truth.
  constexpr int64_t d = 16, L = 96;
  Rng rng(5);
  std::vector<float> q(L * d), k(L * d), v(L * d);
  for (auto* x : {&q, &k}) for (float& y : *x) y = static_cast<float>(0.5 * rng.Normal());
  for (float& y : v) y = static_cast<float>(rng.Normal());
  std::vector<double> truth;
  double norm = 0;
  for (int64_t i = 0; i < L; ++i) {
    std::vector<double> row(d);
    double sum = 0;
    for (int64_t j = 0; j < L; ++j) {
      double s = 0;
      for (int64_t c = 0; c < d; ++c) s += static_cast<double>(q[static_cast<size_t>(i * d + c)]) * k[static_cast<size_t>(j * d + c)];
      const double w = std::exp(s / 4);
      sum += w;
      for (int64_t c = 0; c < d; ++c) row[static_cast<size_t>(c)] += w * v[static_cast<size_t>(j * d + c)];
    }
    for (double x : row) truth.push_back(x / sum), norm += x / sum * x / sum;
  }
  const KernelTable& kernels = Kernels();
  auto error = [&](int64_t m, bool orthogonal) {
    double total = 0;
    constexpr int kDraws = 20;
    for (int draw = 0; draw < kDraws; ++draw) {
      std::vector<float> p = OrthogonalFeatures(m, d, static_cast<uint64_t>(100 + draw));
      if (!orthogonal) {
        Rng independent(static_cast<uint64_t>(900 + draw));
        for (float& x : p) x = static_cast<float>(independent.Normal());
      }
      FavorShape shape{FavorKernel::kSoftmax, false, false, m, d, d};
      auto allocate = [](int64_t bytes) { return Region::Create(bytes); };
      auto packed = allocate(FavorProjectionBytes(m, d)), state = allocate(FavorStateBytes(shape)), workspace = allocate(FavorWorkspaceBytes(shape, L));
      REQUIRE((packed.ok() && state.ok() && workspace.ok()));
      std::vector<float> out(L * d);
      PackFavorProjection(kernels, p.data(), d, m, d, reinterpret_cast<float*>(packed->data()));
      ResetFavor(shape, state->data());
      FavorArgs a;
      a.q = q.data(), a.k = k.data(), a.v = v.data(), a.out = out.data();
      a.q_stride = a.k_stride = a.v_stride = a.out_stride = d;
      a.projection = reinterpret_cast<const float*>(packed->data());
      FavorKeys(kernels, shape, a, L, state->data(), workspace->data());
      FavorFinishKeys(kernels, shape, state->data());
      FavorQueries(kernels, shape, a, 0, L, state->data(), workspace->data());
      double square = 0;
      for (size_t i = 0; i < out.size(); ++i) square += (out[i] - truth[i]) * (out[i] - truth[i]);
      total += std::sqrt(square / norm);
    }
    return total / kDraws;
  };
  const double few = error(64, true), many = error(1024, true);
  CHECK(many / few > 0.25 * 0.75);
  CHECK(many / few < 0.25 * 1.4);  // e = 1e-4 holds the larger number up a little
  CHECK(few <= error(64, false) * 1.02);
}
