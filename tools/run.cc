// tern run: generates text from a decoder, or the answer of an encoder-decoder to a text, as it comes; interactive when a person types.
#include "engine/base/file.h"
#include "engine/runtime/beam_text.h"
#include "engine/runtime/generate.h"
#include "tools/expert_picture.h"
#include "tools/input.h"
#include "tools/model_options.h"
#include "tools/retrieval_flags.h"
#include "tools/text_to_text.h"

namespace tern {
namespace {

class RunVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    model_.Declare(args);
    retrieval_.Declare(args);
    args.Input("PROMPT", &prompt_, "a file, - for standard input, or the text itself");
    args.Integer("--new-tokens", &generate_.new_tokens, 0, 1 << 30, "at most this many new tokens").Letter('n').ValueName("N");
    args.Texts("--stop", &generate_.stop, "end before this text").ValueName("TEXT");
    args.Flag("--ignore-eos", &generate_.ignore_eos, "go on after the end symbol");
    args.Flag("--stats", &stats_, "say how long it took and what memory it needs (stderr)");
    args.Path("--svg", &svg_, "of a mixture of experts: draw how many tokens of the text and the answer each expert took");
    args.Heading("Sampling");
    args.Real("--temperature", &temperature_, 0, 100, "0: always the most likely token; text to text starts from 0, other models from 0.8");
    args.Integer("--top-k", &sampler_.top_k, 0, 1 << 30, "only the K most likely tokens; 0: all").ValueName("K");
    args.Real("--top-p", &sampler_.top_p, 1e-6, 1, "only the most likely tokens that together reach P");
    args.Real("--min-p", &sampler_.min_p, 0, 1, "only tokens at least P times as likely as the most likely");
    args.Real("--repetition-penalty", &sampler_.repetition_penalty, 0.01, 100, "above 1: recent tokens become less likely");
    args.Integer("--seed", &seed_, 0, INT64_MAX, "the same seed gives the same text").ValueName("N");
    args.Heading("Beam search");
    beams_.Declare(args);
    args.Heading("Conversation");
    args.Path("--save-state", &save_state_, "keep the conversation in this file at the end");
    args.Path("--load-state", &load_state_, "go on with a conversation that was kept");
  }

  Status Run(Console& console) override {
    sampler_.seed = static_cast<uint64_t>(seed_);
    TERN_ASSIGN(auto model, model_.Open(console));
    const bool pair = dynamic_cast<const EncoderDecoderNetwork*>(&model->network()) != nullptr;
    sampler_.temperature = temperature_.value_or(pair ? 0.0 : 0.8);
    TERN_RETURN_IF_ERROR(CheckSamplerOptions(sampler_));
    if (pair) return Pair(model, console);
    if (svg_) return UsageError("the model has no experts: --svg draws how they were used").File(model_.path);
    TERN_ASSIGN(tokenizer_, model->NeedTokenizer());
    SessionOptions options;
    options.threads = static_cast<int>(model_.threads);
    options.plans = GeneratePlans(model->network().preferred_chunk());
    options.cancel = &console.cancel();
    TERN_ASSIGN(retriever_, retrieval_.Open(model, model_.threads, console));
    if (retriever_) options.retrieval = retriever_->options();
    if (beams_.given()) return Beams(model, options, console);
    TERN_ASSIGN(session_, Session::Create(model, options));
    Conversation conversation(session_.get(), sampler_);
    if (load_state_) TERN_RETURN_IF_ERROR(conversation.Restore(*load_state_));

    // A continued conversation needs no prompt.
    std::string prompt;
    std::unique_ptr<TextInput> input;
    if (!(load_state_ && !prompt_)) {
      TERN_ASSIGN(input, TextInput::Open(prompt_, console));
    }
    if (input && input->is_terminal()) {
      TERN_RETURN_IF_ERROR(Talk(conversation, *input, console));
    } else {
      if (input) TERN_RETURN_IF_ERROR(input->Document(&prompt).status());
      TERN_RETURN_IF_ERROR(Answer(conversation, prompt, console));
    }
    if (save_state_) TERN_RETURN_IF_ERROR(conversation.Save(*save_state_));
    return {};
  }

