#include "tools/corpus/id_store.h"

#include <algorithm>
#include <cstring>

namespace tern::corpus {

Status IdStore::Append(std::string_view id_json) {
  if (count_++ % kStride == 0) places_.push_back(bytes_);
  memory_ += id_json;  // JSON holds no line feed
  memory_ += '\n';
  bytes_ += static_cast<int64_t>(id_json.size()) + 1;
  if (static_cast<int64_t>(memory_.size()) >= memory_bytes_) {
    TERN_ASSIGN(int64_t at, file_.Append(folder_, memory_.data(), static_cast<int64_t>(memory_.size())));
    (void)at;
    memory_.clear();
  }
  return {};
}

Status IdStore::Find(int64_t doc, std::string* id_json) {
  id_json->clear();
  if (!others_.empty())
    if (auto it = others_.find(doc); it != others_.end()) {
      *id_json = it->second;
      return {};
    }
  doc -= first_doc_;
  if (doc < 0 || doc >= count_) return InternalError("a document without an id");
  size_t stride = static_cast<size_t>(doc / kStride);
  int64_t at = places_[stride], end = stride + 1 < places_.size() ? places_[stride + 1] : bytes_;
  std::string piece(static_cast<size_t>(end - at), '\0');
  int64_t in_file = std::max<int64_t>(0, std::min(end, file_.size()) - at);
  if (in_file > 0) TERN_RETURN_IF_ERROR(file_.Read(at, piece.data(), in_file));
  if (in_file < end - at) std::memcpy(piece.data() + in_file, memory_.data() + (at + in_file - file_.size()), static_cast<size_t>(end - at - in_file));
  size_t from = 0;
  for (int64_t i = doc % kStride; i > 0; --i) from = piece.find('\n', from) + 1;
  id_json->assign(piece, from, piece.find('\n', from) - from);
  return {};
}

}  // namespace tern::corpus
