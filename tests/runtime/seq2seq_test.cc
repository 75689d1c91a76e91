// What encoder-decoders and mixtures of experts are made of: beam search against recorded cases, shared pages, routing, experts paged in and out.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "engine/runtime/convert.h"
#include "engine/runtime/forward.h"
#include "engine/runtime/kv_pages.h"
#include "engine/runtime/routing.h"
#include "engine/runtime/seq2seq.h"
#include "tests/reference/golden.h"
#include "tests/reference/scratch.h"

using namespace tern;

namespace {

struct BeamCase {
  int seed, beams, new_tokens;
  float length_penalty;
  int early_stopping, no_repeat_ngram_size, eos;
  float score;
  std::vector<int32_t> ids;
};
const BeamCase kBeamCases[] = {
#include "tests/runtime/beam_cases.inc"
};

constexpr int64_t kVocabulary = 11, kLength = 12;

// The logits of beam_cases.py: a hash of seed, position, last token and next token.
std::vector<float> Table(uint32_t seed) {
  std::vector<float> table(static_cast<size_t>(kLength * kVocabulary * kVocabulary));
  for (size_t i = 0; i < table.size(); ++i) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u + (seed + 1) * 2246822519u;
    x ^= x >> 15, x *= 2246822519u, x ^= x >> 13, x *= 3266489917u, x ^= x >> 16;
    table[i] = static_cast<float>((static_cast<double>(x) / 4294967296.0 * 2 - 1) * 3);
  }
  return table;
}

std::shared_ptr<const Model> Converted(const std::string& golden, const std::string& path, const ModelOptions& options = {}) {
  ConvertOptions convert;
  convert.source = std::string(TERN_SOURCE_DIR "/tests/golden/") + golden + "/model";
  convert.output = path;
  Status s = Convert(convert, nullptr, {}, nullptr);
  REQUIRE_MESSAGE(s.ok(), s.message());
  auto model = Model::Open(path, options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return *model;
}

}  // namespace

TEST_CASE("beam search: ids and scores of the public implementation for every setting") {
  for (const BeamCase& c : kBeamCases) {
    CAPTURE(c.seed);
    CAPTURE(c.beams);
    CAPTURE(c.length_penalty);
    CAPTURE(c.early_stopping);
    CAPTURE(c.no_repeat_ngram_size);
    BeamOptions o;
    o.beams = c.beams, o.new_tokens = c.new_tokens, o.length_penalty = c.length_penalty, o.no_repeat_ngram_size = c.no_repeat_ngram_size, o.eos_id = c.eos;
    o.early_stopping = static_cast<EarlyStopping>(c.early_stopping);
    BeamSearch search(o, kVocabulary, Kernels());
    const std::vector<float> table = Table(static_cast<uint32_t>(c.seed));
    std::vector<int32_t> last(static_cast<size_t>(c.beams), 0);
    std::vector<float> logits(static_cast<size_t>(c.beams * kVocabulary));
    for (int64_t t = 0; !search.done(); ++t) {
      REQUIRE(t < c.new_tokens);
      for (int64_t k = 0; k < c.beams; ++k)
        std::copy_n(table.begin() + (t * kVocabulary + last[static_cast<size_t>(k)]) * kVocabulary, kVocabulary, logits.begin() + k * kVocabulary);
      REQUIRE(search.Step(logits.data(), kVocabulary).ok());
      std::copy(search.tokens().begin(), search.tokens().end(), last.begin());
    }
    CHECK(std::vector<int32_t>(search.best().begin(), search.best().end()) == c.ids);
    CHECK(search.best_score() == doctest::Approx(c.score).epsilon(1e-5));
  }
}

TEST_CASE("beam search: logits that are not finite are an error") {
  BeamOptions o;
  o.beams = 2;
  BeamSearch search(o, 3, Kernels());
  const std::vector<float> logits(6, std::nanf(""));
  CHECK(search.Step(logits.data(), 3).code() == Code::kNumeric);
}

