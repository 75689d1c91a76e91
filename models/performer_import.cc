#include "models/performer_import.h"

#include <cmath>
#include <unordered_set>

#include "models/performer_features.h"

namespace tern {
namespace {

// A config alone must not make us compute for hours: beyond these sizes what a checkpoint leaves out is missing.
constexpr int64_t kMostTable = int64_t{1} << 26, kMostFeatures = int64_t{1} << 22;

// Rows p = sin(p f_i) | cos(p f_i), f_i = 10000^(-2i / width), rounded to f32 where the public code rounds.
std::vector<float> SinusoidTable(int64_t entries, int64_t width) {
  if (entries > kMostTable / width) return {};
  std::vector<float> table(static_cast<size_t>(entries * width));
  const int64_t half = width / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float frequency = 1.0f / static_cast<float>(std::pow(10000.0, static_cast<double>(static_cast<float>(2 * i) / static_cast<float>(width))));
    for (int64_t p = 0; p < entries; ++p) {
      const double angle = static_cast<float>(p) * frequency;
      table[static_cast<size_t>(p * width + i)] = static_cast<float>(std::sin(angle));
      table[static_cast<size_t>(p * width + half + i)] = static_cast<float>(std::cos(angle));
    }
  }
  return table;
}

class Importer {
 public:
  Importer(const PerformerConfig& c, std::string prefix, const std::vector<ForeignTensor>& checkpoint) : c_(c), prefix_(std::move(prefix)) {
    for (const ForeignTensor& t : checkpoint) there_.insert(t.name);
  }

  Import Make() {
    Simple("embed.words", "token_emb.weight");
    Positions();
    int64_t pair = 0;
    for (int64_t l = 0; l < c_.n_layers; ++l) {
      const std::string ours = Str("layers.", l);
      Attention(ours + ".attention", pair, l, false);
      FeedForward(ours + ".ff", pair++, c_.shift_tokens);
      if (!c_.cross_attend) continue;
      Attention(ours + ".cross", pair, l, true);
      FeedForward(ours + ".cross_ff", pair++, false);
    }
    Simple("norm.gamma", "norm.weight");
    Simple("norm.beta", "norm.bias");
    if (c_.tie_embed) {
      import_.rules.push_back({"head.bias", {{{}}}, [n = c_.vocab_size] { return std::vector<float>(static_cast<size_t>(n)); }});
    } else {
      Simple("head.weight", "to_out.weight");
      Simple("head.bias", "to_out.bias");
    }
    // Every tensor again, and a counter of training steps.
    import_.ignore.push_back("*performer.proj_updater.*");
    return std::move(import_);
  }

 private:
  void Add(std::string ours, std::vector<std::string> parts, std::function<std::vector<float>()> otherwise = {}) {
    ImportRule rule{std::move(ours), {}, std::move(otherwise)};
    for (std::string& part : parts) rule.parts.push_back({{prefix_ + part}});
    import_.rules.push_back(std::move(rule));
  }
  void Simple(std::string ours, std::string theirs, std::function<std::vector<float>()> otherwise = {}) { Add(std::move(ours), {std::move(theirs)}, std::move(otherwise)); }

  void Positions() {
    switch (c_.positions) {
      case PerformerConfig::Positions::kRotary:
        Simple("embed.positions", "pos_emb.emb", [n = c_.max_positions, d = c_.d_model] { return SinusoidTable(n, d); });
        return Simple("rotary", "layer_pos_emb.emb", [n = c_.max_positions, d = c_.d_head] { return SinusoidTable(n, d); });
      case PerformerConfig::Positions::kAxial:
        for (size_t a = 0; a < c_.axial_shape.size(); ++a) Simple(Str("embed.axis.", a), Str("pos_emb.weights.", a));
        return;
      case PerformerConfig::Positions::kLearned: return Simple("embed.positions", "pos_emb.emb.weight");
    }
  }

  // The modules around a function: the wrapper of the norm (or of ReZero), and the token shift.
  std::string Branch(int64_t pair, bool second) const {
    return c_.reversible ? Str("performer.net.blocks.", pair, second ? ".g.net." : ".f.net.") : Str("performer.net.layers.", pair, second ? ".1." : ".0.");
  }
  void Wrapper(const std::string& ours, const std::string& branch) {
    if (c_.wrapper != PerformerConfig::Wrapper::kLayerNorm) return Simple(ours + ".g", branch + "g");
    Simple(ours + ".norm.gamma", branch + "norm.weight");
    Simple(ours + ".norm.beta", branch + "norm.bias");
  }

