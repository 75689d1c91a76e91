// The flags that dedup, filter, leak and order share, and their way into corpus::CommonOptions.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/options.h"
#include "tools/verb.h"

namespace tern {

class CorpusFlags {
 public:
  // Declares the place IN.. (called `inputs`) and the flags. `output_required`: false for verbs that can do without -o (filter --dry-run).
  void Declare(Arguments& args, const char* inputs = "IN", bool output_required = true);

  // The options after parsing, with progress on the console, its cancel token and its log. Lives no longer than this object and the console.
  // `parameters` are the verb's own flags that decide the output.
  Result<corpus::CommonOptions> Options(const char* verb, std::vector<std::pair<std::string, std::string>> parameters, Console& console);

  // To be called before the verb prints its answer: wipes the progress line.
  void EndProgress() { progress_.reset(); }

 private:
  corpus::CommonOptions options_;
  std::string format_ = "auto";
  int64_t threads_ = 0;
  std::unique_ptr<Progress> progress_;
  std::string stage_;
};


}  // namespace tern
