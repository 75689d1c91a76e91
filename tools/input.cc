#include "tools/input.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "engine/base/json.h"
#include "tools/signals.h"

namespace tern {
namespace {

constexpr size_t kReadBytes = 1 << 18;

Status TooLong(const std::string& name, const char* what, int64_t limit) {
  return UsageError(Str(what, " is longer than ", HumanBytes(limit))).File(name);
}

}  // namespace

Result<std::unique_ptr<TextInput>> TextInput::Open(const std::optional<std::string>& argument, Console& console) {
  std::unique_ptr<TextInput> input(new TextInput);
  if (!argument || *argument == "-") {
    input->name_ = "standard input";
    struct stat status;
    int flags = fcntl(0, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) == O_WRONLY) return UsageError("standard input is closed").Hint("Give a text, or a file to read");
    input->fd_ = 0;
    input->terminal_ = isatty(0);
    if (fstat(0, &status) == 0 && S_ISDIR(status.st_mode)) return IoError("is a folder").File(input->name_);
    if (fstat(0, &status) == 0 && S_ISREG(status.st_mode)) input->total_ = status.st_size;
    if (input->terminal_) console.Note("reading from the terminal; Ctrl-D ends the text");
    return input;
  }
  struct stat status;
  bool exists = argument->find('\0') == std::string::npos && !argument->empty() && stat(argument->c_str(), &status) == 0 && !S_ISDIR(status.st_mode);
  if (!exists) {
    input->name_ = "the text";
    input->buffer_ = *argument;
    input->total_ = static_cast<int64_t>(argument->size());
    input->ended_ = true;
    return input;
  }
  input->name_ = *argument;
  input->fd_ = open(argument->c_str(), O_RDONLY | O_CLOEXEC);
  if (input->fd_ < 0) return IoError(Str("cannot open: ", std::strerror(errno))).File(*argument);
  input->owned_ = true;
  input->jsonl_ = argument->ends_with(".jsonl");
  if (S_ISREG(status.st_mode)) input->total_ = status.st_size;
  return input;
}

TextInput::~TextInput() {
  if (owned_) close(fd_);
}

Result<bool> TextInput::Fill() {
  if (ended_) return false;
  if (at_ > 0) buffer_.erase(0, at_), at_ = 0;
  size_t had = buffer_.size();
  buffer_.resize(had + kReadBytes);
  ssize_t n;
  do {
    n = read(fd_, buffer_.data() + had, kReadBytes);
  } while (n < 0 && errno == EINTR && ArrivedSignal() == 0);
  int error = errno;
  buffer_.resize(had + static_cast<size_t>(std::max<ssize_t>(n, 0)));
  if (n < 0) {
    if (error == EINTR) return Status(Code::kCancelled, "stopped").File(name_);
    return IoError(Str("cannot read: ", std::strerror(error))).File(name_);
  }
  if (n == 0) ended_ = true;
  read_ += n;
  return n > 0;
}

Result<bool> TextInput::RawLine(std::string* out) {
  size_t searched = at_;
  for (;;) {
    size_t newline = buffer_.find('\n', searched);
    bool found = newline != std::string::npos;
    if (!found) newline = buffer_.size();
    if (newline - at_ > static_cast<size_t>(kMaxLineBytes)) return TooLong(name_, Str("line ", line_ + 1).c_str(), kMaxLineBytes);
    if (found || ended_) {
      if (!found && newline == at_) return false;
      out->assign(buffer_, at_, newline - at_);
      if (!out->empty() && out->back() == '\r') out->pop_back();
      at_ = newline + (found ? 1 : 0);
      ++line_;
      return true;
    }
    size_t unseen = buffer_.size() - at_;
    TERN_ASSIGN(bool more, Fill());
    (void)more;
    searched = at_ + unseen;
  }
}

Result<bool> TextInput::Record(std::string* out) {
  std::string line;
  for (;;) {
    TERN_ASSIGN(bool any, RawLine(&line));
    if (!any) return false;
    if (line.find_first_not_of(" \t") != std::string::npos) break;  // an empty line is no record
  }
  std::string where = Str("line ", line_);
  Result<Json> record = ParseJson(line, {.max_bytes = static_cast<uint64_t>(kMaxLineBytes)});
  if (!record.ok()) {
    const Status& s = record.status();
    return Status(s.code(), s.what()).Where(s.where().empty() ? where : where + ": " + s.where()).File(name_);
  }
  if (!record->is_object() || !record->contains("text") || !(*record)["text"].is_string()) {
    return Malformed("no field \"text\" with a string").Where(where).File(name_).Hint("Each line of a .jsonl file is an object such as {\"text\": \"...\"}");
  }
  *out = (*record)["text"].get<std::string>();
  record_ = std::move(*record);
  return true;
}

Result<bool> TextInput::Piece(std::string* out, int64_t most) {
  out->clear();
  document_ended_ = false;
  size_t limit = static_cast<size_t>(std::max<int64_t>(most, 1));
  if (jsonl_) {
    if (pending_at_ == pending_.size()) {
      TERN_ASSIGN(bool any, Record(&pending_));
      pending_at_ = 0;
      if (!any) return false;
    }
    size_t n = std::min(limit, pending_.size() - pending_at_);
    out->assign(pending_, pending_at_, n);
    pending_at_ += n;
    document_ended_ = pending_at_ == pending_.size();
    return true;
  }
  // One byte is kept back, so that the last piece is known to be the last.
  while (!ended_ && buffer_.size() - at_ <= limit) {
    TERN_ASSIGN(bool more, Fill());
    if (more && terminal_) break;  // a person's line is taken as it comes
  }
  if (at_ == buffer_.size()) {
    bool first = !given_ && ended_;
    given_ = true;
    document_ended_ = true;
    return first;  // an empty input is one empty document
  }
  size_t n = std::min(limit, buffer_.size() - at_);
  out->assign(buffer_, at_, n);
  at_ += n;
  given_ = true;
  document_ended_ = ended_ && at_ == buffer_.size();
  return true;
}

Result<bool> TextInput::Line(std::string* out) { return jsonl_ ? Record(out) : RawLine(out); }

Result<bool> TextInput::Document(std::string* out) {
  if (jsonl_) return Record(out);
  out->clear();
  if (given_) return false;
  given_ = true;
  for (;;) {
    if (buffer_.size() > static_cast<size_t>(kMaxWholeBytes)) return TooLong(name_, "the text", kMaxWholeBytes);
    TERN_ASSIGN(bool more, Fill());
    if (!more) break;
  }
  *out = std::move(buffer_);
  buffer_.clear();
  return true;
}

}  // namespace tern
