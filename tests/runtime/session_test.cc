// Sessions: the state's rules, what a call may cost, what it may not.
#include "engine/runtime/session.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "engine/base/file.h"
#include "engine/runtime/generate.h"
#include "engine/runtime/score.h"
#include "formats/safetensors.h"
#include "tests/reference/golden_model.h"

using namespace tern;

namespace {

std::shared_ptr<const Model> SmallModel(const ScratchFolder& scratch, const std::string& name = "clamp", std::vector<std::pair<std::string, std::string>> settings = {}) {
  ModelOptions options;
  options.settings = std::move(settings);
  return GoldenModel(scratch, "transformer-xl/" + name, options);
}

std::unique_ptr<Session> Make(std::shared_ptr<const Model> model, int64_t chunk = 8, int threads = 1, const CancelToken* cancel = nullptr) {
  SessionOptions options;
  options.threads = threads;
  options.cancel = cancel;
  options.plans = {{1, LogitsMode::kLast}, {chunk, LogitsMode::kLast}, {chunk, LogitsMode::kTarget}, {chunk, LogitsMode::kAll}};
  auto session = Session::Create(std::move(model), options);
  REQUIRE_MESSAGE(session.ok(), session.status().message());
  return std::move(*session);
}

std::vector<int32_t> Ids(int64_t n, int32_t vocabulary, uint64_t seed = 1) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>((static_cast<uint64_t>(i) * 7919 + seed * 104729) % static_cast<uint64_t>(vocabulary)));
  return ids;
}

std::vector<float> Last(const Session& s) {
  const Operand& o = s.output("logits");
  return {o.f32() + (o.rows - 1) * o.stride, o.f32() + (o.rows - 1) * o.stride + o.cols};
}

}  // namespace

TEST_CASE("reset, fork, save and restore: a conversation is a value") {
  ScratchFolder scratch;
  auto model = SmallModel(scratch);
  auto a = Make(model);
  const auto ids = Ids(20, static_cast<int32_t>(model->network().vocab_size()));
  auto feed = [&](Session& s, size_t from, size_t to) {
    for (size_t i = from; i < to; ++i) REQUIRE(s.Feed({&ids[i], 1}, LogitsMode::kLast).ok());
    return Last(s);
  };
  feed(*a, 0, 10);
  REQUIRE(a->Save(scratch.path() + "/state", {{"note", 7}}).ok());
  auto fork = a->Fork();
  REQUIRE(fork.ok());
  const auto want = feed(*a, 10, 20);
  CHECK(feed(**fork, 10, 20) == want);

  auto b = Make(model);
  auto extra = b->Restore(scratch.path() + "/state");
  REQUIRE_MESSAGE(extra.ok(), extra.status().message());
  CHECK((*extra)["note"] == 7);
  CHECK(b->tokens_seen() == 10);
  CHECK(feed(*b, 10, 20) == want);

  a->Reset();
  feed(*a, 0, 10);
  CHECK(feed(*a, 10, 20) == want);
}

TEST_CASE("a saved state is refused by another model, other settings, and when damaged") {
  ScratchFolder scratch;
  auto a = Make(SmallModel(scratch));
  const std::string path = scratch.path() + "/state";
  REQUIRE(a->Save(path, {}).ok());
  CHECK(Make(SmallModel(scratch, "odd_dims"))->Restore(path).status().code() == Code::kMalformed);
  CHECK(Make(SmallModel(scratch, "clamp", {{"mem_len", "5"}}))->Restore(path).status().what().find("settings") != std::string::npos);
  auto bytes = ReadFile(path, 1 << 24);
  REQUIRE(bytes.ok());
  for (size_t at : {size_t{0}, size_t{9}, size_t{20}, size_t{40}, bytes->size() / 2, bytes->size() - 1}) {
    std::string bad = *bytes;
    bad[at] ^= 1;
    auto w = FileWriter::Create(path + "2");
    REQUIRE(w.ok());
    REQUIRE(w->Write(bad).ok());
    REQUIRE(w->Commit().ok());
    CHECK_MESSAGE(!a->Restore(path + "2").ok(), at);
  }
  for (size_t keep : {size_t{0}, size_t{7}, size_t{23}, size_t{60}, bytes->size() - 1}) {
    auto w = FileWriter::Create(path + "3");
    REQUIRE(w.ok());
    REQUIRE(w->Write(bytes->data(), keep).ok());
    REQUIRE(w->Commit().ok());
    CHECK_FALSE(a->Restore(path + "3").ok());
  }
}

