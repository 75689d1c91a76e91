// tern inspect MODEL: what is inside a model file, from its header alone.
#include <map>

#include "engine/runtime/model.h"
#include "models/t5.h"
#include "tools/verb.h"

namespace tern {
namespace {

struct TypeTotal {
  int64_t tensors = 0, elements = 0;
  uint64_t bytes = 0;
};

class Inspect : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("MODEL", &model_, "a .tern file");
    args.Flag("--tensors", &tensors_, "list every tensor");
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(auto model, Model::Open(model_));
    const ModelFile& file = model->file();
    for (const TensorRecord& t : file.tensors()) {
      TypeTotal& total = types_[std::string(DTypeName(t.type))];
      ++total.tensors, total.elements += t.shape.elements(), total.bytes += t.bytes;
      stored_ += t.shape.elements();
    }
    TERN_ASSIGN(used_, CountUsed(model->network()));
    TERN_RETURN_IF_ERROR(CountExperts(*model));
    if (console.json) PrintJson(console, *model);
    else Print(console, *model);
    return {};
  }

 private:
  // Parameters as the network applies them in its largest entry, or in both of an encoder-decoder: a shared tensor counts once for every operation that
  // uses it.
  static Result<int64_t> CountUsed(const Network& network) {
    const bool pair = dynamic_cast<const EncoderDecoderNetwork*>(&network) != nullptr;
    int64_t most = 0;
    for (const std::string& entry : network.entries()) {
      Builder b;
      EntryOptions options;
      options.entry = entry;
      network.Build(options, b);
      TERN_RETURN_IF_ERROR(b.status());
      const Graph& g = b.graph();
      int64_t used = 0;
      for (const Op& op : g.ops)
        for (int32_t input : op.inputs)
          if (input >= 0 && g.values[static_cast<size_t>(g.Root(input))].weight >= 0)
            used += g.weights[static_cast<size_t>(g.values[static_cast<size_t>(g.Root(input))].weight)].shape.elements();
      most = pair ? most + used : std::max(most, used);
    }
    return most;
  }

  // Every token passes one expert of each layer.
  Status CountExperts(const Model& model) {
    TERN_ASSIGN(std::vector<WeightSpec> manifest, MakeManifest(model.network()));
    experts_.active = stored_;
    for (const WeightSpec& w : manifest) {
      if (w.role != Role::kExperts) continue;
      experts_.layers += w.name.ends_with(".wi"), experts_.per_layer = w.shape[0];
      experts_.active -= w.shape.elements() / w.shape[0] * (w.shape[0] - 1);
    }
    if (experts_.layers > 0) experts_.bytes = model.expert_bytes() / (experts_.layers * experts_.per_layer);
    return {};
  }

  void Print(Console& console, const Model& model) const {
    const ModelFile& file = model.file();
    std::string out = console.Bold(Printable(model_, 4096)) + "\n";
    auto line = [&](std::string_view key, const std::string& value) {
      out += Str("  ", key, std::string(key.size() < 14 ? 14 - key.size() : 1, ' '), value, "\n");
    };
    line("architecture", file.architecture());
    line("parameters", Str(WithCommas(stored_), " stored, ", WithCommas(used_), " used"));
    if (model.pager()) line("experts", Str(WithCommas(experts_.layers), " layers of ", WithCommas(experts_.per_layer), ", one ", HumanBytes(experts_.bytes), "; ", WithCommas(experts_.active), " parameters active per token"));
    line("file", Str(HumanBytes(static_cast<int64_t>(file.file_bytes())), ", version ", file.version(), ", digest ", HexDigest(file.digest())));
    for (const auto& [type, total] : types_)
      line(type, Str(WithCommas(total.tensors), " tensors, ", WithCommas(total.elements), " numbers, ", HumanBytes(static_cast<int64_t>(total.bytes))));
    if (const Tokenizer* t = model.tokenizer())
      line("tokenizer", Str(t->kind(), ", ", WithCommas(t->vocab_size()), " pieces, ", HumanBytes(static_cast<int64_t>(TokenizerBytes(file)))));
    else
      line("tokenizer", "none");
    const Json& metadata = file.metadata();
    if (auto it = metadata.find("license"); it != metadata.end()) line("license", Printable(it->get<std::string>()));
    if (auto it = metadata.find("provenance"); it != metadata.end() && !it->empty()) Object(console, "provenance", *it, &out);
    if (auto it = metadata.find("settings"); it != metadata.end() && !it->empty()) Object(console, "settings", *it, &out);
    Object(console, "config", model.network().config(), &out);
    console.Print(out);
    if (tensors_) console.Print(TensorTable(console, file));
  }

