// RETRO: what a run may depend on. Retrieval by a source of the test's own; models of the golden cases.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>

#include "engine/base/rng.h"
#include "engine/runtime/convert.h"
#include "engine/runtime/session.h"
#include "tests/reference/scratch.h"

using namespace tern;

namespace {

constexpr int64_t kNeighbors = 2, kLength = 8;

// Neighbours that depend on the chunk's tokens, so that a wrong chunk shows. `change` may alter them.
class HashSource : public NeighborSource {
 public:
  HashSource(int64_t vocabulary, int64_t pad) : vocabulary_(vocabulary), pad_(pad) {}
  std::function<void(int64_t chunk, std::span<int32_t>)> change;
  int fetched = 0;

  Status Fetch(int64_t lane, int64_t chunk, std::span<const int32_t> tokens, std::span<int32_t> out) override {
    uint64_t seed = static_cast<uint64_t>(chunk * 1000003 + lane);
    for (int32_t t : tokens) seed = seed * 31 + static_cast<uint64_t>(t);
    Rng rng(seed);
    for (int32_t& id : out) id = static_cast<int32_t>(rng.Below(static_cast<uint64_t>(vocabulary_)));
    if (chunk % 2 == 1) out[3] = static_cast<int32_t>(pad_);
    if (change) change(chunk, out);
    ++fetched;
    return {};
  }

 private:
  int64_t vocabulary_, pad_;
};

struct Fixture {
  ScratchFolder scratch;
  std::shared_ptr<const Model> model;
  const RetroConfig* config = nullptr;

  explicit Fixture(const char* name) {
    ConvertOptions convert;
    convert.source = std::string(TERN_SOURCE_DIR) + "/tests/golden/retro/" + name + "/model";
    convert.output = scratch.path() + "/m.tern";
    Status converted = Convert(convert, nullptr, {}, nullptr);
    REQUIRE_MESSAGE(converted.ok(), converted.message());
    auto opened = Model::Open(convert.output);
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    model = *opened;
    config = &dynamic_cast<const RetroNetwork&>(model->network()).retro();
  }
  HashSource Source() const { return HashSource(config->vocab_size, config->pad_token_id); }
  std::unique_ptr<Session> Make(NeighborSource* source, int64_t total, int64_t batch = 1, int threads = 1) const {
    SessionOptions options;
    options.batch = batch, options.threads = threads;
    options.plans = {{1, LogitsMode::kAll}, {total, LogitsMode::kAll}};
    if (source) options.retrieval = {kNeighbors, kLength, source, total};
    auto session = Session::Create(model, options);
    REQUIRE_MESSAGE(session.ok(), session.status().message());
    return std::move(*session);
  }
  std::vector<int32_t> Ids(int64_t n) const {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>((i * 7919 + 13) % config->vocab_size));
    return ids;
  }
};

// Logits [n, V] of one lane fed in pieces.
std::vector<float> Logits(Session& s, const std::vector<int32_t>& ids, const std::vector<int64_t>& pieces) {
  std::vector<float> out;
  size_t at = 0;
  for (int64_t piece : pieces) {
    Status fed = s.Feed(std::span(ids).subspan(at, static_cast<size_t>(piece)), LogitsMode::kAll);
    REQUIRE_MESSAGE(fed.ok(), fed.message());
    const Operand& o = s.output("logits");
    for (int64_t r = 0; r < o.rows; ++r) out.insert(out.end(), o.f32() + r * o.stride, o.f32() + r * o.stride + o.cols);
    at += static_cast<size_t>(piece);
  }
  return out;
}

bool SameRows(const std::vector<float>& a, const std::vector<float>& b, int64_t begin, int64_t end, int64_t cols) {
  return std::memcmp(a.data() + begin * cols, b.data() + begin * cols, static_cast<size_t>((end - begin) * cols) * 4) == 0;
}

const char* const kModels[] = {"bfloat16_checkpoint", "megatron_43b_style", "paper_no_null_no_abs"};

}  // namespace

TEST_CASE("retro: the way a text is cut into runs changes no bit") {
  for (const char* name : kModels) {
    CAPTURE(name);
    Fixture f(name);
    for (int64_t n : {3, 4, 5, 12, 15}) {
      CAPTURE(n);
      const auto ids = f.Ids(n);
      HashSource source = f.Source();
      auto whole = Logits(*f.Make(&source, n), ids, {n});
      std::vector<std::vector<int64_t>> ways{std::vector<int64_t>(static_cast<size_t>(n), 1), {1, n - 1}, {n - 1, 1}};
      if (n == 15) ways.push_back({2, 6, 1, 6}), ways.push_back({4, 4, 4, 3}), ways.push_back({5, 5, 5});
      for (const auto& way : ways) {
        HashSource again = f.Source();
        CHECK(whole == Logits(*f.Make(&again, n, 1, 2), ids, way));
        CHECK(again.fetched == source.fetched);
      }
    }
  }
}

