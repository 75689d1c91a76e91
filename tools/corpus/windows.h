// Repeated windows: all stretches of L symbols that stand more than once in a list of documents, by minimizers rather than a suffix array.
//
// With k + w - 1 = L, the least of the w hashes of k-grams inside a window depends on the window alone. Neighbouring windows mostly share it, so a run of
// windows costs one record (hash, place, length): about 0.04 records a byte for L = 100. Runs are grouped by hash; only where a hash occurs twice are the
// windows themselves compared, symbol by symbol. (Minimizers: Schleimer, Wilkerson and Aiken 2003; the rolling hash is Cohen's, seeded.)
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/base/rng.h"
#include "engine/base/status.h"
#include "tools/corpus/partitioned.h"
#include "tools/corpus/pipeline.h"
#include "tools/corpus/ranks.h"
#include "tools/corpus/sliding_minimum.h"

namespace tern::corpus {

// Documents one behind the other with one separator symbol after each, which occurs in no document.
template <class T>
struct SymbolText {
  const T* data = nullptr;
  std::vector<uint64_t> starts;   // documents + 1
  std::vector<uint32_t> groups;   // per document: only windows of the same group are compared; empty: all

  size_t documents() const { return starts.empty() ? 0 : starts.size() - 1; }
  uint64_t LengthOf(size_t doc) const { return starts[doc + 1] - starts[doc] - 1; }
  uint64_t size() const { return starts.empty() ? 0 : starts.back(); }
};

struct WindowOptions {
  int64_t length = 100;   // L, symbols
  bool cut_all = false;   // mark every window that occurs twice; else those whose first occurrence is in an earlier document, or L or more before
  int threads = 1;
  uint64_t seed = 0;
  int64_t memory_bytes = 0;
  std::string temporary;
  const CancelToken* cancel = nullptr;
  // Over several ranks (null: alone) this one collects the windows of documents [first_doc, end_doc) and compares those whose hash is its own.
  Ranks* ranks = nullptr;
  size_t first_doc = 0, end_doc = SIZE_MAX;
};

// A set of symbol positions, written by several threads.
class PositionBits {
 public:
  explicit PositionBits(uint64_t positions) : words_(positions / 64 + 1) {}
  void Set(uint64_t at) {
    std::atomic<uint64_t>& word = words_[at / 64];
    uint64_t bit = uint64_t{1} << (at % 64);
    if (!(word.load(std::memory_order_relaxed) & bit)) word.fetch_or(bit, std::memory_order_relaxed);
  }
  void SetRange(uint64_t begin, uint64_t end) {
    while (begin < end) {
      uint64_t low = begin % 64, n = std::min(end - begin, 64 - low);
      uint64_t bits = (n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1) << low;
      std::atomic<uint64_t>& word = words_[begin / 64];
      if ((word.load(std::memory_order_relaxed) & bits) != bits) word.fetch_or(bits, std::memory_order_relaxed);
      begin += n;
    }
  }
  // The members as words of 64: words [begin, end) that are not empty, and back in.
  struct Word {
    uint64_t index, bits;
  };
  void AppendWords(uint64_t* begin, uint64_t end, size_t most, std::vector<Word>* out) const {
    for (; *begin < end && out->size() < most; ++*begin)
      if (uint64_t bits = words_[*begin].load(std::memory_order_relaxed)) out->push_back({*begin, bits});
  }
  void Add(const Word& word) { words_[word.index].fetch_or(word.bits, std::memory_order_relaxed); }
  // f(at) for every member of [begin, end), ascending.
  template <class F>
  void ForEach(uint64_t begin, uint64_t end, F&& f) const {
    for (uint64_t w = begin / 64; w * 64 < end; ++w) {
      uint64_t word = words_[w].load(std::memory_order_relaxed);
      while (word) {
        uint64_t at = w * 64 + static_cast<uint64_t>(std::countr_zero(word));
        word &= word - 1;
        if (at >= begin && at < end) f(at);
      }
    }
  }

 private:
  std::vector<std::atomic<uint64_t>> words_;
};

// What a symbol contributes to a rolling hash: a random number for a byte, itself for a hash.
class SymbolValues {
 public:
  explicit SymbolValues(uint64_t seed) {
    for (uint64_t i = 0; i < 256; ++i) table_[i] = RandomBits(seed, i);
  }
  uint64_t operator()(uint8_t symbol) const { return table_[symbol]; }
  uint64_t operator()(uint64_t symbol) const { return symbol; }

