// leak: which test documents stand, whole or in part, in the training documents (specification 12.4).
//
// The test documents are held in memory, about 30 bytes a character; the training documents stream by, of any amount.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "tools/corpus/options.h"

namespace tern::corpus {

struct LeakOptions {
  CommonOptions common;               // inputs: the training documents
  std::vector<std::string> tests;     // files, folders, globs
  int64_t ngram = 13;                 // words of a window
  int64_t min_chars = 50;             // code points of a window of the words joined by nothing
  bool near = true;                   // also look for test documents that resemble a training document
  double threshold = 0.8;             // Jaccard similarity of word 5-grams (of characters for scripts without spaces)
  bool clean = false;                 // also write kept/ and removed.jsonl of the training documents
};

// Runs and commits. The report, as it stands in report.json.
Result<Json> Leak(const LeakOptions& options);

}  // namespace tern::corpus
