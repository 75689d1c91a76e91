// The infinity-former's memory, part by part: the recorded units (tests/golden/infinite-former/units), each formula on its own, then whole conversations.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "engine/base/file.h"
#include "engine/base/rng.h"
#include "engine/runtime/memory_tables.h"
#include "engine/runtime/score.h"
#include "engine/runtime/session.h"
#include "engine/runtime/sticky.h"
#include "formats/safetensors.h"
#include "models/infinite_former.h"
#include "tests/reference/golden_model.h"
#include "tests/reference/long_term_memory.h"

using namespace tern;

namespace {

// A unit file: f64 tensors by name.
class Unit {
 public:
  explicit Unit(const char* name) {
    auto file = Safetensors::Open(std::string(TERN_SOURCE_DIR) + "/tests/golden/infinite-former/units/" + name + ".safetensors");
    REQUIRE_MESSAGE(file.ok(), file.status().message());
    file_ = std::move(*file);
  }
  bool Has(const std::string& name) const { return file_.Find(name); }
  std::vector<double> operator[](const std::string& name) const {
    const ConstTensor* t = file_.Find(name);
    REQUIRE_MESSAGE(t, name);
    std::vector<double> out(static_cast<size_t>(t->shape.elements()));
    for (size_t i = 0; i < out.size(); ++i) out[i] = t->type == DType::f64 ? t->as<double>()[i] : t->as<int32_t>()[i];
    return out;
  }
  Shape shape(const std::string& name) const { return file_.Find(name)->shape; }

 private:
  Safetensors file_;
};

double Worst(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0, scale = 1e-30;
  for (double v : b) scale = std::max(scale, std::abs(v));
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst / scale;
}

// The constants of the units.
LongTermMemory Constants(bool sort, int64_t basis, int64_t length) {
  LongTermMemory m;
  m.basis = basis, m.length = length;
  m.samples = 512, m.tau = sort ? 0.75 : 0.5, m.ridge = sort ? 1 : 0.5, m.least_variance = sort ? 1e-6 : 1e-4;
  m.widths = sort ? std::array<double, 8>{0.01, 0.05} : std::array<double, 8>{0.005, 0.01};
  m.n_widths = 2;
  return m;
}
RbfBasis BasisOf(const LongTermMemory& m) { return RbfBasis::Create(m.basis, {m.widths.data(), static_cast<size_t>(m.n_widths)}); }

std::vector<double> FitRows(const LongTermMemory& m, int64_t l) {
  const auto positions = FitPositions(l);
  return RidgeRows(BasisOf(m), positions, (static_cast<int64_t>(positions.size()) - l) / 2, l, m.ridge, nullptr);
}
std::vector<double> UpdateRows(const LongTermMemory& m) {
  int64_t padding = 0;
  const auto positions = UpdatePositions(m.samples, m.length, m.tau, &padding);
  return RidgeRows(BasisOf(m), positions, padding, m.samples + m.length, m.ridge, nullptr);
}

}  // namespace

TEST_CASE("units: basis") {
  const Unit u("basis");
  const std::map<std::string, std::vector<double>> widths = {{"ft16", {0.005, 0.01}}, {"sort12", {0.01, 0.05}}};
  for (const auto& [name, w] : widths) {
    const auto mu = u[name + ".mu"], t = u["t"];
    const RbfBasis b = RbfBasis::Create(static_cast<int64_t>(mu.size()), w);
    CHECK(Worst(b.centers, mu) < 1e-15);
    CHECK(Worst(b.widths, u[name + ".sigma"]) < 1e-15);
    std::vector<double> psi(t.size() * mu.size());
    for (size_t i = 0; i < t.size(); ++i) b.Evaluate(t[i], psi.data() + i * mu.size());
    CHECK(Worst(psi, u[name + ".psi"]) < 1e-12);
  }
  for (std::string name : {"one7", "three18"}) {
    const auto mu = u[name + ".mu"], sigma = u[name + ".sigma"], t = u["t"];
    const size_t w = name == "one7" ? 1 : 3;
    const RbfBasis b = RbfBasis::Create(static_cast<int64_t>(mu.size()), {sigma.data(), w});
    CHECK(Worst(b.centers, mu) < 1e-15);
    CHECK(Worst(b.widths, sigma) < 1e-15);
    std::vector<double> psi(t.size() * mu.size());
    for (size_t i = 0; i < t.size(); ++i) b.Evaluate(t[i], psi.data() + i * mu.size());
    CHECK(Worst(psi, u[name + ".psi"]) < 1e-12);
  }
}