TEST_CASE("bad calls are refused, the session goes on") {
  ScratchFolder scratch;
  auto model = SmallModel(scratch);
  auto s = Make(model);
  const int32_t v = static_cast<int32_t>(model->network().vocab_size());
  for (int32_t bad : {-1, v, INT32_MAX, INT32_MIN}) CHECK(s->Feed({&bad, 1}, LogitsMode::kLast).code() == Code::kUsage);
  const auto many = Ids(9, v);
  CHECK(s->Feed(many, LogitsMode::kLast).code() == Code::kUsage);
  CHECK(s->Feed({many.data(), 4}, LogitsMode::kTarget, {many.data(), 3}).code() == Code::kUsage);
  CHECK(s->tokens_seen() == 0);
  CHECK(s->Feed({many.data(), 4}, LogitsMode::kLast).ok());
  CHECK(s->Feed({}, LogitsMode::kLast).ok());
  CHECK(s->tokens_seen() == 4);
}

TEST_CASE("the three ways to a log-probability agree: whole rows, targets alone, last row") {
  ScratchFolder scratch;
  for (const char* name : {"clamp", "adaptive_div1", "adaptive_div2", "adaptive_div4_legacy", "d_embed_ne_d_model"}) {
    CAPTURE(name);
    auto model = SmallModel(scratch, name);
    const auto ids = Ids(9, static_cast<int32_t>(model->network().vocab_size()));
    auto all = Make(model), target = Make(model), last = Make(model);
    REQUIRE(all->Feed({ids.data(), 8}, LogitsMode::kAll).ok());
    REQUIRE(target->Feed({ids.data(), 8}, LogitsMode::kTarget, {ids.data() + 1, 8}).ok());
    REQUIRE(last->Feed({ids.data(), 8}, LogitsMode::kLast).ok());
    const Operand &a = all->output("logits"), &t = target->output("log_probs"), &l = last->output("logits");
    for (int64_t i = 0; i < 8; ++i) {
      double sum = 0;
      for (int64_t c = 0; c < a.cols; ++c) sum += std::exp(static_cast<double>(a.f32()[i * a.stride + c]));
      CHECK(sum == doctest::Approx(1).epsilon(1e-5));
      CHECK(t.f32()[i] == doctest::Approx(a.f32()[i * a.stride + ids[static_cast<size_t>(i) + 1]]).epsilon(1e-4));
    }
    CHECK(std::memcmp(l.f32(), a.f32() + 7 * a.stride, static_cast<size_t>(a.cols) * 4) == 0);
  }
}

TEST_CASE("a NaN in the weights is a numeric failure that names the op it began in") {
  ScratchFolder scratch;
  const std::string folder = scratch / "damaged";
  std::filesystem::copy(std::string(TERN_SOURCE_DIR) + "/tests/golden/transformer-xl/clamp/model", folder);
  const std::string weights = folder + "/model.safetensors";
  std::string bytes = *ReadFile(weights, 1 << 24);
  {
    auto file = Safetensors::Open(weights);
    REQUIRE(file.ok());
    const auto& items = file->items();
    const auto it = std::find_if(items.begin(), items.end(), [](const auto& item) { return item.name == "transformer.layers.1.pos_ff.CoreNet.0.weight"; });
    REQUIRE(it != items.end());
    const float nan = std::nanf("");
    // The header ends where the first payload begins; the tensor's bytes are found by what they are.
    const size_t at = bytes.find(std::string(static_cast<const char*>(static_cast<const void*>(it->tensor.as<uint8_t>())), 64));
    REQUIRE(at != std::string::npos);
    std::memcpy(bytes.data() + at, &nan, 4);
  }
  std::ofstream(weights, std::ios::binary) << bytes;
  auto session = Make(ModelOf(scratch, folder));
  const Status status = session->Feed(Ids(4, 10), LogitsMode::kLast);
  CHECK(status.code() == Code::kNumeric);
  CHECK_MESSAGE(status.message().find("layers.1") != std::string::npos, status.message());
}

