#include "tools/corpus/dedup.h"

#include <charconv>
#include <cmath>
#include <memory>
#include <optional>

#include "engine/base/hash.h"
#include "tools/corpus/dedup_state.h"
#include "tools/corpus/exact.h"
#include "tools/corpus/minhash.h"
#include "tools/corpus/near.h"
#include "tools/corpus/output.h"
#include "tools/corpus/pipeline.h"
#include "tools/corpus/ranks.h"
#include "tools/corpus/shingles.h"

namespace tern::corpus {
namespace {

template <class T>
bool ReadNumber(std::string_view text, T* value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

// What the parallel part of the first pass makes of a block.
struct BlockKeys : BlockResult {
  std::vector<Hash128> exact;      // per record; meaningless where has_exact is false
  std::vector<bool> has_exact;
  std::vector<uint64_t> bands;     // of the records with words, one after another
  std::vector<uint32_t> with_words;  // their indexes
};

// What one worker reuses.
struct Workspace {
  Workspace(const DedupOptions& o) : shingles(o.unit, kSketchSeed) {}
  WordReader words;
  ShingleReader shingles;
  MinHasher::Scratch scratch;
  std::vector<uint64_t> hashes;
  std::string key;
};

class Run {
 public:
  Run(const DedupOptions& options, Json* report) : o_(options), report_(*report) {}

  Status All() {
    if (o_.per_source && !o_.common.references.empty()) return UsageError("--scope source and --against contradict each other");
    TERN_ASSIGN(corpus_, Corpus::Open(o_.common));
    TERN_ASSIGN(out_, OutputFolder::Create(o_.common));
    if (out_->complete()) {
      TERN_ASSIGN(std::string text, ReadFile(out_->path() + "/report.json", 64 << 20));
      TERN_ASSIGN(report_, ParseJson(text));
      return {};
    }
    state_.emplace(o_, *corpus_, *out_);
    TERN_RETURN_IF_ERROR(state_->AgreeOnSeed());
    TERN_RETURN_IF_ERROR(ReadKeys());
    TERN_RETURN_IF_ERROR(Share());
    if (Status bad = corpus_->CheckBadShare(); !bad.ok()) {
      Describe();
      TERN_RETURN_IF_ERROR(out_->CommitStopped(o_.common, *corpus_, report_, "more than 1 % of the records are malformed", {"bad.jsonl"}));
      return bad;
    }
    if (exact_) TERN_RETURN_IF_ERROR(exact_->Run(&*state_));
    exact_.reset();
    if (near_) {
      int64_t too_large = 0;
      TERN_RETURN_IF_ERROR(RunNear(&*state_, near_.get(), &too_large));
      near_.reset();
      if (too_large > 0 && !o_.common.yes) return StopAtCluster(too_large);
    }
    if (o_.lines) TERN_RETURN_IF_ERROR(RunLines(&*state_));
    if (o_.substr) TERN_RETURN_IF_ERROR(RunSubstr(&*state_));
    TERN_RETURN_IF_ERROR(WriteKept(&*state_));
    Describe();
    if (!o_.common.report_html.empty()) TERN_RETURN_IF_ERROR(WriteDedupPage(&*state_, report_));
    TERN_RETURN_IF_ERROR(out_->Commit(o_.common, *corpus_, report_));
    return corpus_->ranks().Barrier();
  }

 private:
  // The first pass: lengths, scores and ids of all documents, and the keys of the stages that come first.
  Status ReadKeys() {
    DedupState& s = *state_;
    TERN_RETURN_IF_ERROR(out_->Touch("bad.jsonl"));
    if (o_.exact) exact_ = std::make_unique<ExactKeys>(s.memory_bytes / 4, s.temporary);
    if (o_.near) near_ = std::make_unique<BandKeys>(o_.bands, s.memory_bytes / 2, s.temporary);
    const MinHasher hasher(o_.bands, o_.rows, kSketchSeed);
    std::vector<std::unique_ptr<Workspace>> spaces;
    for (int i = 0; i < corpus_->threads(); ++i) spaces.push_back(std::make_unique<Workspace>(o_));
    return corpus_->Pass(
        {.stage = "reading"}, [&](Block& block, int worker) { return Sketch(block, hasher, *spaces[static_cast<size_t>(worker)]); },
        [&](Block& block) { return Note(block); });
  }

  // What every rank read becomes known to all.
  Status Share() {
    TERN_RETURN_IF_ERROR(CheckCount());
    TERN_RETURN_IF_ERROR(state_->ShareDocuments());
    TERN_ASSIGN(text_bytes_in_, corpus_->ranks().Sum(text_bytes_in_));
    int64_t inputs_before = 0;  // of the documents of former ranks, those that are shown
    for (size_t s = 0; s < corpus_->own_begin_source(); ++s)
      if (!corpus_->sources()[s].reference) inputs_before += corpus_->sources()[s].documents;
    return out_->GatherList("bad.jsonl", inputs_before);
  }

  Status CheckCount() const {
    if (corpus_->documents() < int64_t{1} << 32) return {};
    return UsageError("more than 4,294,967,295 documents in one run").Hint("Split the inputs and use --against");
  }

  Status Sketch(Block& block, const MinHasher& hasher, Workspace& w) {
    auto keys = std::make_unique<BlockKeys>();
    const size_t n = block.records.size(), bands = static_cast<size_t>(hasher.bands());
    if (o_.exact) keys->exact.resize(n), keys->has_exact.resize(n);
    for (size_t i = 0; i < n; ++i) {
      const Record& record = block.records[i];
      if (record.bad) continue;
      if (o_.exact) {
        std::string_view key = NormalizedKey(record.text, o_.exact_normalize, w.words, &w.key);
        keys->has_exact[i] = !key.empty();
        keys->exact[i] = Xxh3Wide({reinterpret_cast<const uint8_t*>(key.data()), key.size()}, state_->seed ^ SourceSalt(block.file));
      }
      if (!o_.near) continue;
      w.shingles.Read(record.text, &w.hashes);
      if (w.hashes.empty()) continue;
      keys->with_words.push_back(static_cast<uint32_t>(i));
      size_t at = keys->bands.size();
      keys->bands.resize(at + bands);
      hasher.Keys(w.hashes, &w.scratch, keys->bands.data() + at);
      if (o_.per_source)
        for (size_t b = at; b < at + bands; ++b) keys->bands[b] += SourceSalt(block.file);
    }
    block.result = std::move(keys);
    return {};
  }

  Status Note(Block& block) {
    DedupState& s = *state_;
    const BlockKeys& keys = static_cast<const BlockKeys&>(*block.result);
    TERN_RETURN_IF_ERROR(CheckCount());
    const uint32_t first = static_cast<uint32_t>(block.first_doc);
    for (size_t i = 0; i < block.records.size(); ++i) {
      const Record& record = block.records[i];
      s.length.push_back(static_cast<uint32_t>(record.text.size()));
      if (o_.keep == KeepRule::kScore) s.score.push_back(record.score);
      s.fate.push_back(record.bad ? Fate::kBad : Fate::kHere);
      if (!corpus_->sources()[static_cast<size_t>(block.file)].reference) text_bytes_in_ += static_cast<int64_t>(record.text.size());
      TERN_RETURN_IF_ERROR(s.ids.Append(record.id_json));
      if (o_.exact && keys.has_exact[i]) TERN_RETURN_IF_ERROR(exact_->Append(keys.exact[i], first + static_cast<uint32_t>(i)));
    }
    for (size_t i = 0; i < keys.with_words.size(); ++i)
      TERN_RETURN_IF_ERROR(near_->Append(first + keys.with_words[i], keys.bands.data() + i * static_cast<size_t>(o_.bands)));
    return out_->AppendBad(*corpus_, block);
  }

  uint64_t SourceSalt(int file) const { return o_.per_source ? (static_cast<uint64_t>(file) + 1) * 0x9e3779b97f4a7c15u : 0; }

  Status StopAtCluster(int64_t size) {
    Describe();
    report_["kept"] = 0, report_["removed"] = 0, report_["reasons"] = Json::object();
    TERN_RETURN_IF_ERROR(out_->CommitStopped(o_.common, *corpus_, report_, "a near-duplicate cluster is larger than --max-cluster", {"clusters.jsonl", "pairs.jsonl", "bad.jsonl"}));
    return Status(Code::kGuard, Str("a cluster of ", size, " near-duplicates is larger than --max-cluster allows"))
        .File(out_->path() + "/clusters.jsonl")
        .Hint("Look at it; --yes removes its members all the same, a higher --threshold makes clusters smaller");
  }

  void Describe() {
    DedupState& s = *state_;
    int64_t kept = 0, kept_bytes = 0;
    int64_t gone[6] = {};
    const int64_t references = corpus_->reference_documents();
    for (size_t i = static_cast<size_t>(references); i < s.fate.size(); ++i) {
      ++gone[static_cast<int>(s.fate[i])];
      if (s.fate[i] == Fate::kHere) ++kept, kept_bytes += s.length[i];
    }
    Json reasons = Json::object();
    int64_t removed = 0;
    for (Fate f : {Fate::kExact, Fate::kNear, Fate::kLines, Fate::kSubstr})
      if (int64_t n = gone[static_cast<int>(f)]) reasons[FateName(f)] = n, removed += n;
    report_ = Json{{"verb", "dedup"}, {"documents", s.documents() - references}, {"bad", gone[static_cast<int>(Fate::kBad)]}, {"kept", kept}, {"removed", removed}, {"reasons", reasons},
                   {"text_bytes_in", text_bytes_in_}, {"text_bytes_kept", kept_bytes}};
    if (o_.near) report_["largest_cluster"] = s.largest_near_cluster;
    if (references > 0) report_["against_documents"] = references;
    report_["clusters"] = s.clusters_written;
    report_["lines"] = Json{{"spans", s.line_spans}, {"bytes", s.line_bytes}};
    report_["substr"] = Json{{"spans", s.substr_spans}, {"bytes", s.substr_bytes}};
  }

  const DedupOptions& o_;
  Json& report_;
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<OutputFolder> out_;
  std::optional<DedupState> state_;
  std::unique_ptr<ExactKeys> exact_;
  std::unique_ptr<BandKeys> near_;
  int64_t text_bytes_in_ = 0;
};

}  // namespace

Result<Normalize> ParseNormalize(std::string_view text) {
  if (text == "none") return Normalize::kNone;
  if (text == "space") return Normalize::kSpace;
  if (text == "fold") return Normalize::kFold;
  if (text == "words") return Normalize::kWords;
  return UsageError(Str("'", Printable(text), "' is no normalisation")).Hint("It is one of none, space, fold, words");
}

Status ParseKeep(std::string_view text, DedupOptions* options) {
  if (text == "longest") options->keep = KeepRule::kLongest;
  else if (text == "first") options->keep = KeepRule::kFirst;
  else if (text.substr(0, 6) == "score:" && text.size() > 6) options->keep = KeepRule::kScore, options->common.score_field = text.substr(6);
  else return UsageError(Str("'", Printable(text), "' is no rule of what to keep")).Hint("It is longest, first or score:FIELD");
  return {};
}

Result<ShingleUnit> ParseUnit(std::string_view text) {
  if (text == "auto") return ShingleUnit{};
  ShingleUnit unit;
  for (auto [name, kind] : {std::pair<std::string_view, UnitKind>{"word", UnitKind::kWord}, {"char", UnitKind::kChar}})
    if (text.substr(0, 4) == name && ReadNumber(text.substr(4), &unit.n) && unit.n >= 1 && unit.n <= 1000) {
      unit.kind = kind;
      return unit;
    }
  return UsageError(Str("'", Printable(text), "' is no unit")).Hint("It is auto, or word or char and a number from 1 to 1000: word5, char24");
}

Status ParseBands(std::string_view text, DedupOptions* options) {
  size_t x = text.find('x');
  int bands, rows;
  if (x == std::string_view::npos || !ReadNumber(text.substr(0, x), &bands) || !ReadNumber(text.substr(x + 1), &rows) || bands < 1 || rows < 1 || bands > 4096 || rows > 4096 ||
      bands * rows > 65536)
    return UsageError(Str("'", Printable(text), "' are no bands")).Hint("Give BANDSxROWS, for example 16x8; at most 65536 in all");
  options->bands = bands, options->rows = rows;
  return {};
}

Status ParseMaxCluster(std::string_view text, DedupOptions* options) {
  if (!text.empty() && text.back() == '%') {
    double percent;
    if (ReadNumber(text.substr(0, text.size() - 1), &percent) && percent > 0 && percent <= 100) {
      options->max_cluster = 0, options->max_cluster_percent = percent;
      return {};
    }
  } else if (ReadNumber(text, &options->max_cluster) && options->max_cluster >= 1) {
    return {};
  }
  return UsageError(Str("'", Printable(text), "' is no size of a cluster")).Hint("Give a number of documents, or a share of them: 0.1%");
}

Status Dedup(const DedupOptions& options, Json* report) {
  DedupOptions o = options;
  o.common.verb = "dedup";
  if (!o.exact && !o.near && !o.lines && !o.substr) o.exact = o.near = true;
  Ranks alone;
  if (!o.common.ranks) o.common.ranks = &alone;
  Status status = Guarded([&] { return Run(o, report).All(); });
  o.common.ranks->Fail(status);
  return status;
}

}  // namespace tern::corpus
