// tern convert SOURCE -o MODEL.tern: a public checkpoint becomes one file.
#include "engine/runtime/convert.h"

#include <algorithm>
#include <cstdio>

#include "tools/verb.h"

namespace tern {
namespace {

class ConvertVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("SOURCE", &options_.source, "a Hugging Face folder, a .safetensors, .bin or .pt file, the index.json of a sharded one, or a .tern file");
    args.Output(&options_.output, "the .tern file to write; what was there stays until the new one is complete").Required();
    args.Choice("--type", &type_, {"source", "f32", "bf16", "f16", "q8", "q4"}, "numbers of matrices and tables (source: as they are stored; q8: eight bits; q4 comes with a later release)");
    args.Texts("--allow-extra", &options_.allow_extra, "leave out tensors the model does not know, by a pattern such as 'optimizer.*'").ValueName("GLOB");
    args.Text("--tokenizer", &options_.tokenizer, "folder or file of the tokenizer, or none (default: what stands beside the weights)").ValueName("PATH");
    args.Text("--license", &options_.license, "licence of the weights, as its SPDX name").ValueName("NAME");
  }

  Status Run(Console& console) override {
    if (type_ != "source") options_.type = type_;
    options_.log = console.Log();
    ConvertReport report;
    Status status;
    {
      std::unique_ptr<Progress> bar;
      auto progress = [&](uint64_t done, uint64_t total) {
        if (!bar) bar = std::make_unique<Progress>(console, "converting", static_cast<int64_t>(total), "B");
        bar->Update(static_cast<int64_t>(done));
      };
      status = Convert(options_, &console.cancel(), progress, &report);
    }
    if (!status.ok()) return Problems(console, report, std::move(status));
    if (console.json) PrintJson(console, report);
    else Print(console, report);
    return {};
  }

 private:
  static Status Problems(Console& console, const ConvertReport& report, Status status) {
    Json list = Json::array();
    for (const ConvertProblem& p : report.problems) {
      if (console.json) list.push_back({{"tensor", Printable(p.tensor, 512)}, {"text", p.text}});
      else console.Warn(p.text);
    }
    if (!list.empty()) console.error_detail = {{"problems", std::move(list)}};
    return status;
  }

  void Print(Console& console, const ConvertReport& r) const {
    std::string text = Str(Printable(options_.output, 4096), ": ", r.architecture, ", ", WithCommas(r.parameters), " parameters as ", r.type, ", ",
                           r.tokenizer.empty() ? "no tokenizer" : "tokenizer " + r.tokenizer, ", ", HumanBytes(static_cast<int64_t>(r.file_bytes)), ", verified\n");
    if (!r.unused.empty()) text += Str("  left out: ", r.unused.size(), " tensors that the model does not need (-v lists them)\n");
    if (!r.errors.empty()) text += Str("  rounding to eight bits, the worst of ", r.errors.size(), " tensors (|W - W'| / |W|):\n");
    for (size_t i = 0; i < std::min<size_t>(r.errors.size(), 5); ++i) text += Str("    ", Percent(r.errors[i].relative), "  ", Printable(r.errors[i].tensor, 512), "\n");
    console.Print(text);
  }

  static std::string Percent(double share) {
    char text[16];
    std::snprintf(text, sizeof text, "%5.2f %%", 100 * share);
    return text;
  }

  void PrintJson(Console& console, const ConvertReport& r) const {
    Json errors = Json::array();
    for (const ConvertReport::Error& e : r.errors) errors.push_back({{"tensor", e.tensor}, {"relative", e.relative}});
    console.PrintJson({{"file", options_.output},
                       {"architecture", r.architecture},
                       {"container", r.container},
                       {"type", r.type},
                       {"tokenizer", r.tokenizer.empty() ? Json(nullptr) : Json(r.tokenizer)},
                       {"tensors", r.tensors},
                       {"parameters", r.parameters},
                       {"bytes", r.file_bytes},
                       {"digest", HexDigest(r.digest)},
                       {"left_out", r.unused},
                       {"non_finite", r.non_finite},
                       {"errors", std::move(errors)}});
  }

  ConvertOptions options_;
  std::string type_ = "source";
};

}  // namespace

extern const Verb kConvert = {"convert", "Models", "make one .tern file of a public checkpoint, without Python",
                              "tern convert ./transfo-xl-wt103 -o transfo-xl.tern --type bf16", Make<ConvertVerb>};

}  // namespace tern
