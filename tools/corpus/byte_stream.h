// ByteStream: the uncompressed bytes of a file, a pipe, or a gzip or zstd member after another, told apart by their first bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/base/status.h"

namespace tern::corpus {

class ByteStream {
 public:
  // "-" is standard input. kIo if it cannot be opened, kMalformed for Parquet.
  static Result<std::unique_ptr<ByteStream>> Open(const std::string& path);
  // The same over bytes in memory, for tests.
  static std::unique_ptr<ByteStream> OverBytes(std::string bytes);
  virtual ~ByteStream() = default;

  // Fills up to `most` bytes; fewer only at the end (0: the end). kMalformed for damaged or truncated compression.
  virtual Result<int64_t> Read(char* out, int64_t most) = 0;
  virtual bool compressed() const { return false; }
  // Bytes taken from the disk so far, for progress.
  virtual int64_t packed_position() const = 0;
};

}  // namespace tern::corpus
