// WordCache: the ids of words met before, two places a word, newest first. Fixed memory, nothing allocated per word.
// One thread.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace tern {

class WordCache {
 public:
  static constexpr size_t kMaxKeyBytes = 29, kMaxIds = 8;

  WordCache() : entries_(static_cast<Entry*>(std::calloc(kEntries, sizeof(Entry)))) {}
  WordCache(const WordCache&) = delete;
  WordCache& operator=(const WordCache&) = delete;

  // The ids of `word`, or an empty span with data() == nullptr if it is not known. `kind` (< 4) tells apart words that
  // look alike.
  std::span<const int32_t> Find(std::string_view word, uint8_t kind) const {
    if (!entries_ || word.size() > kMaxKeyBytes) return {};
    const size_t at = Hash(word, kind) & (kEntries - 1);
    for (size_t i : {at, at ^ 1}) {
      const Entry& entry = entries_.get()[i];
      if (entry.bytes == word.size() + 1 && entry.kind == kind && std::memcmp(entry.key, word.data(), word.size()) == 0)
        return {entry.ids, entry.count};
    }
    return {};
  }
  void Put(std::string_view word, uint8_t kind, std::span<const int32_t> ids) {
    if (!entries_ || word.size() > kMaxKeyBytes || ids.size() > kMaxIds) return;
    const size_t at = Hash(word, kind) & (kEntries - 1);
    Entry* entries = entries_.get();
    if (entries[at].bytes != 0) entries[at ^ 1] = entries[at];
    Entry& entry = entries[at];
    entry.bytes = static_cast<uint8_t>(word.size() + 1);
    entry.kind = kind;
    entry.count = static_cast<uint8_t>(ids.size());
    std::memcpy(entry.key, word.data(), word.size());
    for (size_t i = 0; i < ids.size(); ++i) entry.ids[i] = ids[i];
  }

 private:
  static constexpr size_t kEntries = 1 << 16;
  struct Entry {
    uint8_t bytes, kind, count;  // bytes: of the key, + 1; 0 = free
    char key[kMaxKeyBytes];
    int32_t ids[kMaxIds];
  };
  static uint64_t Hash(std::string_view word, uint8_t kind) {
    uint64_t hash = 0x9E3779B97F4A7C15u ^ (static_cast<uint64_t>(kind) << 56) ^ word.size();
    const char* p = word.data();
    size_t left = word.size();
    for (; left >= 8; p += 8, left -= 8) {
      uint64_t part;
      std::memcpy(&part, p, 8);
      hash = (hash ^ part) * 0xFF51AFD7ED558CCDu;
      hash ^= hash >> 32;
    }
    uint64_t part = 0;
    std::memcpy(&part, p, left);
    hash = (hash ^ part) * 0xC4CEB9FE1A85EC53u;
    return hash ^ hash >> 29 ^ hash >> 43;
  }
  struct Free {
    void operator()(Entry* entries) const { std::free(entries); }
  };
  std::unique_ptr<Entry, Free> entries_;
};

}  // namespace tern
