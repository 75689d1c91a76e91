// SpillFile: an unnamed temporary file. It disappears when it is closed, however the program ends.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/status.h"

namespace tern::corpus {

class SpillFile {
 public:
  SpillFile() = default;
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  // Appends (buffered) and gives the offset. The file is made in `folder` at the first call. One thread.
  Result<int64_t> Append(const std::string& folder, const void* data, int64_t bytes);
  // Reads what was appended. Several threads, but not while one appends.
  Status Read(int64_t offset, void* out, int64_t bytes);
  // All of it as memory; nothing may be appended afterwards. The mapping lives as long as this object.
  Result<const void*> Map();
  int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  Status Flush();
  int fd_ = -1;
  void* map_ = nullptr;
  int64_t size_ = 0, written_ = 0;
  std::string buffer_, folder_;
};

// The descriptor of an unnamed file in `folder`.
Result<int> OpenUnnamedFile(const std::string& folder);

}  // namespace tern::corpus
