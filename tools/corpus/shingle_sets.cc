#include "tools/corpus/shingle_sets.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "engine/base/hash.h"
#include "tools/corpus/shingles.h"

namespace tern::corpus {
namespace {

struct BlockSets : BlockResult {
  std::vector<uint32_t> docs;
  std::vector<size_t> ends;  // in hashes
  std::unique_ptr<uint64_t[]> hashes;
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
  budget_ = std::min<int64_t>(state->memory_bytes / 4, int64_t{128} << 20) / 8;
  temporary_ = state->temporary;
  EntryTable seen;
  std::vector<Hash128> digests;  // over several ranks: of the own documents
  struct Space {
    ShingleReader shingles;
    std::vector<uint64_t> set, hashes;
  };
  std::vector<std::unique_ptr<Space>> spaces;
  for (int i = 0; i < state->corpus.threads(); ++i) spaces.push_back(std::make_unique<Space>(Space{ShingleReader(state->options.unit, state->seed), {}, {}}));
  auto range = [&](int64_t first, int64_t end) {
    auto from = std::lower_bound(docs_.begin(), docs_.end(), static_cast<uint32_t>(first));
    auto to = std::lower_bound(from, docs_.end(), end, [](uint32_t d, int64_t e) { return d < e; });
    return std::pair(from, to);
  };
  PassOptions pass{.stage = "verifying"};
  pass.want = [&](int64_t block) {
    auto [from, to] = range(state->corpus.FirstDocOf(block), state->corpus.EndDocOf(block));
    return from != to;
  };
  TERN_RETURN_IF_ERROR(state->corpus.Pass(
      pass,
      [&](Block& block, int worker) -> Status {
        auto sets = std::make_unique<BlockSets>();
        Space& space = *spaces[static_cast<size_t>(worker)];
        auto [from, to] = range(block.first_doc, block.DocOf(block.records.size()));
        space.hashes.clear();
        const bool one = to - from == 1;  // which may be a giant
        for (auto it = from; it != to; ++it) {
          space.shingles.ReadSet(block.records[static_cast<size_t>(*it - block.first_doc)].text, &space.set);
          sets->docs.push_back(*it);
          if (!one) space.hashes.insert(space.hashes.end(), space.set.begin(), space.set.end());
          sets->ends.push_back((one ? space.set : space.hashes).size());
          sets->digests.push_back(Xxh3Wide({reinterpret_cast<const uint8_t*>(space.set.data()), space.set.size() * 8}, state->seed));
        }
        const std::vector<uint64_t>& hashes = one ? space.set : space.hashes;
        sets->hashes.reset(new uint64_t[hashes.size()]);
        std::copy(hashes.begin(), hashes.end(), sets->hashes.get());
        block.result = std::move(sets);
        return {};
      },
      [&](Block& block) -> Status {
        BlockSets& sets = static_cast<BlockSets&>(*block.result);
        // A block's sets stay where they are. (Those that are there already stay with them: they are few.)
        const size_t all = sets.ends.empty() ? 0 : sets.ends.back();
        const bool stay = FitsMemory(all);
        const int64_t chunk = static_cast<int64_t>(chunks_.size());
        for (size_t i = 0; i < sets.docs.size(); ++i) {
          if (!state->ranks.alone()) digests.push_back(sets.digests[i]);
          const uint32_t entry = seen.FindOrAdd(sets.digests[i]);
          entry_of_.push_back(entry);
          if (entry < places_.size()) continue;
          const size_t begin = i == 0 ? 0 : sets.ends[i - 1], size = sets.ends[i] - begin;
          if (stay) places_.push_back({chunk << 32 | static_cast<int64_t>(begin), static_cast<uint32_t>(size)});
          else TERN_RETURN_IF_ERROR(ToFile(sets.hashes.get() + begin, size, &places_.emplace_back()));
        }
        if (stay) {
          chunks_.push_back(std::move(sets.hashes));
          held_ += static_cast<int64_t>(all);
        }
        return {};
      }));
  return state->ranks.alone() ? Status() : NumberOverAll(state, digests);
}

Status ShingleSets::ToFile(const uint64_t* set, size_t size, Place* place) {
  TERN_ASSIGN(int64_t at, file_.Append(temporary_, set, static_cast<int64_t>(size * 8)));
  *place = {kInFile + at / 8, static_cast<uint32_t>(size)};
  return {};
}

Status ShingleSets::Hold(const uint64_t* set, size_t size, Place* place) {
  constexpr size_t kChunk = 1 << 16;
  if (!FitsMemory(size)) return ToFile(set, size, place);
  if (last_room_ < size) {
    const size_t room = std::max(size, kChunk);
    chunks_.emplace_back(new uint64_t[room]);
    last_room_ = last_chunk_ = room;
  }
  const size_t at = last_chunk_ - last_room_;
  std::copy(set, set + size, chunks_.back().get() + at);
  *place = {static_cast<int64_t>(chunks_.size() - 1) << 32 | static_cast<int64_t>(at), static_cast<uint32_t>(size)};
  last_room_ -= size;
  held_ += static_cast<int64_t>(size);
  return {};
}

// Every rank numbered the sets of its own documents: from here on they are numbered over all, in the order of the documents.
Status ShingleSets::NumberOverAll(DedupState* state, const std::vector<Hash128>& digests) {
  struct Known {
    Hash128 digest;
    uint32_t doc_place, size;
  };
  const size_t before = static_cast<size_t>(std::lower_bound(docs_.begin(), docs_.end(), state->corpus.own_begin_doc(), [](uint32_t d, int64_t e) { return d < e; }) - docs_.begin());
  const std::vector<uint32_t> own_entry_of = std::move(entry_of_);
  const std::vector<Place> own_places = std::move(places_);
  std::vector<Known> known;
  for (size_t i = 0; i < digests.size(); ++i) known.push_back({digests[i], static_cast<uint32_t>(before + i), own_places[own_entry_of[i]].size});
  TERN_ASSIGN(known, state->ranks.Concatenate(std::move(known)));
  EntryTable seen;
  entry_of_.clear(), places_.clear();
  entry_starts_.assign(1, 0);
  for (const Known& k : known) {
    while (static_cast<int>(entry_starts_.size()) <= state->corpus.RankOf(docs_[k.doc_place])) entry_starts_.push_back(entries());
    const uint32_t entry = seen.FindOrAdd(k.digest);
    entry_of_.push_back(entry);
    if (entry == entries()) places_.push_back({-1, k.size});
    if (k.doc_place >= before && k.doc_place < before + digests.size()) places_[entry] = own_places[own_entry_of[k.doc_place - before]];
  }
  while (static_cast<int>(entry_starts_.size()) < state->ranks.size()) entry_starts_.push_back(entries());
  return {};
}

int ShingleSets::RankOf(uint32_t entry) const {
  return static_cast<int>(std::upper_bound(entry_starts_.begin(), entry_starts_.end(), entry) - entry_starts_.begin()) - 1;
}

Status ShingleSets::Bring(Ranks& ranks, std::vector<uint32_t> wanted) {
  if (ranks.alone()) return {};
  std::erase_if(wanted, [this](uint32_t e) { return places_[e].at >= 0; });
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  const size_t n = static_cast<size_t>(ranks.size());
  std::vector<std::vector<uint32_t>> mine(n), theirs(n);  // what comes from a rank, what goes to it
  std::vector<std::string> asked(n);
  for (uint32_t e : wanted) mine[static_cast<size_t>(RankOf(e))].push_back(e);
  for (size_t r = 0; r < n; ++r) asked[r].assign(reinterpret_cast<const char*>(mine[r].data()), mine[r].size() * 4);
  TERN_ASSIGN(asked, ranks.Swap(asked));
  for (size_t r = 0; r < n; ++r) {
    theirs[r].resize(asked[r].size() / 4);
    if (!asked[r].empty()) std::memcpy(theirs[r].data(), asked[r].data(), asked[r].size());
  }
  std::vector<size_t> sent(n, 0), got(n, 0);
  std::vector<uint64_t> buffer;
  auto fill = [&](int to, size_t piece, std::string* out) -> Status {
    const size_t r = static_cast<size_t>(to);
    for (; sent[r] < theirs[r].size() && out->size() < piece; ++sent[r]) {
      const uint32_t e = theirs[r][sent[r]];
      TERN_ASSIGN(const uint64_t* set, Get(e, &buffer));
      out->append(reinterpret_cast<const char*>(set), static_cast<size_t>(SizeOf(e)) * 8);
    }
    return {};
  };
  std::vector<uint64_t> set;
  auto drain = [&](int from, std::string_view bytes) -> Status {
    const size_t r = static_cast<size_t>(from);
    while (!bytes.empty()) {
      Place& place = places_[mine[r][got[r]++]];
      set.resize(place.size);
      std::memcpy(set.data(), bytes.data(), set.size() * 8);
      bytes.remove_prefix(set.size() * 8);
      TERN_RETURN_IF_ERROR(Hold(set.data(), set.size(), &place));
    }
    return {};
  };
  return ranks.Exchange(fill, drain);
}

Result<const uint64_t*> ShingleSets::Get(uint32_t entry, std::vector<uint64_t>* buffer) {
  const Place& place = places_[entry];
  if (place.at < kInFile) return static_cast<const uint64_t*>(chunks_[static_cast<size_t>(place.at >> 32)].get() + static_cast<uint32_t>(place.at));
  buffer->resize(static_cast<size_t>(place.size));
  TERN_RETURN_IF_ERROR(file_.Read((place.at - kInFile) * 8, buffer->data(), int64_t{place.size} * 8));
  return static_cast<const uint64_t*>(buffer->data());
}

}  // namespace tern::corpus
