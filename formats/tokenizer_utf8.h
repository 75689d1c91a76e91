// UTF-8 in portions. Utf8Gatherer: bytes in any portions to whole characters; each maximal part that can be no
// character becomes one U+FFFD (as Unicode recommends, and as Rust and Python replace).
#pragma once

#include <string>
#include <string_view>

#include "engine/base/utf8.h"

namespace tern {

// True if some bytes behind `part`, the maximal valid prefix of a sequence, would make it a character.
inline bool IncompleteUtf8(std::string_view part) {
  const unsigned char lead = static_cast<unsigned char>(part[0]);
  const size_t want = lead >= 0xC2 && lead < 0xE0   ? 2
                      : lead >= 0xE0 && lead < 0xF0 ? 3
                      : lead >= 0xF0 && lead < 0xF5 ? 4
                                                    : 1;
  return part.size() < want;
}

class Utf8Gatherer {
 public:
  // Returns what is certain after `bytes`.
  std::string Push(std::string_view bytes) {
    pending_ += bytes;
    std::string out;
    Take(false, &out);
    return out;
  }
  std::string Finish() {
    std::string out;
    Take(true, &out);
    return out;
  }

 private:
  void Take(bool all, std::string* out) {
    size_t at = 0;
    while (at < pending_.size()) {
      const Utf8Char c = DecodeUtf8(pending_, at);
      // An invalid part that ends where the bytes end may still become a character.
      if (!c.valid && !all && at + c.bytes == pending_.size() && IncompleteUtf8(std::string_view(pending_).substr(at)))
        break;
      if (c.valid)
        out->append(pending_, at, c.bytes);
      else
        out->append("\xEF\xBF\xBD");
      at += c.bytes;
    }
    pending_.erase(0, at);
  }
  std::string pending_;
};

}  // namespace tern
