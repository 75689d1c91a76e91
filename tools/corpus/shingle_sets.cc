#include "tools/corpus/shingle_sets.h"

#include <algorithm>
#include <memory>

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

// Entries by the digest of their set: an open table of numbers beside the digests, 22 to 28 bytes an entry.
class EntryTable {
 public:
  // The entry with this digest, or `fresh` = the number of entries so far, which it then is.
  uint32_t FindOrAdd(const Hash128& digest) {
    if (2 * (digests_.size() + 1) > slots_.size()) Grow();
    const uint32_t fresh = static_cast<uint32_t>(digests_.size());
    for (size_t i = digest.low & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i] == kEmpty) {
        slots_[i] = fresh;
        digests_.push_back(digest);
        return fresh;
      }
      const Hash128& known = digests_[slots_[i]];
      if (known.low == digest.low && known.high == digest.high) return slots_[i];
    }
  }

 private:
  static constexpr uint32_t kEmpty = ~uint32_t{0};
  void Grow() {
    slots_.assign(std::max<size_t>(1024, 2 * slots_.size()), kEmpty);
    for (uint32_t e = 0; e < digests_.size(); ++e) {
      size_t i = digests_[e].low & (slots_.size() - 1);
      while (slots_[i] != kEmpty) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = e;
    }
  }
  std::vector<Hash128> digests_;
  std::vector<uint32_t> slots_;
};

}  // namespace

uint32_t ShingleSets::EntryOf(uint32_t doc) const {
  return entry_of_[static_cast<size_t>(std::lower_bound(docs_.begin(), docs_.end(), doc) - docs_.begin())];
}

Status ShingleSets::Read(DedupState* state, std::vector<uint32_t> docs) {
  docs_ = std::move(docs);
  entry_of_.reserve(docs_.size());
  const int64_t budget = std::min<int64_t>(state->memory_bytes / 4, int64_t{128} << 20) / 8;
  EntryTable seen;
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
          const uint32_t entry = seen.FindOrAdd(sets.digests[i]);
          entry_of_.push_back(entry);
          if (entry < places_.size()) continue;
          size_t begin = i == 0 ? 0 : sets.ends[i - 1], size = sets.ends[i] - begin;
          if (file_.empty() && static_cast<int64_t>(memory_.size() + size) <= budget) {
            places_.push_back({static_cast<int64_t>(memory_.size()), static_cast<uint32_t>(size)});
            memory_.insert(memory_.end(), sets.hashes.begin() + static_cast<std::ptrdiff_t>(begin), sets.hashes.begin() + static_cast<std::ptrdiff_t>(begin + size));
          } else {
            TERN_ASSIGN(int64_t at, file_.Append(state->temporary, sets.hashes.data() + begin, static_cast<int64_t>(size * 8)));
            places_.push_back({static_cast<int64_t>(memory_.size()) + at / 8, static_cast<uint32_t>(size)});
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
