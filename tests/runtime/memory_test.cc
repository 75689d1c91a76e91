// What a session may cost: the plan's figure is the peak, and a token allocates nothing.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "engine/base/memory.h"
#include "engine/runtime/encoder_session.h"
#include "engine/runtime/score.h"
#include "engine/runtime/seq2seq.h"
#include "tests/reference/golden_model.h"
#include "tests/reference/switch_checkpoint.h"

using namespace tern;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TERN_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TERN_SANITIZED 1
#endif
#endif

// Under a sanitizer, memory is the sanitizer's; these figures mean something only without.
#if !defined(TERN_SANITIZED) && defined(__GLIBC__)

namespace {
std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0};
void Count() {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace

// Every way to the heap, this program's and its libraries': operator new ends here too.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t n) { return Count(), __libc_malloc(n); }
void* calloc(size_t n, size_t m) { return Count(), __libc_calloc(n, m); }
void* realloc(void* p, size_t n) { return Count(), __libc_realloc(p, n); }
void* memalign(size_t a, size_t n) { return Count(), __libc_memalign(a, n); }
void* aligned_alloc(size_t a, size_t n) { return Count(), __libc_memalign(a, n); }
int posix_memalign(void** out, size_t a, size_t n) {
  Count();
  *out = __libc_memalign(a, n);
  return *out ? 0 : 12;
}
}

