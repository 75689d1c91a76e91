#include "models/gpt2.h"

#include <cmath>

#include "models/config.h"

namespace tern {
namespace {

using Config = Gpt2Config;
using Scope = Builder::Scope;
constexpr std::string_view kName = "gpt2";

constexpr std::pair<Activation, std::string_view> kActivations[] = {
    {Activation::kGeluNew, "gelu_new"}, {Activation::kGelu, "gelu"}, {Activation::kRelu, "relu"}, {Activation::kSilu, "silu"}, {Activation::kTanh, "tanh"}};

class Gpt2 : public Network {
 public:
  explicit Gpt2(Config config) : c_(std::move(config)) {}

  std::string_view architecture() const override { return kName; }
  Json config() const override {
    Json out = {{"architecture", kName}};
    WriteGpt2Config(c_, &out);
    return out;
  }
  std::vector<std::string> entries() const override { return {"step"}; }
  void Build(const EntryOptions& options, Builder& b) const override;
  Result<Import> ImportFrom(const std::vector<ForeignTensor>& checkpoint) const override { return ImportGpt2(c_, checkpoint); }
  Result<std::shared_ptr<const Network>> WithSetting(std::string_view key, std::string_view value) const override {
    if (key != "n_positions") return UsageError(Str("--set ", Printable(key, 64), ": no such run-time setting")).Hint("This model has n_positions");
    Config c = c_;
    TERN_ASSIGN(c.n_context, SettingInt(key, value, 1, c_.n_positions));
    return std::shared_ptr<const Network>(std::make_shared<Gpt2>(std::move(c)));
  }
  int64_t vocab_size() const override { return c_.vocab_size; }
  int64_t eos_token_id() const override { return c_.eos_token_id; }
  int64_t preferred_chunk() const override { return std::min<int64_t>(128, c_.n_context); }
  SegmentRule segments() const override { return {c_.n_context, false}; }

