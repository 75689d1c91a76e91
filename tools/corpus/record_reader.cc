#include "tools/corpus/record_reader.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "engine/base/utf8.h"
#include "tools/corpus/chars.h"
#include "tools/corpus/corpus.h"

namespace tern::corpus {
namespace {

constexpr const char kBadUtf8[] = "invalid UTF-8";
constexpr const char kTooLong[] = "longer than --max-record";

bool HasHighByte(std::string_view text) {
  size_t i = 0;
#if defined(__SSE2__)
  for (; i + 64 <= text.size(); i += 64) {
    const __m128i* p = reinterpret_cast<const __m128i*>(text.data() + i);
    __m128i any = _mm_or_si128(_mm_or_si128(_mm_loadu_si128(p), _mm_loadu_si128(p + 1)), _mm_or_si128(_mm_loadu_si128(p + 2), _mm_loadu_si128(p + 3)));
    if (_mm_movemask_epi8(any)) return true;
  }
#endif
  for (; i < text.size(); ++i)
    if (static_cast<unsigned char>(text[i]) >= 0x80) return true;
  return false;
}

bool ValidUtf8(std::string_view text) { return !HasHighByte(text) || IsUtf8(text); }

size_t FindLf(std::string_view bytes, size_t from) {
  const void* p = from < bytes.size() ? std::memchr(bytes.data() + from, '\n', bytes.size() - from) : nullptr;
  return p ? static_cast<size_t>(static_cast<const char*>(p) - bytes.data()) : std::string_view::npos;
}

std::string_view WithoutLineEnd(std::string_view line) {
  if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

bool IsBlankLine(std::string_view line) {
  if (!line.empty() && static_cast<unsigned char>(line[0]) > 0x20 && static_cast<unsigned char>(line[0]) < 0x80) return false;
  return IsBlank(line);
}

// The end of the CSV record that begins at `at`, its line end included; npos if it does not end. Quotes count only at the start of a cell.
// on_cell(begin, end, bad): a cell without its separator, and what is wrong with its quotes or null.
template <class OnCell>
size_t ScanCsvRecord(std::string_view bytes, size_t at, char separator, OnCell&& on_cell) {
  size_t i = at;
  for (;;) {
    size_t begin = i;
    const char* bad = nullptr;
    if (i < bytes.size() && bytes[i] == '"') {
      for (++i;;) {
        const void* quote = i < bytes.size() ? std::memchr(bytes.data() + i, '"', bytes.size() - i) : nullptr;
        if (!quote) {
          on_cell(begin, bytes.size(), "a quoted cell does not end");
          return std::string_view::npos;
        }
        i = static_cast<size_t>(static_cast<const char*>(quote) - bytes.data()) + 1;
        if (i >= bytes.size() || bytes[i] != '"') break;
        ++i;
      }
      bool closed = i >= bytes.size() || bytes[i] == separator || bytes[i] == '\n' || (bytes[i] == '\r' && (i + 1 >= bytes.size() || bytes[i + 1] == '\n'));
      if (!closed) bad = "text behind a closing quote";
    }
    while (i < bytes.size() && bytes[i] != separator && bytes[i] != '\n') ++i;
    bool last = i >= bytes.size() || bytes[i] == '\n';
    size_t end = i;
    if (last && end > begin && bytes[end - 1] == '\r') --end;
    on_cell(begin, end, bad);
    if (i >= bytes.size()) return std::string_view::npos;
    ++i;
    if (last) return i;
  }
}

std::string CellText(std::string_view cell) {
  std::string out;
  if (cell.size() < 2 || cell.front() != '"') return std::string(cell);
  cell = cell.substr(1, cell.size() - 2);
  for (size_t i = 0; i < cell.size(); ++i) {
    out += cell[i];
    if (cell[i] == '"') ++i;
  }
  return out;
}

char SeparatorOf(Format format) { return format == Format::kTsv ? '\t' : ','; }

}  // namespace

double ParseScore(std::string_view text) {
  text = Trimmed(text);
  if (!text.empty() && text[0] == '+') text.remove_prefix(1);
  double value;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value != value) return -std::numeric_limits<double>::infinity();
  return value;
}

RecordReader::RecordReader(const CommonOptions& options) : max_record_bytes_(options.max_record_bytes) {
  names_[0] = options.text_field, names_[1] = options.id_field, names_[2] = options.score_field;
  path_count_ = options.score_field.empty() ? 2 : 3;
  for (int i = 0; i < path_count_; ++i) paths_[i] = SplitFieldPath(names_[i]);
}

size_t RecordReader::WholeRecords(Format format, std::string_view bytes) {
  switch (format) {
    case Format::kFile: return 0;
    case Format::kCsv:
    case Format::kTsv: {
      size_t end = 0;
      for (;;) {
        size_t next = ScanCsvRecord(bytes, end, SeparatorOf(format), [](size_t, size_t, const char*) {});
        if (next == std::string_view::npos) return end;
        end = next;
      }
    }
    case Format::kParagraphs: {
      // Behind the last blank line that follows a line with something in it. Searched backwards, line by line.
      size_t end = bytes.size();
      while (end > 0 && bytes[end - 1] != '\n') --end;
      while (end > 0) {
        size_t begin = end - 1;
        while (begin > 0 && bytes[begin - 1] != '\n') --begin;
        if (IsBlankLine(bytes.substr(begin, end - begin))) return end;
        end = begin;
      }
      return 0;
    }
    default: {
      const void* p = bytes.empty() ? nullptr : memrchr(bytes.data(), '\n', bytes.size());
      return p ? static_cast<size_t>(static_cast<const char*>(p) - bytes.data()) + 1 : 0;
    }
  }
}

size_t RecordReader::EndOfTooLong(Format format, std::string_view bytes) {
  if (format == Format::kFile) return 0;
  for (size_t at = 0;;) {
    size_t lf = FindLf(bytes, at);
    if (lf == std::string_view::npos) return 0;
    if (format != Format::kParagraphs) return lf + 1;
    size_t next = FindLf(bytes, lf + 1);
    if (next == std::string_view::npos) return 0;
    if (IsBlankLine(bytes.substr(lf + 1, next - lf))) return next + 1;
    at = lf + 1;
  }
}

Result<size_t> RecordReader::ReadCsvHeader(Format format, std::string_view bytes, CsvColumns* columns) const {
  *columns = {};
  std::vector<std::string> found;
  size_t end = ScanCsvRecord(bytes, 0, SeparatorOf(format), [&](size_t begin, size_t cell_end, const char*) {
    found.push_back(CellText(bytes.substr(begin, cell_end - begin)));
  });
  if (end == std::string_view::npos) end = bytes.size();
  columns->count = static_cast<int64_t>(found.size());
  int64_t* places[] = {&columns->text, &columns->id, &columns->score};
  for (int i = 0; i < path_count_; ++i)
    for (size_t c = 0; c < found.size(); ++c)
      if (*places[i] < 0 && found[c] == names_[i]) *places[i] = static_cast<int64_t>(c);
  if (columns->text < 0) {
    std::string names;
    for (const std::string& name : found) names += (names.empty() ? "" : ", ") + name;
    return Malformed(Str("the header has no column '", Printable(names_[0]), "'")).Where("line 1").Hint(Str("Name one of its columns with --text-field: ", Printable(names)));
  }
  return end;
}

bool RecordReader::TooLong(Record* record, std::string_view content) const {
  if (static_cast<int64_t>(content.size()) <= max_record_bytes_) return false;
  record->bad = kTooLong;
  return true;
}

void RecordReader::SetPlainText(Record* record, std::string_view text) const {
  record->id_json = "null";
  record->text_raw = text;
  if (TooLong(record, text)) return;
  if (!ValidUtf8(text)) record->bad = kBadUtf8;
  else record->text = text;
}

void RecordReader::ParseJson(Block* block, Record* record, std::string_view line) const {
  record->id_json = "null";
  if (TooLong(record, line)) return;
  if (!ValidUtf8(line)) {
    record->bad = kBadUtf8;
    return;
  }
  JsonField fields[kMaxJsonFields];
  if (const char* bad = ReadJsonRecord(line, paths_, path_count_, fields)) {
    record->bad = bad;
    return;
  }
  const JsonField& text = fields[0];
  if (text.kind != JsonKind::kString) {
    record->bad = text.kind == JsonKind::kMissing ? "the text field is missing" : "the text field is not a string";
    return;
  }
  record->text_raw = text.literal;
  if (!text.escaped) {
    record->text = text.literal.substr(1, text.literal.size() - 2);
  } else {
    size_t begin = block->arena.size();  // reserved for all texts of the block: it never moves
    if (!AppendUnescaped(text.literal, &block->arena)) {
      record->bad = "a lone surrogate in the text";
      return;
    }
    record->text = std::string_view(block->arena).substr(begin);
  }
  if (fields[1].kind == JsonKind::kString) {
    record->id_json = fields[1].literal;
  } else if (fields[1].kind == JsonKind::kNumber) {
    size_t begin = block->arena.size();
    block->arena += '"';
    block->arena += fields[1].literal;
    block->arena += '"';
    record->id_json = std::string_view(block->arena).substr(begin);
  }
  if (path_count_ > 2) {
    if (fields[2].kind == JsonKind::kNumber) {
      record->score = ParseScore(fields[2].literal);
    } else if (fields[2].kind == JsonKind::kString) {
      std::string plain;
      if (AppendUnescaped(fields[2].literal, &plain)) record->score = ParseScore(plain);
    }
  }
}

void RecordReader::SplitLines(Block* block, std::string_view bytes, bool parse) const {
  for (size_t at = 0; at < bytes.size();) {
    size_t lf = FindLf(bytes, at);
    size_t end = lf == std::string_view::npos ? bytes.size() : lf + 1;
    std::string_view raw = bytes.substr(at, end - at), line = WithoutLineEnd(raw);
    if (!IsBlankLine(line)) {
      Record& record = block->records.emplace_back();
      record.raw = raw;
      record.line = block->lines;
      record.offset = block->offset + static_cast<int64_t>(at);
      if (parse) {
        if (block->format == Format::kJsonl) ParseJson(block, &record, line);
        else SetPlainText(&record, line);
      }
    }
    block->lines += lf != std::string_view::npos;
    at = end;
  }
}

void RecordReader::SplitParagraphs(Block* block, std::string_view bytes, bool parse) const {
  size_t begin = 0, end = 0;  // of the paragraph: from its first line to behind its last one
  int64_t first_line = 0;
  bool inside = false;
  auto finish = [&] {
    if (!inside) return;
    inside = false;
    Record& record = block->records.emplace_back();
    record.raw = bytes.substr(begin, end - begin);
    record.line = first_line;
    record.offset = block->offset + static_cast<int64_t>(begin);
    if (parse) SetPlainText(&record, WithoutLineEnd(record.raw));
  };
  for (size_t at = 0; at < bytes.size();) {
    size_t lf = FindLf(bytes, at);
    size_t next = lf == std::string_view::npos ? bytes.size() : lf + 1;
    if (IsBlankLine(bytes.substr(at, next - at))) {
      finish();
    } else {
      if (!inside) begin = at, first_line = block->lines, inside = true;
      end = next;
    }
    block->lines += lf != std::string_view::npos;
    at = next;
  }
  finish();
}

void RecordReader::SplitCsv(Block* block, std::string_view bytes, const CsvColumns& columns, bool parse) const {
  const int64_t wanted[] = {columns.text, columns.id, columns.score};
  for (size_t at = 0; at < bytes.size();) {
    std::string_view cells[3];
    int64_t count = 0;
    const char* bad = nullptr;
    size_t end = ScanCsvRecord(bytes, at, SeparatorOf(block->format), [&](size_t begin, size_t cell_end, const char* cell_bad) {
      if (!bad) bad = cell_bad;
      for (int i = 0; i < 3; ++i)
        if (wanted[i] == count) cells[i] = bytes.substr(begin, cell_end - begin);
      ++count;
    });
    if (end == std::string_view::npos) end = bytes.size();  // the end of the file
    std::string_view raw = bytes.substr(at, end - at), line = WithoutLineEnd(raw);
    if (!line.empty()) {
      Record& record = block->records.emplace_back();
      record.raw = raw;
      record.line = block->lines;
      record.offset = block->offset + static_cast<int64_t>(at);
      record.id_json = "null";
      if (parse && !TooLong(&record, line)) {
        if (!ValidUtf8(line)) record.bad = kBadUtf8;
        else if (bad) record.bad = bad;
        else if (count != columns.count) record.bad = "wrong number of cells";
        auto cell_text = [&](std::string_view cell) {
          if (cell.empty() || cell.front() != '"') return cell;
          if (std::memchr(cell.data() + 1, '"', cell.size() - 2) == nullptr) return cell.substr(1, cell.size() - 2);
          size_t begin = block->arena.size();
          block->arena += CellText(cell);
          return std::string_view(block->arena).substr(begin);
        };
        if (!record.bad) {
          record.text = cell_text(cells[0]);
          record.text_raw = cells[0];
          if (columns.id >= 0) {
            std::string id;
            AppendJsonString(cell_text(cells[1]), &id);
            block->id_strings.push_back(std::move(id));
            record.id_json = block->id_strings.back();
          }
          if (columns.score >= 0) record.score = ParseScore(cell_text(cells[2]));
        }
      }
    }
    block->lines += std::count(raw.begin(), raw.end(), '\n');
    at = end;
  }
}

void RecordReader::Split(Block* block, const CsvColumns& columns, bool parse) const {
  block->records.clear();
  block->arena.clear();
  block->id_strings.clear();
  block->lines = 0;
  std::string_view bytes(block->storage.data(), static_cast<size_t>(block->bytes));
  if (parse) block->arena.reserve(bytes.size() + 64);
  switch (block->format) {
    case Format::kCsv:
    case Format::kTsv: SplitCsv(block, bytes, columns, parse); break;
    case Format::kParagraphs: SplitParagraphs(block, bytes, parse); break;
    case Format::kFile: {
      Record& record = block->records.emplace_back();
      record.raw = bytes;
      record.offset = block->offset;
      if (parse) SetPlainText(&record, bytes);
      block->lines = std::count(bytes.begin(), bytes.end(), '\n');
      break;
    }
    default: SplitLines(block, bytes, parse); break;
  }
}

Result<Format> ParseFormat(std::string_view name) {
  for (Format f : {Format::kAuto, Format::kJsonl, Format::kCsv, Format::kTsv, Format::kLines, Format::kParagraphs, Format::kFile})
    if (name == FormatName(f)) return f;
  return UsageError(Str("unknown format '", Printable(name), "'")).Hint("It is one of auto, jsonl, csv, tsv, lines, paragraphs, file");
}

const char* FormatName(Format format) {
  switch (format) {
    case Format::kAuto: return "auto";
    case Format::kJsonl: return "jsonl";
    case Format::kCsv: return "csv";
    case Format::kTsv: return "tsv";
    case Format::kLines: return "lines";
    case Format::kParagraphs: return "paragraphs";
    case Format::kFile: return "file";
  }
  return "?";
}

}  // namespace tern::corpus