 private:
  // The best text that so many beams find behind one prompt.
  Status Beams(const std::shared_ptr<const Model>& model, SessionOptions options, Console& console) {
    if (load_state_ || save_state_) return UsageError("--beams holds no conversation: --load-state and --save-state do not go with it");
    if (!generate_.stop.empty()) return UsageError("--beams and --stop do not go together");
    if (temperature_ && *temperature_ > 0) return UsageError("--beams and --temperature do not go together");
    TERN_ASSIGN(auto input, TextInput::Open(prompt_, console));
    if (input->is_terminal()) return UsageError("--beams answers one prompt").Hint("Give it as an argument or on standard input");
    std::string prompt;
    TERN_RETURN_IF_ERROR(input->Document(&prompt).status());
    std::vector<int32_t> ids;
    TERN_RETURN_IF_ERROR(tokenizer_->EncodeIds(prompt, false, &ids));
    const int64_t eos = model->network().eos_token_id();
    if (ids.empty() && eos >= 0) ids.push_back(static_cast<int32_t>(eos));
    options.batch = beams_.beams;
    const int64_t start = NowNs();
    TERN_ASSIGN(session_, Session::Create(model, options));
    BeamOptions search = beams_.Options();
    search.new_tokens = generate_.new_tokens, search.eos_id = generate_.ignore_eos ? -1 : eos;
    TERN_ASSIGN(Decoded found, SearchText(*session_, ids, search));
    if (found.ended) found.ids.pop_back();
    const double seconds = static_cast<double>(NowNs() - start) * 1e-9;
    const std::string text = tokenizer_->Decode(found.ids);
    const char* end = found.ended ? "eos" : static_cast<int64_t>(found.ids.size()) < generate_.new_tokens ? "context" : "length";
    if (console.json)
      console.PrintJson({{"text", text}, {"ids", found.ids}, {"prompt_tokens", ids.size()}, {"end", end}, {"score", found.score}, {"seconds", seconds},
                         {"tokens_per_second", static_cast<double>(found.ids.size()) / seconds}});
    else
      console.Print(text + "\n");
    if (stats_) console.Note(Str(found.ids.size(), " new tokens with ", beams_.beams, " beams in ", HumanSeconds(seconds), ", log-probability / length^penalty ", Fixed(found.score, 4), "; ends by ", end));
    return {};
  }

  // Text to text: one source, or one a line from a person.
  Status Pair(const std::shared_ptr<const Model>& model, Console& console) {
    if (load_state_ || save_state_) return UsageError("an encoder-decoder holds no conversation: --load-state and --save-state are for decoders");
    if (!generate_.stop.empty()) return UsageError("--stop is for decoders; an encoder-decoder ends by its end symbol");
    if (beams_.beams > 1 && temperature_ && *temperature_ > 0) return UsageError("--beams and --temperature do not go together");
    if (svg_ && !model->pager()) return UsageError("the model has no experts: --svg draws how they were used").File(model_.path);
    std::optional<FileWriter> picture;  // a path that cannot be written is told before the work
    if (svg_) {
      TERN_ASSIGN(picture, FileWriter::Create(*svg_));
    }
    ExpertUsage usage;
    usage.Start();
    Seq2seqOptions options;
    options.new_tokens = generate_.new_tokens, options.ignore_eos = generate_.ignore_eos, options.sampler = sampler_;
    beams_.Into(&options);
    TERN_ASSIGN(auto answerer, TextToText::Create(model, static_cast<int>(model_.threads), beams_.beams, options, &console.cancel(), svg_ ? &usage : nullptr));
    TERN_ASSIGN(auto input, TextInput::Open(prompt_, console));
    if (!input->is_terminal()) {
      std::string source;
      TERN_RETURN_IF_ERROR(input->Document(&source).status());
      TERN_RETURN_IF_ERROR(PairAnswer(*answerer, source, console));
    } else {
      std::string line;
      while (console.ok()) {
        TERN_ASSIGN(bool more, input->Line(&line));
        if (!more) break;
        TERN_RETURN_IF_ERROR(PairAnswer(*answerer, line, console));
      }
    }
    if (!picture) return {};
    TERN_RETURN_IF_ERROR(picture->Write(ExpertSvg("Tokens per layer and expert", usage)));
    return picture->Commit();
  }

