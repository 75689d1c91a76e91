#include "models/retro_import.h"

#include <algorithm>
#include <cmath>

#include "models/config.h"

namespace tern {
namespace {

using Config = RetroConfig;
using Tensors = std::vector<ForeignTensor>;

const ForeignTensor* Find(const Tensors& checkpoint, std::string_view name) {
  for (const ForeignTensor& t : checkpoint)
    if (t.name == name) return &t;
  return nullptr;
}

int64_t RowsOf(const Tensors& checkpoint, std::string_view name, int64_t otherwise) {
  const ForeignTensor* t = Find(checkpoint, name);
  return t && t->shape.rank() >= 1 && t->shape[0] > 0 && t->shape[0] <= (1 << 22) ? t->shape[0] : otherwise;
}

std::vector<int64_t> All(int64_t n) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(i);
  return out;
}

// A 1-based list of layers; `otherwise` if the field is absent, all layers if it is null.
std::vector<int64_t> Layers(ConfigReader* r, const Json& j, const char* field, int64_t n, std::vector<int64_t> otherwise) {
  if (!j.contains(field)) return otherwise;
  if (j[field].is_null()) return All(n);
  std::vector<int64_t> out = r->Ints({field}, 1, n, 4096);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  for (int64_t& l : out) --l;
  return out;
}

std::function<std::vector<float>()> InvFreq(int64_t rotated, double base) {
  return [=] {
    std::vector<float> f(static_cast<size_t>(rotated / 2));
    for (size_t i = 0; i < f.size(); ++i)
      f[i] = 1.0f / static_cast<float>(std::pow(base, static_cast<float>(2 * i) / static_cast<float>(rotated)));
    return f;
  };
}

std::function<std::vector<float>()> Zeros(int64_t n) {
  return [=] { return std::vector<float>(static_cast<size_t>(n)); };
}

// What both dialects' importers do.
class Rules {
 public:
  explicit Rules(const Config& c) : c_(c) {}

  void Add(std::string ours, std::vector<std::string> theirs, std::function<std::vector<float>()> otherwise = {}) {
    import_.rules.push_back({std::move(ours), {{std::move(theirs)}}, std::move(otherwise)});
  }
  void Parts(std::string ours, std::vector<ImportRule::Part> parts) { import_.rules.push_back({std::move(ours), std::move(parts), {}}); }
  Import Take() { return std::move(import_); }

 protected:
  const Config& c_;
  Import import_;
};

class Lucid : public Rules {
 public:
  using Rules::Rules;

  Import Make() {
    Add("embed.words", {"token_emb.weight"});
    if (c_.positions) Add("embed.positions", {"pos_emb.weight"});
    if (c_.project_input) Linear("embed.project", "to_decoder_model_dim");
    Add("encoder.inv_freq", {"encoder.rotary_pos_emb.inv_freq"}, InvFreq(c_.encoder_rotary, 10000));
    Add("decoder.inv_freq", {"decoder.rotary_pos_emb.inv_freq"}, InvFreq(c_.rotary, 10000));
    Stack(c_.encoder, "encoder.layers.", "encoder.layers.", "fn.");
    Stack(c_.decoder, "layers.", "decoder.layers.", "fn.cross_attn.");
    if (c_.encoder.final_norm) Norm("encoder.norm", "encoder.norm_out");
    if (c_.project_encoder) Linear("encoder.project", "encoder.project_out");
    if (c_.decoder.final_norm) Norm("decoder.norm", "decoder.norm_out");
    Linear("head", "to_logits");
    return Take();
  }

