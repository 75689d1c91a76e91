// Region: one anonymous mapping, 64-byte (page) aligned, huge pages asked for, touched at creation so that the hot loop never faults.
#pragma once

#include <cstdint>

#include "engine/base/status.h"

namespace tern {

class Region {
 public:
  Region() = default;
  // kMemory if the system refuses. Zero-filled. 0 bytes is allowed.
  static Result<Region> Create(int64_t bytes);
  Region(Region&& other) noexcept { *this = static_cast<Region&&>(other); }
  Region& operator=(Region&& other) noexcept;
  ~Region();

  uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
};

// What this process may still use: the smaller of MemAvailable and the cgroup's headroom; INT64_MAX if unknown.
int64_t AvailableMemory();
// High-water mark of resident memory (VmHWM) and the current figure (VmRSS) in bytes; 0 if unknown.
int64_t PeakResidentBytes();
int64_t ResidentBytes();

}  // namespace tern