 private:
  Config c_;
};

void Gpt2::Build(const EntryOptions& options, Builder& b) const {
  Dim rows = b.AddLength("T", options.tokens) * options.batch;
  Value ids = b.Input("input_ids", DType::i32, rows, 1);
  Value x = b.Embed(ids, {{b.Table("embed.words", c_.vocab_size, c_.d_model), {}, {}}}, c_.d_model, 1);
  x = b.AddPositions(x, b.Table("embed.positions", c_.n_positions, c_.d_model));
  for (int64_t l = 0; l < c_.n_layers; ++l) {
    if (options.trace) b.Output(Str("hidden_states.", l), x);
    Scope layer(b, "layers", l);
    Value qkv = Gpt2Linear(b, "qkv", Gpt2Norm(b, "attention_norm", x, c_.layer_norm_epsilon), 3 * c_.d_model);
    x = b.Add(x, Gpt2Linear(b, "o", Gpt2Attention(b, c_, options, l, qkv), c_.d_model));
    x = Gpt2FeedForward(b, c_, x);
  }
  Gpt2Outputs(b, c_, options, rows, x, false);
}

bool Recognizes(const Json& j) {
  if (!j.is_object()) return false;
  auto is = [&](const char* key, std::string_view value) { return j.contains(key) && j[key].is_string() && j[key].get<std::string>() == value; };
  if (j.contains("long_term_attention") && j["long_term_attention"] == true) return false;  // an infinity-former on this host
  return is("model_type", "gpt2") || is("model_type", "gpt2-medium") || is("architecture", kName);
}

Result<std::shared_ptr<const Network>> Parse(const Json& json, const std::vector<ForeignTensor>&) {
  TERN_ASSIGN(Config c, ReadGpt2Config(json));
  return std::shared_ptr<const Network>(std::make_shared<Gpt2>(std::move(c)));
}

}  // namespace

Result<Gpt2Config> ReadGpt2Config(const Json& json) {
  ConfigReader r(json);
  Config c;
  c.vocab_size = r.Int({"vocab_size"}, 1, 4 << 20);
  c.d_model = r.Int({"d_model", "n_embd", "hidden_size"}, 1, 65536);
  c.n_layers = r.Int({"n_layers", "n_layer", "num_hidden_layers"}, 1, 4096);
  c.n_heads = r.Int({"n_heads", "n_head", "num_attention_heads"}, 1, 1024);
  c.d_inner = r.Int({"d_inner", "n_inner"}, 1, 1 << 20, 4 * c.d_model);
  c.n_positions = r.Int({"n_positions", "max_position_embeddings", "n_ctx"}, 1, 16 << 20, 1024);
  c.eos_token_id = r.Int({"eos_token_id"}, -1, 4 << 20, -1);
  c.layer_norm_epsilon = r.Float({"layer_norm_epsilon"}, 0, 1, 1e-5);
  c.scale_by_layer = r.Bool({"scale_attn_by_inverse_layer_idx"}, false);
  const std::string activation = r.Text({"hidden_act", "activation_function"}, "gelu_new");
  const bool scaled = r.Bool({"scale_attn_weights"}, true), cross = r.Bool({"add_cross_attention"}, false), tied = r.Bool({"tie_word_embeddings"}, true);
  TERN_RETURN_IF_ERROR(r.status());
  auto bad = [](const char* field, std::string what) { return Malformed(std::move(what)).Where(Str("config field '", field, "'")); };
  if (!scaled) return bad("scale_attn_weights", "attention without its scale is not supported");
  if (cross) return bad("add_cross_attention", "a decoder that attends to an encoder is not supported");
  if (!tied) return bad("tie_word_embeddings", "an output table of its own is not supported");
  if (c.d_model % c.n_heads != 0) return bad("n_head", "must divide the model's width").Got(c.n_heads, Str("a divisor of ", c.d_model));
  if (c.eos_token_id >= c.vocab_size) c.eos_token_id = -1;  // small models keep the id of the large vocabulary
  bool known = false;
  for (const auto& [value, name] : kActivations)
    if (name == activation) c.activation = value, known = true;
  if (!known) return bad("activation_function", "is not known").Got(Str("'", Printable(activation, 64), "'"), "gelu_new, gelu, relu, silu or tanh");
  c.n_context = c.n_positions;
  return c;
}

void WriteGpt2Config(const Gpt2Config& c, Json* out) {
  std::string_view activation;
  for (const auto& [value, name] : kActivations)
    if (value == c.activation) activation = name;
  out->update({{"vocab_size", c.vocab_size},
               {"d_model", c.d_model},
               {"n_layers", c.n_layers},
               {"n_heads", c.n_heads},
               {"d_inner", c.d_inner},
               {"n_positions", c.n_positions},
               {"eos_token_id", c.eos_token_id},
               {"hidden_act", activation},
               {"layer_norm_epsilon", c.layer_norm_epsilon},
               {"scale_attn_by_inverse_layer_idx", c.scale_by_layer}});
}

Value Gpt2Linear(Builder& b, std::string_view name, Value x, int64_t out, Activation activation) {
  Scope scope(b, name);
  return b.MatMul(x, b.Matrix("weight", out, b.extent(x).cols), b.Vector("bias", out), activation);
}

Value Gpt2Norm(Builder& b, std::string_view name, Value x, double epsilon) {
  Scope scope(b, name);
  const int64_t d = b.extent(x).cols;
  return b.LayerNorm(x, {}, b.Vector("gamma", d), b.Vector("beta", d), static_cast<float>(epsilon));
}

Value Gpt2FeedForward(Builder& b, const Gpt2Config& c, Value x) {
  Value inner = Gpt2Linear(b, "ff_in", Gpt2Norm(b, "ff_norm", x, c.layer_norm_epsilon), c.d_inner, c.activation);
  return b.Add(x, Gpt2Linear(b, "ff_out", inner, c.d_model));
}

Value Gpt2Attention(Builder& b, const Gpt2Config& c, const EntryOptions& options, int64_t layer, Value qkv) {
  const int64_t d = c.d_model;
  StateSpec kv{"kv", StateRule::kAppend};
  kv.lanes = options.batch, kv.heads = c.n_heads, kv.head_width = c.head_width();
  kv.slots = c.n_context;
  kv.keep = c.n_context;
  const int32_t state = b.State("kv", kv);
  b.AppendKv(state, b.Columns(qkv, d, d), b.Columns(qkv, 2 * d, d));
  AttendCausalOp attend{options.batch, c.n_heads, c.head_width(), 1.0f / std::sqrt(static_cast<float>(c.head_width()))};
  if (c.scale_by_layer) attend.scale /= static_cast<float>(layer + 1);
  return b.AttendCausal(state, b.Columns(qkv, 0, d), attend);
}

void Gpt2Outputs(Builder& b, const Gpt2Config& c, const EntryOptions& options, Dim rows, Value x, bool last_hidden_state) {
  using Logits = EntryOptions::Logits;
  x = Gpt2Norm(b, "norm", x, c.layer_norm_epsilon);
  if (options.trace) b.Output(Str("hidden_states.", c.n_layers), x);
  if (options.logits == Logits::kNone) return b.Output("hidden", x);
  Value table = b.Table("embed.words", c.vocab_size, c.d_model);
  if (options.logits == Logits::kTarget) {
    Value targets = b.Input("targets", DType::i32, rows, 1);
    b.Output("log_probs", b.TargetLogProb(x, {{table, {}, {}}}, {}, {}, false, targets));
  } else {
    if (last_hidden_state && options.logits == Logits::kAll) b.Output("last_hidden_state", x);
    if (options.logits == Logits::kLast) x = b.LastRows(x, options.batch);
    b.Output("logits", b.MatMul(x, table));
  }
}

Import ImportGpt2(const Gpt2Config& c, const std::vector<ForeignTensor>& checkpoint) {
  std::string prefix;
  for (const ForeignTensor& t : checkpoint)
    if (t.name.starts_with("transformer.")) prefix = "transformer.";
  Import import;
  auto add = [&](std::string ours, std::vector<std::string> theirs, bool transposed = false) {
    ImportRule::Part part{std::move(theirs)};
    part.transposed = transposed;
    import.rules.push_back({std::move(ours), {std::move(part)}, {}});
  };
  auto norm = [&](const std::string& ours, const std::string& theirs) {
    add(ours + ".gamma", {theirs + ".weight"});
    add(ours + ".beta", {theirs + ".bias"});
  };
  add("embed.words", {prefix + "wte.weight", "lm_head.weight"});
  add("embed.positions", {prefix + "wpe.weight"});
  norm("norm", prefix + "ln_f");
  // Conv1D keeps [in, out].
  static constexpr std::pair<const char*, const char*> kLinears[] = {{"qkv", "attn.c_attn"}, {"o", "attn.c_proj"}, {"ff_in", "mlp.c_fc"}, {"ff_out", "mlp.c_proj"}};
  for (int64_t l = 0; l < c.n_layers; ++l) {
    const std::string ours = Str("layers.", l, "."), theirs = Str(prefix, "h.", l, ".");
    norm(ours + "attention_norm", theirs + "ln_1");
    norm(ours + "ff_norm", theirs + "ln_2");
    for (auto [a, b] : kLinears) {
      add(ours + a + ".weight", {theirs + b + ".weight"}, true);
      add(ours + a + ".bias", {theirs + b + ".bias"});
    }
  }
  import.ignore = {"*attn.bias", "*attn.masked_bias"};  // buffers: the causal mask
  return import;
}

const Architecture kGpt2{kName, "GPT-2: learned positions, tied output table (GPT2LMHeadModel)", Recognizes, Parse};

}  // namespace tern