 private:
  uint64_t table_[256];
};

// A hash of the last n symbols (a cyclic polynomial).
template <class T>
class RollingHash {
 public:
  RollingHash(const SymbolValues& values, int64_t n) : values_(values), n_(n), turn_(static_cast<int>(n % 64)) {}
  void Start(const T* p) {
    hash_ = 0;
    for (int64_t i = 0; i < n_; ++i) hash_ = std::rotl(hash_, 1) ^ values_(p[i]);
  }
  void Roll(T out, T in) { hash_ = std::rotl(hash_, 1) ^ std::rotl(values_(out), turn_) ^ values_(in); }
  uint64_t hash() const { return hash_; }

 private:
  const SymbolValues& values_;
  int64_t n_;
  int turn_;
  uint64_t hash_ = 0;
};

inline constexpr int64_t kFolded = 65535;

// The minimizer hashes of the windows of one document, run by run.
template <class T>
class MinimizerRuns {
 public:
  MinimizerRuns(const SymbolValues& values, int64_t length) : k_((length + 1) / 2), w_(length + 1 - k_), gram_(values, k_) {}

  // emit(hash, first window, windows, gram): windows [0, size - L + 1) in order. gram: where in the first window its least gram begins, the leftmost of
  // several; kFolded if two windows of the run may be equal (or L is huge).
  template <class Emit>
  void Run(const T* p, int64_t size, Emit&& emit) {
    const int64_t windows = size - (k_ + w_ - 1) + 1;
    const int64_t step = std::max<int64_t>(8192, 4 * w_);
    for (int64_t from = 0; from < windows; from += step) Piece(p + from, from, std::min(step, windows - from), emit);
  }

 private:
  static constexpr int64_t kLongestRun = 65535;

  template <class Emit>
  void Piece(const T* p, int64_t from, int64_t windows, Emit&& emit) {
    const int64_t grams = windows + w_ - 1;
    if (static_cast<int64_t>(hashes_.size()) < grams) hashes_.resize(static_cast<size_t>(grams)), least_.resize(static_cast<size_t>(grams));
    uint64_t* h = hashes_.data();
    HashGrams(p, grams, h);
    std::memcpy(least_.data(), h, static_cast<size_t>(grams) * 8);
    SlidingMinimum(least_.data(), grams, w_);
    const uint64_t* m = least_.data();
    for (int64_t begin = 0; begin < windows;) {
      const uint64_t value = m[begin];
      const int64_t most = std::min(windows, begin + kLongestRun);
      int64_t gram = begin + w_ - 1;  // mostly the newest one
      if (h[gram] != value || w_ <= 2) for (gram = begin; h[gram] != value;) ++gram;
      else for (int64_t i = begin; i < gram; ++i) if (h[i] == value) gram = i;
      bool folded = w_ > kFolded;
      int64_t end = begin + 1;
      // If the gram that leaves was a least one and the value stays, equal grams follow each other, and equal windows may.
      while (end < most && m[end] == value) folded |= h[end - 1] == value, ++end;
      emit(value, from + begin, end - begin, folded ? kFolded : gram - begin);
      begin = end;
    }
  }

  // Four stretches side by side: each step of one waits for the step before.
  void HashGrams(const T* p, int64_t grams, uint64_t* h) {
    const int64_t quarter = grams / 4;
    RollingHash<T> rolling[4] = {gram_, gram_, gram_, gram_};
    for (int64_t q = 0; q < 4 && quarter > 0; ++q) {
      rolling[q].Start(p + q * quarter);
      h[q * quarter] = rolling[q].hash();
    }
    for (int64_t i = 1; i < quarter; ++i)
      for (int64_t q = 0; q < 4; ++q) {
        const T* at = p + q * quarter + i;
        rolling[q].Roll(at[-1], at[k_ - 1]);
        h[q * quarter + i] = rolling[q].hash();
      }
    RollingHash<T>& last = rolling[3];
    int64_t i = 4 * quarter;
    if (quarter == 0) {
      last.Start(p);
      h[i++] = last.hash();
    }
    for (; i < grams; ++i) {
      last.Roll(p[i - 1], p[i + k_ - 1]);
      h[i] = last.hash();
    }
  }

