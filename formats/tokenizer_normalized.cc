#include "formats/tokenizer_normalized.h"

#include <algorithm>

#include "engine/base/utf8.h"

namespace tern {

void NormalizedText::Assign(std::string_view original, bool track) {
  text.assign(original);
  align.clear();
  origin = 0;
  tracked = track;
  added_id = -1;
  if (!track) return;
  align.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = DecodeUtf8(text, i).bytes;
    align.insert(align.end(), bytes, {static_cast<uint32_t>(i), static_cast<uint32_t>(i + bytes)});
    i += bytes;
  }
}

NormalizedText NormalizedText::Slice(size_t begin, size_t end) const {
  NormalizedText out;
  out.text = text.substr(begin, end - begin);
  out.tracked = tracked;
  out.origin = origin;
  if (tracked) {
    out.align.assign(align.begin() + static_cast<int64_t>(begin), align.begin() + static_cast<int64_t>(end));
    if (!out.align.empty()) out.origin = out.align[0].begin;
  } else if (begin > 0) {
    out.origin = 1;  // not the beginning; where exactly does not matter without offsets
  }
  return out;
}

void Rewriter::Append(std::string_view c, Alignment alignment) {
  out_.append(c);
  if (t_->tracked) align_.insert(align_.end(), c.size(), alignment);
}

void Rewriter::Keep(size_t bytes) {
  out_.append(t_->text, at_, bytes);
  if (t_->tracked)
    align_.insert(align_.end(), t_->align.begin() + static_cast<int64_t>(at_),
                  t_->align.begin() + static_cast<int64_t>(at_ + bytes));
  at_ += bytes;
}

void Rewriter::Put(std::string_view c, size_t old_bytes) {
  const bool inside = at_ < t_->align.size();
  Append(c, inside ? t_->align[at_] : Alignment{t_->origin, t_->origin});
  at_ = std::min(at_ + old_bytes, t_->text.size());
}
void Rewriter::Put(char32_t c, size_t old_bytes) {
  std::string bytes;
  AppendUtf8(c, &bytes);
  Put(bytes, old_bytes);
}

void Rewriter::Insert(std::string_view c) {
  const bool inside = at_ > 0 && at_ <= t_->align.size();
  Append(c, inside ? t_->align[at_ - 1] : Alignment{t_->origin, t_->origin});
}
void Rewriter::Insert(char32_t c) {
  std::string bytes;
  AppendUtf8(c, &bytes);
  Insert(bytes);
}

void Rewriter::Finish() {
  t_->text = std::move(out_);
  if (t_->tracked) t_->align = std::move(align_);
}

}  // namespace tern