 private:
  void Linear(const std::string& ours, const std::string& theirs) {
    Add(ours + ".weight", {theirs + ".weight"});
    Add(ours + ".bias", {theirs + ".bias"});
  }
  // `weight` is the gain of a LayerNorm, but the gate beside `gamma`.
  void Norm(const std::string& ours, const std::string& theirs) {
    if (c_.norm == RetroNorm::kLayerNorm) {
      Add(ours + ".gamma", {theirs + ".weight"});
      Add(ours + ".beta", {theirs + ".bias"});
      return;
    }
    Add(ours + ".gamma", {theirs + ".gamma"});
    if (c_.norm == RetroNorm::kRmsGated) Add(ours + ".gate", {theirs + ".weight"});
  }
  void Concat(const std::string& ours, const std::string& theirs, std::initializer_list<const char*> names) {
    std::vector<ImportRule::Part> parts;
    for (const char* name : names) parts.push_back({{theirs + name + ".weight"}});
    Parts(ours, std::move(parts));
  }
  void Stack(const RetroStack& stack, const std::string& ours, const std::string& theirs, const std::string& cross) {
    for (int64_t l = 0; l < stack.n_layers; ++l) {
      const std::string o = Str(ours, l, "."), t = Str(theirs, l, ".");
      Norm(o + "attention.norm", t + "0.norm");
      Concat(o + "attention.qkv.weight", t + "0.fn.", {"to_q", "to_k", "to_v"});
      Linear(o + "attention.o", t + "0.fn.to_out");
      if (std::find(stack.cross_layers.begin(), stack.cross_layers.end(), l) != stack.cross_layers.end()) {
        const std::string f = t + "1." + cross;
        Norm(o + "cross.norm", t + "1.norm");
        Add(o + "cross.q.weight", {f + "to_q.weight"});
        Concat(o + "cross.kv.weight", f, {"to_k", "to_v"});
        Linear(o + "cross.o", f + "to_out");
        if (&stack == &c_.decoder && c_.null_key) {
          Add(o + "cross.null_k", {f + "null_k"});
          Add(o + "cross.null_v", {f + "null_v"});
        }
      }
      Norm(o + "ff.norm", t + "2.norm");
      Linear(o + "ff.in", t + "2.fn.ff.0");
      Linear(o + "ff.out", t + "2.fn.ff.3");
    }
  }
};

class Megatron : public Rules {
 public:
  using Rules::Rules;

  Import Make() {
    Add("embed.words", c_.tied ? std::vector<std::string>{"embedding.word_embeddings.weight", "output_layer.weight"}
                               : std::vector<std::string>{"embedding.word_embeddings.weight"});
    if (c_.positions) Add("embed.positions", {"embedding.position_embeddings.weight"});
    if (c_.rotary > 0) Add("decoder.inv_freq", {"rotary_pos_emb.inv_freq"}, InvFreq(c_.rotary, 10000));
    Stack(c_.decoder, "layers.", "decoder.layers.");
    Stack(c_.encoder, "encoder.layers.", Str("decoder.layers.", c_.decoder.cross_layers[0], ".cross_attention.encoder.layers."));
    if (c_.decoder.final_norm) Norm("decoder.norm", {"decoder.final_layernorm."});
    if (!c_.tied) Add("head.weight", {"output_layer.weight"});
    Add("head.bias", {"output_layer.bias"}, Zeros(c_.vocab_size));
    import_.ignore = {"*_extra_state", "*.inv_freq"};
    return Take();
  }

