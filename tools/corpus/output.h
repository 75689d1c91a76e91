// OutputFolder: the folder given with -o, and the files of 12.1. Every file appears under its name only when it is complete.
//
// Order of a run: Create (the folder must be new or empty) -> a pass that writes kept/, removed.jsonl .. -> Commit. A run that a guard stops calls
// CommitStopped instead: no kept/, no removed.jsonl. A run that fails leaves nothing; one that is killed leaves its
// temporary files, which --resume or --force sweeps.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/status.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/spill_file.h"

namespace tern::corpus {

class OutputFolder {
 public:
  // kUsage if options.output is empty, or names a folder that is not empty (unless --force, --resume, or what stands there was left by a stopped run).
  // kIo if another run is writing there.
  static Result<std::unique_ptr<OutputFolder>> Create(const CommonOptions& options);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;
  const std::string& path() const { return path_; }
  const std::string& work_path() const { return work_; }  // for spills; removed at the end
  // With --resume: everything was written by a run with these parameters; there is nothing to do.
  bool complete() const { return complete_; }

  // kept/: the files of all sources. Then records in order; bytes that follow one another in a block are written at once. They stay valid until EndBlock.
  void OpenKept(const Corpus& corpus);
  void Keep(const Block& block, const Record& record);
  void KeepBytes(std::string_view bytes);    // rewritten records, or records as AppendKept gives them
  Status EndBlock(const Block& block);       // writes what was kept of the block; to be called for every block, in order

  // A list, e.g. "removed.jsonl", opened at the first call: appends `lines`, which end with a line feed.
  Status Append(const char* name, std::string_view lines);
  // Collective: what the other ranks appended comes behind what the root has, rank by rank. shift_docs is added to the number in {"doc":N at the beginning of
  // this rank's lines.
  Status GatherList(const char* name, int64_t shift_docs = 0);
  Status Touch(const char* name) { return Append(name, {}); }  // the list exists even if nothing is appended

  // Lists the malformed records of the block in bad.jsonl; to be called for every block of one pass, in order.
  Status AppendBad(const Corpus& corpus, const Block& block);

  // Collective. Adds report.json and manifest.json, and gives everything its final name, report.json last. `report` begins with what 12.1 asks for.
  Status Commit(const CommonOptions& options, const Corpus& corpus, const Json& report);
  // As Commit for a run that a guard stopped: no kept/, of the lists only those named here, and the report says "stopped": why.
  Status CommitStopped(const CommonOptions& options, const Corpus& corpus, Json report, std::string_view why, const std::vector<std::string>& lists);

 private:
  OutputFolder() = default;
  Status AdvanceTo(const Corpus& corpus, size_t source);  // closes kept/ files in front of it
  Status Publish(const CommonOptions& options, const Corpus& corpus, const Json& report, bool kept, const std::vector<std::string>& lists);

  std::string path_, work_;
  int lock_ = -1;
  bool complete_ = false, created_ = false, naming_ = false, published_ = false;
  bool root() const;
  Status CreateFolder(const CommonOptions& options);  // on the root: the folder, its work folder, the lock
  const Corpus* kept_corpus_ = nullptr;
  size_t next_source_ = 0;               // the first without a file under kept/
  std::optional<FileWriter> kept_;
  std::string_view run_;                 // kept bytes that follow one another
  std::string copies_;                   // what was kept of this block, where it is not one run
  std::map<std::string, FileWriter> lists_;
  Ranks* ranks_ = nullptr;               // null: alone
  std::map<std::string, SpillFile> kept_lists_;  // of a rank that is not the root, until they are gathered
};

}  // namespace tern::corpus
