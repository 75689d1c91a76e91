// CorpusArguments: the flags that dedup, filter and leak share, and how their runs are told on the console.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "tools/corpus/options.h"
#include "tools/output.h"
#include "tools/verb.h"

namespace tern {

class CorpusArguments {
 public:
  // Inputs, -o, the format and its fields, --threads, --max-memory ..
  void Declare(Arguments& args, const char* inputs_name = "INPUT");
  // What was given, for the library; progress and notes go to the console, which outlives *options.
  Status Fill(Console& console, const char* verb, corpus::CommonOptions* options);
  // Tells what became of the run and gives back `done`: the report with --json, else a few lines.
  Status Finish(Console& console, const Json& report, const Status& done);

  // Flags that decide the output, for the manifest: added by the verb before Fill.
  std::vector<std::pair<std::string, std::string>> parameters;

 private:
  std::vector<std::string> inputs_;
  std::string output_, format_ = "auto", text_field_ = "text", id_field_ = "id", temporary_;
  int64_t threads_ = 0, max_record_bytes_ = 64 << 20, max_memory_bytes_ = 0;
  bool force_ = false, yes_ = false, resume_ = false;
  std::unique_ptr<Progress> progress_;
  std::string stage_;
};

}  // namespace tern
