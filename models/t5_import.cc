#include "models/t5_import.h"

#include <algorithm>
#include <charconv>

namespace tern {
namespace {

class Importer {
 public:
  explicit Importer(const T5Config& c) : c_(c) {}

  Import Make() {
    std::vector<std::string> tables{"shared.weight", "encoder.embed_tokens.weight"};
    if (c_.decoder) tables.push_back("decoder.embed_tokens.weight");
    if (c_.head && c_.tied) tables.push_back("lm_head.weight");
    Add("embed.words", std::move(tables));
    if (c_.head && !c_.tied) Add("head.weight", {"lm_head.weight"});
    Stack("encoder", c_.n_layers);
    if (c_.decoder) Stack("decoder", c_.n_decoder_layers);
    // Of old checkpoints: a bias of the first cross-attention that nothing reads.
    import_.ignore = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"};
    if (!c_.decoder) import_.ignore.insert(import_.ignore.end(), {"decoder.*", "lm_head.weight"});
    else if (!c_.head) import_.ignore.push_back("lm_head.weight");
    return std::move(import_);
  }

 private:
  void Add(std::string ours, std::vector<std::string> alternatives) {
    ImportRule rule{std::move(ours), {}, {}};
    rule.parts.push_back({std::move(alternatives)});
    import_.rules.push_back(std::move(rule));
  }
  void Join(std::string ours, const std::vector<std::string>& parts) {
    ImportRule rule{std::move(ours), {}, {}};
    for (const std::string& p : parts) rule.parts.push_back({{p}});
    import_.rules.push_back(std::move(rule));
  }

  void Stack(const std::string& stack, int64_t layers) {
    const bool decoder = stack == "decoder";
    Add(stack + ".relative_bias", {stack + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight"});
    Add(stack + ".norm", {stack + ".final_layer_norm.weight"});
    for (int64_t l = 0; l < layers; ++l) {
      const std::string ours = Str(stack, ".layers.", l), theirs = Str(stack, ".block.", l, ".layer.");
      const std::string self = theirs + "0.SelfAttention.", cross = theirs + "1.EncDecAttention.";
      Add(ours + ".self.norm", {theirs + "0.layer_norm.weight"});
      Join(ours + ".self.qkv", {self + "q.weight", self + "k.weight", self + "v.weight"});
      Add(ours + ".self.o", {self + "o.weight"});
      if (decoder) {
        Add(ours + ".cross.norm", {theirs + "1.layer_norm.weight"});
        Add(ours + ".cross.q", {cross + "q.weight"});
        Join(ours + ".cross.kv", {cross + "k.weight", cross + "v.weight"});
        Add(ours + ".cross.o", {cross + "o.weight"});
      }
      FeedForward(ours, theirs + (decoder ? "2." : "1."), c_.sparse(decoder, l));
    }
  }

  void FeedForward(const std::string& ours, const std::string& theirs, bool sparse) {
    Add(ours + ".ff.norm", {theirs + "layer_norm.weight"});
    if (c_.family == T5Family::kT5) {
      const std::string dense = theirs + "DenseReluDense.";
      if (c_.gated) Add(ours + ".ff.gate", {dense + "wi_0.weight"});
      Add(ours + ".ff.in", {dense + (c_.gated ? "wi_1.weight" : "wi.weight")});
      return Add(ours + ".ff.out", {dense + "wo.weight"});
    }
    const std::string mlp = theirs + "mlp.";
    if (!sparse) {
      Add(ours + ".ff.in", {mlp + "wi.weight"});
      return Add(ours + ".ff.out", {mlp + "wo.weight"});
    }
    Add(ours + ".experts.router", {mlp + "router.classifier.weight"});
    if (c_.router_bias) Add(ours + ".experts.router_bias", {mlp + "router.classifier.bias"});
    for (const char* matrix : {"wi", "wo"}) {
      std::vector<std::string> parts;
      for (int64_t e = 0; e < c_.n_experts; ++e) parts.push_back(Str(mlp, "experts.expert_", e, ".", matrix, ".weight"));
      Join(Str(ours, ".experts.", matrix), parts);
    }
  }

  const T5Config& c_;
  Import import_;
};

// The number between `before` and `after` in a name, or -1.
int64_t NumberIn(std::string_view name, std::string_view before, std::string_view after) {
  if (!name.starts_with(before)) return -1;
  name.remove_prefix(before.size());
  int64_t number = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  return error == std::errc() && number >= 0 && number < 4096 && std::string_view(end, static_cast<size_t>(name.data() + name.size() - end)).starts_with(after) ? number : -1;
}

}  // namespace

std::vector<int64_t> SparseLayersOf(const std::vector<ForeignTensor>& checkpoint, bool decoder) {
  std::vector<int64_t> layers;
  const std::string stack = decoder ? "decoder" : "encoder", sublayer = decoder ? ".layer.2." : ".layer.1.";
  for (const ForeignTensor& t : checkpoint)
    if (t.name.ends_with(".mlp.router.classifier.weight"))
      if (int64_t l = NumberIn(t.name, stack + ".block.", sublayer); l >= 0) layers.push_back(l);
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

Result<Import> ImportT5(const T5Config& c, const std::vector<ForeignTensor>& checkpoint) {
  for (const ForeignTensor& t : checkpoint) {
    if (t.name.find("/kernel") != std::string::npos)
      return Malformed("these are TensorFlow names").Where(Str("tensor '", Printable(t.name), "'")).Hint("Convert the checkpoint to PyTorch first");
    // Experts beyond the config's number would only show as many extra tensors.
    const size_t at = t.name.find(".experts.expert_");
    if (c.n_experts == 0 || at == std::string::npos) continue;
    if (int64_t e = NumberIn(std::string_view(t.name).substr(at), ".experts.expert_", "."); e >= c.n_experts)
      return Malformed("the checkpoint has more experts than config.json says").Where(Str("tensor '", Printable(t.name), "'")).Got(Str("expert ", e), Str("num_experts ", c.n_experts));
  }
  return Importer(c).Make();
}

}  // namespace tern
