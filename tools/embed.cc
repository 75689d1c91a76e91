// tern embed: sentence vectors, a text a line, in constant memory.
#include "engine/runtime/embed.h"

#include <algorithm>
#include <limits>

#include "tools/input.h"
#include "tools/model_options.h"
#include "tools/vector_output.h"

namespace tern {
namespace {

class EmbedVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    model_.Declare(args);
    args.Input("TEXT", &text_, "a file (a text a line; .jsonl: field text), - for standard input, or the text itself");
    args.Output(&output_, "FILE.npy, .safetensors (tensor embeddings) or .jsonl; without it JSON lines to standard output");
    args.Integer("--batch", &batch_, 1, 65536, "texts at once").ValueName("N");
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(auto model, model_.Open(console));
    TERN_ASSIGN(auto embedder, Embedder::Create(model, static_cast<int>(model_.threads), &console.cancel()));
    TERN_ASSIGN(auto input, TextInput::Open(text_, console));
    TERN_ASSIGN(VectorOutput out, VectorOutput::Create(output_, embedder->width(), &console));
    Progress progress(console, "embedding", input->total_bytes(), "B");
    const int64_t start = NowNs();
    std::vector<std::string> texts;
    std::vector<float> vectors;
    std::string line;
    std::vector<size_t> broken_rows;  // of texts
    int64_t broken = 0;
    for (bool more = true; more && console.ok();) {
      auto next = input->Line(&line);
      if (!next.ok()) {
        if (next.status().code() != Code::kMalformed) return next.status();
        // Said with its line; its row holds no numbers, so that rows and records stay side by side.
        console.Warn(next.status().message());
        broken_rows.push_back(texts.size());
        ++broken, texts.emplace_back();
      } else {
        more = *next;
        if (more) texts.push_back(line);
      }
      if (static_cast<int64_t>(texts.size()) >= batch_ || !more) {
        vectors.clear();
        TERN_RETURN_IF_ERROR(embedder->Embed(texts, &vectors));
        for (size_t row : broken_rows) std::fill_n(vectors.begin() + static_cast<int64_t>(row) * embedder->width(), embedder->width(), std::numeric_limits<float>::quiet_NaN());
        broken_rows.clear();
        TERN_RETURN_IF_ERROR(out.Add(vectors));
        texts.clear();
      }
      progress.Update(input->read_bytes());
    }
    TERN_RETURN_IF_ERROR(out.Finish());
    if (!output_.empty()) {
      const double seconds = static_cast<double>(NowNs() - start) * 1e-9;
      if (console.json) console.PrintJson({{"output", output_}, {"rows", out.rows()}, {"width", embedder->width()}, {"seconds", seconds}});
      else console.Note(Str(output_, ": ", WithCommas(out.rows()), " vectors of ", embedder->width(), " in ", HumanSeconds(seconds)));
    }
    return broken > 0 ? Malformed(Str(broken, " records could not be read; their rows are NaN (null in JSON lines)")).File(input->name()) : Status();
  }

 private:
  ModelFlags model_;
  std::optional<std::string> text_;
  std::string output_;
  int64_t batch_ = 256;
};

}  // namespace

extern const Verb kEmbed = {"embed", "Models", "sentence vectors of texts", "tern embed minilm.tern sentences.txt -o vectors.npy\ntern embed minilm.tern 'Hello, world!'", Make<EmbedVerb>};

}  // namespace tern
