// Files: the one place that knows the operating system (file_posix.cc; a port adds a sibling).
//
// MappedFile: a whole regular file, mapped read-only. FileWriter: an output that exists under its final name only when it is complete.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "engine/base/status.h"

namespace tern {

// Immutable after Open; safe to share between threads. The mapping stays valid when the file is replaced by rename.
class MappedFile {
 public:
  // Refuses anything but a regular file. An empty file gives an empty span.
  static Result<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::string& path() const { return path_; }
  // kIo if the file behind the mapping was changed in place (size, time or inode differ): what is mapped can no longer be trusted.
  Status CheckUnchanged() const;

  enum class Advice { kNormal, kSequential, kRandom, kWillNeed, kDontNeed, kPopulate, kEvict };  // kEvict: out of memory, the system's cache included, unless others map it
  // A hint for [offset, offset + length); failures are ignored, a wrong hint costs only time.
  void Advise(Advice advice, uint64_t offset, uint64_t length) const;
  // Bytes of [offset, offset + length) that are in memory now (mincore), or -1 if the system cannot tell.
  int64_t ResidentBytes(uint64_t offset, uint64_t length) const;

 private:
  MappedFile() = default;
  std::string path_;
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  int fd_ = -1;
  uint64_t inode_ = 0, device_ = 0;
  int64_t mtime_ns_ = 0;
};

// Writes `path` through a temporary in the same folder: Commit() syncs, renames and syncs the folder. Without Commit the destructor removes the
// temporary, so every failure leaves the old file (or none). Leftovers of killed writers of the same output are swept when a new one opens.
// A lock on the temporary makes a second writer of the same output fail with kIo. Not thread-safe.
class FileWriter {
 public:
  // expected_bytes > 0 reserves the space, so that a full disk is known now rather than at the end.
  static Result<FileWriter> Create(const std::string& path, uint64_t expected_bytes = 0);
  FileWriter(FileWriter&&) noexcept;
  FileWriter& operator=(FileWriter&&) noexcept;
  ~FileWriter();

  Status Write(const void* data, uint64_t bytes);  // appends; buffered
  Status Write(std::string_view text) { return Write(text.data(), text.size()); }
  // Overwrites bytes that were written before (a header whose digests are known last).
  Status WriteAt(uint64_t offset, const void* data, uint64_t bytes);
  Status PadTo(uint64_t alignment);  // zeros up to a multiple
  uint64_t size() const { return size_; }
  Status Flush();                    // hands the buffer to the system, so that temporary_path() can be read back
  const std::string& temporary_path() const { return temporary_; }
  Status Commit();

 private:
  FileWriter() = default;
  std::string path_, temporary_;
  std::string buffer_;
  uint64_t size_ = 0;
  int fd_ = -1;
};

// The whole file, at most max_bytes (kMalformed beyond). Works on pipes too ("-" is not special here).
Result<std::string> ReadFile(const std::string& path, uint64_t max_bytes);

// The name of a temporary file of `path`'s own: hidden, beside it, and removed by the next FileWriter of `path` if its maker was killed.
std::string HiddenBeside(const std::string& path, std::string_view what);

bool FileExists(const std::string& path);  // anything of that name
bool IsFolder(const std::string& path);
bool IsRegularFile(const std::string& path);
// Opens folder/name for a plain name that stands in a foreign file: no '/', no '..', a regular file or a link to one. Gives the joined path.
Result<std::string> PlainNameIn(const std::string& folder, std::string_view name);

}  // namespace tern