TEST_CASE("units: ridge fit of every length, update and its contraction, to 1e-8") {
  const Unit fit("ridge_fit");
  for (bool sort : {true, false}) {
    const std::string name = sort ? "sort" : "ft";
    const LongTermMemory m = Constants(sort, sort ? 12 : 16, 1);
    for (int64_t l : {2, 3, 4, 7, 16, 31, 32}) {
      if (!fit.Has(Str(name, ".G", l))) continue;
      CAPTURE(l);
      CHECK(Worst(FitPositions(l), fit[Str(name, ".positions", l)]) < 1e-14);
      CHECK(Worst(FitRows(m, l), fit[Str(name, ".G", l)]) < 1e-8);
    }
  }
  const Unit update("update");
  for (std::string name : {"sort", "ft", "small"}) {
    CAPTURE(name);
    LongTermMemory m = name == "small" ? Constants(true, 10, 8) : Constants(name == "sort", name == "sort" ? 12 : 16, name == "sort" ? 16 : 32);
    if (name == "small") m.samples = 24, m.tau = 0.6, m.ridge = 0.2;
    int64_t padding = 0;
    CHECK(Worst(UpdatePositions(m.samples, m.length, m.tau, &padding), update[name + ".positions"]) < 1e-14);
    const std::vector<double> rows = UpdateRows(m);
    const int64_t n = m.basis;
    CHECK(Worst({rows.begin() + m.samples * n, rows.end()}, update[name + ".G_new"]) < 1e-8);
    if (update.Has(name + ".G_old")) CHECK(Worst({rows.begin(), rows.begin() + m.samples * n}, update[name + ".G_old"]) < 1e-8);
    std::vector<uint8_t> memory(static_cast<size_t>(MemoryTables::Bytes(m)) + 64);
    const MemoryTables t = MemoryTables::At(memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64, m);
    MakeMemoryTables(m, nullptr, t, nullptr);
    CHECK(Worst({t.contract, t.contract + n * n}, update[name + ".P"]) < 1e-7);  // rounded to f32
  }
}

TEST_CASE("units: six contractions") {
  const Unit u("contraction");
  for (bool sort : {true, false}) {
    const std::string name = sort ? "sort" : "ft";
    const LongTermMemory m = Constants(sort, sort ? 12 : 16, sort ? 16 : 32);
    const MemoryReference reference(m);
    const int64_t e = u.shape(name + ".X")[2], l = m.length;
    const auto x = u[name + ".X"], want = u[name + ".B"];
    std::vector<double> b;
    for (int64_t k = 0; k < 6; ++k) {
      b = reference.Renew(b, {x.begin() + k * l * e, x.begin() + (k + 1) * l * e}, e);
      CHECK(Worst(b, {want.begin() + k * m.basis * e, want.begin() + (k + 1) * m.basis * e}) < 1e-8);
    }
  }
}

TEST_CASE("units: expectations of normal densities, on every target, and of parabolas") {
  const Unit u("expectation");
  const auto mu = u["mu"], variance = u["sigma_sq"];
  for (bool sort : {true, false}) {
    const std::string name = sort ? "sort12" : "ft16";
    const LongTermMemory m = Constants(sort, sort ? 12 : 16, 16);
    const RbfBasis basis = BasisOf(m);
    std::vector<float> centers(basis.centers.begin(), basis.centers.end()), variances;
    for (double w : basis.widths) variances.push_back(static_cast<float>(w * w));
    for (std::string_view target : KernelTargets()) {
      CAPTURE(target);
      std::vector<double> got;
      for (size_t i = 0; i < mu.size(); ++i) {
        std::vector<float> r(centers.size());
        KernelsFor(target)->gaussian_expectation(static_cast<float>(mu[i]), static_cast<float>(variance[i]), centers.data(), variances.data(), m.basis, r.data());
        got.insert(got.end(), r.begin(), r.end());
      }
      CHECK(Worst(got, u[name + ".gaussian"]) < 1e-5);
    }
    const MemoryReference reference(m);
    std::vector<double> got, parabola;
    for (size_t i = 0; i < mu.size(); ++i) {
      auto g = reference.Expectation(mu[i], variance[i], false), p = reference.Expectation(mu[i], variance[i], true);
      got.insert(got.end(), g.begin(), g.end()), parabola.insert(parabola.end(), p.begin(), p.end());
    }
    CHECK(Worst(got, u[name + ".gaussian"]) < 1e-10);
    CHECK(Worst(parabola, u[name + ".parabola"]) < 1e-6);
  }
}

