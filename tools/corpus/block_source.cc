#include "tools/corpus/block_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tools/corpus/spill_file.h"

namespace tern::corpus {
namespace {

int64_t MtimeNs(const struct stat& s) { return int64_t{s.st_mtim.tv_sec} * 1'000'000'000 + s.st_mtim.tv_nsec; }

std::span<const uint8_t> AsBytes(const char* p, int64_t n) { return {reinterpret_cast<const uint8_t*>(p), static_cast<size_t>(n)}; }

Status Changed(const std::string& path) {
  return IoError("the file changed while it was being read").File(path).Hint("Run again when nothing writes to it; nothing was written under a final name");
}

}  // namespace

BlockSource::BlockSource(const CommonOptions& options, std::vector<Source>* sources, size_t begin, size_t end, bool spool)
    : options_(options), sources_(sources), end_(end), spool_(spool), reader_(options), files_(sources->size()), file_(begin) {
  for (size_t i = begin; i < end; ++i) {
    const Source& s = (*sources_)[i];
    struct stat st;
    if (s.path == "-" || ::stat(s.path.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) {
      total_bytes_ = -1;
      break;
    }
    total_bytes_ += st.st_size;
  }
}

BlockSource::~BlockSource() {
  for (const FileState& f : files_)
    if (f.spool >= 0) ::close(f.spool);
}

Status BlockSource::OpenFile() {
  Source& source = (*sources_)[file_];
  FileState& state = files_[file_];
  TERN_ASSIGN(stream_, ByteStream::Open(source.path));
  digest_.emplace();
  carry_.clear();
  have_ = position_ = spooled_ = 0;
  first_line_ = 1;
  begun_ = ended_ = given_ = false;
  struct stat s;
  bool regular = source.path != "-" && ::stat(source.path.c_str(), &s) == 0 && S_ISREG(s.st_mode);
  if (regular) {
    state.inode = s.st_ino, state.device = s.st_dev, state.size = s.st_size, state.mtime_ns = MtimeNs(s);
    source.packed_bytes = s.st_size;
  }
  if (spool_ && (!regular || stream_->compressed())) {
    std::string folder = options_.temporary_folder.empty() ? options_.output : options_.temporary_folder;
    TERN_ASSIGN(state.spool, OpenUnnamedFile(folder.empty() ? "." : folder));
  }
  return {};
}

Status BlockSource::CheckUnchanged(const Source& source, const FileState& state, int fd) const {
  struct stat s;
  int code = fd >= 0 ? ::fstat(fd, &s) : ::stat(source.path.c_str(), &s);
  if (code != 0 || s.st_ino != state.inode || s.st_dev != state.device || s.st_size != state.size || MtimeNs(s) != state.mtime_ns) return Changed(source.path);
  return {};
}

Status BlockSource::CloseFile() {
  Source& source = (*sources_)[file_];
  if (source.packed_bytes >= 0) TERN_RETURN_IF_ERROR(CheckUnchanged(source, files_[file_], -1));
  source.digest = digest_->Digest();
  source.bytes = spooled_;
  done_bytes_ += stream_->packed_position();
  stream_ = nullptr;
  ++file_;
  return {};
}

Status BlockSource::Spool(const char* data, int64_t bytes) {
  int64_t at = spooled_;
  spooled_ += bytes;
  int fd = files_[file_].spool;
  while (fd >= 0 && bytes > 0) {
    ssize_t n = ::pwrite(fd, data, static_cast<size_t>(bytes), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return IoError(Str("cannot write the unpacked copy: ", std::strerror(errno))).File((*sources_)[file_].path).Hint("Name a roomier folder with --tmp");
    data += n, bytes -= n, at += n;
  }
  return {};
}

Status BlockSource::Fill(Block* block, int64_t most) {
  if (static_cast<int64_t>(block->storage.size()) < have_ + most) block->storage.resize(static_cast<size_t>(have_ + most));
  char* to = block->storage.data() + have_;
  TERN_ASSIGN(int64_t n, stream_->Read(to, most));
  digest_->Update(AsBytes(to, n));
  TERN_RETURN_IF_ERROR(Spool(to, n));
  have_ += n;
  ended_ = n < most;
  return {};
}

Status BlockSource::BeginFile(Block* block) {
  Source& source = (*sources_)[file_];
  std::string_view bytes(block->storage.data(), static_cast<size_t>(have_));
  int64_t drop = bytes.substr(0, 3) == "\xef\xbb\xbf" ? 3 : 0;
  bytes.remove_prefix(static_cast<size_t>(drop));
  if (source.format == Format::kAuto) {  // standard input
    size_t first = bytes.find_first_not_of(" \t\r\n");
    source.format = first != std::string_view::npos && bytes[first] == '{' ? Format::kJsonl : Format::kLines;
    source.kept_name += source.format == Format::kJsonl ? ".jsonl" : ".txt";
  }
  if (source.format == Format::kCsv || source.format == Format::kTsv) {
    while (RecordReader::WholeRecords(source.format, bytes) == 0 && !ended_ && have_ <= options_.max_record_bytes) {
      TERN_RETURN_IF_ERROR(Fill(block, std::max(have_, kBlockBytes)));
      bytes = std::string_view(block->storage.data(), static_cast<size_t>(have_)).substr(static_cast<size_t>(drop));
    }
    if (!bytes.empty()) {
      auto header = reader_.ReadCsvHeader(source.format, bytes, &files_[file_].columns);
      if (!header.ok()) return Status(header.status()).File(source.path);
      source.csv_header = std::string(bytes.substr(0, *header));
      drop += static_cast<int64_t>(*header);
      first_line_ += std::count(source.csv_header.begin(), source.csv_header.end(), '\n');
    }
  }
  std::memmove(block->storage.data(), block->storage.data() + drop, static_cast<size_t>(have_ - drop));
  have_ -= drop;
  position_ = drop;
  begun_ = true;
  return {};
}

// The record at the start of the buffer exceeds the limit: it is passed over in pieces and listed as malformed.
Status BlockSource::DropTooLong(Block* block, BlockPlace* place) {
  const Format format = (*sources_)[file_].format;
  int64_t dropped = 0;
  auto drop = [&](int64_t n) {
    char* data = block->storage.data();
    block->lines += std::count(data, data + n, '\n');
    std::memmove(data, data + n, static_cast<size_t>(have_ - n));
    have_ -= n, dropped += n;
  };
  for (;;) {
    std::string_view bytes(block->storage.data(), static_cast<size_t>(have_));
    if (size_t end = RecordReader::EndOfTooLong(format, bytes)) {
      drop(static_cast<int64_t>(end));
      break;
    }
    if (ended_) {
      drop(have_);
      break;
    }
    // Between paragraphs the last line feed still matters: a blank line may follow it.
    size_t last = format == Format::kParagraphs ? bytes.rfind('\n') : std::string_view::npos;
    drop(last == std::string_view::npos ? have_ : static_cast<int64_t>(last));
    TERN_RETURN_IF_ERROR(Fill(block, kBlockBytes));
  }
  carry_.assign(block->storage.data(), static_cast<size_t>(have_));
  block->bytes = 0;
  block->offset = position_;
  Record& record = block->records.emplace_back();
  record.offset = position_;
  record.id_json = "null";
  record.bad = "longer than --max-record";
  position_ += dropped;
  place->too_long = true;
  return {};
}

Result<bool> BlockSource::Next(Block* block, BlockPlace* place) {
  *place = {};
  block->records.clear();
  block->lines = 0;
  for (;;) {
    if (!stream_) {
      if (file_ == end_) return false;
      TERN_RETURN_IF_ERROR(OpenFile());
    }
    have_ = static_cast<int64_t>(carry_.size());
    if (static_cast<int64_t>(block->storage.size()) < have_) block->storage.resize(static_cast<size_t>(have_));
    std::memcpy(block->storage.data(), carry_.data(), static_cast<size_t>(have_));
    carry_.clear();
    for (;;) {
      if (!ended_) TERN_RETURN_IF_ERROR(Fill(block, have_ < kBlockBytes ? kBlockBytes - have_ : have_));
      if (!begun_) TERN_RETURN_IF_ERROR(BeginFile(block));
      const Format format = (*sources_)[file_].format;
      block->format = format;
      block->file = place->file = static_cast<int>(file_);
      std::string_view bytes(block->storage.data(), static_cast<size_t>(have_));
      size_t end = ended_ ? bytes.size() : RecordReader::WholeRecords(format, bytes);
      if (end > 0 || (format == Format::kFile && ended_ && !given_)) {
        if (format == Format::kFile && have_ > options_.max_record_bytes) {
          TERN_RETURN_IF_ERROR(DropTooLong(block, place));
          given_ = true;
          place->offset = block->offset;
          return true;
        }
        given_ = true;
        carry_.assign(bytes.substr(end));
        block->offset = position_;
        block->bytes = static_cast<int64_t>(end);
        position_ += block->bytes;
        place->offset = block->offset, place->bytes = block->bytes;
        place->digest = Xxh3(AsBytes(block->storage.data(), block->bytes));
        return true;
      }
      if (ended_) break;
      if (have_ > options_.max_record_bytes + 2) {
        TERN_RETURN_IF_ERROR(DropTooLong(block, place));
        given_ = true;
        place->offset = block->offset;
        return true;
      }
    }
    TERN_RETURN_IF_ERROR(CloseFile());
  }
}

Status BlockSource::Load(const BlockPlace& place, Block* block) const {
  const Source& source = (*sources_)[static_cast<size_t>(place.file)];
  const FileState& state = files_[static_cast<size_t>(place.file)];
  block->format = source.format;
  block->file = place.file;
  block->offset = place.offset;
  block->bytes = place.bytes;
  if (static_cast<int64_t>(block->storage.size()) < place.bytes) block->storage.resize(static_cast<size_t>(place.bytes));
  int fd = state.spool >= 0 ? state.spool : ::open(source.path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return IoError(Str("cannot open: ", std::strerror(errno))).File(source.path);
  Status status = state.spool >= 0 ? Status() : CheckUnchanged(source, state, fd);
  for (int64_t done = 0; status.ok() && done < place.bytes;) {
    ssize_t n = ::pread(fd, block->storage.data() + done, static_cast<size_t>(place.bytes - done), place.offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) status = IoError(Str("cannot read: ", std::strerror(errno))).File(source.path);
    if (n == 0) status = Changed(source.path);
    done += n;
  }
  if (state.spool < 0) ::close(fd);
  if (status.ok() && Xxh3(AsBytes(block->storage.data(), place.bytes)) != place.digest) return Changed(source.path);
  return status;
}

}  // namespace tern::corpus
