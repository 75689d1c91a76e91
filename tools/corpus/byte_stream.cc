#include "tools/corpus/byte_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace tern::corpus {
namespace {

constexpr size_t kPackedBlock = 1 << 18;

// Plain bytes of a descriptor or of memory, with the first few read ahead.
class PlainStream : public ByteStream {
 public:
  PlainStream(int fd, bool owned, std::string path) : fd_(fd), owned_(owned), path_(std::move(path)) {}
  explicit PlainStream(std::string bytes) : fd_(-1), owned_(false), path_("memory"), ahead_(std::move(bytes)) {}
  ~PlainStream() override {
    if (owned_) ::close(fd_);
  }

  Result<int64_t> Read(char* out, int64_t most) override {
    int64_t done = 0;
    if (at_ < ahead_.size()) {
      done = std::min<int64_t>(most, static_cast<int64_t>(ahead_.size() - at_));
      std::memcpy(out, ahead_.data() + at_, static_cast<size_t>(done));
      at_ += static_cast<size_t>(done);
    }
    while (done < most && fd_ >= 0) {
      ssize_t n = ::read(fd_, out + done, static_cast<size_t>(most - done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return IoError(Str("cannot read: ", std::strerror(errno))).File(path_);
      if (n == 0) break;
      done += n;
    }
    position_ += done;
    return done;
  }
  int64_t packed_position() const override { return position_; }
  const std::string& path() const { return path_; }

  // The first bytes, without taking them.
  Result<std::string_view> Peek() {
    if (fd_ < 0) return std::string_view(ahead_);
    char first[8];
    TERN_ASSIGN(int64_t n, Read(first, sizeof first));
    position_ -= n;
    ahead_.assign(first, static_cast<size_t>(n));
    at_ = 0;
    return std::string_view(ahead_);
  }

 private:
  int fd_;
  bool owned_;
  std::string path_, ahead_;
  size_t at_ = 0;
  int64_t position_ = 0;
};

class GzipStream : public ByteStream {
 public:
  explicit GzipStream(std::unique_ptr<PlainStream> packed) : packed_(std::move(packed)), buffer_(kPackedBlock, '\0') {}
  ~GzipStream() override {
    if (ready_) inflateEnd(&z_);
  }
  bool compressed() const override { return true; }
  int64_t packed_position() const override { return packed_->packed_position(); }

  Result<int64_t> Read(char* out, int64_t most) override {
    if (!ready_) {
      if (inflateInit2(&z_, 15 + 16) != Z_OK) return MemoryError("no memory for gzip").File(packed_->path());
      ready_ = true;
    }
    int64_t done = 0;
    while (done < most && !ended_) {
      if (z_.avail_in == 0) {
        TERN_ASSIGN(int64_t n, packed_->Read(buffer_.data(), static_cast<int64_t>(buffer_.size())));
        if (n == 0) {
          if (inside_) return Damaged("the gzip data ends too early");
          ended_ = true;
          break;
        }
        z_.next_in = reinterpret_cast<Bytef*>(buffer_.data()), z_.avail_in = static_cast<uInt>(n);
      }
      if (!inside_) {
        // Between members: padding with zeros is allowed, anything that is no member ends the file, as gzip itself does.
        while (z_.avail_in > 0 && *z_.next_in == 0 && members_ > 0) ++z_.next_in, --z_.avail_in;
        if (z_.avail_in == 0) continue;
        if (members_ > 0) {
          if (*z_.next_in != 0x1f) {
            ended_ = true;
            break;
          }
          inflateReset(&z_);
        }
        inside_ = true;
      }
      uInt room = static_cast<uInt>(std::min<int64_t>(most - done, 1 << 30));
      z_.next_out = reinterpret_cast<Bytef*>(out + done), z_.avail_out = room;
      int code = inflate(&z_, Z_NO_FLUSH);
      done += room - z_.avail_out;
      if (code == Z_STREAM_END) {
        inside_ = false, ++members_;
      } else if (code != Z_OK && code != Z_BUF_ERROR) {
        return Damaged(z_.msg ? Str("the gzip data is damaged: ", z_.msg) : std::string("the gzip data is damaged"));
      }
    }
    position_ += done;
    return done;
  }

 private:
  Status Damaged(std::string what) const { return Malformed(std::move(what)).File(packed_->path()).Where(Str("offset ", position_, " of the content")); }
  std::unique_ptr<PlainStream> packed_;
  std::string buffer_;
  z_stream z_{};
  bool ready_ = false, inside_ = false, ended_ = false;
  int64_t members_ = 0, position_ = 0;
};

class ZstdStream : public ByteStream {
 public:
  explicit ZstdStream(std::unique_ptr<PlainStream> packed) : packed_(std::move(packed)), buffer_(kPackedBlock, '\0'), z_(ZSTD_createDCtx()) {
    if (z_) ZSTD_DCtx_setParameter(z_, ZSTD_d_windowLogMax, 27);  // 128 MiB at most, whatever the frame says
  }
  ~ZstdStream() override { ZSTD_freeDCtx(z_); }
  bool compressed() const override { return true; }
  int64_t packed_position() const override { return packed_->packed_position(); }

  Result<int64_t> Read(char* out, int64_t most) override {
    if (!z_) return MemoryError("no memory for zstd").File(packed_->path());
    ZSTD_outBuffer to{out, static_cast<size_t>(most), 0};
    while (to.pos < to.size) {
      if (in_.pos == in_.size && !drain_) {
        TERN_ASSIGN(int64_t n, packed_->Read(buffer_.data(), static_cast<int64_t>(buffer_.size())));
        if (n == 0) {
          if (inside_) return Damaged("the zstd data ends too early");
          break;
        }
        in_ = {buffer_.data(), static_cast<size_t>(n), 0};
      }
      size_t left = ZSTD_decompressStream(z_, &to, &in_);
      if (ZSTD_isError(left)) return Damaged(Str("the zstd data is damaged: ", ZSTD_getErrorName(left)));
      inside_ = left != 0;
      drain_ = to.pos == to.size && inside_;  // it may hold more output than there was room for
    }
    position_ += static_cast<int64_t>(to.pos);
    return static_cast<int64_t>(to.pos);
  }

 private:
  Status Damaged(std::string what) const { return Malformed(std::move(what)).File(packed_->path()).Where(Str("offset ", position_, " of the content")); }
  std::unique_ptr<PlainStream> packed_;
  std::string buffer_;
  ZSTD_DCtx* z_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool inside_ = false, drain_ = false;
  int64_t position_ = 0;
};

Result<std::unique_ptr<ByteStream>> Recognise(std::unique_ptr<PlainStream> plain) {
  TERN_ASSIGN(std::string_view first, plain->Peek());
  if (first.substr(0, 2) == "\x1f\x8b") return std::unique_ptr<ByteStream>(std::make_unique<GzipStream>(std::move(plain)));
  if (first.substr(0, 4) == "\x28\xb5\x2f\xfd") return std::unique_ptr<ByteStream>(std::make_unique<ZstdStream>(std::move(plain)));
  if (first.substr(0, 4) == "PAR1")
    return Malformed("Parquet is not read").File(plain->path()).Hint("Convert it to JSONL first, for example with pandas: read_parquet(..).to_json(.., orient='records', lines=True)");
  return std::unique_ptr<ByteStream>(std::move(plain));
}

}  // namespace

Result<std::unique_ptr<ByteStream>> ByteStream::Open(const std::string& path) {
  if (path == "-") return Recognise(std::make_unique<PlainStream>(STDIN_FILENO, false, "standard input"));
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return IoError(Str("cannot open: ", std::strerror(errno))).File(path);
  auto plain = std::make_unique<PlainStream>(fd, true, path);
  struct stat s;
  if (::fstat(fd, &s) == 0 && S_ISDIR(s.st_mode)) return IoError("is a folder, not a file").File(path);
  (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  return Recognise(std::move(plain));
}

std::unique_ptr<ByteStream> ByteStream::OverBytes(std::string bytes) {
  auto stream = Recognise(std::make_unique<PlainStream>(std::move(bytes)));
  return stream.ok() ? std::move(stream).value() : std::make_unique<PlainStream>(std::string());
}

}  // namespace tern::corpus
