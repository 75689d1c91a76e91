// Charsmap: the precompiled normalization table of SentencePiece models ("precompiled_charsmap"): a Darts double array
// from byte strings to NUL-terminated replacements. Checked whole at load - every reachable unit and every replacement
// - so that walking needs no trust (a hostile table was the cause of CVE-2026-1260).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"

namespace tern {

class Charsmap {
 public:
  static constexpr size_t kMaxKeyBytes = 256;          // of a source string
  static constexpr size_t kMaxReplacementBytes = 256;  // bounds the growth of a text; NFKC needs 33

  Charsmap() = default;  // empty: matches nothing
  // `blob`: u32 size of the trie in bytes, trie (u32 units), strings. Empty is allowed. Errors: kMalformed.
  static Result<Charsmap> Parse(std::string_view blob);

  bool empty() const { return units_.empty(); }
  size_t max_key_bytes() const { return max_key_bytes_; }

  struct Match {
    size_t length = 0;  // bytes of text; 0 = no match
    std::string_view replacement;
  };
  Match Longest(std::string_view text) const { return Find(text, true); }
  Match Shortest(std::string_view text) const { return Find(text, false); }

  // True if an ASCII byte is left alone whatever ASCII follows it.
  bool KeepsAscii(uint8_t byte) const { return byte < 128 && keeps_ascii_[byte]; }

 private:
  static uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
  Match Find(std::string_view text, bool longest) const;
  bool Leads(std::string_view text) const;  // a walk along all of text stays inside
  std::string_view Replacement(uint32_t offset) const { return std::string_view(strings_.data() + offset); }
  Status CheckReachable();

  std::vector<uint32_t> units_;
  std::string strings_;  // NUL-terminated
  size_t max_key_bytes_ = 0;
  bool keeps_ascii_[128] = {};
};

}  // namespace tern
