// tern leak: test documents that stand in the training documents.
#include "tools/corpus/leak.h"

#include "tools/corpus_flags.h"
#include "tools/verb.h"

namespace tern {
namespace {

class LeakVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    flags_.Declare(args, "TRAIN");
    args.Heading("Leakage");
    args.Texts("--test", &options_.tests, "the test documents: a file, folder or glob; may be given again").ValueName("EVAL").Required();
    args.Integer("--ngram", &options_.ngram, 1, 1000, "words in a row that count as a leak");
    args.Integer("--min-chars", &options_.min_chars, 1, 100000, "characters in a row, white space and punctuation left out, that count as a leak");
    args.Real("--threshold", &options_.threshold, 0.01, 1, "similarity from which a test document is near to a training document");
    args.Flag("--no-near", &no_near_, "do not look for near duplicates");
    args.Flag("--clean", &options_.clean, "also write the training documents that hold nothing of the tests, and list the others");
  }

  Status Run(Console& console) override {
    options_.near = !no_near_;
    std::string tests;
    for (const std::string& test : options_.tests) tests += (tests.empty() ? "" : " ") + test;
    TERN_ASSIGN(options_.common, flags_.Options("leak",
                                                {{"test", tests},
                                                 {"ngram", std::to_string(options_.ngram)},
                                                 {"min-chars", std::to_string(options_.min_chars)},
                                                 {"threshold", no_near_ ? "none" : Str(options_.threshold)},
                                                 {"clean", options_.clean ? "true" : "false"}},
                                                console));
    auto report = corpus::Leak(options_);
    flags_.EndProgress();
    if (!report.ok()) return report.status();
    if (console.json) {
      console.PrintJson(*report);
      return {};
    }
    auto count = [&](const char* key) { return report->value(key, int64_t{0}); };
    int64_t tests_read = count("test_documents") - count("test_bad");
    std::vector<std::vector<std::string>> rows = {{"test documents", "number", "share"}};
    auto row = [&](const char* name, int64_t n) {
      rows.push_back({name, WithCommas(n), tests_read == 0 ? "-" : Fixed(100.0 * static_cast<double>(n) / static_cast<double>(tests_read), 2) + " %"});
    };
    row("read", tests_read);
    row("a training document, word for word", count("exact"));
    row(ngram_text().c_str(), count("ngram"));
    row(chars_text().c_str(), count("char"));
    row("leaked: any of these", count("leaked"));
    if (options_.near) row("near to a training document", count("near"));
    console.Print(Table(rows, console));
    if (options_.clean) console.Print(Str("\n", WithCommas(count("removed")), " training documents removed, ", WithCommas(count("kept")), " kept\n"));
    console.Note(Str("passages: ", options_.common.output, "/leak.jsonl"));
    return {};
  }

 private:
  std::string ngram_text() const { return Str(options_.ngram, " words in a row"); }
  std::string chars_text() const { return Str(options_.min_chars, " characters in a row"); }

  CorpusFlags flags_;
  corpus::LeakOptions options_;
  bool no_near_ = false;
};

}  // namespace

extern const Verb kLeak = {"leak", "Data", "find test documents in the training documents",
                           "tern leak train.jsonl --test test.jsonl -o leaks\n"
                           "tern leak train.jsonl.zst --test a.jsonl --test b.csv --clean -o clean",
                           Make<LeakVerb>};

}  // namespace tern
