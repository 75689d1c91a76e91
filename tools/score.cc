// tern score: log-likelihood and perplexity of a text of any length, in constant memory.
#include "engine/runtime/score.h"

#include <cmath>

#include "engine/base/file.h"
#include "tools/input.h"
#include "tools/model_options.h"
#include "tools/retrieval_flags.h"

namespace tern {
namespace {

Json ScoreJson(const Score& s, int64_t bytes, double seconds) {
  const double nll_bits = s.nll / std::log(2.0);
  return {{"tokens", s.tokens},
          {"scored", s.scored},
          {"nll", s.nll},
          {"perplexity", s.perplexity()},
          {"bits_per_token", s.bits_per_token()},
          {"bits_per_byte", bytes > 0 ? nll_bits / static_cast<double>(bytes) : 0.0},
          {"bytes", bytes},
          {"seconds", seconds},
          {"tokens_per_second", seconds > 0 ? static_cast<double>(s.tokens) / seconds : 0.0}};
}

class ScoreVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    model_.Declare(args);
    retrieval_.Declare(args);
    args.Input("TEXT", &text_, "a file, - for standard input, or the text itself");
    args.Flag("--per-line", &per_line_, "score every line on its own, from an empty memory");
    args.Integer("--chunk", &chunk_, 1, 1 << 20, "tokens fed at once").ValueName("N");
    args.Integer("--window", &window_, 1, 1 << 20, "recompute a plain sliding window of N tokens for every token, without memory (slow: for comparison)").ValueName("N");
  }

  Status Run(Console& console) override {
    if (window_ && per_line_) return UsageError("--window and --per-line do not go together");
    Settings more;
    if (window_) more = {{"mem_len", "0"}};
    TERN_ASSIGN(auto model, model_.Open(console, more));
    TERN_ASSIGN(tokenizer_, model->NeedTokenizer());
    SessionOptions options;
    options.threads = static_cast<int>(model_.threads);
    options.plans = {{window_ ? *window_ : chunk_.value_or(model->network().preferred_chunk()), LogitsMode::kTarget}};
    options.context = 0;  // nothing is decoded
    options.cancel = &console.cancel();
    if (text_ && IsRegularFile(*text_)) retrieval_.exclude.push_back(*text_);  // a text must not find itself
    TERN_ASSIGN(retriever_, retrieval_.Open(model, model_.threads, console));
    if (retriever_) options.retrieval = retriever_->options();
    TERN_ASSIGN(session_, Session::Create(model, options));
    TERN_ASSIGN(auto input, TextInput::Open(text_, console));
    return per_line_ ? Lines(*input, console) : Whole(*input, console);
  }

 private:
  // One document after the other (records of a .jsonl, else the whole input); memory starts empty at each, the figures are of all.
  Status Whole(TextInput& input, Console& console) {
    Progress progress(console, "scoring", input.total_bytes(), "B");
    const int64_t start = NowNs();
    Scorer scorer(session_.get());
    WindowScorer windows(session_.get(), window_.value_or(1));
    auto stream = tokenizer_->NewEncodeStream();
    std::string piece;
    std::vector<int32_t> ids;
    int64_t bytes = 0;
    auto push = [&]() -> Status {
      Status s = window_ ? windows.Push(ids) : scorer.Push(ids);
      ids.clear();
      return s;
    };
    for (;;) {
      TERN_ASSIGN(bool more, input.Piece(&piece, 1 << 16));
      if (more) {
        bytes += static_cast<int64_t>(piece.size());
        TERN_RETURN_IF_ERROR(stream->Push(piece, &ids));
        TERN_RETURN_IF_ERROR(push());
      }
      if (!more || input.document_ended()) {
        TERN_RETURN_IF_ERROR(stream->Finish(&ids));
        TERN_RETURN_IF_ERROR(push());
        TERN_RETURN_IF_ERROR(scorer.Finish());
        if (!more) break;
        stream = tokenizer_->NewEncodeStream();
      }
      const Score& s = window_ ? windows.score() : scorer.score();
      const double seconds = static_cast<double>(NowNs() - start) * 1e-9;
      progress.Update(input.read_bytes(), WithCommas(static_cast<int64_t>(static_cast<double>(s.tokens) / seconds)) + " tok/s");
    }
    const Score& score = window_ ? windows.score() : scorer.score();
    Report(score, bytes, static_cast<double>(NowNs() - start) * 1e-9, console);
    return {};
  }

  Status Lines(TextInput& input, Console& console) {
    Progress progress(console, "scoring", input.total_bytes(), "B");
    std::string line;
    std::vector<int32_t> ids;
    for (int64_t number = 1; console.ok(); ++number) {
      TERN_ASSIGN(bool more, input.Line(&line));
      if (!more) break;
      const int64_t start = NowNs();
      ids.clear();
      TERN_RETURN_IF_ERROR(tokenizer_->EncodeIds(line, false, &ids));
      Scorer scorer(session_.get());
      TERN_RETURN_IF_ERROR(scorer.Push(ids));
      TERN_RETURN_IF_ERROR(scorer.Finish());
      const Score& s = scorer.score();
      const double seconds = static_cast<double>(NowNs() - start) * 1e-9;
      if (console.json) {
        Json object = {{"line", number}};
        object.update(ScoreJson(s, static_cast<int64_t>(line.size()), seconds));
        console.PrintJson(object);
      } else {
        console.Print(Str(number, "\t", s.tokens, "\t", Fixed(-s.nll, 4), "\t", Fixed(s.perplexity(), 3), "\n"));
      }
      progress.Update(input.read_bytes());
    }
    return {};
  }

  void Report(const Score& s, int64_t bytes, double seconds, Console& console) {
    Json j = ScoreJson(s, bytes, seconds);
    if (retriever_) {
      const LeakageReport& l = retriever_->leakage();
      j["leakage"] = {{"chunks", l.chunks}, {"mean", l.mean()}, {"above_eighth", l.above_eighth}, {"longest_run", l.longest}};
      j["retrieval_seconds"] = retriever_->seconds();
    }
    if (console.json) return console.PrintJson(j);
    console.Print(Str("tokens          ", WithCommas(s.tokens), " (", WithCommas(s.scored), " scored)\n", "perplexity      ", Fixed(s.perplexity(), 3), "\n",
                      "bits per token  ", Fixed(s.bits_per_token(), 4), "\n", "bits per byte   ", Fixed(j["bits_per_byte"].get<double>(), 4), " over ",
                      WithCommas(bytes), " bytes\n", "speed           ", WithCommas(static_cast<int64_t>(j["tokens_per_second"].get<double>())), " tokens/s\n"));
    if (retriever_) {
      const LeakageReport& l = retriever_->leakage();
      console.Print(Str("leakage         ", Fixed(l.mean(), 4), " of a chunk stands in its neighbours on average; ", WithCommas(l.above_eighth), " of ", WithCommas(l.chunks),
                        " chunks share more than 12.5 %, the longest run is ", l.longest, " tokens\n"));
    }
  }

  ModelFlags model_;
  RetrievalFlags retrieval_;
  std::unique_ptr<Retriever> retriever_;  // outlives the session
  std::optional<std::string> text_;
  bool per_line_ = false;
  std::optional<int64_t> chunk_, window_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<Session> session_;
};

}  // namespace

extern const Verb kScore = {"score", "Models", "log-likelihood and perplexity of a text of any length", "tern score books.tern book.txt --json\ntern score books.tern lines.txt --per-line",
                            Make<ScoreVerb>};

}  // namespace tern
