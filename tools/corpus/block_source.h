// BlockSource: where blocks come from. The first reading of all inputs (in order, any kind of file), and later ones of single blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/hash.h"
#include "engine/base/status.h"
#include "tools/corpus/byte_stream.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/record_reader.h"

namespace tern::corpus {

// What is remembered of a block.
struct BlockPlace {
  int64_t offset = 0, bytes = 0, first_doc = 0, first_line = 0;
  uint64_t digest = 0;
  int32_t file = 0;
  bool too_long = false;  // one record above --max-record: never read again
};

// A file as it was when it was read first; a spool for what cannot be read twice.
struct FileState {
  uint64_t inode = 0, device = 0;
  int64_t size = 0, mtime_ns = 0;
  int spool = -1;  // descriptor of an unnamed file, or -1
  CsvColumns columns;
};

class BlockSource {
 public:
  static constexpr int64_t kBlockBytes = 512 << 10;

  // Of the sources [begin, end).
  BlockSource(const CommonOptions& options, std::vector<Source>* sources, size_t begin, size_t end, bool spool);
  ~BlockSource();

  // The next block of the first reading: storage, bytes, file, format, offset; not split, except for a record that is too long. False at the end.
  Result<bool> Next(Block* block, BlockPlace* place);
  // Reads a block again. kIo if the file changed.
  Status Load(const BlockPlace& place, Block* block) const;

  const CsvColumns& columns(int file) const { return files_[static_cast<size_t>(file)].columns; }
  int64_t position() const { return done_bytes_ + (stream_ ? stream_->packed_position() : 0); }
  int64_t total_bytes() const { return total_bytes_; }  // on disk; -1 with a pipe

 private:
  Status OpenFile();
  Status CloseFile();
  Status Fill(Block* block, int64_t most);  // more bytes behind the have_ that are there
  Status BeginFile(Block* block);           // byte order mark, header, the format of a pipe
  Status DropTooLong(Block* block, BlockPlace* place);
  Status Spool(const char* data, int64_t bytes);
  Status CheckUnchanged(const Source& source, const FileState& state, int fd) const;

  const CommonOptions& options_;
  std::vector<Source>* sources_;
  const size_t end_;
  bool spool_;
  RecordReader reader_;
  std::vector<FileState> files_;
  int64_t total_bytes_ = 0, done_bytes_ = 0;

  // Of the file that is being read.
  size_t file_;
  std::unique_ptr<ByteStream> stream_;
  std::optional<Xxh3Stream> digest_;
  std::string carry_;
  int64_t have_ = 0, position_ = 0, spooled_ = 0, first_line_ = 1;
  bool begun_ = false, ended_ = false, given_ = false;
};

}  // namespace tern::corpus