  Status PairAnswer(TextToText& answerer, const std::string& source, Console& console) {
    auto listener = [&](std::string_view piece) {
      console.Print(piece), console.Flush();
      return console.ok();
    };
    TERN_ASSIGN(TextToText::Answer a, answerer.Run(source, console.json ? std::function<bool(std::string_view)>() : listener));
    const Model& model = answerer.session().model();
    const double rate = a.seconds > 0 ? static_cast<double>(a.ids.size()) / a.seconds : 0;
    const char* end = a.cancelled ? "cancelled" : a.ended ? "eos" : "length";
    if (console.json) {
      Json j = {{"text", a.text}, {"ids", a.ids}, {"source_tokens", a.source_tokens}, {"end", end}, {"seconds", a.seconds}, {"tokens_per_second", rate}};
      if (beams_.beams > 1) j["score"] = a.score;
      if (model.pager()) j["experts"] = ExpertJson(model);
      console.PrintJson(j);
    } else {
      console.Print("\n");
    }
    if (stats_) {
      const MemoryUse& m = answerer.session().memory();
      console.Note(Str("source ", a.source_tokens, " tokens, ", a.ids.size(), " new, ", Fixed(rate, 1), " tokens/s with the source; ends by ", end));
      console.Note(Str("memory: weights ", HumanBytes(m.weights), ", tables ", HumanBytes(m.constants), ", state ", HumanBytes(m.state), ", arena ", HumanBytes(m.arena), "; ",
                       answerer.session().threads(), " threads"));
      if (model.pager()) console.Note(ExpertSummary(model));
    }
    if (a.cancelled) return {Code::kCancelled, "cancelled"};
    return {};
  }

  // Line by line with a person. Ctrl-C stops the answer that is being written; a second one leaves.
  Status Talk(Conversation& conversation, TextInput& input, Console& console) {
    talking_ = true;
    console.Note("Type a line and press Enter; end with Ctrl-D.");
    std::string line;
    for (;;) {
      console.Print(console.Bold("> "));
      console.Flush();
      TERN_ASSIGN(bool more, input.Line(&line));
      if (!more) break;
      TERN_RETURN_IF_ERROR(Answer(conversation, line, console));
      if (console.signal() != 0) console.ForgetSignal();
      if (!console.ok()) break;
    }
    console.Print("\n");
    return {};
  }

  Status Answer(Conversation& conversation, const std::string& prompt, Console& console) {
    std::vector<int32_t> ids;
    TERN_RETURN_IF_ERROR(tokenizer_->EncodeIds(prompt, false, &ids));
    std::string text;
    auto listener = [&](std::string_view piece) {
      if (console.json) text += piece;
      else console.Print(piece), console.Flush();
      return console.ok();
    };
    TERN_ASSIGN(GenerateReport report, conversation.Generate(ids, generate_, tokenizer_, listener));
    static constexpr const char* kEnd[] = {"length", "eos", "stop", "cancelled", "closed", "context"};
    const double steps = static_cast<double>(report.ids.size());
    const double rate = report.step_seconds > 0 ? steps / report.step_seconds : 0;
    if (console.json) {
      console.PrintJson({{"text", text},
                         {"ids", report.ids},
                         {"prompt_tokens", report.prompt_tokens},
                         {"end", kEnd[static_cast<size_t>(report.end)]},
                         {"prefill_seconds", report.prefill_seconds},
                         {"seconds", report.step_seconds},
                         {"tokens_per_second", rate}});
    } else {
      console.Print("\n");
    }
    if (stats_) {
      const MemoryUse& m = session_->memory();
      console.Note(Str("prompt ", report.prompt_tokens, " tokens in ", HumanSeconds(report.prefill_seconds), "; ", report.ids.size(), " new at ", Fixed(rate, 1), " tokens/s; ends by ",
                       kEnd[static_cast<size_t>(report.end)]));
      console.Note(Str("memory: weights ", HumanBytes(m.weights), ", tables ", HumanBytes(m.constants), ", state ", HumanBytes(m.state), ", arena ", HumanBytes(m.arena), "; ",
                       session_->threads(), " threads, seed ", seed_));
    }
    if (report.end == GenerateReport::End::kCancelled && !talking_) return {Code::kCancelled, "cancelled"};
    return {};
  }

  ModelFlags model_;
  RetrievalFlags retrieval_;
  std::unique_ptr<Retriever> retriever_;  // outlives the session
  std::optional<std::string> prompt_, save_state_, load_state_, svg_;
  GenerateOptions generate_;
  SamplerOptions sampler_{0.8, 0, 0.95};
  std::optional<double> temperature_;
  BeamFlags beams_;
  int64_t seed_ = 0;
  bool stats_ = false, talking_ = false;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<Session> session_;
};

}  // namespace

extern const Verb kRun = {"run", "Models", "generate text from a prompt", "tern run books.tern 'It was a dark night, and' --new-tokens 100\ntern run books.tern --temperature 0 < prompt.txt\ntern run t5.tern 'translate English to German: The house is small.' --beams 4",
                          Make<RunVerb>};

}  // namespace tern
