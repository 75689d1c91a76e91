// tern dedup: remove exact, near, line and substring duplicates from a corpus.
#include "tools/corpus/dedup.h"

#include "tools/corpus/ranks.h"
#include "tools/corpus_flags.h"
#include "tools/verb.h"

namespace tern {
namespace {

std::string Joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& p : parts) out += (out.empty() ? "" : "\n") + p;
  return out;
}

class Dedup : public Command {
 public:
  void Declare(Arguments& args) override {
    flags_.Declare(args);
    args.Bytes("--max-memory", &max_memory_bytes_, "what buffers may take before they spill to disk (default: half of what is free)");
    args.Path("--tmp", &temporary_, "the folder for spills (default: inside the output folder)").ValueName("FOLDER");
    args.Heading("What is removed");
    args.Flag("--exact", &options_.exact, "documents whose normalised texts are equal");
    args.Flag("--near", &options_.near, "documents that share most of their shingles (MinHash, verified exactly)");
    args.Flag("--lines", &options_.lines, "lines seen before");
    args.Flag("--substr", &options_.substr, "stretches of text seen before");
    args.Texts("--against", &options_.common.references, "a corpus already used, or the folder of an earlier run: what it holds counts as seen").ValueName("REF");
    args.Text("--keep", &keep_, "which of several stays: longest, first or score:FIELD").ValueName("RULE");
    args.Choice("--scope", &scope_, {"global", "source"}, "duplicates over all inputs, or only inside each input");
    args.Heading("Exact and lines");
    args.Text("--normalize", &normalize_, "what is compared: none, space, fold or words (default: none for --exact, space for --lines)").ValueName("HOW");
    args.Integer("--min-line", &options_.min_line, 1, 1 << 30, "shorter lines are never cut (code points)");
    args.Heading("Near duplicates");
    args.Real("--threshold", &options_.threshold, 0.01, 1.0, "the least Jaccard similarity of two shingle sets");
    args.Text("--unit", &unit_, "shingles: auto, wordN or charN").ValueName("UNIT");
    args.Text("--bands", &bands_, "MinHash bands and rows").ValueName("BxR");
    args.Choice("--cluster", &cluster_, {"star", "component"}, "every member is alike to the keeper, or chains count");
    args.Text("--max-cluster", &max_cluster_, "stop at a larger cluster (default: 0.1 % of the documents, at least 100)").ValueName("N|P%");
    args.Flag("--pairs", &options_.pairs, "list every verified pair in pairs.jsonl");
    args.Heading("Repeated stretches");
    args.Integer("--min-bytes", &options_.min_bytes, 1, 1 << 30, "the length of a repeated window");
    args.Integer("--min-words", &min_words_, 1, 1 << 20, "windows of so many words instead");
    args.Flag("--cut-all", &options_.cut_all, "cut the first copy too");
    args.Integer("--passes", &options_.passes, 1, 100, "look again at what is left");
  }

  Status Run(Console& console) override {
    if (!keep_.empty()) TERN_RETURN_IF_ERROR(corpus::ParseKeep(keep_, &options_));
    if (!normalize_.empty()) {
      TERN_ASSIGN(options_.exact_normalize, corpus::ParseNormalize(normalize_));
      options_.line_normalize = options_.exact_normalize;
    }
    TERN_ASSIGN(options_.unit, corpus::ParseUnit(unit_));
    TERN_RETURN_IF_ERROR(corpus::ParseBands(bands_, &options_));
    if (!max_cluster_.empty()) TERN_RETURN_IF_ERROR(corpus::ParseMaxCluster(max_cluster_, &options_));
    options_.star = cluster_ == "star";
    options_.per_source = scope_ == "source";
    options_.min_words = min_words_.value_or(0);
    if (!options_.exact && !options_.near && !options_.lines && !options_.substr) options_.exact = options_.near = true;
    auto flag = [](bool on) { return std::string(on ? "true" : "false"); };
    // The library's options hold what this verb parsed; the common part comes from the shared flags.
    corpus::CommonOptions own = options_.common;
    TERN_ASSIGN(options_.common, flags_.Options("dedup",
                         {{"exact", flag(options_.exact)}, {"near", flag(options_.near)}, {"lines", flag(options_.lines)}, {"substr", flag(options_.substr)},
                          {"against", Joined(options_.common.references)}, {"keep", keep_}, {"scope", scope_}, {"normalize", normalize_}, {"min-line", std::to_string(options_.min_line)},
                          {"threshold", Str(options_.threshold)}, {"unit", unit_}, {"bands", bands_}, {"cluster", cluster_}, {"max-cluster", max_cluster_},
                          {"pairs", flag(options_.pairs)}, {"min-bytes", std::to_string(options_.min_bytes)}, {"min-words", std::to_string(options_.min_words)},
                          {"cut-all", flag(options_.cut_all)}, {"passes", std::to_string(options_.passes)}},
                                                console));
    options_.common.score_field = own.score_field, options_.common.references = own.references;
    options_.common.max_memory_bytes = max_memory_bytes_, options_.common.temporary_folder = temporary_;
    TERN_ASSIGN(std::unique_ptr<corpus::Ranks> ranks, corpus::Ranks::Open());
    options_.common.ranks = ranks.get();
    if (!ranks->root()) corpus::SilenceThisProcess();  // the root speaks for all
    Json report;
    Status done = corpus::Dedup(options_, &report);
    flags_.EndProgress();
    // The root has the failures of all: only its exit code counts, and mpirun must not end it before it has spoken.
    if (!ranks->root()) return {};
    TERN_RETURN_IF_ERROR(done);
    if (console.json) {
      console.PrintJson(report);
    } else {
      console.Print(Summary(report));
      console.Note(Str("written to ", options_.common.output));
    }
    return {};
  }

 private:
  static std::string Summary(const Json& report) {
    auto count = [&](const char* key) { return report.value(key, int64_t{0}); };
    std::string reasons;
    for (const auto& [reason, n] : report["reasons"].items()) reasons += Str(reasons.empty() ? " (" : ", ", reason, " ", WithCommas(n.get<int64_t>()));
    std::string line = Str(WithCommas(count("documents")), " documents: ", WithCommas(count("kept")), " kept, ", WithCommas(count("removed")), " removed", reasons, reasons.empty() ? "" : ")");
    for (const char* stage : {"lines", "substr"})
      if (int64_t bytes = report[stage].value("bytes", int64_t{0})) line += Str("; ", stage, " cut ", HumanBytes(bytes));
    if (count("bad") > 0) line += Str("; ", WithCommas(count("bad")), " malformed");
    return line + "\n";
  }

  CorpusFlags flags_;
  int64_t max_memory_bytes_ = 0;
  std::string temporary_;
  corpus::DedupOptions options_;
  std::string keep_ = "longest", normalize_, scope_ = "global", unit_ = "auto", bands_ = "16x8", cluster_ = "star", max_cluster_;
  std::optional<int64_t> min_words_;
};

}  // namespace

extern const Verb kDedup = {"dedup", "Data", "remove exact, near, line and substring duplicates", "tern dedup crawl/*.jsonl.gz -o clean\ntern dedup a.jsonl --near --threshold 0.7 -o clean\nmpirun -n 8 tern dedup crawl/*.jsonl.gz -o clean", Make<Dedup>};

}  // namespace tern
