// The text argument of a verb: an argument that names an existing file is read (.jsonl: the field `text` of each line; else text), "-" or nothing is
// standard input, anything else is the text itself. Streams: a file of any size is read in pieces.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "tools/output.h"

namespace tern {

inline constexpr int64_t kMaxLineBytes = 16 << 20;   // one line, one JSON record
inline constexpr int64_t kMaxWholeBytes = 64 << 20;  // a text that must be held whole

// One thread. Bytes are given as they are: invalid UTF-8 is the tokenizer's matter. Of a .jsonl file one sees the texts, each as one document; of
// anything else one document.
class TextInput {
 public:
  // kIo if the file cannot be read; kUsage if standard input is closed. On a terminal a note says that input is awaited.
  static Result<std::unique_ptr<TextInput>> Open(const std::optional<std::string>& argument, Console& console);
  ~TextInput();

  const std::string& name() const { return name_; }   // for messages: the path, "standard input" or "the text"
  bool is_jsonl() const { return jsonl_; }
  bool is_terminal() const { return terminal_; }      // standard input, a person types
  void ExpectRecords() { jsonl_ = true; }             // whatever the name: lines are JSON records
  int64_t total_bytes() const { return total_; }      // of the file or text, -1 if unknown (a pipe)
  int64_t line_number() const { return line_; }       // of the last line read, from 1
  int64_t read_bytes() const { return read_; }        // taken from it so far, for progress

  // Each sets *out and gives true, or false at the end. Use one kind of reading per input.
  Result<bool> Piece(std::string* out, int64_t most);  // the next bytes, at most `most`, fewer only at the end of a document; jsonl: see document_ended()
  bool document_ended() const { return document_ended_; }  // the last Piece was the last of its document
  Result<bool> Line(std::string* out);                 // one line without its "\n" or "\r\n"; jsonl: the text of one record. At most kMaxLineBytes (kUsage)
  const Json& record() const { return record_; }       // jsonl: all fields of the last line
  Result<bool> Document(std::string* out);             // a whole document, at most kMaxWholeBytes (kUsage)

 private:
  TextInput() = default;
  Result<bool> Fill();             // more bytes into buffer_; false at the end
  Result<bool> RawLine(std::string* out);
  Result<bool> Record(std::string* out);
  Json record_;
  std::string name_, buffer_, pending_;
  size_t at_ = 0, pending_at_ = 0;
  int fd_ = -1;
  bool owned_ = false, jsonl_ = false, terminal_ = false, ended_ = false, document_ended_ = false, given_ = false;
  int64_t total_ = -1, read_ = 0, line_ = 0;
};

}  // namespace tern
