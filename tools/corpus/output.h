// OutputFolder: the folder given with -o, and the files of 12.1. Every file appears under its name only when it is complete.
//
// Order of a run: Create (the folder must be new or empty) -> a pass that writes kept/, removed.jsonl .. -> Commit. A run that a guard stops calls
// CommitStopped instead: no kept/, no removed.jsonl. A run that fails leaves nothing but its temporary files, which --resume or the next run sweeps.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/status.h"
#include "tools/corpus/corpus.h"

namespace tern::corpus {

class OutputFolder {
 public:
  // kUsage if options.output is empty, or names a folder that is not empty (unless --force, --resume, or what stands there was left by a stopped run).
  static Result<std::unique_ptr<OutputFolder>> Create(const CommonOptions& options);
  ~OutputFolder();
  const std::string& path() const { return path_; }
  const std::string& work_path() const { return work_; }  // for spills; removed at the end

  // kept/: opens the files of all sources. Then records in order; bytes that follow one another in a block are written at once.
  Status OpenKept(const Corpus& corpus);
  void Keep(const Block& block, const Record& record);
  void KeepBytes(const Block& block, std::string_view bytes);  // a rewritten record
  Status EndBlock(const Block& block);                         // writes what the block added; to be called for every block

  // A list, e.g. "removed.jsonl", opened at the first call: appends `lines`, which end with a line feed.
  Status Append(const char* name, std::string_view lines);
  Status Touch(const char* name) { return Append(name, {}); }  // the list exists even if nothing is appended

  // Lists bad records of the block in bad.jsonl; to be called for every block of one pass, in order.
  Status AppendBad(const Corpus& corpus, const Block& block);

  // report.json and manifest.json, then every file under its final name, report.json last. `report` begins with what 12.1 asks for.
  Status Commit(const CommonOptions& options, const Corpus& corpus, const Json& report);
  // As Commit, but only the lists named here and the report (with "stopped": why).
  Status CommitStopped(const CommonOptions& options, const Corpus& corpus, Json report, std::string_view why, const std::vector<std::string>& lists);

 private:
  struct State;
  OutputFolder() = default;
  std::string path_, work_;
  std::unique_ptr<State> state_;
};

}  // namespace tern::corpus