TEST_CASE("pages: lanes share what they have in common, and none sees what another wrote") {
  constexpr int64_t kLanes = 5, kPositions = 70;
  KvPages pages;
  pages.Reset(kLanes, kPositions);
  std::vector<std::vector<int32_t>> wanted(kLanes);           // the numbers each lane has written, or inherited
  std::map<int32_t, std::array<int32_t, 16>> memory;          // page -> its numbers
  std::mt19937 random(7);
  int64_t copies = 0;
  int32_t next = 1;
  for (int64_t position = 0; position < kPositions;) {
    const int64_t tokens = std::min<int64_t>(kPositions - position, 1 + static_cast<int64_t>(random() % 4) * static_cast<int64_t>(random() % 7));
    pages.Prepare(position, tokens, [&](int32_t from, int32_t to) { memory[to] = memory[from], ++copies; });
    for (int64_t lane = 0; lane < kLanes; ++lane)
      for (int64_t t = 0; t < tokens; ++t) {
        const int64_t at = position + t;
        memory[pages.tables()[lane * pages.per_lane() + at / 16]][static_cast<size_t>(at % 16)] = next;
        wanted[static_cast<size_t>(lane)].push_back(next++);
      }
    position += tokens;
    std::vector<int32_t> parents(kLanes);
    for (int32_t& p : parents) p = static_cast<int32_t>(random() % kLanes);
    pages.Reorder(parents);
    std::vector<std::vector<int32_t>> reordered;
    for (int32_t p : parents) reordered.push_back(wanted[static_cast<size_t>(p)]);
    wanted = std::move(reordered);
    for (int64_t lane = 0; lane < kLanes; ++lane)
      for (int64_t at = 0; at < position; ++at)
        REQUIRE(memory[pages.tables()[lane * pages.per_lane() + at / 16]][static_cast<size_t>(at % 16)] == wanted[static_cast<size_t>(lane)][static_cast<size_t>(at)]);
    REQUIRE(pages.pages_in_use() <= kLanes * pages.per_lane());
  }
  CHECK(copies > 0);
  // One page per copy, whatever the length: a lane's whole past would be per_lane pages each time.
  CHECK(copies < kLanes * kPositions);
}

TEST_CASE("routing: capacity along each row, first come first served; a stable sort by expert") {
  // The specification's own case: gates as softmax of the first three numbers, ties to the lowest expert, capacity 2.
  std::vector<int32_t> expert{0, 0, 1, 0, 2, 0}, order(6), offsets(4), counts(3), active(3);
  Routing s{expert.data(), order.data(), offsets.data(), counts.data(), active.data()};
  CHECK(SortByExpert(s, 6, 3, 2, CapacityPolicy::kZero, 1, [](int64_t q) { return q * 6; }) == 3);
  CHECK(expert == std::vector<int32_t>{0, 0, 1, ~0, 2, ~0});
  CHECK(std::vector<int32_t>(order.begin(), order.begin() + 4) == std::vector<int32_t>{0, 1, 2, 4});

  std::mt19937 random(3);
  for (int64_t rows : {0, 1, 2, 7, 31, 64, 113})
    for (int64_t experts : {1, 2, 3, 8, 64})
      for (int64_t capacity : {1, 2, 5, 1000})
        for (CapacityPolicy policy : {CapacityPolicy::kZero, CapacityPolicy::kClone, CapacityPolicy::kNone}) {
          std::vector<int32_t> chosen(static_cast<size_t>(rows)), sorted(chosen.size()), at(static_cast<size_t>(experts + 1)), count(at.size()), used(at.size());
          for (int32_t& e : chosen) e = static_cast<int32_t>(random() % static_cast<uint32_t>(experts));
          const std::vector<int64_t> starts{0, rows / 3, rows / 3, rows};
          const std::vector<int32_t> before = chosen;
          Routing r{chosen.data(), sorted.data(), at.data(), count.data(), used.data()};
          const int64_t n = SortByExpert(r, rows, experts, capacity, policy, 3, [&](int64_t q) { return starts[static_cast<size_t>(q)]; });
          std::vector<int32_t> slow;
          int64_t distinct = 0;
          for (int64_t e = 0; e < experts; ++e) {
            const size_t size = slow.size();
            for (size_t q = 0; q + 1 < starts.size(); ++q) {
              int64_t taken = 0;
              for (int64_t i = starts[q]; i < starts[q + 1]; ++i)
                if (before[static_cast<size_t>(i)] == e && (policy == CapacityPolicy::kNone || taken++ < capacity)) slow.push_back(static_cast<int32_t>(i));
            }
            distinct += slow.size() > size;
            REQUIRE(at[static_cast<size_t>(e)] == static_cast<int32_t>(size));
          }
          sorted.resize(slow.size());
          REQUIRE(sorted == slow);
          REQUIRE(n == distinct);
        }
}

