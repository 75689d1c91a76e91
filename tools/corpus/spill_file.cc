#include "tools/corpus/spill_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace tern::corpus {

Result<int> OpenUnnamedFile(const std::string& folder) {
#ifdef O_TMPFILE
  int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) return fd;
#endif
  std::string name = folder + "/.tern-spill-XXXXXX";
  int made = ::mkostemp(name.data(), O_CLOEXEC);
  if (made < 0) return IoError(Str("cannot create a temporary file: ", std::strerror(errno))).File(folder);
  ::unlink(name.c_str());
  return made;
}

SpillFile::~SpillFile() {
  if (map_) ::munmap(map_, static_cast<size_t>(size_));
  if (fd_ >= 0) ::close(fd_);
}

Status SpillFile::Flush() {
  const char* p = buffer_.data();
  int64_t left = static_cast<int64_t>(buffer_.size());
  while (left > 0) {
    ssize_t n = ::pwrite(fd_, p, static_cast<size_t>(left), written_);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return IoError(Str("cannot write a temporary file: ", std::strerror(errno))).File(folder_).Hint("Name a roomier folder with --tmp, or raise --max-memory");
    p += n, left -= n, written_ += n;
  }
  buffer_.clear();
  return {};
}

Result<int64_t> SpillFile::Append(const std::string& folder, const void* data, int64_t bytes) {
  constexpr size_t kBuffer = 1 << 20;
  if (fd_ < 0) {
    TERN_ASSIGN(fd_, OpenUnnamedFile(folder));
    folder_ = folder;
  }
  int64_t at = size_;
  buffer_.append(static_cast<const char*>(data), static_cast<size_t>(bytes));
  size_ += bytes;
  if (buffer_.size() >= kBuffer) TERN_RETURN_IF_ERROR(Flush());
  return at;
}

Status SpillFile::Read(int64_t offset, void* out, int64_t bytes) {
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    if (offset >= written_) {  // still in the buffer
      std::memcpy(to, buffer_.data() + (offset - written_), static_cast<size_t>(bytes));
      return {};
    }
    int64_t want = bytes < written_ - offset ? bytes : written_ - offset;
    ssize_t n = ::pread(fd_, to, static_cast<size_t>(want), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return IoError(Str("cannot read a temporary file: ", n < 0 ? std::strerror(errno) : "it is shorter than it was")).File(folder_);
    to += n, offset += n, bytes -= n;
  }
  return {};
}

Result<const void*> SpillFile::Map() {
  TERN_RETURN_IF_ERROR(Flush());
  if (size_ == 0) return static_cast<const void*>("");
  if (!map_) {
    void* map = ::mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_SHARED, fd_, 0);
    if (map == MAP_FAILED) return IoError(Str("cannot map a temporary file: ", std::strerror(errno))).File(folder_);
    map_ = map;
  }
  return static_cast<const void*>(map_);
}

}  // namespace tern::corpus