 private:
  // Each prefix may stand before weight and bias: Transformer Engine keeps a norm with the matrix behind it.
  void Norm(const std::string& ours, const std::vector<std::string>& prefixes) {
    for (auto [our, their] : {std::pair{".gamma", "weight"}, std::pair{".beta", "bias"}}) {
      std::vector<std::string> names;
      for (const std::string& p : prefixes) names.push_back(p + their);
      Add(ours + our, std::move(names));
    }
  }
  void Linear(const std::string& ours, const std::string& theirs, bool bias) {
    Add(ours + ".weight", {theirs + ".weight"});
    if (bias) Add(ours + ".bias", {theirs + ".bias"});
  }
  // Rows stand head by head, `parts` blocks of d_head each; ours are block by block.
  void Interleaved(const std::string& ours, const std::string& theirs, int64_t parts, bool bias) {
    for (const char* what : {".weight", ".bias"}) {
      if (what[1] == 'b' && !bias) continue;
      std::vector<ImportRule::Part> list;
      for (int64_t p = 0; p < parts; ++p)
        for (int64_t h = 0; h < c_.n_heads; ++h) list.push_back({{theirs + what}, (h * parts + p) * c_.d_head, c_.d_head});
      Parts(ours + what, std::move(list));
    }
  }
  void Rows(const std::string& ours, const std::string& theirs, int64_t first, int64_t rows, bool bias) {
    Parts(ours + ".weight", {{{theirs + ".weight"}, first, rows}});
    if (bias) Parts(ours + ".bias", {{{theirs + ".bias"}, first, rows}});
  }
  void Stack(const RetroStack& stack, const std::string& ours, const std::string& theirs) {
    for (int64_t l = 0; l < stack.n_layers; ++l) {
      const std::string o = Str(ours, l, "."), t = Str(theirs, l, ".");
      Norm(o + "attention.norm", {t + "input_layernorm.", t + "self_attention.linear_qkv.layer_norm_"});
      Interleaved(o + "attention.qkv", t + "self_attention.linear_qkv", 3, c_.qkv_bias);
      Linear(o + "attention.o", t + "self_attention.linear_proj", c_.o_bias);
      if (std::find(stack.cross_layers.begin(), stack.cross_layers.end(), l) != stack.cross_layers.end()) {
        Norm(o + "cross.norm", {t + "pre_cross_attn_layernorm."});
        Linear(o + "cross.q", t + "cross_attention.attn.linear_q", c_.qkv_bias);
        Interleaved(o + "cross.kv", t + "cross_attention.attn.linear_kv", 2, c_.qkv_bias);
        Linear(o + "cross.o", t + "cross_attention.attn.linear_proj", c_.o_bias);
      }
      Norm(o + "ff.norm", {t + "pre_mlp_layernorm.", t + "mlp.linear_fc1.layer_norm_", t + "pre_mlp_layernorm.norm."});
      const int64_t f = stack.d_inner;
      Rows(o + "ff.in", t + "mlp.linear_fc1", 0, f, c_.ffn_bias);
      if (c_.gated_ffn) Rows(o + "ff.up", t + "mlp.linear_fc1", f, f, c_.ffn_bias);
      Linear(o + "ff.out", t + "mlp.linear_fc2", c_.ffn_bias);
    }
  }
};

}  // namespace