namespace {

std::shared_ptr<const Model> Books(std::vector<std::pair<std::string, std::string>> settings = {}) {
  ModelOptions options;
  options.settings = std::move(settings);
  auto model = Model::Open(TERN_SOURCE_DIR "/models/zoo/books-xl.tern", options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return *model;
}

int64_t MinorFaults() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// What a session of many lanes takes while it is made and fed, beside what its plan says: lanes make a small checkpoint's states and buffers large. Each
// piece of `pieces` tokens gets the ids 1, 2, ... of a small vocabulary.
void CheckPlanIsPeak(std::shared_ptr<const Model> model, SessionOptions options, std::initializer_list<int64_t> pieces) {
  options.threads = 2;
  for (int64_t n : pieces) options.plans.push_back({n, LogitsMode::kLast});
  auto plan = PlanSession(*model, options);
  REQUIRE_MESSAGE(plan.ok(), plan.status().message());
  std::vector<int32_t> ids(static_cast<size_t>(options.batch * *std::max_element(pieces.begin(), pieces.end())));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(1 + i * 2654435761u % 15);
  const int64_t before = ResidentBytes();
  auto session = Session::Create(model, options);
  REQUIRE_MESSAGE(session.ok(), session.status().message());
  int64_t most = ResidentBytes();
  for (int64_t n : pieces) {
    Status fed = (*session)->Feed({ids.data(), static_cast<size_t>(options.batch * n)}, LogitsMode::kLast);
    REQUIRE_MESSAGE(fed.ok(), fed.message());
    most = std::max(most, ResidentBytes());
  }
  const double used = static_cast<double>(most - before), planned = static_cast<double>(plan->memory.constants + plan->memory.state + plan->memory.arena);
  INFO("planned ", planned, ", used ", used);
  CHECK(planned > 30e6);
  CHECK(used <= planned * 1.02 + (1 << 20));
  CHECK(used >= planned * 0.98 - (1 << 20));
  CHECK((*session)->memory().peak() == plan->memory.peak());
}

std::vector<int32_t> Ids(size_t n) {
  std::vector<int32_t> ids(n);
  for (size_t i = 0; i < n; ++i) ids[i] = static_cast<int32_t>(4 + i * 2654435761u % 4000);
  return ids;
}

}  // namespace

TEST_CASE("after warm-up a call allocates nothing and touches no new page, one token or a chunk") {
  for (int threads : {1, 2}) {
    SessionOptions options;
    options.threads = threads;
    options.plans = {{1, LogitsMode::kLast}, {128, LogitsMode::kLast}, {128, LogitsMode::kTarget}};
    auto session = Session::Create(Books(), options);
    REQUIRE(session.ok());
    const auto ids = Ids(128);
    auto round = [&] {
      for (size_t i = 0; i < 20; ++i) REQUIRE((*session)->Feed({&ids[i], 1}, LogitsMode::kLast).ok());
      REQUIRE((*session)->Feed(ids, LogitsMode::kLast).ok());
      REQUIRE((*session)->Feed({ids.data(), 100}, LogitsMode::kTarget, {ids.data() + 1, 100}).ok());
    };
    for (int i = 0; i < 3; ++i) round();
    const int64_t faults = MinorFaults();
    allocations = 0;
    counting = true;
    for (int i = 0; i < 5; ++i) round();
    counting = false;
    CHECK(allocations == 0);
    // A busy system takes a page back now and then; a page touched by every call would be 110.
    CHECK(MinorFaults() - faults < 20);
  }
}

TEST_CASE("performer: a call allocates nothing; its state does not grow with the length") {
  ScratchFolder scratch;
  for (const char* name : {"all_causal", "pieces_noproj"}) {
    auto model = GoldenModel(scratch, std::string("performer/") + name);
    SessionOptions options;
    options.threads = 2;
    options.plans = {{1, LogitsMode::kLast}, {16, LogitsMode::kLast}};
    auto session = Session::Create(model, options);
    REQUIRE(session.ok());
    const std::vector<int32_t> ids(16, 3);
    auto round = [&] {
      (*session)->Reset();
      REQUIRE((*session)->Feed(ids, LogitsMode::kLast).ok());
      for (int i = 0; i < 8; ++i) REQUIRE((*session)->Feed({ids.data(), 1}, LogitsMode::kLast).ok());
    };
    round();
    allocations = 0;
    counting = true;
    round();
    counting = false;
    CHECK(allocations == 0);
    options.plans = {{1, LogitsMode::kLast}};
    auto small = PlanSession(*model, options);
    REQUIRE(small.ok());
    CHECK(small->memory.state == (*session)->memory().state);
  }
}

TEST_CASE("reformer: neither a whole text, whose buckets are known only then, nor a token more allocates") {
  ScratchFolder scratch;
  for (const char* name : {"lm_factors_mask", "lm_cached_before2"}) {
    auto model = GoldenModel(scratch, std::string("reformer/") + name);
    SessionOptions options;
    options.threads = 2, options.plans = {{1, LogitsMode::kLast}, {32, LogitsMode::kLast}, {32, LogitsMode::kTarget}};
    auto session = Session::Create(model, options);
    REQUIRE(session.ok());
    std::vector<int32_t> ids(32);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(3 + i * 7 % 20);
    auto round = [&] {
      for (size_t prompt : {1, 3, 10, 32}) {
        (*session)->Reset();
        REQUIRE((*session)->Feed({ids.data(), prompt}, LogitsMode::kLast).ok());
        for (size_t i = 0; i < 10; ++i) REQUIRE((*session)->Feed({&ids[i], 1}, LogitsMode::kLast).ok());
      }
      (*session)->Reset();
      REQUIRE((*session)->Feed({ids.data(), 31}, LogitsMode::kTarget, {ids.data() + 1, 31}).ok());
    };
    for (int i = 0; i < 2; ++i) round();
    allocations = 0;
    counting = true;
    for (int i = 0; i < 3; ++i) round();
    counting = false;
    CHECK(allocations == 0);
  }
}

TEST_CASE("infinity-former: neither a token nor a segment, which renews the memory, allocates") {
  ScratchFolder scratch;
  for (const char* name : {"sort_long_48", "gpt2_long_45", "gpt2_sticky_systematic", "dog_first_2"}) {
    CAPTURE(name);
    auto model = GoldenModel(scratch, std::string("infinite-former/") + name);
    const int64_t segment = model->network().segments().length;
    SessionOptions options;
    options.threads = 2, options.plans = {{1, LogitsMode::kLast}, {segment, LogitsMode::kLast}, {segment, LogitsMode::kTarget}};
    auto session = Session::Create(model, options);
    REQUIRE(session.ok());
    std::vector<int32_t> ids(static_cast<size_t>(segment));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7 % 17);
    auto feed = [&](int64_t n, LogitsMode logits) {
      const std::span<const int32_t> part(ids.data(), static_cast<size_t>(n));
      REQUIRE((*session)->Feed(part, logits, logits == LogitsMode::kTarget ? part : std::span<const int32_t>()).ok());
    };
    auto round = [&] {  // a fit, updates of it, a segment in pieces
      (*session)->Reset();
      for (int i = 0; i < 5; ++i) feed((*session)->room(), i % 2 == 0 ? LogitsMode::kLast : LogitsMode::kTarget);
      for (int64_t i = 0; i < segment; ++i) feed(1, LogitsMode::kLast);
      feed((*session)->room(), LogitsMode::kLast);
    };
    for (int i = 0; i < 2; ++i) round();
    allocations = 0;
    counting = true;
    for (int i = 0; i < 3; ++i) round();
    counting = false;
    CHECK(allocations == 0);
  }
}