  int64_t k_, w_;
  RollingHash<T> gram_;
  std::vector<uint64_t> hashes_, least_;
};

// A run of windows with one minimizer hash.
struct WindowRun {
  uint64_t key;    // 48 bits of the hash << 16 | gram
  uint64_t where;  // position << 16 | windows
  uint64_t hash() const { return key >> 16; }
  uint64_t position() const { return where >> 16; }
  int64_t windows() const { return static_cast<int64_t>(where & 0xffff); }
  uint64_t gram() const { return position() + (key & 0xffff); }
  bool folded() const { return (key & 0xffff) == kFolded; }
};

// First occurrences of the windows of one group.
template <class T>
class FirstOccurrences {
 public:
  FirstOccurrences(const T* data, int64_t length) : data_(data), length_(static_cast<size_t>(length)) {}
  void Clear() {
    ++stamp_;
    used_ = 0;
    if (slots_.size() > (1 << 16)) slots_.clear(), slots_.shrink_to_fit();
  }
  // The position of the first window equal to that at `at`, which is `at` itself if it is new.
  uint64_t Find(uint64_t hash, uint64_t at) {
    if (2 * (used_ + 1) > slots_.size()) Grow();
    for (size_t i = Home(hash);; i = (i + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[i];
      if (slot.stamp != stamp_) {
        slot = {hash, at, stamp_};
        ++used_;
        return at;
      }
      if (slot.hash == hash && std::memcmp(data_ + slot.at, data_ + at, length_ * sizeof(T)) == 0) return slot.at;
    }
  }

 private:
  struct Slot {
    uint64_t hash, at, stamp;  // of an older stamp: empty
  };
  size_t Home(uint64_t hash) const { return static_cast<size_t>((hash * 0x9e3779b97f4a7c15u) >> 32) & (slots_.size() - 1); }
  void Grow() {
    std::vector<Slot> old(std::max<size_t>(256, 2 * slots_.size()), Slot{0, 0, 0});
    old.swap(slots_);
    for (const Slot& s : old) {
      if (s.stamp != stamp_) continue;
      size_t i = Home(s.hash);
      while (slots_[i].stamp == stamp_) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = s;
    }
  }
  const T* data_;
  size_t length_, used_ = 0;
  uint64_t stamp_ = 1;
  std::vector<Slot> slots_;
};

template <class T>
class RepeatedWindows {
 public:
  RepeatedWindows(const SymbolText<T>& text, const WindowOptions& options) : text_(text), o_(options), values_(options.seed) {}

  // Only windows of runs with one of these hashes (sorted) are looked at; null: all.
  void Restrict(const std::vector<uint64_t>* hashes) { only_ = hashes; }

  // Sets the first symbol of every window to be cut.
  Status Mark(PositionBits* marks) {
    auto store = std::make_unique<Partitioned<WindowRun>>(kPartitions, o_.memory_bytes, o_.temporary);
    TERN_RETURN_IF_ERROR(Collect(store.get()));
    if (o_.ranks) TERN_RETURN_IF_ERROR(ShareOut(*o_.ranks, &store, o_.memory_bytes, o_.temporary, [](WindowRun*) {}));
    return ForChunks(o_.threads, kPartitions, o_.cancel, [&](int64_t p, int) -> Status {
      TERN_ASSIGN(std::vector<WindowRun> runs, store->Take(p));
      std::sort(runs.begin(), runs.end(), [](const WindowRun& a, const WindowRun& b) { return a.hash() != b.hash() ? a.hash() < b.hash() : a.where < b.where; });
      FirstOccurrences<T> first(text_.data, o_.length);
      for (size_t i = 0; i < runs.size();) {
        size_t j = i + 1;
        bool folded = runs[i].folded();
        for (; j < runs.size() && runs[j].hash() == runs[i].hash(); ++j) folded |= runs[j].folded();
        if (!folded && j - i <= kFewRuns) {
          for (size_t later = i + 1; later < j; ++later)
            for (size_t r = i; r < later; ++r) MarkAligned(runs[r], runs[later], marks);
        } else {
          first.Clear();
          for (size_t r = i; r < j; ++r) MarkRun(runs[r], &first, marks);
        }
        i = j;
      }
      return {};
    });
  }

