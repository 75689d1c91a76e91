#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include "engine/base/memory.h"

namespace tern {
namespace {

// The number behind "KEY:" in a /proc file of "KEY: N kB" lines; -1 if absent.
int64_t ProcKilobytes(const char* path, const char* key) {
  std::FILE* f = std::fopen(path, "re");
  if (!f) return -1;
  char line[256];
  int64_t value = -1;
  while (std::fgets(line, sizeof line, f)) {
    size_t n = std::strlen(key);
    if (std::strncmp(line, key, n) == 0 && line[n] == ':') value = std::strtoll(line + n + 1, nullptr, 10);
  }
  std::fclose(f);
  return value;
}

int64_t NumberIn(const char* path) {
  std::FILE* f = std::fopen(path, "re");
  if (!f) return -1;
  long long value = -1;
  if (std::fscanf(f, "%lld", &value) != 1) value = -1;  // "max" means no limit
  std::fclose(f);
  return value;
}

}  // namespace

Result<Region> Region::Create(int64_t bytes) {
  Region r;
  if (bytes <= 0) return r;
  void* p = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return MemoryError(Str("cannot get ", bytes, " bytes of memory"));
  r.data_ = static_cast<uint8_t*>(p);
  r.bytes_ = bytes;
  if (bytes >= 2 << 20) (void)::madvise(p, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
  if (::madvise(p, static_cast<size_t>(bytes), MADV_POPULATE_WRITE) == 0) return r;
#endif
  for (int64_t i = 0; i < bytes; i += 4096) const_cast<volatile uint8_t*>(r.data_)[i] = 0;
  return r;
}

Region& Region::operator=(Region&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}
Region::~Region() {
  if (data_) ::munmap(data_, static_cast<size_t>(bytes_));
}

int64_t AvailableMemory() {
  int64_t kb = ProcKilobytes("/proc/meminfo", "MemAvailable");
  int64_t bytes = kb < 0 ? std::numeric_limits<int64_t>::max() : kb * 1024;
  int64_t limit = NumberIn("/sys/fs/cgroup/memory.max"), used = NumberIn("/sys/fs/cgroup/memory.current");
  if (limit >= 0 && used >= 0 && limit - used < bytes) bytes = limit > used ? limit - used : 0;
  return bytes;
}
int64_t PeakResidentBytes() {
  int64_t kb = ProcKilobytes("/proc/self/status", "VmHWM");
  return kb < 0 ? 0 : kb * 1024;
}
int64_t ResidentBytes() {
  int64_t kb = ProcKilobytes("/proc/self/status", "VmRSS");
  return kb < 0 ? 0 : kb * 1024;
}

}  // namespace tern