TEST_CASE("a cancelled call says so, and the session can go on") {
  ScratchFolder scratch;
  auto model = SmallModel(scratch);
  CancelToken cancel;
  auto s = Make(model, 8, 2, &cancel);
  const auto ids = Ids(12, static_cast<int32_t>(model->network().vocab_size()));
  REQUIRE(s->Feed({ids.data(), 8}, LogitsMode::kLast).ok());
  cancel.Cancel();
  CHECK(s->Feed({ids.data() + 8, 4}, LogitsMode::kLast).code() == Code::kCancelled);
  CHECK(s->tokens_seen() == 8);
  cancel.Reset();
  REQUIRE(s->Feed({ids.data() + 8, 4}, LogitsMode::kLast).ok());
  auto fresh = Make(model);
  REQUIRE(fresh->Feed({ids.data(), 8}, LogitsMode::kLast).ok());
  REQUIRE(fresh->Feed({ids.data() + 8, 4}, LogitsMode::kLast).ok());
  CHECK(Last(*s) == Last(*fresh));
}

TEST_CASE("over the memory limit is refused before anything is allocated, with both figures") {
  ScratchFolder scratch;
  SessionOptions options;
  options.plans = {{8, LogitsMode::kLast}};
  options.memory_limit = 1000;
  Status s = Session::Create(SmallModel(scratch), options).status();
  CHECK(s.code() == Code::kMemory);
  CHECK(s.message().find("at most 1000") != std::string::npos);
  options.memory_limit = int64_t{1} << 30;
  CHECK(Session::Create(SmallModel(scratch, "clamp", {{"mem_len", "16777216"}}), options).status().code() == Code::kMemory);
}

TEST_CASE("many sessions of one model at once, with threads of their own, give what one gives") {
  ScratchFolder scratch;
  auto model = SmallModel(scratch);
  const auto ids = Ids(64, static_cast<int32_t>(model->network().vocab_size()));
  auto score = [&](int threads) {
    auto session = Make(model, 8, threads);
    Scorer scorer(session.get());
    REQUIRE(scorer.Push(ids).ok());
    REQUIRE(scorer.Finish().ok());
    return scorer.score().nll;
  };
  const double want = score(1);
  std::vector<double> got(6);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < got.size(); ++i) threads.emplace_back([&, i] { got[i] = score(1 + static_cast<int>(i % 3)); });
  for (std::thread& t : threads) t.join();
  for (double g : got) CHECK(g == want);
}

TEST_CASE("scoring in pieces of any size gives the same sum; the first token is not scored") {
  ScratchFolder scratch;
  auto model = SmallModel(scratch);
  const auto ids = Ids(50, static_cast<int32_t>(model->network().vocab_size()));
  double whole = 0;
  for (size_t step : {size_t{50}, size_t{1}, size_t{7}, size_t{9}}) {
    auto session = Make(model);
    Scorer scorer(session.get());
    for (size_t at = 0; at < ids.size(); at += step) REQUIRE(scorer.Push({ids.data() + at, std::min(step, ids.size() - at)}).ok());
    REQUIRE(scorer.Finish().ok());
    CHECK(scorer.score().scored == 49);
    if (step == 50) whole = scorer.score().nll;
    CHECK(scorer.score().nll == whole);
  }
}

TEST_CASE("a conversation saved and continued gives the tokens of one never interrupted") {
  ScratchFolder scratch;
  auto model = SmallModel(scratch);
  const auto prompt = Ids(5, static_cast<int32_t>(model->network().vocab_size()));
  SamplerOptions sampler{0.9, 10, 0.95};
  sampler.seed = 42, sampler.repetition_penalty = 1.1;
  GenerateOptions generate;
  generate.ignore_eos = true;
  auto s1 = Make(model), s2 = Make(model), s3 = Make(model);
  generate.new_tokens = 20;
  auto whole = Conversation(s1.get(), sampler).Generate(prompt, generate, nullptr, {});
  REQUIRE(whole.ok());
  generate.new_tokens = 9;
  Conversation first(s2.get(), sampler);
  auto begin = first.Generate(prompt, generate, nullptr, {});
  REQUIRE(begin.ok());
  REQUIRE(first.Save(scratch.path() + "/talk").ok());
  Conversation second(s3.get(), sampler);
  REQUIRE(second.Restore(scratch.path() + "/talk").ok());
  generate.new_tokens = 11;
  auto rest = second.Generate({}, generate, nullptr, {});
  REQUIRE(rest.ok());
  std::vector<int32_t> joined = begin->ids;
  joined.insert(joined.end(), rest->ids.begin(), rest->ids.end());
  CHECK(joined == whole->ids);
}
