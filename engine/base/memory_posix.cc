#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
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

// The number behind "KEY " in a file of "KEY N" lines; 0 if absent.
int64_t StatBytes(const char* path, const char* key) {
  std::FILE* f = std::fopen(path, "re");
  if (!f) return 0;
  char name[64];
  long long number = 0, value = 0;
  while (std::fscanf(f, "%63s %lld", name, &number) == 2)
    if (std::strcmp(name, key) == 0) value = number;
  std::fclose(f);
  return value;
}

// How the two versions of control groups name the same figures.
struct CgroupFiles {
  const char *root, *limit, *used, *inactive, *active;
};
constexpr CgroupFiles kCgroup1{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"};
constexpr CgroupFiles kCgroup2{"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file", "active_file"};

// What the group at `path` still allows. Pages of files count as used there, but go when room is needed: a mapped model is such.
int64_t Headroom(const CgroupFiles& files, const char* path) {
  auto full = [&](const char* name) { return std::string(files.root) + path + "/" + name; };
  const int64_t limit = NumberIn(full(files.limit).c_str()), used = NumberIn(full(files.used).c_str());
  if (limit < 0 || used < 0) return std::numeric_limits<int64_t>::max();
  const std::string stat = full("memory.stat");
  const int64_t held = std::max<int64_t>(0, used - StatBytes(stat.c_str(), files.inactive) - StatBytes(stat.c_str(), files.active));
  return limit > held ? limit - held : 0;
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
  const int64_t kb = ProcKilobytes("/proc/meminfo", "MemAvailable");
  int64_t bytes = kb < 0 ? std::numeric_limits<int64_t>::max() : kb * 1024;
  // "N:CONTROLLERS:/PATH" a line; version 2 names no controllers. A container sees its own group at the root or, under the path that the host gives it, further
  // down: every parent is asked, and every end of the path.
  std::FILE* f = std::fopen("/proc/self/cgroup", "re");
  char line[4096];
  while (f && std::fgets(line, sizeof line, f)) {
    char* controllers = std::strchr(line, ':');
    char* path = controllers ? std::strchr(controllers + 1, ':') : nullptr;
    if (!path) continue;
    *path++ = '\0', ++controllers;
    path[std::strcspn(path, "\n")] = '\0';
    const CgroupFiles* files = *controllers == '\0' ? &kCgroup2 : std::strcmp(controllers, "memory") == 0 ? &kCgroup1 : nullptr;
    for (const char* end = path; files && end; end = std::strchr(end + 1, '/')) bytes = std::min(bytes, Headroom(*files, end));
    while (files) {
      bytes = std::min(bytes, Headroom(*files, path));
      char* slash = std::strrchr(path, '/');
      if (!slash) break;
      *slash = '\0';
    }
  }
  if (f) std::fclose(f);
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
