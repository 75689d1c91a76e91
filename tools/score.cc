// tern score: log-likelihood and perplexity of a text of any length, in constant memory.
#include "engine/runtime/score.h"

#include <cmath>

#include "engine/base/file.h"
#include "engine/runtime/memory_view.h"
#include "engine/runtime/seq2seq.h"
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
    args.Text("--source", &source_, "of an encoder-decoder: the text it reads").ValueName("TEXT");
    args.Text("--target", &target_, "of an encoder-decoder: the text whose likelihood is asked for").ValueName("TEXT");
    args.Flag("--per-line", &per_line_, "score every line on its own, from an empty memory");
    args.Integer("--chunk", &chunk_, 1, 1 << 20, "tokens fed at once").ValueName("N");
    args.Flag("--stats", &stats_, "also say what the model's long-term memory holds (infinity-former)");
    args.Path("--svg", &svg_, "draw where in the past the long-term memory is read, per layer and head");
    args.Integer("--window", &window_, 1, 1 << 20, "recompute a plain sliding window of N tokens for every token, without memory (slow: for comparison)").ValueName("N");
  }

  Status Run(Console& console) override {
    if (window_ && per_line_) return UsageError("--window and --per-line do not go together");
    Settings more;
    if (window_) more = {{"mem_len", "0"}};
    TERN_ASSIGN(auto model, model_.Open(console, more));
    TERN_ASSIGN(tokenizer_, model->NeedTokenizer());
    const bool pair = dynamic_cast<const EncoderDecoderNetwork*>(&model->network()) != nullptr;
    if (pair != (source_ && target_) || (source_ || target_) != pair)
      return UsageError(pair ? "an encoder-decoder scores a target given a source" : "--source and --target are for encoder-decoders").File(model_.path).Hint(
          pair ? "Give both --source TEXT and --target TEXT" : "Give the text itself");
    if (pair) return Pair(model, console);
    SessionOptions options;
    options.threads = static_cast<int>(model_.threads);
    options.plans = {{window_ ? *window_ : chunk_.value_or(model->network().preferred_chunk()), LogitsMode::kTarget}};
    options.context = 0;  // nothing is decoded
    options.cancel = &console.cancel();
    if (text_ && IsRegularFile(*text_)) retrieval_.exclude.push_back(*text_);  // a text must not find itself
    TERN_ASSIGN(retriever_, retrieval_.Open(model, model_.threads, console));
    if (retriever_) options.retrieval = retriever_->options();
    TERN_ASSIGN(session_, Session::Create(model, options));
    if (stats_ || svg_) {
      if (per_line_ || window_) return UsageError("--stats and --svg look at one long text").Hint("Leave --per-line and --window out");
      memory_.emplace(session_.get());
      if (memory_->empty()) return UsageError(Str("a model of kind ", model->network().architecture(), " has no long-term memory to show")).File(model_.path);
    }
    TERN_ASSIGN(auto input, TextInput::Open(text_, console));
    return per_line_ ? Lines(*input, console) : Whole(*input, console);
  }

 private:
  Status Pair(const std::shared_ptr<const Model>& model, Console& console) {
    if (text_ || per_line_ || window_) return UsageError("with --source and --target there is no other text to score");
    std::vector<int32_t> source, target;
    TERN_RETURN_IF_ERROR(tokenizer_->EncodeIds(*source_, true, &source));
    TERN_RETURN_IF_ERROR(tokenizer_->EncodeIds(*target_, true, &target));
    EncoderDecoderOptions options;
    options.threads = static_cast<int>(model_.threads), options.positions = static_cast<int64_t>(target.size()), options.cancel = &console.cancel();
    TERN_ASSIGN(auto session, EncoderDecoderSession::Create(model, options));
    const int64_t start = NowNs();
    TERN_ASSIGN(TargetScore scored, ScoreTarget(*session, EncoderInput{source}, target));
    Score s;
    s.tokens = s.scored = scored.tokens, s.nll = scored.nll;
    if (!console.json) {
      Report(s, static_cast<int64_t>(target_->size()), static_cast<double>(NowNs() - start) * 1e-9, console);
      return {};
    }
    Json j = ScoreJson(s, static_cast<int64_t>(target_->size()), static_cast<double>(NowNs() - start) * 1e-9);
    j["source_tokens"] = source.size(), j["log_probs"] = scored.log_probs, j["ids"] = target;
    console.PrintJson(j);
    return {};
  }

  // One document after the other (records of a .jsonl, else the whole input); memory starts empty at each, the figures are of all.
  Status Whole(TextInput& input, Console& console) {
    std::optional<FileWriter> svg;  // a place that cannot be written to is told before a book is read
    if (svg_) {
      TERN_ASSIGN(svg, FileWriter::Create(*svg_));
    }
    Progress progress(console, "scoring", input.total_bytes(), "B");
    const int64_t start = NowNs();
    Scorer scorer(session_.get());
    WindowScorer windows(session_.get(), window_.value_or(1));
    auto stream = tokenizer_->NewEncodeStream();
    std::string piece;
    std::vector<int32_t> ids;
    int64_t bytes = 0;
    Scorer::Listener look;
    if (memory_) look = [&](std::span<const float> log_probs) { memory_->Look(static_cast<int64_t>(log_probs.size())); };
    auto push = [&]() -> Status {
      Status s = window_ ? windows.Push(ids) : scorer.Push(ids, look);
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
        TERN_RETURN_IF_ERROR(scorer.Finish(look));
        if (!more) break;
        stream = tokenizer_->NewEncodeStream();
      }
      const Score& s = window_ ? windows.score() : scorer.score();
      const double seconds = static_cast<double>(NowNs() - start) * 1e-9;
      progress.Update(input.read_bytes(), WithCommas(static_cast<int64_t>(static_cast<double>(s.tokens) / seconds)) + " tok/s");
    }
    const Score& score = window_ ? windows.score() : scorer.score();
    Report(score, bytes, static_cast<double>(NowNs() - start) * 1e-9, console);
    if (!svg) return {};
    TERN_RETURN_IF_ERROR(svg->Write(MemorySvg(memory_->Finish(), memory_->absorbed())));
    return svg->Commit();
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
    if (stats_) j["long_term_memory"] = MemoryJson();
    if (console.json) return console.PrintJson(j);
    console.Print(Str("tokens          ", WithCommas(s.tokens), " (", WithCommas(s.scored), " scored)\n", "perplexity      ", Fixed(s.perplexity(), 3), "\n",
                      "bits per token  ", Fixed(s.bits_per_token(), 4), "\n", "bits per byte   ", Fixed(j["bits_per_byte"].get<double>(), 4), " over ",
                      WithCommas(bytes), " bytes\n", "speed           ", WithCommas(static_cast<int64_t>(j["tokens_per_second"].get<double>())), " tokens/s\n"));
    if (retriever_) {
      const LeakageReport& l = retriever_->leakage();
      console.Print(Str("leakage         ", Fixed(l.mean(), 4), " of a chunk stands in its neighbours on average; ", WithCommas(l.above_eighth), " of ", WithCommas(l.chunks),
                        " chunks share more than 12.5 %, the longest run is ", l.longest, " tokens\n"));
    }
    if (stats_) MemoryTable(console);
  }

  Json MemoryJson() const {
    Json layers = Json::array();
    for (const MemoryStats::Layer& layer : memory_->Finish()) {
      Json heads = Json::array();
      for (const MemoryStats::Head& h : layer.heads) heads.push_back({{"mu", h.mu}, {"sigma", h.sigma}, {"tokens_ago", MemoryStats::TokensAgo(layer.memory, h.mu)}, {"density", h.density}});
      layers.push_back({{"layer", layer.memory.layer}, {"queries", layer.queries}, {"rms", layer.rms}, {"largest", layer.largest}, {"heads", heads}});
    }
    const LongTermMemory& m = memory_->memory();
    return {{"tokens_held", memory_->absorbed()}, {"basis", m.basis}, {"width", m.width()}, {"bytes_per_layer", 4 * m.basis * m.width()}, {"layers", layers}};
  }

  void MemoryTable(Console& console) const {
    const LongTermMemory& m = memory_->memory();
    console.Print(Str("\nlong-term memory  ", WithCommas(memory_->absorbed()), " tokens in ", m.basis, " basis functions x ", m.width(), ", ", HumanBytes(4 * m.basis * m.width()), " a layer\n"));
    if (memory_->absorbed() == 0) return console.Print("nothing has entered it yet: the text is shorter than what attention itself sees\n");
    std::vector<std::vector<std::string>> rows{{"layer", "head", "rms of B", "largest", "mu", "sigma", "tokens ago"}};
    for (const MemoryStats::Layer& layer : memory_->Finish())
      for (size_t h = 0; h < layer.heads.size(); ++h)
        rows.push_back({Str(layer.memory.layer), Str(h), Fixed(layer.rms, 4), Fixed(layer.largest, 3), Fixed(layer.heads[h].mu, 3), Fixed(layer.heads[h].sigma, 3),
                        WithCommas(static_cast<int64_t>(MemoryStats::TokensAgo(layer.memory, layer.heads[h].mu)))});
    console.Print(Table(rows, console));
  }

  ModelFlags model_;
  RetrievalFlags retrieval_;
  std::unique_ptr<Retriever> retriever_;  // outlives the session
  std::optional<std::string> text_, source_, target_;
  bool per_line_ = false, stats_ = false;
  std::optional<std::string> svg_;
  std::optional<MemoryStats> memory_;
  std::optional<int64_t> chunk_, window_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<Session> session_;
};

}  // namespace

extern const Verb kScore = {"score", "Models", "log-likelihood and perplexity of a text of any length", "tern score books.tern book.txt --json\ntern score books.tern lines.txt --per-line\ntern score t5.tern --source 'translate English to German: yes' --target ja\ntern score infinite.tern book.txt --stats --svg past.svg",
                            Make<ScoreVerb>};

}  // namespace tern