Result<RetroConfig> ParseLucidRetro(const Json& j, const std::vector<ForeignTensor>& checkpoint) {
  ConfigReader r(j);
  Config c;
  c.dialect = r.Text({"retro_dialect"}, "lucid");
  c.vocab_size = r.Int({"num_tokens"}, 1, 4 << 20, 28996);
  c.max_positions = r.Int({"max_seq_len"}, 1, 16 << 20, 2048);
  c.d_head = r.Int({"dim_head"}, 1, 4096, 64);
  c.chunk = r.Int({"chunk_size"}, 1, 65536, 64);
  c.neighbors = r.Int({"num_neighbors"}, 1, 1024, 2);
  c.neighbor_length = r.Int({"neighbor_length"}, 1, 1 << 20, 2 * c.chunk);
  c.pad_token_id = r.Int({"pad_id"}, 0, c.vocab_size - 1, 0);
  c.eos_token_id = r.Int({"eos_token_id"}, -1, c.vocab_size - 1, -1);
  // Upstream takes no notice of `heads`: there are 8, or what the checkpoint's rows say.
  const int64_t rows = RowsOf(checkpoint, "decoder.layers.0.0.fn.to_q.weight", 8 * c.d_head);
  c.n_heads = rows / c.d_head;
  if (r.status().ok() && (rows % c.d_head != 0 || c.n_heads > 1024))
    return Malformed("does not divide the rows of the attention's projection").Where("config field 'dim_head'").Got(c.d_head, Str("a divisor of ", rows));

  c.encoder.d_model = r.Int({"enc_dim"}, 1, 65536, 896);
  c.encoder.n_layers = r.Int({"enc_depth"}, 1, 4096, 2);
  c.encoder.cross_layers = Layers(&r, j, "enc_cross_attn_layers", c.encoder.n_layers, All(c.encoder.n_layers));
  c.decoder.d_model = r.Int({"dec_dim"}, 1, 65536, 768);
  c.decoder.n_layers = r.Int({"dec_depth"}, 1, 4096, 12);
  c.decoder.cross_layers = Layers(&r, j, "dec_cross_attn_layers", c.decoder.n_layers, {0, 2, 5, 8});
  c.encoder.d_inner = RowsOf(checkpoint, "encoder.layers.0.2.fn.ff.0.weight", 4 * c.encoder.d_model);
  c.decoder.d_inner = RowsOf(checkpoint, "decoder.layers.0.2.fn.ff.0.weight", 4 * c.decoder.d_model);

  c.post_norm = r.Bool({"use_deepnet"}, false);
  const double enc = static_cast<double>(c.encoder.n_layers), dec = static_cast<double>(c.decoder.n_layers);
  c.encoder.residual_scale = c.post_norm ? r.Float({"enc_scale_residual"}, 0, 1e6, 0.81 * std::pow(enc * enc * enc * enc * dec, 0.0625)) : 1;
  c.decoder.residual_scale = c.post_norm ? r.Float({"dec_scale_residual"}, 0, 1e6, std::pow(3 * dec, 0.25)) : 1;
  c.encoder.final_norm = c.decoder.final_norm = !c.post_norm;
  if (!checkpoint.empty()) {
    const bool gamma = Find(checkpoint, "decoder.layers.0.0.norm.gamma"), weight = Find(checkpoint, "decoder.layers.0.0.norm.weight");
    c.norm = !gamma ? RetroNorm::kLayerNorm : weight ? RetroNorm::kRmsGated : RetroNorm::kRms;
    c.positions = Find(checkpoint, "pos_emb.weight");
    c.project_encoder = Find(checkpoint, "encoder.project_out.weight");
    c.null_key = std::any_of(checkpoint.begin(), checkpoint.end(), [](const ForeignTensor& t) { return t.name.ends_with(".null_k"); });
  } else if (r.Bool({"gated_rmsnorm"}, false)) {
    c.norm = RetroNorm::kRmsGated;
  } else if (c.post_norm || r.Text({"norm_klass"}, "RMSNorm") == "LayerNorm") {
    c.norm = RetroNorm::kLayerNorm;
  }
  c.project_input = c.encoder.d_model != c.decoder.d_model;
  c.rotary = c.encoder_rotary = std::min<int64_t>(c.d_head, 32);
  const std::string positions = r.Text({"cca_rope"}, c.dialect);
  if (positions != "lucid" && positions != "paper") r.Fail("cca_rope", "must be lucid or paper");
  c.cross_positions = positions == "lucid" ? RetroCrossPositions::kLucid : RetroCrossPositions::kPaper;
  TERN_RETURN_IF_ERROR(r.status());
  return c;
}