  static void Object(Console& console, std::string_view title, const Json& object, std::string* out) {
    *out += console.Bold(title) + "\n";
    size_t width = 0;
    for (const auto& [key, value] : object.items()) width = std::max(width, std::min<size_t>(key.size(), 32));
    for (const auto& [key, value] : object.items()) {
      std::string text = value.is_string() ? value.get<std::string>() : DumpJson(value);
      std::string name = Printable(key, 64);
      *out += Str("  ", name, std::string(name.size() < width ? width - name.size() + 2 : 2, ' '), Printable(text, 400), "\n");
    }
  }

  static uint64_t TokenizerBytes(const ModelFile& file) {
    for (const BlobRecord& b : file.blobs())
      if (b.name == "tokenizer") return b.bytes;
    return 0;
  }

  static std::string TensorTable(Console& console, const ModelFile& file) {
    std::vector<std::vector<std::string>> rows = {{"tensor", "shape", "type", "layout", "offset", "bytes", "digest"}};
    for (const TensorRecord& t : file.tensors())
      rows.push_back({Printable(t.name, 512), t.shape.ToString(), std::string(DTypeName(t.type)), std::string(LayoutName(t.layout)), Str(t.offset), Str(t.bytes),
                      HexDigest(t.digest)});
    return Table(rows, console);
  }

  void PrintJson(Console& console, const Model& model) const {
    const ModelFile& file = model.file();
    Json types = Json::object();
    for (const auto& [type, total] : types_) types[type] = {{"tensors", total.tensors}, {"elements", total.elements}, {"bytes", total.bytes}};
    Json out = {{"file", model_},
                {"architecture", file.architecture()},
                {"config", model.network().config()},
                {"version", file.version()},
                {"bytes", file.file_bytes()},
                {"digest", HexDigest(file.digest())},
                {"parameters", {{"stored", stored_}, {"used", used_}}},
                {"types", std::move(types)},
                {"tokenizer", nullptr}};
    if (const Tokenizer* t = model.tokenizer()) out["tokenizer"] = {{"kind", t->kind()}, {"vocab_size", t->vocab_size()}, {"bytes", TokenizerBytes(file)}};
    for (const char* key : {"license", "provenance", "settings"})
      if (auto it = file.metadata().find(key); it != file.metadata().end()) out[key] = *it;
    if (model.pager())
      out["experts"] = {{"layers", experts_.layers}, {"per_layer", experts_.per_layer}, {"bytes_each", experts_.bytes}, {"active_parameters", experts_.active}};
    if (tensors_) {
      Json list = Json::array();
      for (const TensorRecord& t : file.tensors()) {
        Json shape = Json::array();
        for (int64_t d : t.shape) shape.push_back(d);
        Json entry = {{"name", t.name}, {"shape", shape}, {"type", DTypeName(t.type)}, {"layout", LayoutName(t.layout)}};
        if (!t.group.empty()) entry["group"] = t.group;
        entry.update({{"offset", t.offset}, {"bytes", t.bytes}, {"digest", HexDigest(t.digest)}});
        list.push_back(std::move(entry));
      }
      out["tensors"] = std::move(list);
    }
    console.PrintJson(out);
  }

  std::string model_;
  bool tensors_ = false;
  std::map<std::string, TypeTotal> types_;
  int64_t stored_ = 0, used_ = 0;
  struct {
    int64_t layers = 0, per_layer = 0, bytes = 0, active = 0;
  } experts_;
};

}  // namespace

extern const Verb kInspect = {"inspect", "Models", "show what is inside a model file", "tern inspect models/zoo/books-xl.tern --tensors", Make<Inspect>};

}  // namespace tern
