#include "tools/output.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "engine/base/utf8.h"
#include "tools/signals.h"

namespace tern {
namespace {

constexpr size_t kBufferBytes = 1 << 16;

int TerminalWidth(int fd) {
  winsize size = {};
  if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

bool IsSet(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && value[0] != 0;
}

// Columns a text takes on a terminal: its characters, escape sequences aside.
size_t Columns(std::string_view text) {
  size_t columns = 0;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '\033') {
      while (i < text.size() && text[i] != 'm') ++i;
      ++i;
      continue;
    }
    i += DecodeUtf8(text, i).bytes;
    ++columns;
  }
  return columns;
}

std::string Clock(double seconds) {
  int64_t s = static_cast<int64_t>(std::min(seconds + 0.5, 359999.0));
  char text[32];
  if (s >= 3600) std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", (long long)s / 3600, (long long)s / 60 % 60, (long long)s % 60);
  else std::snprintf(text, sizeof text, "%lld:%02lld", (long long)s / 60, (long long)s % 60);
  return text;
}

}  // namespace

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

Console::Console() : out_terminal_(isatty(1)), err_terminal_(isatty(2)) {
  const char* term = std::getenv("TERM");
  plain_ = term == nullptr || term[0] == 0 || std::strcmp(term, "dumb") == 0;
  colour_ = out_terminal_ && !plain_ && !IsSet("NO_COLOR");
  colour_err_ = err_terminal_ && !plain_ && !IsSet("NO_COLOR");
  width_ = TerminalWidth(err_terminal_ ? 2 : 1);
  buffer_.reserve(kBufferBytes);
}

Console::~Console() { Flush(); }

void Console::Print(std::string_view text) {
  if (!ok()) return;
  buffer_ += text;
  if (buffer_.size() >= kBufferBytes) Flush();
}

void Console::PrintJson(const Json& value) {
  Print(DumpJson(value));
  Print("\n");
}

void Console::Flush() {
  const char* data = buffer_.data();
  size_t left = ok() ? buffer_.size() : 0;
  if (left > 0 && bar_shown_ && out_terminal_) WriteError("");
  while (left > 0) {
    ssize_t n = write(1, data, left);
    if (n >= 0) {
      data += n, left -= static_cast<size_t>(n);
    } else if (errno != EINTR) {
      closed_ = errno == EPIPE;
      status_ = IoError(std::string("cannot write: ") + std::strerror(errno)).File("standard output");
      cancel().Cancel();
      break;
    }
  }
  buffer_.clear();
}

void Console::WriteError(std::string_view text) {
  std::string all = bar_shown_ ? "\r\033[K" : "";
  bar_shown_ = false;
  all += text;
  const char* data = all.data();
  for (size_t left = all.size(); left > 0;) {
    ssize_t n = write(2, data, left);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // nowhere left to say so
    data += n, left -= static_cast<size_t>(n);
  }
}

void Console::Note(std::string_view line) {
  if (!quiet) WriteError(Printable(line, 4096) + "\n");
}
void Console::Detail(std::string_view line) {
  if (verbose) WriteError(Printable(line, 4096) + "\n");
}
void Console::Warn(std::string_view line) {
  WriteError((colour_err_ ? "\033[33mtern: warning:\033[0m " : "tern: warning: ") + Printable(line, 4096) + "\n");
}

void Console::Error(const Status& status) {
  if (json) {
    Json error = {{"code", static_cast<int>(status.code())}, {"message", status.message()}, {"file", Printable(status.file(), 4096)},
                  {"where", Printable(status.where(), 4096)}};
    if (!status.hint().empty()) error["hint"] = status.hint();
    error.update(error_detail);
    PrintJson(Json{{"error", error}});
  }
  Flush();
  std::string message = status.message();
  if (!message.empty() && message.back() != '.' && message.back() != '?') message += '.';
  WriteError((colour_err_ ? "\033[1;31mtern:\033[0m " : "tern: ") + message + "\n");
}

LogSink Console::Log() {
  return [this](LogLevel level, std::string_view message) {
    if (level == LogLevel::kDebug) Detail(message);
    else if (level == LogLevel::kNote) Note(message);
    else Warn(message);
  };
}

CancelToken& Console::cancel() { return ProgramCancelToken(); }
int Console::signal() const { return ArrivedSignal(); }
void Console::ForgetSignal() { ForgetArrivedSignal(); }