TEST_CASE("units: masks") {
  const Unit u("mask");
  const int64_t l = u.shape("x")[0], e = u.shape("x")[1];
  CHECK(Worst(MaskConvolution(u["x"], l, e, u["cnn.weight"], u["cnn.bias"]), u["cnn.y"]) < 1e-12);
  CHECK(Worst(MaskAffine(u["x"], l, e, u["affine.weight"], u["affine.bias"]), u["affine.y"]) < 1e-12);
}

TEST_CASE("units: sticky memories") {
  const Unit u("sticky");
  const auto mu = u["mu"], variance = u["sigma_sq"];
  std::vector<float> looks;
  for (size_t i = 0; i < mu.size(); ++i) looks.push_back(static_cast<float>(mu[i])), looks.push_back(static_cast<float>(variance[i]));
  double p[LongTermMemory::kBins];
  StickyProbabilities(looks.data(), 1, static_cast<int64_t>(mu.size()), static_cast<int64_t>(mu.size()), p, nullptr);
  CHECK(Worst({p, p + LongTermMemory::kBins}, u["probs"]) < 1e-6);

  LongTermMemory m = Constants(false, 16, 32);
  m.sticky = true;
  const auto want = u["probs"];
  int64_t counts[LongTermMemory::kBins];
  ChooseBins(m, 0, 0, want.data(), counts);
  std::vector<int64_t> recorded(LongTermMemory::kBins), drawn(LongTermMemory::kBins);
  for (double b : u["systematic.bins"]) ++recorded[static_cast<size_t>(b)];
  CHECK(std::equal(recorded.begin(), recorded.end(), counts));

  const MemoryReference reference(m);
  const auto b_old = u["B_old"], x = u["X_new"];
  CHECK(Worst(reference.Renew(b_old, x, 6, u["systematic.bins"]), u["systematic.B_new"]) < 1e-8);
  CHECK(Worst(reference.Renew(b_old, x, 6, u["draw.bins"]), u["draw.B_new"]) < 1e-8);

  // Seeded draws: the same every time, others for another seed, layer, lane or update; and about as many as the probabilities say.
  m.choice = StickyChoice::kDraws, m.samples = 16384;
  int64_t one[LongTermMemory::kBins], two[LongTermMemory::kBins];
  ChooseBins(m, 0, 0, want.data(), one);
  ChooseBins(m, 0, 0, want.data(), two);
  CHECK(std::equal(one, one + LongTermMemory::kBins, two));
  for (int which = 0; which < 4; ++which) {
    LongTermMemory other = m;
    other.seed = which == 0, other.layer = which == 1;
    ChooseBins(other, which == 2, which == 3, want.data(), two);
    CHECK_FALSE(std::equal(one, one + LongTermMemory::kBins, two));
  }
  CHECK(std::accumulate(one, one + LongTermMemory::kBins, int64_t{0}) == m.samples);
  for (int64_t b = 0; b < LongTermMemory::kBins; ++b) {
    const double expected = want[static_cast<size_t>(b)] * 16384;
    CHECK(std::abs(static_cast<double>(one[b]) - expected) < 6 * std::sqrt(expected) + 6);
  }
}

