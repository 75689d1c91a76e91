// CutStream: an EncodeStream for tokenizers whose text can be cut at certain places without changing an id: it gathers text up to such a place and
// encodes that part at once, in bounded memory as long as such places come.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizer.h"

namespace tern {

inline bool IsAsciiLetter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

class CutStream : public EncodeStream {
 public:
  explicit CutStream(const Tokenizer& tokenizer) : t_(tokenizer) {}
  Status Push(std::string_view text, std::vector<int32_t>* ids) final {
    rest_ += text;
    if (rest_.size() < next_try_) return {};
    const Cut cut = FindCut(rest_);
    if (cut.next > 0) {
      TERN_RETURN_IF_ERROR(t_.EncodeIds(std::string_view(rest_).substr(0, cut.end), false, ids));
      rest_.erase(0, cut.next);
    }
    next_try_ = std::max(kPart, rest_.size() * 2);
    return {};
  }
  Status Finish(std::vector<int32_t>* ids) final {
    Status status = t_.EncodeIds(rest_, false, ids);
    rest_.clear();
    return status;
  }

 protected:
  struct Cut {
    size_t end = 0, next = 0;  // the part is [0, end), what follows begins at next; 0, 0: no place found
  };
  virtual Cut FindCut(std::string_view text) const = 0;  // the last place; text is not empty

 private:
  static constexpr size_t kPart = 1 << 16;
  const Tokenizer& t_;
  std::string rest_;
  size_t next_try_ = kPart;
};

}  // namespace tern
