// Partitioned: many small fixed-size records, appended one at a time to one of a few thousand partitions, read back one partition at a time. In memory up
// to a budget, beyond it in an unnamed file: what is read back does not depend on where it was.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/spill_file.h"

namespace tern::corpus {

template <class T>
class Partitioned {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Partitioned(int64_t partitions, int64_t budget_bytes, std::string folder)
      : parts_(static_cast<size_t>(partitions)), budget_bytes_(budget_bytes), folder_(std::move(folder)) {}

  int64_t partitions() const { return static_cast<int64_t>(parts_.size()); }
  int64_t size() const { return size_; }

  // One thread.
  Status Append(int64_t partition, const T& record) {
    Part& part = parts_[static_cast<size_t>(partition)];
    if (part.used == kChunk || part.chunks.empty()) {
      if (held_bytes_ + static_cast<int64_t>(sizeof(T) * kChunk) > budget_bytes_) TERN_RETURN_IF_ERROR(SpillAll());
      part.chunks.emplace_back(new T[kChunk]);
      part.used = 0;
      held_bytes_ += static_cast<int64_t>(sizeof(T) * kChunk);
    }
    part.chunks.back()[part.used++] = record;
    ++size_;
    return {};
  }

  // All records of the partition in the order they were appended; its memory is given back. Different partitions may be taken by different threads.
  Result<std::vector<T>> Take(int64_t partition) {
    Part& part = parts_[static_cast<size_t>(partition)];
    size_t count = 0;
    for (const Extent& e : part.extents) count += static_cast<size_t>(e.count);
    if (!part.chunks.empty()) count += (part.chunks.size() - 1) * kChunk + part.used;
    std::vector<T> out(count);
    size_t at = 0;
    for (const Extent& e : part.extents) {
      TERN_RETURN_IF_ERROR(file_.Read(e.offset, out.data() + at, static_cast<int64_t>(sizeof(T)) * e.count));
      at += static_cast<size_t>(e.count);
    }
    for (size_t i = 0; i < part.chunks.size(); ++i) {
      size_t n = i + 1 == part.chunks.size() ? part.used : kChunk;
      std::memcpy(static_cast<void*>(out.data() + at), part.chunks[i].get(), n * sizeof(T));
      at += n;
    }
    part = Part();
    return out;
  }

 private:
  static constexpr size_t kChunk = sizeof(T) >= 2048 ? 1 : 2048 / sizeof(T);
  struct Extent {
    int64_t offset, count;
  };
  struct Part {
    std::vector<std::unique_ptr<T[]>> chunks;
    size_t used = kChunk;  // of the last chunk
    std::vector<Extent> extents;
  };

  Status SpillAll() {
    for (Part& part : parts_) {
      if (part.chunks.empty()) continue;
      Extent extent{-1, 0};
      for (size_t i = 0; i < part.chunks.size(); ++i) {
        size_t n = i + 1 == part.chunks.size() ? part.used : kChunk;
        TERN_ASSIGN(int64_t at, file_.Append(folder_, part.chunks[i].get(), static_cast<int64_t>(n * sizeof(T))));
        if (i == 0) extent.offset = at;
        extent.count += static_cast<int64_t>(n);
      }
      part.extents.push_back(extent);
      part.chunks.clear();
      part.used = kChunk;
    }
    held_bytes_ = 0;
    return {};
  }

  std::vector<Part> parts_;
  int64_t budget_bytes_, held_bytes_ = 0, size_ = 0;
  std::string folder_;
  SpillFile file_;
};

}  // namespace tern::corpus
