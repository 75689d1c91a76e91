// SpmBpe: SentencePiece's merging models. The pair of neighbours whose union is the piece of the best score is merged
// first, the leftmost of equals; user-defined symbols are never merged. Also the two trivial models: one piece per
// character, one per word.
//
// A text falls into segments at places that lie inside no piece: merging never crosses them, so segments are merged one
// by one, with the result of one call on the whole. Immutable; a Scratch belongs to one thread.
#pragma once

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/tokenizer_spm_model.h"
#include "formats/tokenizer_spm_unigram.h"
#include "formats/tokenizer_trie.h"

namespace tern {

// Open-addressing table from pairs of symbols to what they merge to. Immutable after Build.
class MergeTable {
 public:
  struct Merge {
    int32_t left, right, merged;
    uint32_t rank;  // smaller first
  };
  // Of several entries for one pair the last wins.
  void Build(const std::vector<Merge>& merges);
  // nullptr if the pair does not merge.
  const Merge* Find(int32_t left, int32_t right) const {
    if ((left | right) < 0 || slots_.empty()) return nullptr;
    for (size_t i = Hash(left, right) & mask_;; i = (i + 1) & mask_) {
      const Merge& slot = slots_[i];
      if (slot.left == left && slot.right == right) return &slot;
      if (slot.left < 0) return nullptr;
    }
  }

 private:
  static size_t Hash(int32_t left, int32_t right) {
    const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 24);
  }
  std::vector<Merge> slots_;
  size_t mask_ = 0;
};

// Merges a list of symbols in place: always the mergeable neighbours of the lowest rank, the leftmost of equals. Short
// lists are scanned, long ones use a heap: O(n log n). Keeps its memory from call to call.
class BpeMerger {
 public:
  struct Symbol {
    int32_t id;     // -1: merges with nothing
    int32_t bytes;  // of text
  };
  // `on_candidate`, if given, hears every pair that could be merged, in the order the library meets them.
  template <class OnCandidate>
  void Run(const MergeTable& table, std::vector<Symbol>* symbols, OnCandidate on_candidate);
  void Run(const MergeTable& table, std::vector<Symbol>* symbols) {
    if (symbols->size() <= 24)
      RunShort(table, symbols);
    else
      Run(table, symbols, [](const MergeTable::Merge&) {});
  }

 private:
  void RunShort(const MergeTable& table, std::vector<Symbol>* symbols);
  struct Candidate {
    uint64_t key;  // rank << 32 | left
    uint32_t right;
    int32_t left_id, right_id, merged;
  };
  struct Later {
    bool operator()(const Candidate& a, const Candidate& b) const { return a.key > b.key; }
  };
  std::vector<Candidate> heap_;
  std::vector<int64_t> previous_, next_;
  const MergeTable::Merge* merges_[24];
};

class SpmBpe {
 public:
  using Step = SpmUnigram::Step;
  struct Scratch {
    BpeMerger merger;
    std::vector<BpeMerger::Symbol> symbols;
  };
  // `model` and `user_defined` must outlive it. Errors: kMalformed.
  static Result<SpmBpe> Build(const SpmModel& model, const Trie& user_defined);

  // Length of the first segment of normalized text; 0 if more text is needed to know (never if `last`). REQUIRES: text
  // is not empty.
  size_t SegmentEnd(std::string_view text, bool last) const;
  // Appends the pieces of one segment.
  void Encode(std::string_view segment, Scratch* scratch, std::vector<Step>* steps) const;

 private:
  bool Frozen(std::string_view text, size_t* length) const;
  void EncodeWithUnused(Scratch* scratch, std::vector<Step>* steps) const;
  const SpmModel* model_ = nullptr;
  const Trie* user_defined_ = nullptr;
  Trie symbols_;  // characters (and for words whole pieces) -> symbol; ids first, then characters that are no pieces
  MergeTable merges_;
  std::vector<int32_t> id_of_;     // symbol -> id it is written as
  std::vector<int32_t> bytes_of_;  // symbol -> bytes
  std::bitset<65536> inside_;  // pairs of bytes that stand on the two sides of a character boundary inside some piece
  bool has_unused_ = false;
};

template <class OnCandidate>
void BpeMerger::Run(const MergeTable& table, std::vector<Symbol>* symbols, OnCandidate on_candidate) {
  std::vector<Symbol>& s = *symbols;
  const int64_t n = static_cast<int64_t>(s.size());
  heap_.clear();
  previous_.resize(s.size());
  next_.resize(s.size());
  for (int64_t i = 0; i < n; ++i) {
    previous_[static_cast<size_t>(i)] = i - 1;
    next_[static_cast<size_t>(i)] = i + 1 < n ? i + 1 : -1;
  }
  auto offer = [&](int64_t left, int64_t right, bool push) {
    if (left < 0 || right < 0) return;
    const Symbol &a = s[static_cast<size_t>(left)], &b = s[static_cast<size_t>(right)];
    const MergeTable::Merge* merge = table.Find(a.id, b.id);
    if (!merge) return;
    on_candidate(*merge);
    heap_.push_back({static_cast<uint64_t>(merge->rank) << 32 | static_cast<uint64_t>(left),
                     static_cast<uint32_t>(right), a.id, b.id, merge->merged});
    if (push) std::push_heap(heap_.begin(), heap_.end(), Later());
  };
  for (int64_t i = 0; i + 1 < n; ++i) offer(i, i + 1, false);
  std::make_heap(heap_.begin(), heap_.end(), Later());
  while (!heap_.empty()) {
    const Candidate top = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end(), Later());
    heap_.pop_back();
    const size_t left = static_cast<size_t>(top.key & 0xFFFFFFFFu), right = top.right;
    if (s[left].id != top.left_id || s[right].id != top.right_id || s[left].bytes == 0 || s[right].bytes == 0 ||
        next_[left] != static_cast<int64_t>(right))
      continue;
    s[left].id = top.merged;
    s[left].bytes += s[right].bytes;
    s[right].bytes = 0;
    next_[left] = next_[right];
    if (next_[left] >= 0) previous_[static_cast<size_t>(next_[left])] = static_cast<int64_t>(left);
    offer(previous_[left], static_cast<int64_t>(left), true);
    offer(static_cast<int64_t>(left), next_[left], true);
  }
  size_t kept = 0;
  for (size_t i = 0; i < s.size(); ++i)
    if (s[i].bytes > 0) s[kept++] = s[i];
  s.resize(kept);
}

}  // namespace tern
