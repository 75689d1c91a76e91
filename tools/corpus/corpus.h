// Corpus: the inputs of one run, read as often as needed. Files, folders (their .jsonl .ndjson .csv .tsv .txt, also .gz .zst), globs, standard input.
//
// The first pass numbers the documents, takes a digest of every file and unpacks compressed inputs and pipes into a spool, so that later passes can
// jump. Later passes give the same blocks with the same numbers, and fail with kIo if a file changed in between.
//
//   TERN_ASSIGN(auto corpus, Corpus::Open(options));
//   TERN_RETURN_IF_ERROR(corpus->Pass({.stage = "filtering"},
//       [&](Block& block, int worker) -> Status { block.result = ...; return {}; },   // in parallel, any order
//       [&](Block& block) -> Status { ...; return {}; }));                            // one at a time, in order
#pragma once

#include <charconv>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/options.h"
#include "tools/corpus/record.h"

namespace tern::corpus {

struct Source {
  std::string path;         // as given or found; "-" for standard input
  std::string kept_name;    // its name under kept/: without .gz/.zst, with "INDEX-" for all inputs if two would be equal
  Format format{};
  bool reference = false;   // of options.references: nothing of it is kept or removed
  int64_t index = 0;        // among the inputs, or among the references
  // Known after the first pass.
  int64_t bytes = 0;        // uncompressed
  int64_t packed_bytes = -1;  // on disk; -1 for a pipe
  uint64_t digest = 0;      // XXH3 of the uncompressed bytes
  int64_t documents = 0, bad = 0;
  std::string csv_header;   // the header's bytes, copied to kept/ (and the byte order mark is not)
};

struct PassOptions {
  std::string_view stage = "reading";
  // Blocks for which it returns false are skipped (passes after the first). Thread-safe.
  std::function<bool(int64_t block)> want;
  // Blocks for which it returns false are only split: text, id, score and bad of their records stay empty, which costs a tenth (passes after the first).
  std::function<bool(int64_t block)> parse_block;
  // No later pass will follow: nothing is spooled.
  bool only_pass = false;
};

class Corpus {
 public:
  // kUsage without inputs or for an unknown format, kIo for a missing file, kMalformed for Parquet. Reads nothing yet.
  static Result<std::unique_ptr<Corpus>> Open(const CommonOptions& options);
  ~Corpus();

  const std::vector<Source>& sources() const;
  int threads() const;              // of a pass: `worker` is below it
  int64_t documents() const;        // malformed ones included; after the first pass
  int64_t bad() const;
  int64_t blocks() const;
  int64_t FirstDocOf(int64_t block) const;
  int64_t EndDocOf(int64_t block) const;
  int64_t BlockOf(int64_t doc) const;  // the block that holds it
  // References come first: documents [0, reference_documents()). The inputs are shown as if there were none: ShownDoc is negative for a reference.
  int64_t reference_documents() const;
  int64_t ShownDoc(int64_t doc) const { return doc - reference_documents(); }

  // With several ranks each reads whole sources of its own, one behind the other: blocks are those of this rank, documents and bad() are counted over all
  // of them. Document numbers hold from the end of the first pass on; during it they count from 0 on every rank.
  Ranks& ranks() const;
  size_t own_begin_source() const;
  size_t own_end_source() const;
  int64_t own_begin_doc() const;
  int64_t own_end_doc() const;
  int RankOf(int64_t doc) const;
  bool Owns(int64_t doc) const { return doc >= own_begin_doc() && doc < own_end_doc(); }

  // `work` runs on any thread, blocks in any order; `in_order` runs on one thread at a time, block after block. Either may be empty. The first failure
  // ends the pass. Blocks are reused afterwards: nothing may point into them. The first pass is collective: all ranks make it.
  using Work = std::function<Status(Block& block, int worker)>;
  using InOrder = std::function<Status(Block& block)>;
  Status Pass(const PassOptions& options, const Work& work, const InOrder& in_order);

  // kMalformed if more than 1 % of the records are malformed and options.yes is not set: to be called after the first pass.
  Status CheckBadShare() const;

 private:
  struct State;
  explicit Corpus(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Appends numbers and text one behind the other: for lines that are written by the million.
template <class Part>
void AppendPart(std::string* out, const Part& part) {
  if constexpr (std::is_integral_v<Part>) {
    char digits[24];
    out->append(digits, static_cast<size_t>(std::to_chars(digits, digits + sizeof digits, part).ptr - digits));
  } else {
    out->append(part);
  }
}
template <class... Parts>
void AppendParts(std::string* out, const Parts&... parts) {
  (AppendPart(out, parts), ...);
}

// Appends {"doc":..,"id":..,"file":..,"line":..,"offset":.. without the closing brace: the beginning of a line of removed.jsonl and its kin.
void AppendPlace(const Corpus& corpus, const Block& block, size_t index, std::string* out);
// Appends `text` as a JSON string, quotes included: UTF-8 as it is, control characters escaped.
void AppendJsonString(std::string_view text, std::string* out);
// Appends the record as kept/ receives it: its bytes, and a blank line behind a paragraph. The block may be split only.
void AppendKept(const Block& block, const Record& record, std::string* out);
// Appends the record with its text replaced; everything else keeps its bytes and order.
void AppendRewritten(const Block& block, const Record& record, std::string_view text, std::string* out);

}  // namespace tern::corpus