  // The minimizer hashes of the windows that lie over one of the joints: ascending positions, between two symbols of a document.
  Result<std::vector<uint64_t>> HashesOver(const std::vector<uint64_t>& joints) const {
    constexpr size_t kAtOnce = 512;
    const uint64_t length = static_cast<uint64_t>(o_.length);
    std::vector<std::vector<uint64_t>> found((joints.size() + kAtOnce - 1) / kAtOnce);
    TERN_RETURN_IF_ERROR(ForChunks(o_.threads, static_cast<int64_t>(found.size()), o_.cancel, [&](int64_t chunk, int) -> Status {
      std::vector<uint64_t>& hashes = found[static_cast<size_t>(chunk)];
      MinimizerRuns<T> runs(values_, o_.length);
      const size_t from = static_cast<size_t>(chunk) * kAtOnce;
      for (size_t i = from; i < std::min(joints.size(), from + kAtOnce); ++i) {
        const uint64_t joint = joints[i];
        size_t doc = DocOf(joint - 1);
        uint64_t begin = std::max(text_.starts[doc], joint >= length - 1 ? joint - (length - 1) : 0), end = std::min(text_.starts[doc + 1] - 1, joint + length - 1);
        if (end - begin < length) continue;
        uint64_t salt = SaltOf(doc);
        runs.Run(text_.data + begin, static_cast<int64_t>(end - begin), [&](uint64_t hash, int64_t, int64_t, int64_t) { hashes.push_back(hash ^ salt); });
      }
      std::sort(hashes.begin(), hashes.end());
      hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
      return {};
    }));
    std::vector<uint64_t> all;
    for (const auto& hashes : found) all.insert(all.end(), hashes.begin(), hashes.end());
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }

 private:
  static constexpr int64_t kPartitions = 1024;
  static constexpr size_t kFewRuns = 8;  // compared each with each
  static constexpr uint64_t kChunkSymbols = 1 << 20;

  size_t DocOf(uint64_t position) const { return static_cast<size_t>(std::upper_bound(text_.starts.begin(), text_.starts.end(), position) - text_.starts.begin()) - 1; }
  uint64_t SaltOf(size_t doc) const { return text_.groups.empty() ? 0 : RandomBits(o_.seed ^ 0x5ca1ab1e, text_.groups[doc]); }

  // Documents in chunks; the runs of a chunk are appended in order.
  Status Collect(Partitioned<WindowRun>* store) {
    struct Chunk {
      size_t begin, end;
      std::vector<WindowRun> runs;
      std::vector<uint16_t> partitions;  // by bits that `key` does not hold
    };
    const int items = Pipeline::ItemsFor(o_.threads);
    std::vector<Chunk> chunks(static_cast<size_t>(items));
    size_t next = o_.first_doc;
    const size_t end = std::min(o_.end_doc, text_.documents());
    Pipeline line;
    line.threads = o_.threads;
    line.cancel = o_.cancel;
    line.take = [&](int item) -> Result<bool> {
      Chunk& c = chunks[static_cast<size_t>(item)];
      c.begin = next;
      while (next < end && (next == c.begin || text_.starts[next + 1] - text_.starts[c.begin] <= kChunkSymbols)) ++next;
      c.end = next;
      return c.begin < c.end;
    };
    std::vector<uint64_t> filter;  // one bit per low 16 bits of the hashes of interest
    if (only_) {
      filter.assign(1024, 0);
      for (uint64_t h : *only_) filter[h % 65536 / 64] |= uint64_t{1} << (h % 64);
    }
    line.work = [&](int item, int) -> Status {
      Chunk& c = chunks[static_cast<size_t>(item)];
      c.runs.clear(), c.partitions.clear();
      MinimizerRuns<T> runs(values_, o_.length);
      for (size_t doc = c.begin; doc < c.end; ++doc) {
        const uint64_t start = text_.starts[doc], salt = SaltOf(doc);
        runs.Run(text_.data + start, static_cast<int64_t>(text_.LengthOf(doc)), [&](uint64_t hash, int64_t first, int64_t count, int64_t gram) {
          hash ^= salt;
          if (only_ && (!(filter[hash % 65536 / 64] >> (hash % 64) & 1) || !std::binary_search(only_->begin(), only_->end(), hash))) return;
          c.runs.push_back({hash >> 16 << 16 | static_cast<uint64_t>(gram), (start + static_cast<uint64_t>(first)) << 16 | static_cast<uint64_t>(count)});
          c.partitions.push_back(static_cast<uint16_t>(hash % kPartitions));
        });
      }
      return {};
    };
    line.hand_on = [&](int item) -> Status {
      const Chunk& c = chunks[static_cast<size_t>(item)];
      for (size_t i = 0; i < c.runs.size(); ++i) TERN_RETURN_IF_ERROR(store->Append(c.partitions[i], c.runs[i]));
      return {};
    };
    return line.Run();
  }