// Whole calls of the memory: the reference agrees with the recorded ones, and the engine (golden_test.cc) with models of them.
TEST_CASE("units: three calls, masked rows, two heads") {
  for (std::string name : {"call_sort", "call_ft", "call_ft_no_affines"}) {
    CAPTURE(name);
    const Unit u(name.c_str());
    const int64_t l = u.shape("k")[1], e = u.shape("k")[2], tokens = u.shape("q")[1];
    LongTermMemory m = Constants(name == "call_sort", u.shape("B")[1], l);
    m.heads = 2, m.head_width = e / 2;
    m.affines = name != "call_ft_no_affines";
    const MemoryReference reference(m);
    const auto k = u["k"], q = u["q"], context = u["context"], want = u["B"];
    std::vector<double> b;
    for (int64_t c = 0; c < 3; ++c) {
      std::vector<double> x(k.begin() + c * l * e, k.begin() + (c + 1) * l * e);
      if (u.Has("mask_net.weight")) x = MaskConvolution(x, l, e, u["mask_net.weight"], u["mask_net.bias"]);
      b = reference.Renew(b, x, e);
      CHECK(Worst(b, {want.begin() + c * m.basis * e, want.begin() + (c + 1) * m.basis * e}) < 1e-8);
      const auto got = reference.Attend(b, {q.begin() + c * tokens * e, q.begin() + (c + 1) * tokens * e}, u["proj_key.weight"], u["proj_value.weight"], u["attn_out.weight"],
                                        m.affines ? u["mu.weight"] : std::vector<double>{}, m.affines ? u["sigma.weight"] : std::vector<double>{});
      CHECK(Worst(got, {context.begin() + c * tokens * e, context.begin() + (c + 1) * tokens * e}) < 1e-7);
    }
  }
}

namespace {

std::shared_ptr<const Model> Golden(const ScratchFolder& scratch, const std::string& name, std::vector<std::pair<std::string, std::string>> settings = {}) {
  ModelOptions options;
  options.settings = std::move(settings);
  return GoldenModel(scratch, "infinite-former/" + name, options);
}

std::unique_ptr<Session> Start(std::shared_ptr<const Model> model, int threads = 1, int64_t batch = 1) {
  SessionOptions options;
  options.threads = threads, options.batch = batch;
  const int64_t segment = model->network().segments().length;
  options.plans = {{1, LogitsMode::kLast}, {segment, LogitsMode::kLast}, {segment, LogitsMode::kTarget}};
  auto session = Session::Create(std::move(model), options);
  REQUIRE_MESSAGE(session.ok(), session.status().message());
  return std::move(*session);
}

std::vector<int32_t> SomeIds(int64_t n, int64_t vocabulary) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(RandomBits(5, static_cast<uint64_t>(i)) % static_cast<uint64_t>(vocabulary)));
  return ids;
}

// Feeds all ids in pieces of at most `step` that end with the segments; the last logits.
std::vector<float> FeedAll(Session& s, std::span<const int32_t> ids, int64_t step) {
  while (!ids.empty()) {
    const size_t n = std::min({ids.size(), static_cast<size_t>(step), static_cast<size_t>(s.room())});
    Status fed = s.Feed(ids.first(n), LogitsMode::kLast);
    REQUIRE_MESSAGE(fed.ok(), fed.message());
    ids = ids.subspan(n);
  }
  const Operand& o = s.output("logits");
  return {o.f32(), o.f32() + o.cols};
}

double Farthest(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, static_cast<double>(std::abs(a[i] - b[i])));
  return worst;
}

constexpr const char* kHosts[] = {"sort_long_48", "gpt2_long_45", "gpt2_sticky_systematic", "dog_first_2"};

}  // namespace

TEST_CASE("infinity-former: fed token by token a segment gives what it gives whole") {
  ScratchFolder scratch;
  for (const char* name : kHosts) {
    CAPTURE(name);
    auto model = Golden(scratch, name);
    const auto ids = SomeIds(5 * model->network().segments().length + 3, model->network().vocab_size());
    auto whole = Start(model), single = Start(model);
    const auto a = FeedAll(*whole, ids, 1 << 20), b = FeedAll(*single, ids, 1);
    CHECK(Farthest(a, b) < 2e-4);
    CHECK(whole->tokens_seen() == static_cast<int64_t>(ids.size()));
  }
}

