// Logging through a callback: the library itself never prints. Silent by default.
#pragma once

#include <functional>
#include <string_view>

namespace tern {

enum class LogLevel { kDebug, kNote, kWarning };
using LogSink = std::function<void(LogLevel, std::string_view message)>;

// Passed along in options, never global: two models in one process may log to different places. An empty sink drops everything.
inline void Log(const LogSink& sink, LogLevel level, std::string_view message) {
  if (sink) sink(level, message);
}

}  // namespace tern
