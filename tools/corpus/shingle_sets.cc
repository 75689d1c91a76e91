#include "tools/corpus/shingle_sets.h"

#include <algorithm>
#include <memory>
#include <unordered_map>

#include "engine/base/hash.h"
#include "tools/corpus/shingles.h"

namespace tern::corpus {
namespace {

struct BlockSets : BlockResult {
  std::vector<uint32_t> docs;
  std::vector<size_t> ends;  // in hashes
  std::vector<uint64_t> hashes;
  std::vector<Hash128> digests;
};

struct DigestHash {
  size_t operator()(const Hash128& h) const { return h.low; }
};
struct DigestEqual {
  bool operator()(const Hash128& a, const Hash128& b) const { return a.low == b.low && a.high == b.high; }
};

}  // namespace

uint32_t ShingleSets::EntryOf(uint32_t doc) const {
  return entry_of_[static_cast<size_t>(std::lower_bound(docs_.begin(), docs_.end(), doc) - docs_.begin())];
}

Status ShingleSets::Read(DedupState* state, std::vector<uint32_t> docs) {
  docs_ = std::move(docs);
  entry_of_.reserve(docs_.size());
  const int64_t budget = std::min<int64_t>(state->memory_bytes / 4, int64_t{256} << 20) / 8;
  std::unordered_map<Hash128, uint32_t, DigestHash, DigestEqual> seen;
  struct Space {
    ShingleReader shingles;
    std::vector<uint64_t> set;
  };
  std::vector<std::unique_ptr<Space>> spaces;
  for (int i = 0; i < state->corpus.threads(); ++i) spaces.push_back(std::make_unique<Space>(Space{ShingleReader(state->options.unit, state->seed), {}}));
  auto range = [&](int64_t first, int64_t end) {
    auto from = std::lower_bound(docs_.begin(), docs_.end(), static_cast<uint32_t>(first));
    auto to = std::lower_bound(from, docs_.end(), end, [](uint32_t d, int64_t e) { return d < e; });
    return std::pair(from, to);
  };
  PassOptions pass{.stage = "verifying"};
  pass.want = [&](int64_t block) {
    auto [from, to] = range(state->corpus.FirstDocOf(block), block + 1 < state->corpus.blocks() ? state->corpus.FirstDocOf(block + 1) : state->documents());
    return from != to;
  };
  return state->corpus.Pass(
      pass,
      [&](Block& block, int worker) -> Status {
        auto sets = std::make_unique<BlockSets>();
        Space& space = *spaces[static_cast<size_t>(worker)];
        auto [from, to] = range(block.first_doc, block.DocOf(block.records.size()));
        for (auto it = from; it != to; ++it) {
          space.shingles.ReadSet(block.records[static_cast<size_t>(*it - block.first_doc)].text, &space.set);
          sets->docs.push_back(*it);
          sets->hashes.insert(sets->hashes.end(), space.set.begin(), space.set.end());
          sets->ends.push_back(sets->hashes.size());
          sets->digests.push_back(Xxh3Wide({reinterpret_cast<const uint8_t*>(space.set.data()), space.set.size() * 8}, state->seed));
        }
        block.result = std::move(sets);
        return {};
      },
      [&](Block& block) -> Status {
        const BlockSets& sets = static_cast<const BlockSets&>(*block.result);
        for (size_t i = 0; i < sets.docs.size(); ++i) {
          auto [it, is_new] = seen.try_emplace(sets.digests[i], static_cast<uint32_t>(places_.size()));
          entry_of_.push_back(it->second);
          if (!is_new) continue;
          size_t begin = i == 0 ? 0 : sets.ends[i - 1], size = sets.ends[i] - begin;
          if (file_.empty() && static_cast<int64_t>(memory_.size() + size) <= budget) {
            places_.push_back({static_cast<int64_t>(memory_.size()), static_cast<int64_t>(size)});
            memory_.insert(memory_.end(), sets.hashes.begin() + static_cast<std::ptrdiff_t>(begin), sets.hashes.begin() + static_cast<std::ptrdiff_t>(begin + size));
          } else {
            TERN_ASSIGN(int64_t at, file_.Append(state->temporary, sets.hashes.data() + begin, static_cast<int64_t>(size * 8)));
            places_.push_back({static_cast<int64_t>(memory_.size()) + at / 8, static_cast<int64_t>(size)});
          }
        }
        return {};
      });
}

Result<const uint64_t*> ShingleSets::Get(uint32_t entry, std::vector<uint64_t>* buffer) {
  const Place& place = places_[entry];
  const int64_t held = static_cast<int64_t>(memory_.size());
  if (place.at + place.size <= held) return static_cast<const uint64_t*>(memory_.data() + place.at);
  buffer->resize(static_cast<size_t>(place.size));
  TERN_RETURN_IF_ERROR(file_.Read((place.at - held) * 8, buffer->data(), place.size * 8));
  return static_cast<const uint64_t*>(buffer->data());
}

}  // namespace tern::corpus
