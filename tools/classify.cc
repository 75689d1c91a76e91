// tern classify: labels of texts, or of the tokens of texts.
#include "engine/runtime/classify.h"

#include "tools/input.h"
#include "tools/model_options.h"

namespace tern {
namespace {

class ClassifyVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    model_.Declare(args);
    args.Input("TEXT", &text_, "a file (a text a line; .jsonl: field text), - for standard input, or the text itself; multiple choice: JSON lines with text and choices");
    args.Text("--pair", &pair_, "a second text that goes with every one");
    args.Integer("--top-k", &top_, 1, 65536, "how many labels").ValueName("K");
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(auto model, model_.Open(console));
    TERN_ASSIGN(classifier_, Classifier::Create(model, static_cast<int>(model_.threads), &console.cancel()));
    TERN_ASSIGN(auto input, TextInput::Open(text_, console));
    if (classifier_->chooses()) input->ExpectRecords();
    Progress progress(console, "classifying", input->total_bytes(), "B");
    std::string line;
    bool more = true;
    while (more && console.ok()) {
      auto next = input->Line(&line);
      number_ = input->line_number();
      if (!next.ok()) {
        // A broken record is said with its line; the rest goes on.
        if (next.status().code() != Code::kMalformed) return next.status();
        console.Warn(next.status().message());
        ++broken_;
        continue;
      }
      more = *next;
      if (more && classifier_->chooses()) {
        TERN_RETURN_IF_ERROR(Choice(line, *input, console));
      } else if (more && classifier_->per_token()) {
        TERN_RETURN_IF_ERROR(Tokens(line, console));
      } else if (more) {
        waiting_.push_back({line, pair_.value_or(""), pair_.has_value()});
        numbers_.push_back(number_);
      }
      if (waiting_.size() >= 64 || (!more && !waiting_.empty())) TERN_RETURN_IF_ERROR(Flush(console));
      progress.Update(input->read_bytes());
    }
    if (broken_ > 0) return Malformed(Str(broken_, " records could not be read")).File(input->name());
    return {};
  }

 private:
  Json LabelJson(const LabelScore& s) const { return {{"label", classifier_->LabelName(s.label)}, {"probability", s.probability}}; }

  Status Flush(Console& console) {
    TERN_ASSIGN(auto all, classifier_->Classify(waiting_));
    for (size_t i = 0; i < all.size(); ++i) {
      const auto& labels = all[i];
      const size_t n = std::min(labels.size(), static_cast<size_t>(top_));
      if (console.json) {
        Json list = Json::array();
        for (size_t k = 0; k < n; ++k) list.push_back(LabelJson(labels[k]));
        console.PrintJson({{"line", numbers_[i]}, {"label", classifier_->LabelName(labels[0].label)}, {"probability", labels[0].probability}, {"labels", list}});
      } else {
        std::string row;
        for (size_t k = 0; k < n; ++k) row += Str(k ? "\t" : "", Printable(classifier_->LabelName(labels[k].label)), "\t", Fixed(100 * labels[k].probability, 2), " %");
        console.Print(row + "\n");
      }
    }
    waiting_.clear(), numbers_.clear();
    return {};
  }

  // {"text": "...", "choices": ["...", "..."]}
  Status Choice(const std::string& text, const TextInput& input, Console& console) {
    std::vector<std::string> choices;
    const Json& record = input.record();
    bool good = record.contains("choices") && record["choices"].is_array() && !record["choices"].empty();
    for (size_t i = 0; good && i < record["choices"].size(); ++i) {
      good = record["choices"][i].is_string();
      if (good) choices.push_back(record["choices"][i].get<std::string>());
    }
    if (!good) {
      console.Warn(Malformed("no field \"choices\" with a list of strings").Where(Str("line ", number_)).File(input.name()).message());
      ++broken_;
      return {};
    }
    TERN_ASSIGN(auto ranked, classifier_->Choose(text, choices));
    const size_t n = std::min(ranked.size(), static_cast<size_t>(top_));
    if (console.json) {
      Json list = Json::array();
      for (size_t k = 0; k < n; ++k) list.push_back({{"choice", ranked[k].label}, {"text", choices[static_cast<size_t>(ranked[k].label)]}, {"probability", ranked[k].probability}});
      console.PrintJson({{"line", number_}, {"choice", ranked[0].label}, {"probability", ranked[0].probability}, {"choices", list}});
      return {};
    }
    std::string row;
    for (size_t k = 0; k < n; ++k) row += Str(k ? "\t" : "", ranked[k].label, "\t", Fixed(100 * ranked[k].probability, 2), " %\t", Printable(choices[static_cast<size_t>(ranked[k].label)], 4096));
    console.Print(row + "\n");
    return {};
  }

  Status Tokens(const std::string& text, Console& console) {
    TERN_ASSIGN(auto tokens, classifier_->ClassifyTokens(text));
    if (console.json) {
      Json list = Json::array();
      for (const TokenLabel& t : tokens) {
        Json one = {{"text", t.text}, {"begin", t.begin}, {"end", t.end}};
        one.update(LabelJson(t.score));
        list.push_back(one);
      }
      console.PrintJson({{"line", number_}, {"tokens", list}});
    } else {
      for (const TokenLabel& t : tokens)
        console.Print(Str(Printable(t.text), "\t", Printable(classifier_->LabelName(t.score.label)), "\t", Fixed(100 * t.score.probability, 2), " %\n"));
      console.Print("\n");
    }
    return {};
  }

  ModelFlags model_;
  std::optional<std::string> text_, pair_;
  int64_t top_ = 1, number_ = 0, broken_ = 0;
  std::unique_ptr<Classifier> classifier_;
  std::vector<Classifier::Request> waiting_;
  std::vector<int64_t> numbers_;
};

}  // namespace

extern const Verb kClassify = {"classify", "Models", "labels of texts, or of their tokens", "tern classify sentiment.tern reviews.txt --json\ntern classify nli.tern 'A man sleeps.' --pair 'Someone rests.'",
                               Make<ClassifyVerb>};

}  // namespace tern