Result<RetroConfig> ParseMegatronRetro(const Json& j, const std::vector<ForeignTensor>& checkpoint) {
  ConfigReader r(j);
  Config c;
  c.dialect = "megatron";
  c.vocab_size = RowsOf(checkpoint, "embedding.word_embeddings.weight", 0);
  if (c.vocab_size == 0) c.vocab_size = r.Int({"vocab_size", "padded_vocab_size"}, 1, 4 << 20);
  c.max_positions = r.Int({"max_sequence_length", "max_position_embeddings", "seq_length"}, 1, 16 << 20);
  c.n_heads = r.Int({"num_attention_heads"}, 1, 1024);
  c.decoder.d_model = c.encoder.d_model = r.Int({"hidden_size"}, 1, 65536);
  c.d_head = r.Int({"kv_channels"}, 1, 4096, std::max<int64_t>(1, c.decoder.d_model / c.n_heads));
  c.decoder.d_inner = c.encoder.d_inner = r.Int({"ffn_hidden_size"}, 1, 1 << 20, 4 * c.decoder.d_model);
  c.decoder.n_layers = r.Int({"num_layers"}, 1, 4096);
  c.encoder.n_layers = r.Int({"retro_encoder_num_layers"}, 1, 4096, 2);
  c.encoder.cross_layers = {0};
  for (int64_t l = c.decoder.n_layers <= 15 ? 6 : 9; l <= c.decoder.n_layers; l += 3) c.decoder.cross_layers.push_back(l - 1);
  c.chunk = r.Int({"retro_chunk_length"}, 1, 65536, 64);
  c.neighbors = r.Int({"retro_num_neighbors"}, 1, 1024, 2);
  c.neighbor_length = r.Int({"retro_retrieved_length"}, 1, 1 << 20, c.chunk * r.Int({"retro_num_retrieved_chunks"}, 1, 64, 2));
  c.pad_token_id = c.eos_token_id = r.Int({"eos_token_id", "eod_token_id"}, -1, c.vocab_size - 1, -1);
  c.pad_token_id = std::max<int64_t>(0, c.pad_token_id);
  c.layer_norm_epsilon = r.Float({"layernorm_epsilon"}, 0, 1, 1e-5);
  c.norm = r.Bool({"layernorm_zero_centered_gamma", "apply_layernorm_1p"}, false) ? RetroNorm::kLayerNorm1p : RetroNorm::kLayerNorm;
  if (const std::string norm = r.Text({"normalization"}, "LayerNorm"); norm != "LayerNorm")
    return Malformed("this kind of norm is not supported").Where("config field 'normalization'").Got(Printable(norm, 32), "LayerNorm");
  if (const int64_t groups = r.Int({"num_query_groups"}, 1, 1024, c.n_heads); groups != c.n_heads)
    return Malformed("heads that share keys are not supported").Where("config field 'num_query_groups'").Got(groups, c.n_heads);
  c.o_bias = c.ffn_bias = r.Bool({"add_bias_linear"}, true);
  c.qkv_bias = c.o_bias;
  if (r.Bool({"add_qkv_bias"}, false) != c.qkv_bias && !c.qkv_bias)
    return Malformed("biases of query, key and value alone are not supported").Where("config field 'add_qkv_bias'");
  c.gated_ffn = r.Bool({"gated_linear_unit", "swiglu"}, false);
  const std::string activation = r.Text({"activation_func"}, c.gated_ffn ? "silu" : "gelu");
  if (activation != "gelu" && activation != "silu" && activation != "relu") r.Fail("activation_func", "must be gelu, silu or relu");
  c.activation = activation == "gelu" ? Activation::kGelu : activation == "silu" ? Activation::kSilu : Activation::kRelu;
  const std::string positions = r.Text({"position_embedding_type"}, "learned_absolute");
  if (positions != "rope" && positions != "learned_absolute" && positions != "none") r.Fail("position_embedding_type", "must be rope, learned_absolute or none");
  c.positions = c.neighbor_positions = positions == "learned_absolute";
  if (positions == "rope") c.rotary = static_cast<int64_t>(static_cast<double>(c.d_head) * r.Float({"rotary_percent"}, 0, 1, 1)) / 2 * 2;
  if (r.Float({"rotary_base"}, 1, 1e9, 10000) != 10000) return Malformed("only the base 10000 is supported").Where("config field 'rotary_base'");
  c.cross_positions = RetroCrossPositions::kNone;
  const std::string residual = r.Text({"retro_encoder_residual"}, "normed");
  if (residual != "normed" && residual != "raw") r.Fail("retro_encoder_residual", "must be normed or raw");
  c.normed_residual = residual == "normed";
  c.null_key = c.masked_pads = false;
  c.normed_context = c.partial_first = true;
  c.project_encoder = c.encoder.final_norm = false;
  c.decoder.final_norm = checkpoint.empty() || Find(checkpoint, "decoder.final_layernorm.weight");
  c.tied = r.Bool({"share_embeddings_and_output_weights"}, false);
  TERN_RETURN_IF_ERROR(r.status());
  // Queries, keys and values are taken apart head by head: so many pieces are listed before a name is compared.
  if (const int64_t pieces = (c.decoder.n_layers + c.encoder.n_layers) * c.n_heads; pieces > (1 << 18))
    return Malformed("has too many layers and heads").Where("config field 'num_layers'").Got(Str(pieces, " in all"), Str("at most ", 1 << 18));
  return c;
}

Result<Import> ImportRetro(const RetroConfig& c, const std::vector<ForeignTensor>&) {
  return c.dialect == "megatron" ? Megatron(c).Make() : Lucid(c).Make();
}

}  // namespace tern
