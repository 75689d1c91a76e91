#include "tools/corpus/filter.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "engine/base/file.h"
#include "engine/base/utf8.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/html_report.h"
#include "tools/corpus/output.h"
#include "tools/corpus/rules_file.h"

namespace tern::corpus {
namespace {

constexpr int64_t kSampleStep = 100;  // a dry run judges every hundredth document, by a hash of its place

// What the parallel part found out about one record.
struct Judged {
  int rule = -1;               // the rule set that failed it
  Verdict verdict;
  bool rewritten = false;
  size_t begin = 0, end = 0;   // in FilterResult::rewritten
  int64_t text_bytes = 0;      // of the text that is kept
};

struct FilterResult : BlockResult {
  std::vector<Judged> judged;   // by record, or with --annotate by record and rule
  std::string rewritten;        // records whose text a rule rewrote
};

struct Counts {
  int64_t kept = 0, removed = 0, rewritten = 0, sampled = 0, text_bytes_in = 0, text_bytes_kept = 0;
  std::map<std::string, int64_t, std::less<>> reasons;
};

// What the HTML page shows; kept only if one is asked for.
struct PageNotes {
  static constexpr size_t kSamples = 5, kSampleBytes = 600;
  struct Sample {
    std::string place, text;
    double value, limit;
  };
  LengthHistogram lengths;   // kept, removed
  std::map<std::string, std::vector<Sample>, std::less<>> samples;  // by reason
};

bool InSample(const Block& block, const Record& record) {
  return HashPair(static_cast<uint64_t>(block.file), static_cast<uint64_t>(record.offset), 0x7e51) % kSampleStep == 0;
}

class FilterRun {
 public:
  explicit FilterRun(const FilterOptions& options) : options_(options), rules_(options.rules) {}

  Result<Json> Run();

 private:
  Status Judge(Block& block, int worker);
  Status Write(Block& block);
  void WriteRemoved(const Block& block, size_t i, const Judged& judged);
  void WriteAnnotation(const Block& block, size_t i, const Judged* judged);
  void WarnAbout(const Corpus& corpus) const;
  Json Report() const;
  void Note(const Block& block, size_t i, const Judged& judged);
  Status WritePage(const Json& report) const;

