// Console: what the program says. Answers go to stdout, everything else to stderr; colour and progress only where a person looks.
//
// A write that fails (closed pipe, full disk) is remembered, cancels the token so that long work stops, and decides the exit code: a verb need not
// check every Print, but a long loop should stop when ok() is false. One thread uses a Console.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/cancel.h"
#include "engine/base/json.h"
#include "engine/base/log.h"
#include "engine/base/status.h"

namespace tern {

class Console {
 public:
  Console();
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  // The flags of every verb.
  bool json = false, quiet = false, verbose = false;

  // Standard output, buffered. Flush after a piece that somebody waits for (a token, an answer of a conversation).
  void Print(std::string_view text);
  void PrintJson(const Json& value);  // one line
  void Flush();
  bool ok() const { return status_.ok(); }  // false once a write to stdout failed
  bool closed() const { return closed_; }   // ... because the reader has gone
  const Status& status() const { return status_; }

  // Standard error, one line each, control characters escaped: notes for a person (not with --quiet), warnings (always), details (with -v).
  void Note(std::string_view line);
  void Warn(std::string_view line);
  void Detail(std::string_view line);
  void Error(const Status& status);  // "tern: ...", with --json also {"error": ...} on stdout
  Json error_detail = Json::object();  // a verb's own keys of {"error": ...}, such as a list of everything that is wrong
  LogSink Log();                     // for the library: debug -> Detail, note -> Note, warning -> Warn

  // Set by Ctrl-C (SIGINT), SIGTERM and SIGHUP, and by a failed write. Long work polls it. A second signal ends the program at once.
  CancelToken& cancel();
  int signal() const;     // the signal that arrived, or 0
  void ForgetSignal();    // after a Ctrl-C that only stopped one answer: the program goes on

  bool out_is_terminal() const { return out_terminal_; }
  bool err_is_terminal() const { return err_terminal_; }
  bool colour() const { return colour_; }           // for stdout: a terminal, NO_COLOR unset, TERM not dumb
  int width() const { return width_; }              // columns of the terminal, 80 where there is none
  std::string Bold(std::string_view text) const;    // plain text without colour()
  std::string Dim(std::string_view text) const;

 private:
  friend class Progress;
  void WriteError(std::string_view text);
  bool out_terminal_, err_terminal_, colour_, colour_err_, plain_;
  int width_;
  bool bar_shown_ = false;  // a progress line stands on the terminal and must be wiped before a line is written
  bool closed_ = false;
  std::string buffer_;
  Status status_;
};

// A line on stderr that is redrawn at most ten times a second, only on a terminal, not with --quiet; otherwise nothing. Removed at the end.
//   scoring  [#####...........]  31%  1.2 MB of 3.9 MB  18,432 tok/s  0:07 left
class Progress {
 public:
  // total <= 0: unknown, a counter is shown. `unit` is "B" for bytes (shown as KB, MB) or a word ("tokens").
  Progress(Console& console, std::string_view label, int64_t total, std::string_view unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void Update(int64_t done, std::string_view extra = {});

 private:
  Console& console_;
  std::string label_, unit_;
  int64_t total_, start_ns_, shown_ns_ = 0;
  bool active_;
};

// Figures as people read them, always with a point for decimals: 1,234,567; 3.4 MB (powers of 1000); 1.25 ms; 0:07.
std::string WithCommas(int64_t value);
std::string HumanBytes(int64_t bytes);
std::string HumanSeconds(double seconds);
std::string Fixed(double value, int digits);  // "nan" and "inf" as they are
// Rows under a heading, columns aligned: numbers to the right, text to the left. The first row is the heading.
std::string Table(const std::vector<std::vector<std::string>>& rows, const Console& console);

int64_t NowNs();  // a monotonic clock

}  // namespace tern
