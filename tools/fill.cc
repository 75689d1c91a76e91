// tern fill: what stands behind the mask.
#include "engine/runtime/fill.h"

#include "tools/input.h"
#include "tools/model_options.h"

namespace tern {
namespace {

class FillVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    model_.Declare(args);
    args.Input("TEXT", &text_, "a file (a text a line), - for standard input, or the text itself, with the model's mask in it");
    args.Integer("--top-k", &top_, 1, 1000, "how many tokens for each mask").ValueName("K");
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(auto model, model_.Open(console));
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
  int64_t top_ = 5;
};

}  // namespace

extern const Verb kFill = {"fill", "Models", "the likeliest tokens behind a mask", "tern fill albert.tern 'The capital of France is [MASK].'", Make<FillVerb>};

}  // namespace tern
