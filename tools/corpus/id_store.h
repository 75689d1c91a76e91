// IdStore: the ids of all documents as JSON, appended in order, found again by number. A little memory, then an unnamed file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/spill_file.h"

namespace tern::corpus {

class IdStore {
 public:
  explicit IdStore(std::string folder, int64_t memory_bytes = 16 << 20) : folder_(std::move(folder)), memory_bytes_(memory_bytes) {}
  Status Append(std::string_view id_json);               // of the next document; one thread
  Status Find(int64_t doc, std::string* id_json);        // several threads, after the last Append
  int64_t size() const { return count_; }
  void StartAt(int64_t first_doc) { first_doc_ = first_doc; }  // the number of the first document, after the last Append
  void Know(int64_t doc, std::string id_json) { others_[doc] = std::move(id_json); }  // of a document that was never appended

 private:
  static constexpr int64_t kStride = 64;  // every so many documents their place is noted
  std::string folder_;
  int64_t memory_bytes_, first_doc_ = 0, count_ = 0, bytes_ = 0;
  std::unordered_map<int64_t, std::string> others_;
  std::vector<int64_t> places_;
  std::string memory_;  // the newest bytes, or all of them
  SpillFile file_;
};

}  // namespace tern::corpus
