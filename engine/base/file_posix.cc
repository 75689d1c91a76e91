#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "engine/base/file.h"

namespace tern {
namespace {

Status SystemError(const std::string& what, const std::string& path) {
  int error = errno;
  return IoError(Str(what, ": ", std::strerror(error))).File(path);
}

int64_t MtimeNs(const struct stat& s) { return int64_t{s.st_mtim.tv_sec} * 1'000'000'000 + s.st_mtim.tv_nsec; }

std::string FolderOf(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}
std::string NameOf(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

Status WriteAll(int fd, const char* data, uint64_t bytes, const std::string& path) {
  while (bytes > 0) {
    ssize_t n = ::write(fd, data, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return SystemError("cannot write", path);
    data += n, bytes -= static_cast<uint64_t>(n);
  }
  return {};
}

constexpr char kTemporaryMark[] = ".tern-tmp-";

// Removes temporaries of this output whose writer is gone (nobody holds their lock).
void SweepLeftovers(const std::string& folder, const std::string& name) {
  DIR* dir = ::opendir(folder.c_str());
  if (!dir) return;
  std::string prefix = "." + name + kTemporaryMark;
  while (struct dirent* entry = ::readdir(dir)) {
    if (std::strncmp(entry->d_name, prefix.c_str(), prefix.size()) != 0) continue;
    std::string path = folder + "/" + entry->d_name;
    int fd = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
    ::close(fd);
  }
  ::closedir(dir);
}

// Whether a living writer holds a temporary of this output.
bool HasLivingWriter(const std::string& folder, const std::string& name) {
  DIR* dir = ::opendir(folder.c_str());
  if (!dir) return false;
  std::string prefix = "." + name + kTemporaryMark;
  bool found = false;
  while (struct dirent* entry = ::readdir(dir))
    if (std::strncmp(entry->d_name, prefix.c_str(), prefix.size()) == 0) found = true;
  ::closedir(dir);
  return found;
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // not blocking: a FIFO must not hang us
  if (fd < 0) return SystemError("cannot open", path);
  std::shared_ptr<MappedFile> file(new MappedFile());
  file->fd_ = fd;
  file->path_ = path;
  struct stat s;
  if (::fstat(fd, &s) != 0) return SystemError("cannot stat", path);
  if (S_ISDIR(s.st_mode)) return IoError("is a folder, not a file").File(path);
  if (!S_ISREG(s.st_mode)) return IoError("is not a regular file").File(path);
  file->size_ = static_cast<uint64_t>(s.st_size);
  file->inode_ = s.st_ino, file->device_ = s.st_dev, file->mtime_ns_ = MtimeNs(s);
  if (file->size_ > 0) {
    void* data = ::mmap(nullptr, file->size_, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) return SystemError("cannot map", path);
    file->data_ = static_cast<const uint8_t*>(data);
  }
  return std::shared_ptr<const MappedFile>(std::move(file));
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<uint8_t*>(data_), size_);
  if (fd_ >= 0) ::close(fd_);
}

Status MappedFile::CheckUnchanged() const {
  struct stat s;
  if (::fstat(fd_, &s) != 0) return SystemError("cannot stat", path_);
  if (static_cast<uint64_t>(s.st_size) != size_ || MtimeNs(s) != mtime_ns_)
    return IoError("the file changed on disk while it was in use").File(path_).Hint("Open it again; replace files by rename, not in place");
  return {};
}

void MappedFile::Advise(Advice advice, uint64_t offset, uint64_t length) const {
  if (!data_ || offset >= size_) return;
  static const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  uint64_t begin = offset / page * page, end = std::min(size_, offset + length);
  int how = MADV_NORMAL;
  switch (advice) {
    case Advice::kNormal: how = MADV_NORMAL; break;
    case Advice::kSequential: how = MADV_SEQUENTIAL; break;
    case Advice::kRandom: how = MADV_RANDOM; break;
    case Advice::kWillNeed: how = MADV_WILLNEED; break;
    case Advice::kDontNeed:
    case Advice::kEvict: how = MADV_DONTNEED; break;
#ifdef MADV_POPULATE_READ
    case Advice::kPopulate: how = MADV_POPULATE_READ; break;
#else
    case Advice::kPopulate: how = MADV_WILLNEED; break;
#endif
  }
  (void)::madvise(const_cast<uint8_t*>(data_) + begin, end - begin, how);
  if (advice == Advice::kEvict) (void)::posix_fadvise(fd_, static_cast<off_t>(begin), static_cast<off_t>(end - begin), POSIX_FADV_DONTNEED);
}

int64_t MappedFile::ResidentBytes(uint64_t offset, uint64_t length) const {
  if (!data_ || offset >= size_) return 0;
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  uint64_t begin = offset / page * page, end = std::min(size_, offset + length);
  unsigned char in[1024];
  int64_t pages = 0;
  for (uint64_t at = begin; at < end; at += sizeof(in) * page) {
    const uint64_t bytes = std::min(end - at, sizeof(in) * page);
    if (::mincore(const_cast<uint8_t*>(data_) + at, bytes, in) != 0) return -1;
    for (uint64_t i = 0; i < (bytes + page - 1) / page; ++i) pages += in[i] & 1;
  }
  return pages * static_cast<int64_t>(page);
}

std::string HiddenBeside(const std::string& path, std::string_view what) {
  return Str(FolderOf(path), "/.", NameOf(path), kTemporaryMark, what);
}

Result<FileWriter> FileWriter::Create(const std::string& path, uint64_t expected_bytes) {
  FileWriter w;
  w.path_ = path;
  std::string folder = FolderOf(path), name = NameOf(path);
  if (name.empty() || name == "." || name == ".." || IsFolder(path)) return IoError("is a folder, not a file to write").File(path);
  SweepLeftovers(folder, name);
  if (HasLivingWriter(folder, name)) return IoError("another process is writing this file").File(path).Hint("Wait for it to end");
  std::string temporary = HiddenBeside(path, std::to_string(::getpid()));
  w.fd_ = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (w.fd_ < 0) return SystemError("cannot create", path);
  w.temporary_ = temporary;
  if (::flock(w.fd_, LOCK_EX | LOCK_NB) != 0) return SystemError("cannot lock", path);
  if (expected_bytes > 0) {
    int error = ::posix_fallocate(w.fd_, 0, static_cast<off_t>(expected_bytes));
    if (error == ENOSPC || error == EFBIG || error == EDQUOT) {
      errno = error;
      return SystemError(Str("no space for ", expected_bytes, " bytes"), path);
    }
  }
  return w;
}

FileWriter::FileWriter(FileWriter&& other) noexcept { *this = std::move(other); }
FileWriter& FileWriter::operator=(FileWriter&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(buffer_, other.buffer_);
  std::swap(size_, other.size_);
  std::swap(fd_, other.fd_);
  return *this;
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());  // before the lock goes
    ::close(fd_);
  }
}

Status FileWriter::Write(const void* data, uint64_t bytes) {
  constexpr uint64_t kBuffer = 1 << 18;
  size_ += bytes;
  if (buffer_.size() + bytes <= kBuffer) {
    buffer_.append(static_cast<const char*>(data), bytes);
    return {};
  }
  TERN_RETURN_IF_ERROR(Flush());
  if (bytes >= kBuffer) return WriteAll(fd_, static_cast<const char*>(data), bytes, path_);
  buffer_.append(static_cast<const char*>(data), bytes);
  return {};
}

Status FileWriter::Flush() {
  Status s = WriteAll(fd_, buffer_.data(), buffer_.size(), path_);
  buffer_.clear();
  return s;
}

Status FileWriter::WriteAt(uint64_t offset, const void* data, uint64_t bytes) {
  TERN_RETURN_IF_ERROR(Flush());
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    ssize_t n = ::pwrite(fd_, p, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return SystemError("cannot write", path_);
    p += n, bytes -= static_cast<uint64_t>(n), offset += static_cast<uint64_t>(n);
  }
  return {};
}

Status FileWriter::PadTo(uint64_t alignment) {
  static const char zeros[4096] = {};
  while (size_ % alignment != 0) TERN_RETURN_IF_ERROR(Write(zeros, std::min<uint64_t>(sizeof zeros, alignment - size_ % alignment)));
  return {};
}

Status FileWriter::Commit() {
  TERN_RETURN_IF_ERROR(Flush());
  if (::ftruncate(fd_, static_cast<off_t>(size_)) != 0) return SystemError("cannot write", path_);  // drops what was reserved beyond
  if (::fsync(fd_) != 0) return SystemError("cannot write", path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return SystemError("cannot rename to", path_);
  temporary_.clear();
  int folder = ::open(FolderOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    (void)::fsync(folder);  // some file systems cannot; the rename itself already happened
    ::close(folder);
  }
  ::close(fd_);
  fd_ = -1;
  return {};
}

Result<std::string> ReadFile(const std::string& path, uint64_t max_bytes) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return SystemError("cannot open", path);
  std::string out;
  struct stat s;
  if (::fstat(fd, &s) == 0 && S_ISDIR(s.st_mode)) {
    ::close(fd);
    return IoError("is a folder, not a file").File(path);
  }
  char block[1 << 16];
  for (;;) {
    ssize_t n = ::read(fd, block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      Status failed = SystemError("cannot read", path);
      ::close(fd);
      return failed;
    }
    if (n == 0) break;
    out.append(block, static_cast<size_t>(n));
    if (out.size() > max_bytes) {
      ::close(fd);
      return Malformed("the file is larger than allowed here").File(path).Got(Str("more than ", max_bytes, " bytes"), "less");
    }
  }
  ::close(fd);
  return out;
}

bool FileExists(const std::string& path) {
  struct stat s;
  return ::stat(path.c_str(), &s) == 0;
}
bool IsFolder(const std::string& path) {
  struct stat s;
  return ::stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
}
bool IsRegularFile(const std::string& path) {
  struct stat s;
  return ::stat(path.c_str(), &s) == 0 && S_ISREG(s.st_mode);
}

Result<std::string> PlainNameIn(const std::string& folder, std::string_view name) {
  auto refuse = [&](const char* why) -> Status {
    return Malformed(Str("the file name '", Printable(name), "' ", why)).File(folder).Hint("It must be the plain name of a regular file in this folder");
  };
  if (name.empty() || name.size() > 255) return refuse("is empty or too long");
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos || name == "." || name == "..")
    return refuse("is not a plain name");
  std::string path = folder + "/" + std::string(name);
  struct stat s;
  // Followed if it is a link: model caches link their files into place, and only the folder's owner can make one.
  if (::stat(path.c_str(), &s) != 0) return SystemError("cannot open", path);
  if (!S_ISREG(s.st_mode)) return refuse("is not a regular file");
  return path;
}

}  // namespace tern
