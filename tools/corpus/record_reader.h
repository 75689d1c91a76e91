// RecordReader: bytes into records, for one format. Pure functions of the bytes; the file is somebody else's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/json_record.h"
#include "tools/corpus/options.h"
#include "tools/corpus/record.h"

namespace tern::corpus {

// Where the wanted columns of a CSV file stand; -1: there is none.
struct CsvColumns {
  int64_t count = 0, text = -1, id = -1, score = -1;
};

class RecordReader {
 public:
  explicit RecordReader(const CommonOptions& options);

  // The end of the last whole record in `bytes` that begin at a record: 0 if none ends there. At the end of the file everything is whole.
  static size_t WholeRecords(Format format, std::string_view bytes);
  // In the middle of a record that is too long: the end of the stretch to drop (behind the next end of a record), or 0 if that is not in `bytes`.
  static size_t EndOfTooLong(Format format, std::string_view bytes);

  // The header record at the start of a CSV file: its length and columns. kMalformed if the text column is missing.
  Result<size_t> ReadCsvHeader(Format format, std::string_view bytes, CsvColumns* columns) const;

  // Splits block->storage[0, block->bytes) into block->records; with `parse` also text, id, score and what is wrong with a record.
  void Split(Block* block, const CsvColumns& columns, bool parse) const;

 private:
  void ParseJson(Block* block, Record* record, std::string_view line) const;
  void SplitLines(Block* block, std::string_view bytes, bool parse) const;
  void SplitParagraphs(Block* block, std::string_view bytes, bool parse) const;
  void SplitCsv(Block* block, std::string_view bytes, const CsvColumns& columns, bool parse) const;
  void SetPlainText(Record* record, std::string_view text) const;
  bool TooLong(Record* record, std::string_view content) const;

  int64_t max_record_bytes_;
  FieldPath paths_[kMaxJsonFields];
  int path_count_;
  std::string names_[kMaxJsonFields];  // CSV columns
};

// A number in full, or -infinity.
double ParseScore(std::string_view text);

}  // namespace tern::corpus