  // Two runs whose windows each have one least gram: equal windows have it at the same place, so the two stretches are laid over each other there, and what
  // is equal around it says which windows are. `a` comes first.
  void MarkAligned(const WindowRun& a, const WindowRun& b, PositionBits* marks) const {
    const T* x = text_.data + a.gram();
    const T* y = text_.data + b.gram();
    // How far windows reach to the left and right of the gram, in both runs.
    const int64_t length = o_.length, a_left = static_cast<int64_t>(a.gram() - a.position()), b_left = static_cast<int64_t>(b.gram() - b.position());
    const int64_t most_left = std::min(a_left, b_left), most_right = std::min(a.windows() - a_left, b.windows() - b_left) - 1 + length;
    const int64_t right = EqualAhead(x, y, most_right), left = EqualBehind(x, y, most_left);
    // The window that begins d before the gram is equal if d <= left and length - d <= right.
    const int64_t from = -left, to = std::min(right, most_right) - length;
    if (from > to) return;
    const uint64_t distance = b.gram() - a.gram();
    if (!o_.cut_all && distance < static_cast<uint64_t>(length) && a.position() >= text_.starts[DocOf(b.position())]) return;
    const uint64_t first = static_cast<uint64_t>(from), end = static_cast<uint64_t>(to) + 1;  // from is negative: the sums wrap back
    marks->SetRange(b.gram() + first, b.gram() + end);
    if (o_.cut_all) marks->SetRange(a.gram() + first, a.gram() + end);
  }

  // How many symbols from x and y on, or before them, are equal; at most `most`. Eight bytes at once.
  static constexpr int64_t kAtOnce = 8 / sizeof(T);
  static int64_t EqualAhead(const T* x, const T* y, int64_t most) {
    int64_t n = 0;
    while (n + kAtOnce <= most && std::memcmp(x + n, y + n, 8) == 0) n += kAtOnce;
    while (n < most && x[n] == y[n]) ++n;
    return n;
  }
  static int64_t EqualBehind(const T* x, const T* y, int64_t most) {
    int64_t n = 0;
    while (n + kAtOnce <= most && std::memcmp(x - n - kAtOnce, y - n - kAtOnce, 8) == 0) n += kAtOnce;
    while (n < most && x[-n - 1] == y[-n - 1]) ++n;
    return n;
  }

  void MarkRun(const WindowRun& run, FirstOccurrences<T>* first, PositionBits* marks) const {
    const T* data = text_.data;
    const uint64_t length = static_cast<uint64_t>(o_.length);
    const uint64_t doc_start = text_.starts[DocOf(run.position())];
    RollingHash<T> window(values_, o_.length);
    uint64_t hashed = 0;      // the window `window` stands at; 0 with started = false: nowhere
    bool started = false;
    uint64_t matched = 0;     // an equal window before the former one, if follows
    bool follows = false;
    for (uint64_t at = run.position(), end = at + static_cast<uint64_t>(run.windows()); at < end; ++at) {
      if (follows && data[matched + length] == data[at + length - 1]) {
        // Both windows move on by one symbol and stay equal. The first occurrence of this one is there or earlier, so it is to be cut like the former.
        ++matched;
      } else {
        if (started && at - hashed < length) {
          for (; hashed < at; ++hashed) window.Roll(data[hashed], data[hashed + length]);
        } else {
          window.Start(data + at);
          hashed = at, started = true;
        }
        matched = first->Find(window.hash(), at);
        follows = matched != at && (o_.cut_all || matched < doc_start || at - matched >= length);
        if (!follows) continue;
      }
      marks->Set(at);
      if (o_.cut_all) marks->Set(matched);
    }
  }

  const SymbolText<T>& text_;
  const WindowOptions o_;
  SymbolValues values_;
  const std::vector<uint64_t>* only_ = nullptr;
};

}  // namespace tern::corpus