TEST_CASE("infinity-former: the memory is saved, restored, forked and reset, in the middle of a segment too") {
  ScratchFolder scratch;
  for (const char* name : kHosts) {
    CAPTURE(name);
    auto model = Golden(scratch, name);
    const int64_t segment = model->network().segments().length;
    const auto ids = SomeIds(7 * segment + 2, model->network().vocab_size());
    for (int64_t cut : {4 * segment, 4 * segment + 1, 5 * segment - 1}) {
      const std::span<const int32_t> first(ids.data(), static_cast<size_t>(cut)), rest(ids.data() + cut, ids.size() - static_cast<size_t>(cut));
      auto a = Start(model);
      FeedAll(*a, first, 1 << 20);
      REQUIRE(a->Save(scratch.path() + "/state", {}).ok());
      auto fork = a->Fork();
      REQUIRE(fork.ok());
      const auto want = FeedAll(*a, rest, 1 << 20);
      CHECK(FeedAll(**fork, rest, 1 << 20) == want);
      auto b = Start(model);
      FeedAll(*b, rest, 1 << 20);
      auto restored = b->Restore(scratch.path() + "/state");
      REQUIRE_MESSAGE(restored.ok(), restored.status().message());
      CHECK(FeedAll(*b, rest, 1 << 20) == want);
      b->Reset();
      FeedAll(*b, first, 1 << 20);
      CHECK(FeedAll(*b, rest, 1 << 20) == want);
    }
  }
}

TEST_CASE("infinity-former: sticky draws give the same bits for a seed and any number of threads; a cancelled call can be made again") {
  ScratchFolder scratch;
  const std::vector<std::pair<std::string, std::string>> draws = {{"sticky_seed", "7"}};
  auto model = Golden(scratch, "gpt2_sticky_systematic", draws);
  const auto ids = SomeIds(6 * 32 + 5, model->network().vocab_size());
  std::vector<float> want;
  for (int threads : {1, 2, 3}) {
    auto s = Start(model, threads);
    const auto got = FeedAll(*s, ids, 1 << 20);
    if (want.empty()) want = got;
    CHECK(got == want);
  }
  auto other = Start(Golden(scratch, "gpt2_sticky_systematic", {{"sticky_seed", "8"}}));
  CHECK(FeedAll(*other, ids, 1 << 20) != want);
  auto systematic = Start(Golden(scratch, "gpt2_sticky_systematic"));
  CHECK(FeedAll(*systematic, ids, 1 << 20) != want);

  CancelToken cancel;
  SessionOptions options;
  options.threads = 1, options.cancel = &cancel;
  options.plans = {{32, LogitsMode::kLast}};
  auto s = Session::Create(model, options);
  REQUIRE(s.ok());
  std::span<const int32_t> rest(ids);
  while (!rest.empty()) {
    const size_t n = std::min<size_t>(rest.size(), 32);
    cancel.Cancel();
    CHECK((*s)->Feed(rest.first(n), LogitsMode::kLast).code() == Code::kCancelled);
    cancel.Reset();
    REQUIRE((*s)->Feed(rest.first(n), LogitsMode::kLast).ok());
    rest = rest.subspan(n);
  }
  const Operand& o = (*s)->output("logits");
  CHECK(std::vector<float>(o.f32(), o.f32() + o.cols) == want);
}

TEST_CASE("infinity-former: segments the public code cannot take are refused by name") {
  ScratchFolder scratch;
  for (auto [name, pieces] : std::vector<std::pair<const char*, std::vector<int64_t>>>{{"gpt2_long_45", {16, 15, 16}}, {"gpt2_long_45", {17}}, {"dog_first_2", {1, 32}}, {"dog_first_2", {2, 32, 31, 32}}, {"sort_long_48", {8, 8, 8, 3, 3, 3}}}) {
    CAPTURE(name);
    auto model = Golden(scratch, name);
    SessionOptions options;
    options.threads = 1, options.call_is_segment = true;
    options.plans = {{64, LogitsMode::kLast}};
    auto s = Session::Create(model, options);
    REQUIRE(s.ok());
    Status last;
    for (int64_t n : pieces)
      if (last.ok()) last = (*s)->Feed(SomeIds(n, 5), LogitsMode::kLast);
    if (std::string(name) == "sort_long_48") CHECK_MESSAGE(last.ok(), "odd pieces are fine once the memories are full");
    else CHECK(last.code() == Code::kUsage);
  }
}

