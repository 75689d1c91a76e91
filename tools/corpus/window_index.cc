#include "tools/corpus/window_index.h"

#include <algorithm>
#include <bit>

namespace tern::corpus {

int64_t WordStore::Add(const WordSequence& words) {
  text_.append(words.joined());
  first_byte_.push_back(static_cast<int64_t>(text_.size()));
  for (int64_t i = 0; i <= words.words(); ++i) begins_.push_back(words.begin_of(i));
  first_begin_.push_back(static_cast<int64_t>(begins_.size()));
  return static_cast<int64_t>(first_byte_.size()) - 2;
}

std::string_view WordStore::joined(int64_t document) const {
  size_t begin = static_cast<size_t>(first_byte_[static_cast<size_t>(document)]), end = static_cast<size_t>(first_byte_[static_cast<size_t>(document) + 1]);
  return std::string_view(text_).substr(begin, end - begin);
}

bool WindowIndex::Same(const Place& place, const Window& window) const {
  std::string_view stored = store_->joined(place.document), text = window.words->joined().substr(window.begin, window.end - window.begin);
  if (kind_ == Kind::kChars) return stored.substr(place.begin, text.size()) == text;
  const uint32_t* begins = store_->begins(place.document) + place.begin;
  int64_t n = kind_ == Kind::kWords ? n_ : store_->words(place.document);
  if (kind_ == Kind::kDocument && n != window.words->words()) return false;
  if (stored.substr(begins[0], begins[n] - begins[0]) != text) return false;
  for (int64_t i = 1; i < n; ++i)
    if (begins[i] - begins[0] != window.words->begin_of(window.word + i) - window.begin) return false;
  return true;
}

int64_t WindowIndex::Find(uint64_t hash, const Window& window, bool fresh_only) const {
  if (slots_.empty()) return kNoEntry;
  size_t mask = slots_.size() - 1;
  for (size_t at = Spread(hash) & mask; slots_[at] != 0; at = (at + 1) & mask) {
    if (hashes_[slots_[at] - 1] != hash) continue;
    for (uint32_t e = slots_[at]; e != 0; e = places_[e - 1].next) {
      if (fresh_only && found_in(e - 1) >= 0) continue;
      if (Same(places_[e - 1], window)) return e - 1;
    }
    return kNoEntry;
  }
  return kNoEntry;
}

void WindowIndex::Grow() {
  slots_.assign(std::max<size_t>(slots_.size() * 2, 1024), 0);
  size_t mask = slots_.size() - 1;
  for (size_t e = hashes_.size(); e-- > 0;) {  // the chain of one hash begins at its last entry, which is stored first here
    size_t at = Spread(hashes_[e]) & mask;
    while (slots_[at] != 0 && hashes_[slots_[at] - 1] != hashes_[e]) at = (at + 1) & mask;
    if (slots_[at] == 0) slots_[at] = static_cast<uint32_t>(e) + 1;
  }
}

void WindowIndex::Add(int64_t document, const WordSequence& words) {
  ForEachWindow(words, [&](uint64_t hash, const Window& window) {
    if ((hashes_.size() + 1) * 2 > slots_.size()) Grow();
    size_t mask = slots_.size() - 1, at = Spread(hash) & mask;
    while (slots_[at] != 0 && hashes_[slots_[at] - 1] != hash) at = (at + 1) & mask;
    for (uint32_t e = slots_[at]; e != 0; e = places_[e - 1].next)
      if (Same(places_[e - 1], window)) return;
    hashes_.push_back(hash);
    places_.push_back({document, static_cast<uint32_t>(kind_ == Kind::kChars ? window.begin : static_cast<size_t>(window.word)), slots_[at]});
    slots_[at] = static_cast<uint32_t>(hashes_.size());
  });
}

void WindowIndex::Finish() {
  filter_.Reset(hashes_.size());
  for (uint64_t hash : hashes_) filter_.Add(Spread(hash));
  found_ = std::make_unique<std::atomic<int64_t>[]>(hashes_.size());
  for (size_t e = 0; e < hashes_.size(); ++e) found_[e].store(-1, std::memory_order_relaxed);
}

int64_t WindowIndex::total(const WordSequence& words) const {
  switch (kind_) {
    case Kind::kWords: return std::max<int64_t>(words.words() - n_ + 1, 0);
    case Kind::kChars: return std::max<int64_t>(words.chars() - n_ + 1, 0);
    case Kind::kDocument: return words.words() > 0;
  }
  return 0;
}

}  // namespace tern::corpus