  void Attention(const std::string& ours, int64_t pair, int64_t layer, bool cross) {
    const std::string branch = Branch(pair, false), inner = branch + (c_.shift_tokens && !cross ? "fn.fn." : "fn.");
    Wrapper(ours, branch);
    auto linear = [&](const char* name, std::vector<std::string> theirs, bool bias) {
      for (const char* what : {"weight", "bias"}) {
        if (!bias && what[0] == 'b') continue;
        std::vector<std::string> parts;
        for (const std::string& t : theirs) parts.push_back(Str(inner, t, ".", what));
        Add(Str(ours, ".", name, ".", what), parts);
      }
    };
    if (cross) linear("q", {"to_q"}, c_.qkv_bias), linear("kv", {"to_k", "to_v"}, c_.qkv_bias);
    else linear("qkv", {"to_q", "to_k", "to_v"}, c_.qkv_bias);
    linear("o", {"to_out"}, c_.out_bias);
    const int64_t local = cross ? 0 : c_.local_heads[static_cast<size_t>(layer)];
    const std::string projection = inner + "fast_attention.projection_matrix";
    if (c_.kernel == FavorOp::Kernel::kNone || local == c_.n_heads) {
      import_.ignore.push_back(prefix_ + projection);
    } else if (there_.contains(prefix_ + inner + "to_q.weight") && c_.n_features * c_.d_head <= kMostFeatures) {
      Simple(ours + ".projection", projection, [m = c_.n_features, d = c_.d_head, seed = static_cast<uint64_t>(pair)] { return OrthogonalFeatures(m, d, seed); });
    } else {
      Simple(ours + ".projection", projection);
    }
    if (local > 0)
      Simple(ours + ".local_inv_freq", inner + "local_attn.rel_pos.inv_freq", [d = c_.d_head] {
        std::vector<float> f(static_cast<size_t>(d / 2));
        for (size_t i = 0; i < f.size(); ++i) f[i] = 1.0f / static_cast<float>(std::pow(10000.0, static_cast<double>(static_cast<float>(2 * i) / static_cast<float>(d))));
        return f;
      });
  }

  void FeedForward(const std::string& ours, int64_t pair, bool shifted) {
    const std::string branch = Branch(pair, true), inner = branch + (shifted ? "fn.fn.fn." : "fn.fn.");
    Wrapper(ours, branch);
    for (auto [name, theirs] : {std::pair{"in", "w1"}, std::pair{"out", "w2"}})
      for (const char* what : {"weight", "bias"}) Simple(Str(ours, ".", name, ".", what), Str(inner, theirs, ".", what));
  }

  const PerformerConfig& c_;
  const std::string prefix_;
  std::unordered_set<std::string> there_;  // names of the checkpoint
  Import import_;
};

}  // namespace

int64_t FeaturesOf(const std::vector<ForeignTensor>& checkpoint) {
  for (const ForeignTensor& t : checkpoint)
    if (t.name.ends_with("fast_attention.projection_matrix") && t.shape.rank() == 2) return t.shape[0];
  return 0;
}

Result<Import> ImportPerformer(const PerformerConfig& c, const std::vector<ForeignTensor>& checkpoint) {
  // "net." in an AutoregressiveWrapper, "module." behind DataParallel, nothing in the model itself.
  std::string prefix;
  for (const ForeignTensor& t : checkpoint) {
    if (t.name.find("local_attn.rel_pos.weights") != std::string::npos)
      return Malformed("these local heads have learned relative positions (local-attention before 1.2), which are not supported").Where(Str("tensor '", Printable(t.name), "'"));
    if (t.name.starts_with("enc.") || t.name.starts_with("dec.net."))
      return Malformed("this is a PerformerEncDec, of which only the parts are supported").Where(Str("tensor '", Printable(t.name), "'")).Hint("Save its enc or dec.net as a PerformerLM");
    if (t.name.ends_with("token_emb.weight") && t.name.find("proj_updater") == std::string::npos) prefix = t.name.substr(0, t.name.size() - 16);
  }
  return Importer(c, prefix, checkpoint).Make();
}

}  // namespace tern
