#include "tools/corpus/leak.h"

#include <algorithm>
#include <map>

#include "engine/base/file.h"
#include "engine/base/utf8.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/filter.h"
#include "tools/corpus/html_report.h"
#include "tools/corpus/near_index.h"
#include "tools/corpus/output.h"
#include "tools/corpus/shingles.h"
#include "tools/corpus/window_index.h"

namespace tern::corpus {
namespace {

constexpr int kIndexes = 3;  // whole documents, word windows, character windows: also the order of reasons
constexpr const char* kReasons[] = {"exact", "ngram", "char", "near"};
constexpr size_t kMaxPassageBytes = 1000;
constexpr int64_t kMostPageItems = 200;

// What the parallel part found in one training block.
struct TrainResult : BlockResult {
  struct Hit {
    uint32_t record;
    int index;         // of the three; kIndexes: near
    int64_t entry;     // of the index, or the test document
    double similarity;
  };
  std::vector<Hit> hits;               // of windows not found in an earlier block, each once a block; near ones all
  std::vector<int8_t> reason;          // --clean: by record, the first reason it has, or -1
  std::vector<int64_t> reason_test;    // --clean: a test document it was found by
};

struct TestResult : BlockResult {
  struct Row {
    bool exact = false;
    int64_t hits[kIndexes] = {}, totals[kIndexes] = {};
    std::string passages;              // a JSON array, empty if there are none
    std::vector<std::pair<size_t, size_t>> marks;  // where they stand in the text
    int64_t exact_in = -1;
  };
  std::vector<Row> rows;
};

// Of one thread.
struct Worker {
  WordSequence words;
  std::vector<uint32_t> seen[kIndexes];  // by entry: the block it was last seen in
  uint32_t block = 0;
  std::vector<uint64_t> shingles;
  NearIndex::Scratch scratch;
  std::vector<NearIndex::Match> matches;
};

class LeakRun {
 public:
  explicit LeakRun(const LeakOptions& options)
      : options_(options),
        seed_(ProcessSeed()),
        indexes_{WindowIndex(&store_, WindowIndex::Kind::kDocument, 0), WindowIndex(&store_, WindowIndex::Kind::kWords, options.ngram),
                 WindowIndex(&store_, WindowIndex::Kind::kChars, options.min_chars)},
        near_(options.threshold) {}

  Result<Json> Run();

 private:
  Status ReadTests();
  Status AddTest(Block& block);
  Status SearchBlock(Block& block, int worker);
  void SearchRecord(const Record& record, uint32_t i, Worker* w, TrainResult* result);
  Status TakeHits(Block& block);
  Status WriteCleaned(const Block& block, const TrainResult& result);
  Status MeasureTests(Block& block, int worker);
  std::string Passages(const WordSequence& words, std::vector<std::pair<int64_t, int64_t>> ranges, const std::vector<int64_t>& found, std::string_view text,
                       std::vector<std::pair<size_t, size_t>>* marks) const;
  Status WriteTests(Block& block);
  void RememberPlace(const Block& block, size_t record);
  Json Report() const;
  void AddToPage(const Block& block, size_t i, const TestResult::Row& row);
  Status WritePage(const Json& report) const;
  ShingleReader Shingles() const { return ShingleReader(ShingleUnit{}, seed_); }

