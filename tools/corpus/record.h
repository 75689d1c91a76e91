// Record and Block: what the readers give. A block is a stretch of one file that holds whole records; blocks are parsed in parallel and handed on in order.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/corpus/options.h"

namespace tern::corpus {

// One record. The views live as long as its block.
struct Record {
  std::string_view raw;        // its bytes in the (uncompressed) file, line ending included: what kept/ receives
  std::string_view text;       // the document: valid UTF-8
  std::string_view text_raw;   // where the text stands in `raw`, with its quotes (jsonl, csv), for a rewrite; elsewhere all of the text
  std::string_view id_json;    // the id as JSON: "\"a\"", "\"12\"" or "null"
  double score = -std::numeric_limits<double>::infinity();
  int64_t line = 0;            // in the block, from 0: Block::LineOf gives the number in the file
  int64_t offset = 0;          // in the file, bytes
  const char* bad = nullptr;   // why it is malformed; then text is empty. A constant
};

// What a pass's parallel part leaves for its ordered part.
struct BlockResult {
  virtual ~BlockResult() = default;
};

struct Block {
  int64_t number = 0;                  // over all inputs, from 0
  int file = 0;                        // index into Corpus::sources()
  Format format{};
  int64_t first_doc = -1;              // of records[0]; known to the ordered part (and to the parallel part in passes after the first)
  int64_t first_line = -1;             // of the file, from 1; likewise
  int64_t lines = 0;                   // line feeds (CSV: those inside cells too)
  int64_t offset = 0, bytes = 0;       // in the uncompressed file
  std::vector<Record> records;
  std::unique_ptr<BlockResult> result;

  int64_t DocOf(size_t index) const { return first_doc + static_cast<int64_t>(index); }
  int64_t LineOf(size_t index) const { return first_line + records[index].line; }

  std::string storage;                 // the bytes
  std::string arena;                   // unescaped texts
  std::deque<std::string> id_strings;  // ids of CSV records, as JSON
};

}  // namespace tern::corpus
