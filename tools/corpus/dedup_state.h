// What the stages of one dedup run share: which documents are still there, what was cut from them, and what is to be told about it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/dedup.h"
#include "tools/corpus/id_store.h"
#include "tools/corpus/output.h"
#include "tools/corpus/ranks.h"

namespace tern::corpus {

enum class Fate : uint8_t { kHere, kBad, kExact, kNear, kLines, kSubstr };
const char* FateName(Fate fate);

// Why a duplicate went: for whom, and how alike they are.
struct Removal {
  uint32_t doc, kept;
  int64_t cluster;
  double similarity;
};

// Groups of documents, flat. The members of each ascend.
struct Clusters {
  struct One {
    uint32_t keeper;
    size_t begin, size;  // in members
  };
  std::vector<One> list;
  std::vector<uint32_t> members;
  std::vector<double> similarity;  // of each member to its keeper; empty: 1 everywhere

  void Add(const Clusters& more);
};

// The clusters of all ranks, to all. Collective.
Status GatherClusters(Ranks& ranks, Clusters* clusters);

// Stretches cut from the texts by one pass of one stage, in the order of (doc, begin): bytes of the text as the former layers left it.
struct Cut {
  uint32_t doc, begin, end;
};
struct CutLayer {
  bool lines = false;  // the stretches are whole lines: what stays is joined by line feeds
  std::vector<Cut> cuts;
};

// Over several ranks: what is said of documents below is known to all ranks alike, except that ids, removals and layers are those of a rank's own documents.
// Stages are collective.
struct DedupState {
  DedupState(const DedupOptions& o, Corpus& c, OutputFolder& f);

  const DedupOptions& options;
  Corpus& corpus;
  OutputFolder& out;
  Ranks& ranks;
  std::string temporary;         // folder for spills
  int64_t memory_bytes;          // what buffers may take
  uint64_t seed;                 // of hashes that only decide equality: differs from run to run, so that nobody can prepare collisions
  IdStore ids;

  std::vector<uint32_t> length;  // text bytes
  std::vector<double> score;     // with KeepRule::kScore
  std::vector<Fate> fate;
  std::vector<Removal> removals; // of exact and near, in the order of their clusters
  std::vector<CutLayer> layers;
  int64_t clusters_written = 0, largest_near_cluster = 0;
  int64_t line_spans = 0, line_bytes = 0, substr_spans = 0, substr_bytes = 0;

  int64_t documents() const { return static_cast<int64_t>(fate.size()); }
  bool here(uint32_t doc) const { return fate[doc] == Fate::kHere; }
  bool reference(uint32_t doc) const { return doc < corpus.reference_documents(); }  // stays whatever it is, and is preferred to any input
  // Appends ,"against":{"file":..,"doc":..,"id":..}: a reference, by its number in its file.
  Status AppendAgainst(uint32_t doc, std::string* out);
  // Whether `a` is to be kept rather than `b`.
  bool Better(uint32_t a, uint32_t b) const;
  // The seed of all ranks, before the first pass; lengths, scores and fates of all documents, after it. Collective.
  Status AgreeOnSeed();
  Status ShareDocuments();
  // The ids of documents of other ranks, for ids.Find. Collective.
  Status BringIds(std::vector<uint32_t> docs);
  // Sorts the clusters, which all ranks know, by their smallest member, appends them to clusters.jsonl, and marks all members but the keepers as removed.
  // Collective.
  Status Take(Clusters* clusters, Fate fate_of_removed);

  // The text of a document as the layers left it: `text` itself, or *scratch.
  std::string_view TextNow(uint32_t doc, std::string_view text, std::string* scratch) const;
  bool WasCut(uint32_t doc) const;
  // Whether any document of the block is still there.
  bool BlockHasAny(int64_t block) const;
};

// The stages and the end; all collective.
Status RunLines(DedupState* state);
Status RunSubstr(DedupState* state);
Status WriteKept(DedupState* state);
Status WriteDedupPage(DedupState* state, const Json& report);  // options.common.report_html

}  // namespace tern::corpus