  const FilterOptions& options_;
  const std::vector<std::unique_ptr<RuleSet>>& rules_;
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<OutputFolder> out_;
  std::vector<TextUnits> units_;     // by worker
  std::string lines_;
  Counts counts_;
  PageNotes notes_;
  std::vector<int64_t> removed_of_;  // by source
};

Status FilterRun::Judge(Block& block, int worker) {
  auto result = std::make_unique<FilterResult>();
  TextUnits& units = units_[static_cast<size_t>(worker)];
  const size_t rules = rules_.size();
  result->judged.resize(block.records.size() * (options_.annotate ? rules : 1));
  for (size_t i = 0; i < block.records.size(); ++i) {
    const Record& record = block.records[i];
    if (record.bad || (options_.dry_run && !InSample(block, record))) continue;
    if (options_.annotate) {
      for (size_t r = 0; r < rules; ++r) {
        if (r == 0 || units.rewritten()) units.Reset(record.text);
        result->judged[i * rules + r].verdict = rules_[r]->Judge(units);
      }
      continue;
    }
    Judged& judged = result->judged[i];
    units.Reset(record.text);
    for (size_t r = 0; r < rules; ++r) {
      judged.verdict = rules_[r]->Judge(units);
      if (judged.verdict.passes()) continue;
      judged.rule = static_cast<int>(r);
      break;
    }
    if (judged.rule >= 0) continue;
    judged.text_bytes = static_cast<int64_t>(units.text().size());
    judged.rewritten = units.rewritten() && units.text() != record.text;
    if (!judged.rewritten) continue;
    judged.begin = result->rewritten.size();
    AppendRewritten(block, record, units.text(), &result->rewritten);
    judged.end = result->rewritten.size();
  }
  block.result = std::move(result);
  for (const auto& rule : rules_) TERN_RETURN_IF_ERROR(rule->failure());
  return {};
}

void FilterRun::WriteRemoved(const Block& block, size_t i, const Judged& judged) {
  AppendPlace(*corpus_, block, i, &lines_);
  lines_ += ",\"rules\":";
  AppendJsonString(rules_[static_cast<size_t>(judged.rule)]->name(), &lines_);
  lines_ += ",\"reason\":";
  AppendJsonString(judged.verdict.reason, &lines_);
  lines_ += ",\"value\":";
  AppendJsonNumber(judged.verdict.value, &lines_);
  lines_ += ",\"limit\":";
  AppendJsonNumber(judged.verdict.limit, &lines_);
  lines_ += "}\n";
}

void FilterRun::WriteAnnotation(const Block& block, size_t i, const Judged* judged) {
  AppendPlace(*corpus_, block, i, &lines_);
  lines_ += ",\"reasons\":{";
  bool passes = true;
  for (size_t r = 0; r < rules_.size(); ++r) {
    const Verdict& v = judged[r].verdict;
    if (r > 0) lines_ += ',';
    AppendJsonString(rules_[r]->name(), &lines_);
    lines_ += ':';
    if (v.passes()) {
      lines_ += "null";
      continue;
    }
    AppendJsonString(v.reason, &lines_);
    ++counts_.reasons[std::string(v.reason)];
    passes = false;
  }
  lines_ += "},\"values\":{";
  bool first = true;
  for (size_t r = 0; r < rules_.size(); ++r) {
    const Verdict& v = judged[r].verdict;
    if (v.passes()) continue;
    if (!first) lines_ += ',';
    first = false;
    AppendJsonString(rules_[r]->name(), &lines_);
    lines_ += ":[";
    AppendJsonNumber(v.value, &lines_);
    lines_ += ',';
    AppendJsonNumber(v.limit, &lines_);
    lines_ += ']';
  }
  lines_ += "}}\n";
  ++(passes ? counts_.kept : counts_.removed);
}

void FilterRun::Note(const Block& block, size_t i, const Judged& judged) {
  const Record& record = block.records[i];
  notes_.lengths.Add(static_cast<int64_t>(record.text.size()), judged.rule >= 0);
  if (judged.rule < 0) return;
  auto& samples = notes_.samples[std::string(judged.verdict.reason)];
  if (samples.size() == PageNotes::kSamples) return;
  size_t bytes = std::min(record.text.size(), PageNotes::kSampleBytes);
  while (bytes < record.text.size() && (static_cast<unsigned char>(record.text[bytes]) & 0xc0) == 0x80) --bytes;
  std::string place = Str("document ", block.DocOf(i), ", line ", block.LineOf(i), " of ", corpus_->sources()[static_cast<size_t>(block.file)].path);
  samples.push_back({place, std::string(record.text.substr(0, bytes)), judged.verdict.value, judged.verdict.limit});
}

Status FilterRun::WritePage(const Json& report) const {
  auto count = [&](const char* key) { return report.value(key, int64_t{0}); };
  HtmlReport page("tern filter");
  page.Table({{"documents", "malformed", "kept", "removed", "rewritten"},
              {Str(count("documents")), Str(count("bad")), Str(count("kept")), Str(count("removed")), Str(count("rewritten"))}});
  page.Heading("Why documents were removed");
  std::vector<HtmlReport::Bar> bars;
  for (const auto& [reason, n] : counts_.reasons) bars.push_back({reason, n});
  page.Bars("documents by the first rule they broke", {"documents"}, bars);
  page.Heading("Length of the texts");
  page.Bars("bytes", {"kept", "removed"}, notes_.lengths.Bars());
  for (const auto& [reason, samples] : notes_.samples) {
    page.Heading(reason);
    for (const PageNotes::Sample& sample : samples) {
      std::string caption = sample.place + ": ";
      AppendJsonNumber(std::round(sample.value * 1e4) / 1e4, &caption);
      caption += ", limit ";
      AppendJsonNumber(sample.limit, &caption);
      page.Text(caption, sample.text, {});
    }
  }
  page.Inputs("Inputs", *corpus_);
  page.Parameters(options_.common);
  return page.Write(options_.common.report_html);
}

Status FilterRun::Write(Block& block) {
  const auto& result = static_cast<const FilterResult&>(*block.result);
  lines_.clear();
  if (removed_of_.size() <= static_cast<size_t>(block.file)) removed_of_.resize(static_cast<size_t>(block.file) + 1);
  for (size_t i = 0; i < block.records.size(); ++i) {
    const Record& record = block.records[i];
    if (record.bad || (options_.dry_run && !InSample(block, record))) continue;
    ++counts_.sampled;
    counts_.text_bytes_in += static_cast<int64_t>(record.text.size());
    if (options_.annotate) {
      WriteAnnotation(block, i, &result.judged[i * rules_.size()]);
      continue;
    }
    const Judged& judged = result.judged[i];
    if (!options_.common.report_html.empty()) Note(block, i, judged);
    if (judged.rule >= 0) {
      ++counts_.removed;
      ++removed_of_[static_cast<size_t>(block.file)];
      auto it = counts_.reasons.find(judged.verdict.reason);
      ++(it != counts_.reasons.end() ? it->second : counts_.reasons[std::string(judged.verdict.reason)]);
      if (out_) WriteRemoved(block, i, judged);
      continue;
    }
    ++counts_.kept;
    counts_.rewritten += judged.rewritten;
    counts_.text_bytes_kept += judged.text_bytes;
    if (!out_) continue;
    if (judged.rewritten) {
      out_->KeepBytes(std::string_view(result.rewritten).substr(judged.begin, judged.end - judged.begin));
    } else {
      out_->Keep(block, record);
    }
  }
  if (!out_) return {};
  TERN_RETURN_IF_ERROR(out_->AppendBad(*corpus_, block));
  TERN_RETURN_IF_ERROR(out_->Append(options_.annotate ? "annotations.jsonl" : "removed.jsonl", lines_));
  return options_.annotate ? Status() : out_->EndBlock(block);
}

void FilterRun::WarnAbout(const Corpus& corpus) const {
  auto warn = [&](const std::string& text) { Log(options_.common.log, LogLevel::kWarning, text); };
  if (corpus.documents() == 0) warn("the inputs hold no documents");
  for (size_t s = 0; s < removed_of_.size(); ++s) {
    const Source& source = corpus.sources()[s];
    int64_t documents = source.documents - source.bad;
    if (!options_.dry_run && removed_of_[s] * 2 > documents)
      warn(Str(Printable(source.path), ": ", removed_of_[s], " of ", documents, " documents are removed, more than half"));
  }
}

Json FilterRun::Report() const {
  Json report = {{"verb", "filter"},
                 {"documents", corpus_->documents()},
                 {"bad", corpus_->bad()},
                 {"kept", counts_.kept},
                 {"removed", counts_.removed},
                 {"reasons", Json::object()},
                 {"rewritten", counts_.rewritten},
                 {"text_bytes_in", counts_.text_bytes_in}};
  for (const auto& [reason, n] : counts_.reasons) report["reasons"][reason] = n;
  if (!options_.annotate) report["text_bytes_kept"] = counts_.text_bytes_kept;
  if (options_.annotate) report["annotate"] = true;
  if (options_.dry_run) report["sampled"] = counts_.sampled;
  Json names = Json::array(), sources = Json::array();
  for (const auto& rule : rules_) names.push_back(rule->name());
  report["rules"] = std::move(names);
  for (size_t s = 0; s < removed_of_.size() && !options_.annotate; ++s) {
    const Source& source = corpus_->sources()[s];
    sources.push_back(Json{{"file", ReplaceInvalidUtf8(source.path)}, {"documents", source.documents}, {"bad", source.bad}, {"removed", removed_of_[s]}});
  }
  if (!options_.annotate) report["sources"] = std::move(sources);
  return report;
}

Result<Json> FilterRun::Run() {
  if (rules_.empty()) return UsageError("no rules are given").Hint("Name rule sets with --rules");
  if (options_.annotate && !options_.common.report_html.empty()) return UsageError("--report goes with removing, not with --annotate");
  TERN_ASSIGN(corpus_, Corpus::Open(options_.common));
  if (!options_.dry_run) {
    TERN_ASSIGN(out_, OutputFolder::Create(options_.common));
    if (out_->complete()) return ReadReport(out_->path());
    TERN_RETURN_IF_ERROR(out_->Touch(options_.annotate ? "annotations.jsonl" : "removed.jsonl"));
    TERN_RETURN_IF_ERROR(out_->Touch("bad.jsonl"));
    if (!options_.annotate) out_->OpenKept(*corpus_);
  }
  units_.resize(static_cast<size_t>(corpus_->threads()));
  Status pass = corpus_->Pass({.stage = "filtering", .only_pass = true}, [&](Block& block, int worker) { return Judge(block, worker); },
                              [&](Block& block) { return Write(block); });
  TERN_RETURN_IF_ERROR(pass);
  Json report = Report();
  if (Status bad = corpus_->CheckBadShare(); !bad.ok()) {
    if (out_) TERN_RETURN_IF_ERROR(out_->CommitStopped(options_.common, *corpus_, std::move(report), "malformed records", {"bad.jsonl"}));
    return bad;
  }
  WarnAbout(*corpus_);
  if (!options_.common.report_html.empty()) TERN_RETURN_IF_ERROR(WritePage(report));
  if (out_) TERN_RETURN_IF_ERROR(out_->Commit(options_.common, *corpus_, report));
  return report;
}

}  // namespace

Result<Json> ReadReport(const std::string& folder) {
  TERN_ASSIGN(std::string text, ReadFile(folder + "/report.json", 64 << 20));
  return ParseJson(text);
}

void AppendJsonNumber(double value, std::string* out) {
  char digits[40];
  bool integral = value == std::floor(value) && std::abs(value) < 1e15;
  auto end = integral ? std::to_chars(digits, digits + sizeof digits, static_cast<int64_t>(value)) : std::to_chars(digits, digits + sizeof digits, value);
  out->append(digits, end.ptr);
}

Result<std::vector<std::unique_ptr<RuleSet>>> ParseRules(std::string_view list) {
  std::vector<std::unique_ptr<RuleSet>> rules;
  for (size_t begin = 0; begin <= list.size();) {
    size_t end = std::min(list.find(',', begin), list.size());
    std::string_view name = list.substr(begin, end - begin);
    begin = end + 1;
    if (IsRulesFile(name)) {
      TERN_ASSIGN(auto own, ReadRulesFile(std::string(name)));
      for (auto& set : own) rules.push_back(std::move(set));
    } else {
      TERN_ASSIGN(auto set, MakeRuleSet(name));
      rules.push_back(std::move(set));
    }
  }
  for (size_t i = 0; i < rules.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (rules[i]->name() == rules[j]->name()) return UsageError(Str("the rule set '", Printable(rules[i]->name()), "' is named twice"));
  return rules;
}

Result<Json> Filter(const FilterOptions& options) {
  FilterRun run(options);
  return run.Run();
}

}  // namespace tern::corpus
