// WindowIndex: a set of windows over word sequences, looked up by hash and confirmed on the text. Each different window has one entry, which remembers the
// first document that it was found in.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/corpus/hash_filter.h"
#include "tools/corpus/word_sequence.h"

namespace tern::corpus {

// The normalised texts the windows lie in: of every document its joined words and where each begins.
class WordStore {
 public:
  // The number of the stored document.
  int64_t Add(const WordSequence& words);
  std::string_view joined(int64_t document) const;
  // Where the words of the document begin, relative to joined(); one more entry than words.
  const uint32_t* begins(int64_t document) const { return begins_.data() + first_begin_[static_cast<size_t>(document)]; }
  int64_t words(int64_t document) const { return first_begin_[static_cast<size_t>(document) + 1] - first_begin_[static_cast<size_t>(document)] - 1; }

 private:
  std::string text_;
  std::vector<int64_t> first_byte_ = {0}, first_begin_ = {0};
  std::vector<uint32_t> begins_;
};

class WindowIndex {
 public:
  enum class Kind { kWords, kChars, kDocument };
  static constexpr int64_t kNoEntry = -1;

  // Windows of n words or code points; kDocument: whole sequences. `store` outlives the index.
  WindowIndex(const WordStore* store, Kind kind, int64_t n) : store_(store), kind_(kind), n_(n) {}

  // All windows of the stored document, whose words are `words`. One thread.
  void Add(int64_t document, const WordSequence& words);
  // To be called after the last Add: makes the filter that answers most questions without a look at the entries.
  void Finish();

  int64_t document_of(int64_t entry) const { return places_[static_cast<size_t>(entry)].document; }  // a stored document that holds it
  int64_t entries() const { return static_cast<int64_t>(places_.size()); }

  // Calls f(first byte, behind the last byte of joined(), first word or -1, entry) for every window of `words` that is in the set; with fresh_only, windows
  // that were already found in a document may be left out, which saves their comparison. Thread-safe.
  template <class F>
  void ForEachFound(const WordSequence& words, bool fresh_only, F&& f) const;
  int64_t total(const WordSequence& words) const;  // windows of `words`

  // The first document an entry was found in, or -1. Thread-safe; SetFoundIn by one thread at a time.
  int64_t found_in(int64_t entry) const { return found_[static_cast<size_t>(entry)].load(std::memory_order_relaxed); }
  void SetFoundIn(int64_t entry, int64_t document) { found_[static_cast<size_t>(entry)].store(document, std::memory_order_relaxed); }

 private:
  struct Place {
    int64_t document;
    uint32_t begin;   // byte in joined(document), or the first word
    uint32_t next;    // another entry of the same hash + 1, or 0
  };
  // A window of some sequence.
  struct Window {
    const WordSequence* words;
    size_t begin, end;
    int64_t word;
  };
  static uint64_t Spread(uint64_t hash) { return Mix(hash, 0x9e3779b97f4a7c15u); }
  template <class F>
  void ForEachWindow(const WordSequence& words, F&& f) const;
  bool Same(const Place& place, const Window& window) const;
  int64_t Find(uint64_t hash, const Window& window, bool fresh_only) const;
  void Grow();

  const WordStore* store_;
  Kind kind_;
  int64_t n_;
  std::vector<uint64_t> hashes_;      // by entry
  std::vector<Place> places_;         // by entry
  std::vector<uint32_t> slots_;       // entry + 1, by hash
  std::unique_ptr<std::atomic<int64_t>[]> found_;
  HashFilter filter_;
};

template <class F>
void WindowIndex::ForEachWindow(const WordSequence& words, F&& f) const {
  switch (kind_) {
    case Kind::kWords:
      words.ForEachWordWindow(n_, [&](int64_t word, uint64_t hash) { f(hash, Window{&words, words.begin_of(word), words.begin_of(word + n_), word}); });
      return;
    case Kind::kChars:
      words.ForEachCharWindow(n_, [&](size_t begin, size_t end, uint64_t hash) { f(hash, Window{&words, begin, end, -1}); });
      return;
    case Kind::kDocument:
      if (words.words() > 0) f(words.hash(), Window{&words, 0, words.joined().size(), 0});
      return;
  }
}

template <class F>
void WindowIndex::ForEachFound(const WordSequence& words, bool fresh_only, F&& f) const {
  ForEachWindow(words, [&](uint64_t hash, const Window& window) {
    // A polynomial's low bits know only the low bits of its terms; the product spreads the high ones.
    if (!filter_.MayHold(Spread(hash))) return;
    int64_t entry = Find(hash, window, fresh_only);
    if (entry != kNoEntry) f(window.begin, window.end, window.word, entry);
  });
}

}  // namespace tern::corpus