TEST_CASE("performer, reformer, infinity-former: the plan's figure is the memory that is used, within 2 %, whatever the data") {
  ScratchFolder scratch;
  SessionOptions lanes;
  lanes.batch = 8192;
  for (const char* name : {"all_causal", "pieces_noproj", "pieces_softmax"}) {
    CAPTURE(name);
    CheckPlanIsPeak(GoldenModel(scratch, std::string("performer/") + name), lanes, {16, 1});
  }
  // Hashed layers plan what any distribution over the buckets may need; the text is hashed whole, then token by token.
  for (const char* name : {"lm_factors_mask", "lm_cached_before2"}) {
    CAPTURE(name);
    lanes.batch = 2048, lanes.context = 48;
    CheckPlanIsPeak(GoldenModel(scratch, std::string("reformer/") + name), lanes, {32, 1, 1});
  }
  lanes.context = -1;
  for (const char* name : {"sort_long_48", "gpt2_sticky_systematic"}) {
    CAPTURE(name);
    auto model = GoldenModel(scratch, std::string("infinite-former/") + name);
    const int64_t segment = model->network().segments().length;
    lanes.batch = 4096;
    CheckPlanIsPeak(model, lanes, {segment, segment, segment, segment, 1});
  }
}

TEST_CASE("the plan's figure is the memory that is used, within 2 %") {
  // A long memory and a wide chunk, so that what is measured is far above the process's own noise.
  auto model = Books({{"mem_len", "8192"}});
  SessionOptions options;
  options.threads = 2;
  options.plans = {{2048, LogitsMode::kAll}};
  auto plan = PlanSession(*model, options);
  REQUIRE(plan.ok());
  const auto ids = Ids(2048);
  const int64_t before = ResidentBytes();
  auto session = Session::Create(model, options);
  REQUIRE(session.ok());
  REQUIRE((*session)->Feed(ids, LogitsMode::kAll).ok());
  const double used = static_cast<double>(ResidentBytes() - before);
  const MemoryUse& m = plan->memory;
  // The mapped weights were not touched before; their pages count as they are read.
  const double planned = static_cast<double>(m.weights + m.constants + m.state + m.arena);
  INFO("planned ", planned, ", used ", used);
  CHECK(used <= planned * 1.02 + (1 << 20));
  CHECK(used >= planned * 0.98 - (4 << 20));
  CHECK((*session)->memory().peak() == m.peak());
}