std::string Console::Bold(std::string_view text) const { return colour_ ? "\033[1m" + std::string(text) + "\033[0m" : std::string(text); }
std::string Console::Dim(std::string_view text) const { return colour_ ? "\033[2m" + std::string(text) + "\033[0m" : std::string(text); }

Progress::Progress(Console& console, std::string_view label, int64_t total, std::string_view unit)
    : console_(console), label_(label), unit_(unit), total_(total), start_ns_(NowNs()),
      active_(console.err_terminal_ && !console.plain_ && !console.quiet) {}

Progress::~Progress() {
  if (console_.bar_shown_) console_.WriteError("");
}

void Progress::Update(int64_t done, std::string_view extra) {
  if (!active_) return;
  int64_t now = NowNs();
  if (now - shown_ns_ < 100'000'000 || now - start_ns_ < 200'000'000) return;  // what is over at once shows nothing
  shown_ns_ = now;
  auto amount = [this](int64_t x) { return unit_ == "B" ? HumanBytes(x) : WithCommas(x); };
  std::string line = label_;
  if (total_ > 0) {
    double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
    int filled = static_cast<int>(share * 20 + 0.5);
    line += "  [" + std::string(filled, '#') + std::string(20 - filled, '.') + "] " + Fixed(share * 100, 0) + "%  " + amount(done) + " of " + amount(total_);
    double left = share > 0.01 ? static_cast<double>(now - start_ns_) * 1e-9 * (1 - share) / share : -1;
    if (!extra.empty()) line += "  " + std::string(extra);
    if (left >= 0) line += "  " + Clock(left) + " left";
  } else {
    line += "  " + amount(done) + (unit_ == "B" ? "" : " " + unit_) + (extra.empty() ? "" : "  " + std::string(extra));
  }
  line = Printable(line, static_cast<size_t>(std::max(1, console_.width_ - 4)));  // one column spare: a full line would wrap
  console_.bar_shown_ = true;
  console_.WriteError(line);
  console_.bar_shown_ = true;
}

std::string WithCommas(int64_t value) {
  std::string digits = std::to_string(value);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3) digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string Fixed(double value, int digits) {
  char text[400];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string HumanBytes(int64_t bytes) {
  static const char* const kUnits[] = {" B", " KB", " MB", " GB", " TB", " PB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (std::abs(value) >= 999.5 && unit < 5) value /= 1000, ++unit;
  return Fixed(value, unit == 0 || std::abs(value) >= 99.95 ? 0 : std::abs(value) >= 9.995 ? 1 : 2) + kUnits[unit];
}

std::string HumanSeconds(double seconds) {
  if (!std::isfinite(seconds)) return Fixed(seconds, 0);
  if (seconds >= 120) return Clock(seconds);
  char text[64];
  if (seconds >= 1) std::snprintf(text, sizeof text, "%.3g s", seconds);
  else if (seconds >= 1e-3) std::snprintf(text, sizeof text, "%.3g ms", seconds * 1e3);
  else if (seconds >= 1e-6) std::snprintf(text, sizeof text, "%.3g us", seconds * 1e6);
  else std::snprintf(text, sizeof text, "%.3g ns", seconds * 1e9);
  return text;
}

std::string Table(const std::vector<std::vector<std::string>>& rows, const Console& console) {
  if (rows.empty()) return {};
  std::vector<size_t> widths(rows[0].size(), 0);
  std::vector<bool> right(rows[0].size(), true);  // a column of numbers: every cell below the heading begins with a digit, a sign or nothing
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t c = 0; c < rows[r].size() && c < widths.size(); ++c) {
      const std::string& cell = rows[r][c];
      widths[c] = std::max(widths[c], Columns(cell));
      if (r > 0 && !cell.empty() && std::string_view("0123456789-+.").find(cell[0]) == std::string_view::npos) right[c] = false;
    }
  }
  std::string out;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t c = 0; c < rows[r].size() && c < widths.size(); ++c) {
      std::string pad(widths[c] - Columns(rows[r][c]), ' ');
      std::string cell = r == 0 ? console.Bold(rows[r][c]) : rows[r][c];
      line += (c ? "  " : "") + (right[c] ? pad + cell : cell + pad);
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    out += line + "\n";
  }
  return out;
}

}  // namespace tern
