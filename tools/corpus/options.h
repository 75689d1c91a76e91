// What every data tool takes: inputs, their format, where the output goes (specification 12.1).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/cancel.h"
#include "engine/base/log.h"
#include "engine/base/status.h"

namespace tern::corpus {

class Ranks;

enum class Format { kAuto, kJsonl, kCsv, kTsv, kLines, kParagraphs, kFile };
Result<Format> ParseFormat(std::string_view name);
const char* FormatName(Format format);

// How far a pass has come, for a progress line. Called from one thread at a time, a few times a second at most.
struct PassProgress {
  std::string_view stage;     // "reading", "verifying", "writing" ..
  int64_t done_bytes, total_bytes;  // total -1 if unknown (a pipe)
  int64_t documents;
};

struct CommonOptions {
  std::string verb;                  // "dedup"
  std::vector<std::string> inputs;   // files, folders, globs; "-" is standard input
  std::vector<std::string> references;  // read before the inputs and never written: what they hold counts as seen (dedup --against)
  Format format = Format::kAuto;
  std::string text_field = "text", id_field = "id";  // dotted paths in JSON, column names in CSV
  std::string score_field;           // also read as a number (dedup --keep score:FIELD); empty: none
  std::string output;                // -o
  bool force = false;                // write into a folder that is not empty
  bool yes = false;                  // go on where a guard would stop
  bool resume = false;               // go on with a run that was killed
  int threads = 0;                   // 0: all
  int64_t max_record_bytes = 64 << 20;
  int64_t max_memory_bytes = 0;      // what the buffers may take before they spill to disk; 0: half of what is available
  std::string temporary_folder;      // where spills go; empty: inside the output folder
  std::string report_html;           // --report FILE; empty: none
  std::string version;               // of the program, for the manifest
  std::vector<std::pair<std::string, std::string>> parameters;  // every flag that decides the output, for the manifest and --resume

  // Of the caller; may be null or empty.
  Ranks* ranks = nullptr;            // the processes that share the run (dedup)
  const CancelToken* cancel = nullptr;
  LogSink log;
  std::function<void(const PassProgress&)> progress;
};

}  // namespace tern::corpus