TEST_CASE("retro: no token sees a later one, nor neighbours of a chunk that was not complete") {
  for (const char* name : kModels) {
    CAPTURE(name);
    Fixture f(name);
    const int64_t n = 15, v = f.config->vocab_size, m = f.config->chunk;
    const int64_t border = f.config->partial_first ? n % m : m;
    auto ids = f.Ids(n);
    HashSource source = f.Source();
    const auto base = Logits(*f.Make(&source, n), ids, {n});
    auto changed = ids;
    changed[10] = (changed[10] + 1) % static_cast<int32_t>(v);
    HashSource other = f.Source();
    const auto later = Logits(*f.Make(&other, n), changed, {n});
    CHECK(SameRows(base, later, 0, 10, v));
    CHECK_FALSE(SameRows(base, later, 10, 11, v));
    for (int64_t chunk = 0; border - 1 + chunk * m < n; ++chunk) {
      HashSource moved = f.Source();
      moved.change = [&](int64_t c, std::span<int32_t> out) {
        if (c == chunk)
          for (int32_t& id : out) id = (id + 5) % static_cast<int32_t>(v);
      };
      const auto got = Logits(*f.Make(&moved, n), ids, {n});
      const int64_t first = border - 1 + chunk * m;
      CHECK(SameRows(base, got, 0, first, v));
      CHECK_FALSE(SameRows(base, got, first, first + 1, v));
    }
  }
}

TEST_CASE("retro: pads are as if they were not there; the order of neighbours is nothing but rounding") {
  Fixture f("paper_no_null_no_abs");
  const int64_t n = 12, pad = f.config->pad_token_id;
  const auto ids = f.Ids(n);
  HashSource swapped = f.Source(), plain = f.Source();
  swapped.change = [](int64_t, std::span<int32_t> out) { std::swap_ranges(out.begin(), out.begin() + kLength, out.begin() + kLength); };
  const auto a = Logits(*f.Make(&plain, n), ids, {n}), b = Logits(*f.Make(&swapped, n), ids, {n});
  float most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  CHECK(most > 0);
  CHECK(most < 1e-4f);
  // Neighbours of nothing but pads: what remains of cross-attention is its bias. That is not retrieval switched off.
  HashSource empty = f.Source();
  empty.change = [&](int64_t, std::span<int32_t> out) { std::fill(out.begin(), out.end(), static_cast<int32_t>(pad)); };
  const auto none = Logits(*f.Make(&empty, n), ids, {n}), off = Logits(*f.Make(nullptr, n), ids, {n});
  CHECK(SameRows(none, off, 0, f.config->chunk - 1, f.config->vocab_size));
  CHECK_FALSE(SameRows(none, off, f.config->chunk - 1, f.config->chunk, f.config->vocab_size));
}

TEST_CASE("retro: a lane of a batch is a text of its own; any number of threads gives the same bits") {
  Fixture f("paper_no_null_no_abs");
  const int64_t n = 11, v = f.config->vocab_size;
  auto ids = f.Ids(2 * n);
  HashSource source = f.Source();
  auto both = f.Make(&source, n, 2, 3);
  const auto got = Logits(*both, ids, {2 * n});
  HashSource alone = f.Source();
  const auto first = Logits(*f.Make(&alone, n), {ids.begin(), ids.begin() + n}, {n});
  CHECK(SameRows(got, first, 0, n, v));
}

TEST_CASE("retro: fork, save and restore within a chunk, and a reset") {
  for (const char* name : kModels) {
    Fixture f(name);
    const int64_t n = 15;
    const auto ids = f.Ids(n);
    HashSource source = f.Source();
    const auto whole = Logits(*f.Make(&source, n), ids, {n});
    auto s = f.Make(&source, n);
    const std::vector<int32_t> head(ids.begin(), ids.begin() + 6), tail(ids.begin() + 6, ids.end());
    Logits(*s, head, {6});
    auto forked = s->Fork();
    REQUIRE(forked.ok());
    REQUIRE(s->Save(f.scratch.path() + "/state", {}).ok());
    const auto rest = Logits(*s, tail, {n - 6});
    CHECK(std::vector<float>(whole.begin() + 6 * f.config->vocab_size, whole.end()) == rest);
    CHECK(rest == Logits(**forked, tail, {4, n - 10}));
    auto other = f.Make(&source, n);
    REQUIRE(other->Restore(f.scratch.path() + "/state").ok());
    CHECK(rest == Logits(*other, tail, {n - 6}));
    s->Reset();
    CHECK(whole == Logits(*s, ids, {n}));
  }
}

TEST_CASE("retro: what is wrong is said") {
  Fixture f("bfloat16_checkpoint");
  HashSource source = f.Source();
  source.change = [](int64_t, std::span<int32_t> out) { out[0] = 1 << 20; };
  auto s = f.Make(&source, 8);
  Status fed = s->Feed(f.Ids(8), LogitsMode::kAll);
  CHECK(fed.code() == Code::kUsage);
  CHECK(fed.message().find("neighbour") != std::string::npos);
  SessionOptions options;
  options.plans = {{4, LogitsMode::kAll}};
  options.retrieval = {4000, 8, &source};
  CHECK(Session::Create(f.model, options).status().code() == Code::kUsage);
  HashSource good = f.Source();
  auto full = f.Make(&good, 8);
  for (int64_t at = 0; at + 8 <= f.config->max_positions; at += 8) REQUIRE(full->Feed(f.Ids(8), LogitsMode::kAll).ok());
  CHECK(full->Feed(f.Ids(8), LogitsMode::kAll).code() == Code::kUsage);
}