TEST_CASE("50,000 tokens stream in constant memory") {
  SessionOptions options;
  options.threads = 2;
  options.plans = {{128, LogitsMode::kTarget}};
  auto session = Session::Create(Books(), options);
  REQUIRE(session.ok());
  Scorer scorer(session->get());
  const auto ids = Ids(1000);
  int64_t after_warm_up = 0;
  for (int i = 0; i < 50; ++i) {
    REQUIRE(scorer.Push(ids).ok());
    if (i == 1) after_warm_up = ResidentBytes();
  }
  CHECK(ResidentBytes() - after_warm_up <= (1 << 20));
  CHECK(scorer.score().scored >= 49'000);
}

TEST_CASE("encoders: a batch that fits allocates nothing, and the plan's figure is the memory used, f32 and q8") {
  ScratchFolder scratch;
  for (const char* type : {"f32", "q8"}) {
    CAPTURE(type);
    auto model = GoldenModel(scratch, "albert/groups2_inner2_layers5", {}, type);
    std::vector<std::vector<int32_t>> texts(1024);
    std::vector<EncoderInput> batch;
    for (size_t i = 0; i < texts.size(); ++i) {
      texts[i].resize(64);
      for (size_t t = 0; t < 64; ++t) texts[i][t] = static_cast<int32_t>((i * 31 + t * 7) % 97);
      batch.push_back({texts[i]});
    }
    EncoderOptions options;
    options.threads = 2;
    auto session = EncoderSession::Create(model, options);
    REQUIRE(session.ok());
    // The packed batch's own vectors first, so that what is measured is the arena and the gathered outputs.
    REQUIRE((*session)->Run({batch.data(), 1}).ok());
    const int64_t before = ResidentBytes(), small = (*session)->memory().arena;
    REQUIRE((*session)->Run(batch).ok());
    const double used = static_cast<double>(ResidentBytes() - before), planned = static_cast<double>((*session)->memory().arena - small);
    INFO("planned ", planned, ", used ", used);
    CHECK(planned > 10e6);
    CHECK(planned < 25e6);  // the arena is that of a group of sequences
    CHECK(used <= planned * 1.02 + (4 << 20));
    CHECK(used >= planned * 0.90 - (4 << 20));  // rows wider than what this batch needs may stay untouched
    REQUIRE((*session)->Run(batch).ok());
    allocations = 0;
    counting = true;
    REQUIRE((*session)->Run(batch).ok());
    REQUIRE((*session)->Run({batch.data(), 3}).ok());
    counting = false;
    CHECK(allocations == 0);
  }
}

namespace {

// A golden T5, or a Switch Transformer that is wide enough for its arena to be seen.
std::shared_ptr<const Model> SmallEncoderDecoder(const ScratchFolder& scratch, const std::string& which, const std::string& type) {
  if (which == "t5") return GoldenModel(scratch, "t5/gated_untied", {}, type);
  SwitchShape s;
  s.vocabulary = 64, s.d_model = 64, s.d_ff = 128, s.experts = 8, s.policy = "none";
  WriteSwitchCheckpoint(scratch / "source", s);
  return ModelOf(scratch, scratch / "source", {}, type);
}

std::vector<std::vector<int32_t>> Sources(size_t count, size_t tokens) {
  std::vector<std::vector<int32_t>> texts(count, std::vector<int32_t>(tokens));
  for (size_t i = 0; i < count; ++i)
    for (size_t t = 0; t < tokens; ++t) texts[i][t] = static_cast<int32_t>(2 + (i * 31 + t * 7) % 33);
  return texts;
}

}  // namespace

TEST_CASE("encoder-decoders: after warm-up neither a source nor a step allocates, greedy or with beams") {
  ScratchFolder scratch;
  for (const char* which : {"t5", "switch"})
    for (const char* type : {"f32", "q8"})
      for (int64_t beams : {1, 4}) {
        CAPTURE(which);
        CAPTURE(type);
        CAPTURE(beams);
        EncoderDecoderOptions options;
        options.threads = 2, options.beams = beams, options.positions = 40, options.logits = LogitsMode::kLast;
        auto session = EncoderDecoderSession::Create(SmallEncoderDecoder(scratch, which, type), options);
        REQUIRE(session.ok());
        const auto texts = Sources(2, 30);
        const EncoderInput inputs[] = {{texts[0]}, {texts[1]}};
        std::vector<int32_t> next(static_cast<size_t>(2 * beams)), parents(next.size());
        auto round = [&] {
          REQUIRE((*session)->Encode(inputs).ok());
          for (int32_t step = 0; step < 40; ++step) {
            for (size_t i = 0; i < next.size(); ++i) next[i] = static_cast<int32_t>(2 + (static_cast<size_t>(step) * 5 + i * 3) % 33);
            REQUIRE((*session)->Decode(next).ok());
            for (size_t i = 0; i < next.size(); ++i) {  // beams of one source change places
              const auto first = static_cast<int32_t>(static_cast<int64_t>(i) / beams * beams);
              parents[i] = first + (step * 7 + static_cast<int32_t>(i)) % static_cast<int32_t>(beams);
            }
            (*session)->Reorder(parents);
          }
        };
        for (int i = 0; i < 2; ++i) round();
        allocations = 0;
        counting = true;
        round();
        counting = false;
        CHECK(allocations == 0);
      }
}

TEST_CASE("encoder-decoders: the plan's figure is the memory that is used, within 2 %") {
  ScratchFolder scratch;
  for (const char* which : {"t5", "switch"}) {
    CAPTURE(which);
    auto model = SmallEncoderDecoder(scratch, which, "f32");
    EncoderDecoderOptions options;
    options.threads = 2, options.positions = 64, options.logits = LogitsMode::kLast;
    const auto texts = Sources(128, 256);
    std::vector<EncoderInput> inputs;
    for (const auto& ids : texts) inputs.push_back({ids});
    auto plan = PlanEncoderDecoder(*model, options, 128, 256);
    REQUIRE(plan.ok());
    auto session = EncoderDecoderSession::Create(model, options);
    REQUIRE(session.ok());
    // One source first: threads, the packed batch's own vectors and the weights are there before it is measured.
    REQUIRE((*session)->Encode({inputs.data(), 1}).ok());
    const MemoryUse& m = plan->memory;
    const int64_t before = ResidentBytes(), small = (*session)->memory().arena + (*session)->memory().state;
    REQUIRE((*session)->Encode(inputs).ok());
    std::vector<int32_t> next(128, 3);
    for (int i = 0; i < 64; ++i) REQUIRE((*session)->Decode(next).ok());
    const double used = static_cast<double>(ResidentBytes() - before), planned = static_cast<double>(m.arena + m.state - small);
    INFO("planned ", planned, ", used ", used);
    CHECK(planned > 20e6);
    CHECK(used <= planned * 1.02 + (2 << 20));
    CHECK(used >= planned * 0.98 - (2 << 20));
    CHECK((*session)->memory().peak() == m.peak());
  }
}

#endif
