// tern answer: extractive question answering over a context of any length, and the SQuAD figures.
#include "engine/runtime/answer.h"

#include "engine/base/file.h"
#include "engine/runtime/squad.h"
#include "tools/input.h"
#include "tools/model_options.h"

namespace tern {
namespace {

class AnswerVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    model_.Declare(args);
    args.Input("CONTEXT", &context_, "a file, - for standard input, or the text itself");
    args.Text("--question", &question_, "what is asked");
    args.Path("--evaluate", &evaluate_, "answer every question of a SQuAD file (v1.1 or v2.0) and print the official figures");
    args.Path("--predictions", &predictions_, "with --evaluate: where {id: answer} is written");
    args.Heading("Answers");
    args.Integer("--n-best", &options_.n_best, 1, 1000, "candidates of each window, and answers shown").ValueName("N");
    args.Integer("--max-answer-length", &options_.max_answer_tokens, 1, 100000, "tokens an answer may have").ValueName("N");
    args.Integer("--max-length", &options_.max_length, 8, 1 << 20, "tokens of a window").ValueName("N");
    args.Integer("--stride", &options_.stride, 0, 1 << 20, "tokens that windows share").ValueName("N");
    args.Flag("--no-answer", &options_.may_be_empty, "no answer is an answer (SQuAD 2.0)");
    args.Real("--threshold", &options_.null_threshold, -1e6, 1e6, "with --no-answer: how much more likely none must be");
  }

  Status Run(Console& console) override {
    if (!evaluate_ && !question_) return UsageError("--question is missing");
    if (evaluate_ && (question_ || context_)) return UsageError("--evaluate takes its questions and contexts from its file");
    TERN_ASSIGN(auto model, model_.Open(console));
    TERN_ASSIGN(answerer_, QuestionAnswerer::Create(model, static_cast<int>(model_.threads), &console.cancel()));
    return evaluate_ ? Evaluate(console) : AskOne(console);
  }

 private:
  Status AskOne(Console& console) {
    TERN_ASSIGN(auto input, TextInput::Open(context_, console));
    std::string context;
    TERN_ASSIGN(bool any, input->Document(&context));
    if (!any || context.empty()) return UsageError("the context is empty");
    TERN_ASSIGN(Answers answers, answerer_->Ask(*question_, context, options_));
    if (console.json) {
      Json list = Json::array();
      for (const Answer& a : answers.best) list.push_back({{"text", a.text}, {"begin", a.begin}, {"end", a.end}, {"score", a.score}, {"probability", a.probability}});
      console.PrintJson({{"answer", answers.best.empty() ? "" : answers.best[0].text}, {"null_score", answers.null_score}, {"n_best", list}});
      return {};
    }
    for (const Answer& a : answers.best)
      console.Print(Str(Fixed(100 * a.probability, 2), " %\t", a.text.empty() ? "(no answer)" : Printable(a.text, 4096), a.text.empty() ? "" : Str("\t", a.begin, "-", a.end), "\n"));
    return {};
  }

  struct Asked {
    SquadQuestion question;
    std::string text;
    size_t context;
  };
  // {"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text"}]}]}]}]}
  Status ReadSquad(std::vector<std::string>* contexts, std::vector<Asked>* asked) const {
    TERN_ASSIGN(std::string text, ReadFile(*evaluate_, 256 << 20));
    auto bad = [&](const char* what) { return Malformed(what).File(*evaluate_).Hint("Expected the SQuAD layout: data, paragraphs, qas"); };
    auto parsed = ParseJson(text, {.max_bytes = 256 << 20});
    if (!parsed.ok()) return Status(parsed.status()).File(*evaluate_);
    auto list = [](const Json& j, const char* key) -> const Json* { return j.is_object() && j.contains(key) && j[key].is_array() ? &j[key] : nullptr; };
    auto words = [](const Json& j, const char* key) -> const std::string* { return j.is_object() && j.contains(key) && j[key].is_string() ? &j[key].get_ref<const std::string&>() : nullptr; };
    const Json* data = list(*parsed, "data");
    if (!data) return bad("there is no list 'data'");
    for (const Json& article : *data) {
      const Json* paragraphs = list(article, "paragraphs");
      if (!paragraphs) return bad("an article has no paragraphs");
      for (const Json& p : *paragraphs) {
        const std::string* context = words(p, "context");
        const Json* qas = list(p, "qas");
        if (!context || !qas) return bad("a paragraph has no context or no qas");
        contexts->push_back(*context);
        for (const Json& q : *qas) {
          const std::string *id = words(q, "id"), *question = words(q, "question");
          const Json* answers = list(q, "answers");
          if (!id || !question || !answers) return bad("a question lacks id, question or answers");
          Asked a{{*id, {}, {}, 0}, *question, contexts->size() - 1};
          for (const Json& gold : *answers)
            if (const std::string* t = words(gold, "text")) a.question.golds.push_back(*t);
          asked->push_back(std::move(a));
        }
      }
    }
    return asked->empty() ? bad("there are no questions") : Status();
  }

  Status Evaluate(Console& console) {
    std::vector<std::string> contexts;
    std::vector<Asked> asked;
    TERN_RETURN_IF_ERROR(ReadSquad(&contexts, &asked));
    Progress progress(console, "answering", static_cast<int64_t>(asked.size()), "questions");
    std::vector<SquadQuestion> done;
    Json predictions = Json::object();
    for (Asked& a : asked) {
      auto answers = answerer_->Ask(a.text, contexts[a.context], options_);
      if (!answers.ok()) return Status(answers.status()).Where(Str("question ", Printable(a.question.id, 80)));
      a.question.prediction = answers->best.empty() ? "" : answers->best[0].text;
      a.question.no_answer_score = answers->null_score - answers->best_score;
      predictions[a.question.id] = a.question.prediction;
      done.push_back(a.question);
      progress.Update(static_cast<int64_t>(done.size()));
    }
    if (predictions_) {
      TERN_ASSIGN(FileWriter w, FileWriter::Create(*predictions_));
      TERN_RETURN_IF_ERROR(w.Write(DumpJson(predictions, 1) + "\n"));
      TERN_RETURN_IF_ERROR(w.Commit());
    }
    const Json figures = SquadFigures(done);
    if (console.json) console.PrintJson(figures);
    else
      for (const auto& [name, value] : figures.items()) console.Print(Str(name, std::string(name.size() < 18 ? 18 - name.size() : 1, ' '), DumpJson(value), "\n"));
    return {};
  }

  ModelFlags model_;
  std::optional<std::string> context_, question_, evaluate_, predictions_;
  AnswerOptions options_;
  std::unique_ptr<QuestionAnswerer> answerer_;
};

}  // namespace

extern const Verb kAnswer = {"answer", "Models", "find the answer to a question in a text",
                             "tern answer squad.tern --question 'Who wrote it?' article.txt\ntern answer squad2.tern --evaluate dev-v2.0.json --no-answer --json", Make<AnswerVerb>};

}  // namespace tern
