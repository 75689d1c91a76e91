// Record readers on any bytes: the first byte chooses the format. Records must lie inside the block, in order, and texts must be UTF-8.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "engine/base/utf8.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/record_reader.h"

using namespace tern;
using namespace tern::corpus;

namespace {
void Require(bool ok) {
  if (!ok) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const Format formats[] = {Format::kJsonl, Format::kCsv, Format::kTsv, Format::kLines, Format::kParagraphs, Format::kFile};
  CommonOptions options;
  options.text_field = "a.text", options.score_field = "s";
  options.max_record_bytes = 4096;
  if (data[0] & 0x80) options.text_field = "text";
  RecordReader reader(options);
  Block block;
  block.format = formats[data[0] % 6];
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  CsvColumns columns;
  if (block.format == Format::kCsv || block.format == Format::kTsv) {
    auto header = reader.ReadCsvHeader(block.format, bytes, &columns);
    if (!header.ok()) return 0;
    Require(*header <= bytes.size());
    bytes.remove_prefix(*header);
  }
  Require(RecordReader::WholeRecords(block.format, bytes) <= bytes.size());
  Require(RecordReader::EndOfTooLong(block.format, bytes) <= bytes.size());
  block.storage = bytes;
  block.bytes = static_cast<int64_t>(bytes.size());
  reader.Split(&block, columns, true);
  const char* at = block.storage.data();
  for (const Record& record : block.records) {
    Require(record.raw.data() >= at && record.raw.data() + record.raw.size() <= block.storage.data() + block.storage.size());
    at = record.raw.data() + record.raw.size();
    Require(IsUtf8(record.text));
    if (record.bad) continue;
    Require(record.text_raw.data() >= record.raw.data() && record.text_raw.data() + record.text_raw.size() <= at);
    std::string rewritten;
    AppendRewritten(block, record, "new \" text", &rewritten);
    Require(!rewritten.empty());
  }
  return 0;
}