TEST_CASE("experts: only those that tokens chose are in memory; a bound changes no number") {
  ScratchFolder scratch;
  const std::string golden = "switch-zero/cap2_router_bias_every_layer", path = scratch / "m.tern";
  auto cases = LoadGoldenCases(TERN_SOURCE_DIR, "switch-zero");
  REQUIRE(cases.ok());
  std::vector<NamedInput> inputs;
  for (const auto& item : cases->front().inputs.items()) inputs.push_back({item.name, item.tensor});
  auto model = Converted(golden, path);
  const ModelFile& file = model->file();
  auto resident = [&] {
    int64_t bytes = 0;
    std::set<std::string> groups;
    for (const TensorRecord& t : file.tensors())
      if (!t.group.empty() && groups.insert(t.group).second) bytes += file.mapped()->ResidentBytes(file.Group(t.group).offset, file.Group(t.group).bytes);
    return bytes;
  };
  file.mapped()->Advise(MappedFile::Advice::kEvict, 0, file.file_bytes());
  const bool evictable = resident() == 0;
  // As when the model was opened: this file is so small that a fault among the dense weights would bring all of it.
  uint64_t dense = file.file_bytes();
  for (const TensorRecord& t : file.tensors())
    if (!t.group.empty()) dense = std::min(dense, t.offset);
  file.mapped()->Advise(MappedFile::Advice::kWillNeed, 0, dense);
  ForwardOptions forward;
  forward.threads = 2;
  auto all = Forward(model, inputs, forward);
  REQUIRE_MESSAGE(all.ok(), all.status().message());
  REQUIRE(model->pager());
  const auto stats = model->pager()->stats();
  CHECK(stats.experts == 10);
  CHECK(stats.touched >= 2);
  CHECK(stats.touched <= stats.experts);
  CHECK(stats.evictions == 0);
  // One expert of this model is less than a page.
  if (evictable) CHECK(resident() == stats.touched * 4096);
  else MESSAGE("this file system keeps what it was told to drop: residency was not checked");

  int64_t largest = 0;
  for (const TensorRecord& t : file.tensors())
    if (!t.group.empty()) largest = std::max(largest, static_cast<int64_t>(file.Group(t.group).bytes));
  ModelOptions bounded;
  bounded.expert_memory = largest, bounded.prefetch = true;
  auto small = Model::Open(path, bounded);
  REQUIRE(small.ok());
  auto same = Forward(*small, inputs, forward);
  REQUIRE(same.ok());
  REQUIRE(same->size() == all->size());
  for (size_t i = 0; i < all->size(); ++i) CHECK((*same)[i].bytes == (*all)[i].bytes);
  CHECK((*small)->pager()->stats().evictions > 0);
  CHECK((*small)->pager()->stats().resident_bytes <= largest);

  bounded.expert_memory = largest - 1;
  CHECK(Model::Open(path, bounded).status().code() == Code::kUsage);
}

TEST_CASE("decoding with a cache gives the logits of one pass, wherever the sequence is cut") {
  ScratchFolder scratch;
  auto model = Converted("t5/gated_untied", scratch / "m.tern");
  std::vector<int32_t> source(40), target(37);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<int32_t>(2 + i * 7 % 33);
  for (size_t i = 0; i < target.size(); ++i) target[i] = static_cast<int32_t>(i * 5 % 35);
  EncoderDecoderOptions options;
  options.positions = 37, options.threads = 2;
  auto session = EncoderDecoderSession::Create(model, options);
  REQUIRE(session.ok());
  const EncoderInput input{source};
  auto logits_of = [&](const std::vector<size_t>& pieces) {
    REQUIRE((*session)->Encode({&input, 1}).ok());
    std::vector<float> all;
    size_t at = 0;
    for (size_t n : pieces) {
      Status s = (*session)->Decode({target.data() + at, n});
      REQUIRE_MESSAGE(s.ok(), s.message());
      const Operand& o = (*session)->output("logits");
      for (int64_t r = 0; r < o.rows; ++r) all.insert(all.end(), o.f32() + r * o.stride, o.f32() + r * o.stride + o.cols);
      at += n;
    }
    return all;
  };
  const std::vector<float> whole = logits_of({37});
  CHECK(logits_of({1, 15, 1, 20}) == whole);
  CHECK(logits_of(std::vector<size_t>(37, 1)) == whole);
  CHECK((*session)->Decode({target.data(), 1}).code() == Code::kUsage);  // no room left
}