  const LeakOptions& options_;
  const uint64_t seed_;
  WordStore store_;
  WindowIndex indexes_[kIndexes];
  NearIndex near_;
  std::vector<Worker> workers_;
  std::vector<ShingleReader> readers_;       // by worker
  std::unique_ptr<Corpus> tests_, train_;
  std::unique_ptr<OutputFolder> out_;
  std::vector<int64_t> test_doc_;            // by stored document
  std::vector<int64_t> near_doc_;            // by stored document: the training document it resembles most, or -1
  std::vector<double> near_similarity_;
  std::map<int64_t, std::string> places_;    // of the training documents that something was found in: a JSON object without its closing brace
  int64_t next_test_ = 0;                    // of the last pass
  int64_t counts_[4] = {}, leaked_ = 0, kept_ = 0, removed_ = 0;
  std::map<std::string, int64_t> reasons_;
  HtmlReport page_;                          // the items of the HTML report
  int64_t page_items_ = 0;
};

Status LeakRun::AddTest(Block& block) {
  Worker& w = workers_[0];
  for (size_t i = 0; i < block.records.size(); ++i) {
    const Record& record = block.records[i];
    if (record.bad) continue;
    w.words.Read(record.text, seed_);
    int64_t most = std::max(indexes_[1].entries(), indexes_[2].entries()) + static_cast<int64_t>(w.words.joined().size());
    if (most >= int64_t{0xfffffff0}) return MemoryError("the test documents hold too many windows").Hint("Split them into several runs");
    int64_t d = store_.Add(w.words);
    for (WindowIndex& index : indexes_) index.Add(d, w.words);
    test_doc_.push_back(block.DocOf(i));
    if (!options_.near) continue;
    readers_[0].ReadSet(record.text, &w.shingles);
    near_.Add(w.shingles);
  }
  return out_->AppendBad(*tests_, block);
}

Status LeakRun::ReadTests() {
  TERN_RETURN_IF_ERROR(tests_->Pass({.stage = "reading tests"}, nullptr, [&](Block& block) { return AddTest(block); }));
  for (WindowIndex& index : indexes_) index.Finish();
  near_.Finish();
  near_doc_.assign(test_doc_.size(), -1);
  near_similarity_.assign(test_doc_.size(), 0);
  for (Worker& w : workers_)
    for (int k = 0; k < kIndexes; ++k) w.seen[k].assign(static_cast<size_t>(indexes_[k].entries()), 0);
  return {};
}

void LeakRun::SearchRecord(const Record& record, uint32_t i, Worker* w, TrainResult* result) {
  w->words.Read(record.text, seed_);
  int reason = -1;
  int64_t test = -1;
  for (int k = 0; k < kIndexes; ++k) {
    // To clean, one window a record must be found; beyond that, only windows that no earlier block held matter.
    bool fresh_only = !options_.clean || reason >= 0;
    indexes_[k].ForEachFound(w->words, fresh_only, [&](size_t, size_t, int64_t, int64_t entry) {
      if (reason < 0) {
        reason = k;
        test = indexes_[k].document_of(entry);
      }
      uint32_t& seen = w->seen[k][static_cast<size_t>(entry)];
      if (seen == w->block || indexes_[k].found_in(entry) >= 0) return;
      seen = w->block;
      result->hits.push_back({i, k, entry, 0});
    });
  }
  if (options_.near) {
    readers_[static_cast<size_t>(w - workers_.data())].Read(record.text, &w->shingles);
    near_.Find(w->shingles, &w->scratch, &w->matches);
    for (const NearIndex::Match& m : w->matches) {
      result->hits.push_back({i, kIndexes, m.document, m.similarity});
      if (reason < 0) {
        reason = kIndexes;
        test = m.document;
      }
    }
  }
  if (!options_.clean) return;
  result->reason[i] = static_cast<int8_t>(reason);
  result->reason_test[i] = test;
}

Status LeakRun::SearchBlock(Block& block, int worker) {
  auto result = std::make_unique<TrainResult>();
  Worker& w = workers_[static_cast<size_t>(worker)];
  ++w.block;
  if (options_.clean) {
    result->reason.assign(block.records.size(), -1);
    result->reason_test.assign(block.records.size(), -1);
  }
  for (size_t i = 0; i < block.records.size(); ++i)
    if (!block.records[i].bad) SearchRecord(block.records[i], static_cast<uint32_t>(i), &w, result.get());
  block.result = std::move(result);
  return {};
}

void LeakRun::RememberPlace(const Block& block, size_t record) {
  std::string& place = places_[block.DocOf(record)];
  if (place.empty()) AppendPlace(*train_, block, record, &place);
}

// Blocks come in order, so the first document that a window is found in is the lowest, whatever the threads do.
Status LeakRun::TakeHits(Block& block) {
  const auto& result = static_cast<const TrainResult&>(*block.result);
  for (const TrainResult::Hit& hit : result.hits) {
    int64_t doc = block.DocOf(hit.record);
    if (hit.index < kIndexes) {
      if (indexes_[hit.index].found_in(hit.entry) >= 0) continue;
      indexes_[hit.index].SetFoundIn(hit.entry, doc);
    } else {
      size_t d = static_cast<size_t>(hit.entry);
      if (hit.similarity <= near_similarity_[d]) continue;
      near_similarity_[d] = hit.similarity;
      near_doc_[d] = doc;
    }
    RememberPlace(block, hit.record);
  }
  TERN_RETURN_IF_ERROR(out_->AppendBad(*train_, block));
  return options_.clean ? WriteCleaned(block, result) : Status();
}

Status LeakRun::WriteCleaned(const Block& block, const TrainResult& result) {
  std::string lines;
  for (size_t i = 0; i < block.records.size(); ++i) {
    if (block.records[i].bad) continue;
    if (result.reason[i] < 0) {
      ++kept_;
      out_->Keep(block, block.records[i]);
      continue;
    }
    ++removed_;
    const char* reason = kReasons[result.reason[i]];
    ++reasons_[reason];
    AppendPlace(*train_, block, i, &lines);
    lines += Str(",\"reason\":\"", reason, "\",\"test_doc\":", test_doc_[static_cast<size_t>(result.reason_test[i])], "}\n");
  }
  TERN_RETURN_IF_ERROR(out_->Append("removed.jsonl", lines));
  return out_->EndBlock(block);
}

// The stretches of words that hold found windows, with the training document each was first found in.
std::string LeakRun::Passages(const WordSequence& words, std::vector<std::pair<int64_t, int64_t>> ranges, const std::vector<int64_t>& found,
                              std::string_view text, std::vector<std::pair<size_t, size_t>>* marks) const {
  std::vector<size_t> order(ranges.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ranges[a] != ranges[b] ? ranges[a] < ranges[b] : found[a] < found[b]; });
  std::string out = "[";
  for (size_t i = 0; i < order.size();) {
    auto [begin, end] = ranges[order[i]];
    int64_t doc = found[order[i]];
    for (++i; i < order.size() && ranges[order[i]].first <= end; ++i) end = std::max(end, ranges[order[i]].second);
    size_t from = words.raw_begin(begin), to = words.raw_end(end);
    size_t cut = std::min(to, from + kMaxPassageBytes);
    while (cut < to && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;
    marks->push_back({from, to});
    if (out.size() > 1) out += ',';
    out += Str("{\"begin\":", from, ",\"end\":", to, ",\"words\":", end - begin + 1, ",\"text\":");
    AppendJsonString(text.substr(from, cut - from), &out);
    out += ",\"train\":" + places_.at(doc) + "}}";
  }
  return out + "]";
}

Status LeakRun::MeasureTests(Block& block, int worker) {
  auto result = std::make_unique<TestResult>();
  Worker& w = workers_[static_cast<size_t>(worker)];
  result->rows.resize(block.records.size());
  std::vector<std::pair<int64_t, int64_t>> ranges;
  std::vector<int64_t> found;
  std::vector<uint32_t> begins;
  for (size_t i = 0; i < block.records.size(); ++i) {
    const Record& record = block.records[i];
    if (record.bad) continue;
    TestResult::Row& row = result->rows[i];
    w.words.Read(record.text, seed_);
    ranges.clear();
    found.clear();
    int64_t word_at = 0;
    for (int k = 0; k < kIndexes; ++k) {
      row.totals[k] = indexes_[k].total(w.words);
      word_at = 0;
      indexes_[k].ForEachFound(w.words, false, [&](size_t begin, size_t end, int64_t word, int64_t entry) {
        int64_t doc = indexes_[k].found_in(entry);
        if (doc < 0) return;
        ++row.hits[k];
        if (k == 0) {
          row.exact_in = doc;
          return;
        }
        int64_t last = word + options_.ngram - 1;
        if (k == 2) {  // windows come in order, so the word a window begins in moves only forward
          while (w.words.begin_of(word_at + 1) <= begin) ++word_at;
          word = last = word_at;
          while (w.words.begin_of(last + 1) < end) ++last;
        }
        ranges.push_back({word, last});
        found.push_back(doc);
      });
    }
    row.exact = row.hits[0] > 0;
    if (!ranges.empty()) row.passages = Passages(w.words, ranges, found, record.text, &row.marks);
  }
  block.result = std::move(result);
  return {};
}

Status LeakRun::WriteTests(Block& block) {
  const auto& result = static_cast<const TestResult&>(*block.result);
  std::string lines;
  for (size_t i = 0; i < block.records.size(); ++i) {
    if (block.records[i].bad) continue;
    const TestResult::Row& row = result.rows[i];
    size_t d = static_cast<size_t>(next_test_++);
    bool leaked = row.exact || row.hits[1] > 0 || row.hits[2] > 0, near = near_doc_[d] >= 0;
    counts_[0] += row.exact;
    counts_[1] += row.hits[1] > 0;
    counts_[2] += row.hits[2] > 0;
    counts_[3] += near;
    leaked_ += leaked;
    AppendPlace(*tests_, block, i, &lines);
    lines += Str(",\"exact\":", row.exact ? "true" : "false", ",\"ngram_hits\":", row.hits[1], ",\"ngram_total\":", row.totals[1],
                 ",\"char_hits\":", row.hits[2], ",\"char_total\":", row.totals[2], ",\"leaked\":", leaked ? "true" : "false");
    if (row.exact) lines += ",\"exact_in\":" + places_.at(row.exact_in) + "}";
    if (near) {
      lines += ",\"near\":";
      AppendJsonNumber(near_similarity_[d], &lines);
      lines += ",\"near_to\":" + places_.at(near_doc_[d]) + "}";
    }
    if (!row.passages.empty()) lines += ",\"passages\":" + row.passages;
    if (leaked && !options_.common.report_html.empty() && page_items_ < kMostPageItems) AddToPage(block, i, row);
    lines += "}\n";
  }
  return out_->Append("leak.jsonl", lines);
}

void LeakRun::AddToPage(const Block& block, size_t i, const TestResult::Row& row) {
  ++page_items_;
  std::string caption = Str("test document ", block.DocOf(i), ", line ", block.LineOf(i), " of ", tests_->sources()[static_cast<size_t>(block.file)].path, ": ");
  if (row.exact) caption += Str("stands word for word as training document ", row.exact_in, "; ");
  caption += Str(row.hits[1], " of ", row.totals[1], " word windows and ", row.hits[2], " of ", row.totals[2], " character windows found");
  page_.Text(caption, block.records[i].text, row.marks);
}

Status LeakRun::WritePage(const Json& report) const {
  HtmlReport page("tern leak");
  auto number = [&](const char* key) { return Str(report.value(key, int64_t{0})); };
  page.Table({{"training documents", "test documents", "leaked", "word for word", Str(options_.ngram, " words"), Str(options_.min_chars, " characters"), "near"},
              {number("train_documents"), number("test_documents"), number("leaked"), number("exact"), number("ngram"), number("char"), number("near")}});
  page.Heading("Test documents that leak");
  if (leaked_ > page_items_) page.Paragraph(Str("The first ", page_items_, "; leak.jsonl lists all."));
  page.Append(page_);
  page.Inputs("Training inputs", *train_);
  page.Inputs("Test inputs", *tests_);
  page.Parameters(options_.common);
  return page.Write(options_.common.report_html);
}

Json LeakRun::Report() const {
  Json report = {{"verb", "leak"}};
  if (options_.clean) {
    report["documents"] = train_->documents();
    report["bad"] = train_->bad();
    report["kept"] = kept_;
    report["removed"] = removed_;
    report["reasons"] = Json::object();
    for (const auto& [reason, n] : reasons_) report["reasons"][reason] = n;
  }
  report["train_documents"] = train_->documents();
  report["test_documents"] = tests_->documents();
  report["train_bad"] = train_->bad();
  report["test_bad"] = tests_->bad();
  report["leaked"] = leaked_;
  for (int k = 0; k < (options_.near ? 4 : 3); ++k) report[kReasons[k]] = counts_[k];
  report["test_inputs"] = Json::array();
  for (const Source& s : tests_->sources()) report["test_inputs"].push_back(Json{{"file", ReplaceInvalidUtf8(s.path)}, {"bytes", s.bytes}, {"documents", s.documents}});
  return report;
}

Result<Json> LeakRun::Run() {
  CommonOptions test_options = options_.common;
  test_options.inputs = options_.tests;
  TERN_ASSIGN(train_, Corpus::Open(options_.common));
  TERN_ASSIGN(tests_, Corpus::Open(test_options));
  TERN_ASSIGN(out_, OutputFolder::Create(options_.common));
  if (out_->complete()) return ReadReport(out_->path());
  for (const char* list : {"leak.jsonl", "bad.jsonl"}) TERN_RETURN_IF_ERROR(out_->Touch(list));
  if (options_.clean) {
    TERN_RETURN_IF_ERROR(out_->Touch("removed.jsonl"));
    out_->OpenKept(*train_);
  }
  workers_.resize(static_cast<size_t>(train_->threads()));
  for (int i = 0; i < train_->threads(); ++i) readers_.push_back(Shingles());
  TERN_RETURN_IF_ERROR(ReadTests());
  TERN_RETURN_IF_ERROR(train_->Pass({.stage = "searching", .only_pass = true}, [&](Block& block, int worker) { return SearchBlock(block, worker); },
                                    [&](Block& block) { return TakeHits(block); }));
  TERN_RETURN_IF_ERROR(tests_->Pass({.stage = "writing"}, [&](Block& block, int worker) { return MeasureTests(block, worker); },
                                    [&](Block& block) { return WriteTests(block); }));
  Json report = Report();
  for (const Corpus* corpus : {tests_.get(), train_.get()}) {
    Status bad = corpus->CheckBadShare();
    if (bad.ok()) continue;
    TERN_RETURN_IF_ERROR(out_->CommitStopped(options_.common, *train_, std::move(report), "malformed records", {"bad.jsonl"}));
    return bad;
  }
  if (test_doc_.empty()) Log(options_.common.log, LogLevel::kWarning, "there are no test documents");
  if (train_->documents() == 0) Log(options_.common.log, LogLevel::kWarning, "there are no training documents");
  if (!options_.common.report_html.empty()) TERN_RETURN_IF_ERROR(WritePage(report));
  TERN_RETURN_IF_ERROR(out_->Commit(options_.common, *train_, report));
  return report;
}

}  // namespace

Result<Json> Leak(const LeakOptions& options) {
  if (options.tests.empty()) return UsageError("no test documents").Hint("Name them with --test");
  LeakRun run(options);
  return run.Run();
}

}  // namespace tern::corpus
