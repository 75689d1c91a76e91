// Status and Result: how every fallible function of Tern reports failure. No exceptions cross a public function.
//
// A failed Status carries a code (which the command line turns into an exit code) and the parts of the one-line message
//   FILE: WHERE: WHAT (got A, expected B). HINT
// An ok Status is one null pointer. Thread-safe as any value type.
#pragma once

#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

namespace tern {

// The numbers are the exit codes of the command line; they never change.
enum class Code {
  kOk = 0,
  kInternal = 1,     // a bug of ours
  kUsage = 2,        // an argument is wrong
  kIo = 3,           // cannot open, read or write
  kMalformed = 4,    // a file is damaged, or of a kind we do not read
  kDigest = 5,       // a digest differs
  kMemory = 6,       // would exceed memory
  kCancelled = 7,    // stopped by a cancellation token
  kIncomplete = 8,   // a conversion lacks tensors, or has tensors nobody asked for
  kNumeric = 9,      // NaN or infinity where none may be
  kGuard = 10,       // stopped by a safety guard; --yes goes on
};

// Concatenates anything that can be streamed. For messages, not for hot paths.
template <class... Parts>
std::string Str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

// `text` with control characters, invalid UTF-8 and bidirectional marks escaped, cut to `max_bytes`: file content may appear in messages only so.
std::string Printable(std::string_view text, size_t max_bytes = 200);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string what) : detail_(std::make_shared<Detail>(Detail{code, {}, {}, std::move(what), {}, {}})) {}

  bool ok() const { return detail_ == nullptr; }
  Code code() const { return detail_ ? detail_->code : Code::kOk; }
  const std::string& what() const { return detail_ ? detail_->what : Empty(); }
  const std::string& file() const { return detail_ ? detail_->file : Empty(); }
  const std::string& where() const { return detail_ ? detail_->where : Empty(); }
  const std::string& hint() const { return detail_ ? detail_->hint : Empty(); }

  // Each returns *this with one part set; a part that is already set stays (the innermost caller knows best).
  Status File(std::string_view file) && { return Set(&Detail::file, file); }
  Status Where(std::string_view where) && { return Set(&Detail::where, where); }
  Status Hint(std::string_view hint) && { return Set(&Detail::hint, hint); }
  template <class A, class B>
  Status Got(const A& got, const B& expected) && {
    return Set(&Detail::got, Str("got ", got, ", expected ", expected));
  }

  // "FILE: WHERE: WHAT (got A, expected B). HINT", always one line.
  std::string message() const;

 private:
  struct Detail {
    Code code;
    std::string file, where, what, got, hint;
  };
  static const std::string& Empty();
  Status Set(std::string Detail::*part, std::string_view value);

  std::shared_ptr<Detail> detail_;
};

inline Status InternalError(std::string what) { return {Code::kInternal, std::move(what)}; }
inline Status UsageError(std::string what) { return {Code::kUsage, std::move(what)}; }
inline Status IoError(std::string what) { return {Code::kIo, std::move(what)}; }
inline Status Malformed(std::string what) { return {Code::kMalformed, std::move(what)}; }
inline Status MemoryError(std::string what) { return {Code::kMemory, std::move(what)}; }

// A value or the Status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) {         // NOLINT: implicit on purpose
    if (status_.ok()) status_ = InternalError("a Result was made from an ok Status");
  }
  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  // REQUIRES: ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

#define TERN_CONCAT_(a, b) a##b
#define TERN_CONCAT(a, b) TERN_CONCAT_(a, b)
// Returns from the enclosing function if the expression is a failed Status.
#define TERN_RETURN_IF_ERROR(expr)                     \
  do {                                                 \
    if (::tern::Status tern_st_ = (expr); !tern_st_.ok()) return tern_st_; \
  } while (0)
// TERN_ASSIGN(auto x, F()): x = the value of F(), or return F()'s Status.
#define TERN_ASSIGN(lhs, expr) TERN_ASSIGN_(TERN_CONCAT(tern_result_, __LINE__), lhs, expr)
#define TERN_ASSIGN_(tmp, lhs, expr)      \
  auto tmp = (expr);                      \
  if (!tmp.ok()) return tmp.status();     \
  lhs = std::move(tmp).value()

}  // namespace tern
