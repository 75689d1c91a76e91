// SharedText: the symbols of the documents of all ranks, one behind the other, as one mapped file in a folder that all ranks see. Each rank writes its own part.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/ranks.h"
#include "tools/corpus/windows.h"

namespace tern::corpus {

template <class T>
class SharedText {
 public:
  SharedText() = default;
  ~SharedText() {
    if (map_) ::munmap(map_, map_bytes_);
    if (!path_.empty()) ::unlink(path_.c_str());  // after a failure; else the name has gone already
  }
  SharedText(const SharedText&) = delete;
  SharedText& operator=(const SharedText&) = delete;

  // Collective. `own` is this rank's part, and stays valid.
  Status Join(Ranks& ranks, const std::string& folder, const SymbolText<T>& own) {
    std::vector<uint64_t> sizes;
    for (size_t d = 0; d < own.documents(); ++d) sizes.push_back(own.starts[d + 1] - own.starts[d]);
    TERN_ASSIGN(std::vector<uint64_t> own_size, ranks.Concatenate(std::vector<uint64_t>{own.documents(), own.size()}));
    TERN_ASSIGN(sizes, ranks.Concatenate(sizes));
    TERN_ASSIGN(text_.groups, ranks.Concatenate(own.groups));
    symbol_starts_.assign(1, 0);
    for (int r = 0; r < ranks.size(); ++r) {
      if (r < ranks.rank()) first_ += static_cast<size_t>(own_size[2 * static_cast<size_t>(r)]);
      symbol_starts_.push_back(symbol_starts_.back() + own_size[2 * static_cast<size_t>(r) + 1]);
    }
    end_ = first_ + own.documents();
    text_.starts.assign(1, 0);
    for (uint64_t n : sizes) text_.starts.push_back(text_.starts.back() + n);
    base_ = symbol_starts_[static_cast<size_t>(ranks.rank())];
    if (text_.size() == 0) return {};

    // The root makes the file; each rank writes; when all have closed it all map it; then its name goes.
    const std::string path = folder + "/text";
    map_bytes_ = text_.size() * sizeof(T);
    if (ranks.root()) {
      path_ = path;
      const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
      if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(map_bytes_)) != 0) return Failed("cannot create the shared text", path, fd);
      ::close(fd);
    }
    TERN_RETURN_IF_ERROR(ranks.Barrier());
    int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return Failed("cannot open the shared text", path, fd);
    const char* data = reinterpret_cast<const char*>(own.data);
    for (uint64_t done = 0, bytes = own.size() * sizeof(T); done < bytes;) {
      const ssize_t n = ::pwrite(fd, data + done, bytes - done, static_cast<off_t>(base_ * sizeof(T) + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return Failed("cannot write the shared text", path, fd);
      done += static_cast<uint64_t>(n);
    }
    if (::close(fd) != 0) return Failed("cannot write the shared text", path, -1);
    TERN_RETURN_IF_ERROR(ranks.Barrier());
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return Failed("cannot open the shared text", path, fd);
    void* map = ::mmap(nullptr, map_bytes_, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return Failed("cannot map the shared text", path, fd);
    ::close(fd);
    map_ = map;
    text_.data = static_cast<const T*>(map_);
    TERN_RETURN_IF_ERROR(ranks.Barrier());
    if (ranks.root()) ::unlink(path_.c_str());
    path_.clear();
    return {};
  }

  const SymbolText<T>& text() const { return text_; }
  size_t first() const { return first_; }    // of this rank's documents
  size_t end() const { return end_; }
  uint64_t base() const { return base_; }    // of its symbols
  const std::vector<uint64_t>& symbol_starts() const { return symbol_starts_; }  // of the ranks' parts, and the end

 private:
  static Status Failed(const char* what, const std::string& path, int fd) {
    Status status = IoError(Str(what, ": ", std::strerror(errno))).File(path).Hint("All ranks must see the output folder");
    if (fd >= 0) ::close(fd);
    return status;
  }

  SymbolText<T> text_;
  std::string path_;  // while this rank must remove it
  void* map_ = nullptr;
  size_t map_bytes_ = 0, first_ = 0, end_ = 0;
  uint64_t base_ = 0;
  std::vector<uint64_t> symbol_starts_;
};

}  // namespace tern::corpus
