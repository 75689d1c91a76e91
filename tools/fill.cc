// tern fill: what stands behind the mask, or in place of sentinels.
#include "engine/runtime/fill.h"

#include "tools/input.h"
#include "tools/model_options.h"
#include "tools/text_to_text.h"

namespace tern {
namespace {

class FillVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    model_.Declare(args);
    args.Input("TEXT", &text_, "a file (a text a line), - for standard input, or the text itself, with the model's mask (or <extra_id_0> ...) in it");
    args.Integer("--top-k", &top_, 1, 1000, "how many tokens for each mask").ValueName("K");
    args.Heading("Sentinels (encoder-decoders)");
    args.Integer("--new-tokens", &new_tokens_, 1, 1 << 20, "at most this many tokens for all blanks").Letter('n').ValueName("N");
    beams_.Declare(args);
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(auto model, model_.Open(console));
    if (dynamic_cast<const EncoderDecoderNetwork*>(&model->network())) return Sentinels(model, console);
    if (beams_.given()) return UsageError("beam search is for encoder-decoders").File(model_.path).Got(model->network().architecture(), "t5 or switch");
    TERN_ASSIGN(auto filler, MaskFiller::Create(model, static_cast<int>(model_.threads), &console.cancel()));
    TERN_ASSIGN(auto input, TextInput::Open(text_, console));
    std::string line;
    int64_t lines = 0, broken = 0;
    Status last;
    while (console.ok()) {
      auto more = input->Line(&line);
      if (more.ok() && !*more) break;
      ++lines;
      if (!more.ok() && more.status().code() != Code::kMalformed) return more.status();
      auto masks = more.ok() ? filler->Fill(line, top_) : Result<std::vector<std::vector<Filling>>>(more.status());
      if (masks.ok()) {
        if (console.json) Machine(input->line_number(), *masks, console);
        else Human(*masks, console);
        continue;
      }
      const Code code = masks.status().code();
      if (code != Code::kUsage && code != Code::kMalformed) return masks.status();
      // A line that cannot be filled is said; the rest goes on.
      if (broken++ > 0) console.Warn(last.message());
      last = Status(masks.status()).Where(Str("line ", input->line_number())).File(input->name());
    }
    if (broken == 0 || lines == 1) return last;
    console.Warn(last.message());
    return Malformed(Str(broken, " of ", lines, " lines could not be filled")).File(input->name());
  }

 private:
  Status Sentinels(const std::shared_ptr<const Model>& model, Console& console) {
    Seq2seqOptions options;
    options.new_tokens = new_tokens_;
    beams_.Into(&options);
    TERN_ASSIGN(auto filler, TextToText::Create(model, static_cast<int>(model_.threads), beams_.beams, options, &console.cancel()));
    TERN_ASSIGN(auto input, TextInput::Open(text_, console));
    std::string line, filled;
    for (int64_t number = 1; console.ok(); ++number) {
      TERN_ASSIGN(bool more, input->Line(&line));
      if (!more) break;
      auto blanks = filler->Fill(line, &filled);
      if (!blanks.ok()) return Status(blanks.status()).Where(Str("line ", number));
      if (console.json) {
        Json all = Json::array();
        for (const Blank& b : *blanks) all.push_back({{"sentinel", b.sentinel}, {"text", b.text}});
        console.PrintJson({{"line", number}, {"blanks", all}, {"text", filled}});
        continue;
      }
      for (const Blank& b : *blanks) console.Print(Str(b.sentinel, "\t", b.text, "\n"));
      console.Print(Str(filled, "\n"));
    }
    return {};
  }

  static void Machine(int64_t line, const std::vector<std::vector<Filling>>& masks, Console& console) {
    Json all = Json::array();
    for (const auto& mask : masks) {
      Json one = Json::array();
      for (const Filling& f : mask) one.push_back({{"token", f.id}, {"piece", f.piece}, {"probability", f.probability}, {"text", f.text}});
      all.push_back(one);
    }
    console.PrintJson({{"line", line}, {"masks", all}});
  }
  static void Human(const std::vector<std::vector<Filling>>& masks, Console& console) {
    for (size_t m = 0; m < masks.size(); ++m) {
      if (masks.size() > 1) console.Print(Str(m ? "\n" : "", "mask ", m + 1, "\n"));
      for (const Filling& f : masks[m]) console.Print(Str(Fixed(100 * f.probability, 2), " %\t", Printable(f.piece), "\t", f.text, "\n"));
    }
  }

  ModelFlags model_;
  std::optional<std::string> text_;
  int64_t top_ = 5, new_tokens_ = 64;
  BeamFlags beams_;
};

}  // namespace

extern const Verb kFill = {"fill", "Models", "the likeliest tokens behind a mask, or the text of sentinels", "tern fill albert.tern 'The capital of France is [MASK].'\ntern fill t5.tern 'The <extra_id_0> walks in <extra_id_1> park.'", Make<FillVerb>};

}  // namespace tern