TEST_CASE("gaussian_expectation: awkward sizes, tails and floors against double; avx2 and avx512 agree bit for bit") {
  Rng rng(3);
  for (int64_t n : {0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 67, 512}) {
    std::vector<float> centers, variances;
    for (int64_t i = 0; i < n; ++i) {
      const double width = 0.005 + 0.1 * rng.Uniform();
      centers.push_back(static_cast<float>(rng.Uniform())), variances.push_back(static_cast<float>(width * width));
    }
    for (auto [mu, variance] : {std::pair(0.5f, 0.7f), std::pair(0.0f, 1e-6f), std::pair(1.0f, 1e-4f), std::pair(0.31f, 0.01f)}) {
      std::vector<std::vector<float>> got;
      std::vector<std::string_view> names;
      for (std::string_view target : KernelTargets()) {
        std::vector<float> y(static_cast<size_t>(n) + 1, 7.0f);
        KernelsFor(target)->gaussian_expectation(mu, variance, centers.data(), variances.data(), n, y.data());
        CHECK(y.back() == 7.0f);
        for (int64_t i = 0; i < n; ++i) {
          const size_t at = static_cast<size_t>(i);
          const double s = static_cast<double>(variances[at]) + static_cast<double>(variance), d = static_cast<double>(mu) - static_cast<double>(centers[at]);
          const double exponent = d * d / (2 * s), want = std::exp(-exponent) / std::sqrt(2 * 3.14159265358979323846 * s);
          CHECK(std::abs(y[at] - want) <= 4e-7 * std::max(1.0, exponent) * want + 1e-36);
        }
        got.push_back(y), names.push_back(target);
      }
      for (size_t i = 1; i < got.size(); ++i)
        if (names[i] == "avx2" && names[i - 1] == "avx512") CHECK(got[i] == got[i - 1]);
    }
  }
}

TEST_CASE("infinity-former: configs that cannot be run are refused, naming the field") {
  auto read = [](const char* name) {
    auto text = ReadFile(std::string(TERN_SOURCE_DIR) + "/tests/golden/infinite-former/" + name + "/model/config.json", 1 << 20);
    REQUIRE(text.ok());
    auto json = ParseJson(*text);
    REQUIRE(json.ok());
    REQUIRE(kInfiniteFormer.parse(*json, {}).ok());
    return *json;
  };
  struct Case {
    const char *golden, *field;
    Json value;
    const char* named = nullptr;  // the field that is blamed, if another
  };
  for (const Case& c : std::vector<Case>{
           {"gpt2_long_45", "long_term_attention_basis", 15}, {"gpt2_long_45", "long_term_attention_basis", 0}, {"gpt2_long_45", "long_term_attention_basis", "12"},
           {"gpt2_long_45", "long_term_attention_basis", 1 << 20}, {"gpt2_long_45", "ltm_sigmas", {0, 0.01}}, {"gpt2_long_45", "ltm_sigmas", {-1, 0.01}},
           {"gpt2_long_45", "ltm_sigmas", Json::array()}, {"gpt2_long_45", "ltm_sigmas", 3}, {"gpt2_long_45", "ltm_ridge_penalty", 0}, {"gpt2_long_45", "ltm_tau", 1},
           {"gpt2_long_45", "ltm_tau", 0}, {"gpt2_long_45", "ltm_nb_samples", 0}, {"gpt2_long_45", "ltm_sigma_sq_min", 0}, {"gpt2_long_45", "mask_type", "fourier"},
           {"gpt2_long_45", "long_term_attention_norm", "entmax"}, {"gpt2_long_45", "continuous", false}, {"gpt2_long_45", "ltm_length", 70000},
           {"gpt2_long_45", "ltm_length", 600}, {"gpt2_long_45", "n_head", 5}, {"sort_long_48", "mem_len", 12}, {"sort_long_48", "augment_len", 24},
           {"sort_long_48", "d_head", 5}, {"sort_long_48", "infinite_memory", false}, {"sort_long_48", "mask_type", "affine"}, {"sort_long_48", "div_val", 2},
           {"sort_long_48", "attn_type", 1}}) {
    CAPTURE(c.golden);
    CAPTURE(c.field);
    Json json = read(c.golden);
    json["mask"] = true;
    json[c.field] = c.value;
    auto network = kInfiniteFormer.parse(json, {});
    REQUIRE_FALSE(network.ok());
    CHECK(network.status().code() == Code::kMalformed);
    CHECK_MESSAGE(network.status().message().find(c.named ? c.named : c.field) != std::string::npos, network.status().message());
  }
  // What is written is read again, the same.
  for (const char* name : kHosts) {
    auto network = kInfiniteFormer.parse(read(name), {});
    REQUIRE(network.ok());
    auto again = kInfiniteFormer.parse((*network)->config(), {});
    REQUIRE_MESSAGE(again.ok(), again.status().message());
    CHECK((*again)->config() == (*network)->config());
  }
}
