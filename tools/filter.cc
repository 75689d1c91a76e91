// tern filter: removes or marks documents that break quality rules.
#include "tools/corpus/filter.h"

#include "tools/corpus_flags.h"
#include "tools/perplexity_rule.h"
#include "tools/verb.h"

namespace tern {
namespace {

class FilterVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    flags_.Declare(args, "IN", false);
    args.Heading("Rules");
    args.Text("--rules", &rules_, RulesHelp()).ValueName("LIST");
    args.Path("--ppl", &model_, "after these, remove by the perplexity that this .tern model gives the text").ValueName("MODEL");
    args.Text("--ppl-range", &range_, "the perplexities that stay, e.g. 10:500, :500, 10:").ValueName("LEAST:MOST");
    args.Flag("--annotate", &annotate_, "mark instead of removing: annotations.jsonl, each rule set on the text as it is");
    args.Flag("--dry-run", &dry_run_, "judge one document in a hundred and write nothing");
  }

  Status Run(Console& console) override {
    corpus::FilterOptions options;
    if (rules_.empty() && model_.empty()) return UsageError("no rules are given").Hint("Name rule sets with --rules, or a model with --ppl");
    if (model_.empty() != range_.empty()) return UsageError("--ppl and --ppl-range go together");
    if (!rules_.empty()) {
      TERN_ASSIGN(options.rules, corpus::ParseRules(rules_));
    }
    if (!model_.empty()) {
      TERN_ASSIGN(PerplexityRange range, ParsePerplexityRange(range_));
      TERN_ASSIGN(auto rule, MakePerplexityRule(model_, range, &console.cancel()));
      options.rules.push_back(std::move(rule));
    }
    TERN_ASSIGN(options.common, flags_.Options("filter",
                                               {{"rules", rules_}, {"ppl", model_}, {"ppl-range", range_}, {"annotate", annotate_ ? "true" : "false"}},
                                               console));
    options.annotate = annotate_;
    options.dry_run = dry_run_;
    if (options.common.output.empty() && !dry_run_) return UsageError("no output folder").Hint("Name a new or empty one with -o, or give --dry-run");
    auto report = corpus::Filter(options);
    flags_.EndProgress();
    if (!report.ok()) return report.status();
    if (console.json) {
      console.PrintJson(*report);
    } else {
      console.Print(Summary(*report, console));
    }
    return {};
  }

 private:
  // One string for the life of the program: the help is a list of what there is.
  static const char* RulesHelp() {
    static const std::string help = [] {
      std::string text = "rule sets in this order, or JSON files with your own:";
      for (const corpus::NamedRuleSet& set : corpus::NamedRuleSets()) text += Str(" ", set.name, " (", set.make()->summary(), ");");
      text.back() = '.';
      return text;
    }();
    return help.c_str();
  }

  std::string Summary(const Json& report, const Console& console) const {
    int64_t judged = report.value("sampled", report["documents"].get<int64_t>() - report["bad"].get<int64_t>());
    std::vector<std::vector<std::string>> rows = {{"reason", "documents", "share"}};
    for (const auto& [reason, n] : report["reasons"].items())
      rows.push_back({reason, WithCommas(n.get<int64_t>()), Share(n.get<int64_t>(), judged)});
    std::string text = rows.size() > 1 ? Table(rows, console) + "\n" : "";
    int64_t removed = report["removed"].get<int64_t>();
    if (dry_run_) text += Str("of a sample of ", WithCommas(judged), " out of ", WithCommas(report["documents"].get<int64_t>()), " documents, ");
    text += Str(WithCommas(removed), annotate_ ? " fail (" : dry_run_ ? " would be removed (" : " removed (", Share(removed, judged), "), ",
                WithCommas(report["kept"].get<int64_t>()), annotate_ ? " pass" : " kept");
    if (int64_t n = report.value("rewritten", int64_t{0}); n > 0) text += Str(", ", WithCommas(n), " of them rewritten");
    if (int64_t bad = report["bad"].get<int64_t>(); bad > 0) text += Str(", ", WithCommas(bad), " malformed");
    return text + "\n";
  }
  static std::string Share(int64_t part, int64_t whole) {
    return whole == 0 ? "-" : Fixed(100.0 * static_cast<double>(part) / static_cast<double>(whole), 1) + " %";
  }

  CorpusFlags flags_;
  std::string rules_, model_, range_;
  bool annotate_ = false, dry_run_ = false;
};

}  // namespace

extern const Verb kFilter = {"filter", "Data", "remove or mark documents that break quality rules",
                             "tern filter docs.jsonl --rules gopher,gopher-rep,c4,fineweb -o good\n"
                             "tern filter docs.jsonl --rules mine.json --annotate -o marks\n"
                             "tern filter docs.jsonl --ppl books.tern --ppl-range 10:500 -o likely",
                             Make<FilterVerb>};

}  // namespace tern
