#include "models/t5.h"

#include <cmath>

#include "models/config.h"
#include "models/t5_import.h"

namespace tern {
namespace {

using Config = T5Config;
using Scope = Builder::Scope;

constexpr std::pair<Activation, std::string_view> kActivations[] = {
    {Activation::kRelu, "relu"}, {Activation::kGeluNew, "gelu_new"}, {Activation::kGelu, "gelu"}, {Activation::kSilu, "silu"}, {Activation::kTanh, "tanh"}};
constexpr std::pair<CapacityPolicy, std::string_view> kPolicies[] = {
    {CapacityPolicy::kZero, "hf_zero"}, {CapacityPolicy::kClone, "hf_clone"}, {CapacityPolicy::kNone, "none"}};

class T5 : public EncoderDecoderNetwork {
 public:
  explicit T5(Config config) : c_(std::move(config)) {}

  std::string_view architecture() const override { return c_.family == T5Family::kT5 ? "t5" : "switch"; }
  const T5Config& t5() const override { return c_; }
  Json config() const override;
  std::vector<std::string> entries() const override { return c_.decoder ? std::vector<std::string>{"encode", "decode"} : std::vector<std::string>{"encode"}; }
  void Build(const EntryOptions& options, Builder& b) const override { options.entry == "decode" ? Decode(options, b) : Encode(options, b); }
  Result<Import> ImportFrom(const std::vector<ForeignTensor>& checkpoint) const override { return ImportT5(c_, checkpoint); }
  Result<std::shared_ptr<const Network>> WithSetting(std::string_view key, std::string_view value) const override;
  int64_t vocab_size() const override { return c_.vocab_size; }
  int64_t eos_token_id() const override { return c_.eos_token_id; }

 private:
  // What both entries name in one order, so that they find it in one place.
  struct States {
    std::vector<int32_t> cross, self;
  };
  States DeclareStates(const EntryOptions& options, Builder& b) const;
  void Encode(const EntryOptions& options, Builder& b) const;
  void Decode(const EntryOptions& options, Builder& b) const;
  Value Norm(Builder& b, std::string_view name, Value x) const { return b.RmsNorm(x, b.Vector(name, c_.d_model), static_cast<float>(c_.layer_norm_epsilon)); }
  Value Linear(Builder& b, std::string_view name, Value x, int64_t out) const { return b.MatMul(x, b.Matrix(name, out, b.extent(x).cols)); }
  // x [r, D] -> its contribution to the residual. `starts`: sequences of the packed rows, or none for lanes of equal length.
  Value FeedForward(Builder& b, Value x, bool sparse, Value starts, int64_t lanes) const;
  RelativeBias Bias(bool bidirectional) const {
    const int64_t most = c_.relative_attention_max_distance;  // farther ones share its bucket
    return {true, -most, bidirectional ? most : 0};
  }
  Value BiasLines(Builder& b, bool bidirectional) const {
    Value table = b.Vector("relative_bias", c_.relative_attention_num_buckets, c_.n_heads);
    return b.RelativeBiasLines(table, {c_.relative_attention_num_buckets, c_.relative_attention_max_distance, bidirectional});
  }
  Value Words(Builder& b, Value ids) const { return b.Embed(ids, {{b.SharedTable("embed.words", c_.vocab_size, c_.d_model), {}, {}}}, c_.d_model, 1); }

  Config c_;
};

T5::States T5::DeclareStates(const EntryOptions& options, Builder& b) const {
  States out;
  for (int64_t l = 0; c_.decoder && l < c_.n_decoder_layers; ++l) {
    Scope stack(b, "decoder"), layer(b, "layers", l);
    StateSpec cross{"", StateRule::kReplace};
    cross.lanes = options.sources, cross.heads = c_.n_heads, cross.head_width = c_.d_kv, cross.slots = options.source_tokens;
    out.cross.push_back(b.State("cross", cross));
    StateSpec self{"", StateRule::kAppend};
    self.lanes = options.batch, self.heads = c_.n_heads, self.head_width = c_.d_kv, self.slots = options.positions, self.paged = true;
    out.self.push_back(b.State("self", self));
  }
  return out;
}

Value T5::FeedForward(Builder& b, Value x, bool sparse, Value starts, int64_t lanes) const {
  if (!sparse) {
    Scope scope(b, "ff");
    Value in = Norm(b, "norm", x), inner;
    if (c_.gated) inner = b.Mul(b.MatMul(in, b.Matrix("gate", c_.d_ff, c_.d_model), {}, c_.activation), Linear(b, "in", in, c_.d_ff));
    else inner = b.MatMul(in, b.Matrix("in", c_.d_ff, c_.d_model), {}, c_.activation);
    return Linear(b, "out", inner, c_.d_model);
  }
  Value in;
  {
    Scope scope(b, "ff");
    in = Norm(b, "norm", x);
  }
  Scope scope(b, "experts");
  Value logits = b.MatMul(in, b.Router("router", c_.n_experts, c_.d_model), c_.router_bias ? b.Vector("router_bias", c_.n_experts) : Value{});
  ExpertsOp op;
  op.experts = c_.n_experts, op.inner = c_.d_ff, op.capacity = c_.expert_capacity, op.policy = c_.capacity_policy, op.activation = c_.activation, op.batch = lanes;
  return b.Experts(in, logits, b.ExpertMatrices("wi", c_.n_experts, c_.d_ff, c_.d_model), b.ExpertMatrices("wo", c_.n_experts, c_.d_model, c_.d_ff), starts, op);
}

void T5::Encode(const EntryOptions& options, Builder& b) const {
  Dim rows = b.AddLength("R", options.tokens), sources = b.AddLength("S", options.sources), starts_rows = b.AddLength("S1", options.sources + 1);
  (void)sources;
  const States states = DeclareStates(options, b);
  const int64_t a = c_.inner();
  Value x = Words(b, b.Input("input_ids", DType::i32, rows, 1));
  Value starts = b.Input("starts", DType::i32, starts_rows, 1), key_bias = b.Input("key_bias", DType::f32, rows, 1);
  {
    Scope stack(b, "encoder");
    Value bias = BiasLines(b, true);
    for (int64_t l = 0; l < c_.n_layers; ++l) {
      if (options.trace) b.Output(Str("encoder_hidden_states.", l), x);
      Scope layer(b, "layers", l);
      {
        Scope self(b, "self");
        Value qkv = Linear(b, "qkv", Norm(b, "norm", x), 3 * a);
        AttendPackedOp attend{c_.n_heads, c_.d_kv, options.source_tokens, 1.0f, Bias(true)};
        Value context = b.AttendPacked(b.Columns(qkv, 0, a), b.Columns(qkv, a, a), b.Columns(qkv, 2 * a, a), starts, key_bias, attend, bias);
        x = b.Add(x, Linear(b, "o", context, c_.d_model));
      }
      x = b.Add(x, FeedForward(b, x, c_.sparse(false, l), starts, 1));
    }
    x = Norm(b, "norm", x);
  }
  if (options.trace) b.Output(Str("encoder_hidden_states.", c_.n_layers), x);
  b.Output(c_.decoder ? "encoder_last_hidden_state" : "last_hidden_state", x);
  if (!c_.decoder) return;

  Dim kept = b.AddLength("N", options.tokens);
  Value memory = b.TakeRows(x, b.Input("kept_rows", DType::i32, kept, 1)), kept_starts = b.Input("kept_starts", DType::i32, starts_rows, 1);
  for (int64_t l = 0; l < c_.n_decoder_layers; ++l) {
    Scope stack(b, "decoder"), layer(b, "layers", l), cross(b, "cross");
    Value kv = Linear(b, "kv", memory, 2 * a);
    b.StoreKv(states.cross[static_cast<size_t>(l)], b.Columns(kv, 0, a), b.Columns(kv, a, a), kept_starts);
  }
}

void T5::Decode(const EntryOptions& options, Builder& b) const {
  Dim rows = b.AddLength("T", options.tokens) * options.batch, sources = b.AddLength("S", options.sources), starts_rows = b.AddLength("S1", options.sources + 1);
  const States states = DeclareStates(options, b);
  const int64_t a = c_.inner();
  Value x = Words(b, b.Input("decoder_input_ids", DType::i32, rows, 1));
  Value lane_starts = b.Input("lane_starts", DType::i32, starts_rows, 1), lengths = b.Input("source_lengths", DType::i32, sources, 1);
  {
    Scope stack(b, "decoder");
    Value bias = BiasLines(b, false);
    for (int64_t l = 0; l < c_.n_decoder_layers; ++l) {
      if (options.trace) b.Output(Str("decoder_hidden_states.", l), x);
      Scope layer(b, "layers", l);
      {
        Scope self(b, "self");
        Value qkv = Linear(b, "qkv", Norm(b, "norm", x), 3 * a);
        const int32_t state = states.self[static_cast<size_t>(l)];
        b.AppendKv(state, b.Columns(qkv, a, a), b.Columns(qkv, 2 * a, a));
        Value context = b.AttendCausal(state, b.Columns(qkv, 0, a), {options.batch, c_.n_heads, c_.d_kv, 1.0f, Bias(false)}, bias);
        x = b.Add(x, Linear(b, "o", context, c_.d_model));
      }
      {
        Scope cross(b, "cross");
        Value q = Linear(b, "q", Norm(b, "norm", x), a);
        Value context = b.AttendCross(states.cross[static_cast<size_t>(l)], q, lane_starts, lengths, {options.batch, c_.n_heads, c_.d_kv, 1.0f});
        x = b.Add(x, Linear(b, "o", context, c_.d_model));
      }
      x = b.Add(x, FeedForward(b, x, c_.sparse(true, l), {}, options.batch));
    }
    x = Norm(b, "norm", x);
  }
  if (options.trace) b.Output(Str("decoder_hidden_states.", c_.n_decoder_layers), x);
  if (!c_.head) return b.Output("last_hidden_state", x);
  if (options.logits == EntryOptions::Logits::kLast) x = b.LastRows(x, options.batch);
  if (c_.tied) x = b.Scale(x, static_cast<float>(std::pow(static_cast<double>(c_.d_model), -0.5)));
  Value table;
  if (c_.tied) {
    table = b.SharedTable("embed.words", c_.vocab_size, c_.d_model);
  } else {
    Scope head(b, "head");
    table = b.Matrix("weight", c_.vocab_size, c_.d_model);
  }
  b.Output("logits", b.MatMul(x, table));
}

Json T5::config() const {
  Json j = {{"architecture", architecture()},
            {"vocab_size", c_.vocab_size},
            {"d_model", c_.d_model},
            {"d_kv", c_.d_kv},
            {"d_ff", c_.d_ff},
            {"n_heads", c_.n_heads},
            {"n_layers", c_.n_layers},
            {"n_decoder_layers", c_.n_decoder_layers},
            {"decoder", c_.decoder},
            {"head", c_.head},
            {"relative_attention_num_buckets", c_.relative_attention_num_buckets},
            {"relative_attention_max_distance", c_.relative_attention_max_distance},
            {"layer_norm_epsilon", c_.layer_norm_epsilon},
            {"hidden_act", NameOf(kActivations, c_.activation)},
            {"gated", c_.gated},
            {"tied", c_.tied},
            {"pad_token_id", c_.pad_token_id},
            {"eos_token_id", c_.eos_token_id},
            {"decoder_start_token_id", c_.decoder_start_token_id}};
  if (c_.family == T5Family::kSwitch)
    j.update({{"sparse_encoder_layers", c_.sparse_encoder_layers},
              {"sparse_decoder_layers", c_.sparse_decoder_layers},
              {"n_experts", c_.n_experts},
              {"expert_capacity", c_.expert_capacity},
              {"router_bias", c_.router_bias},
              {"capacity_policy", NameOf(kPolicies, c_.capacity_policy)}});
  return j;
}

Result<std::shared_ptr<const Network>> T5::WithSetting(std::string_view key, std::string_view value) const {
  Config c = c_;
  if (c.family == T5Family::kSwitch && key == "capacity_policy") {
    const auto policy = ValueOf(kPolicies, value, key);
    if (!policy.ok()) return UsageError("--set capacity_policy is not known").Got(Str("'", Printable(value, 64), "'"), Str("one of ", Names(kPolicies)));
    c.capacity_policy = *policy;
  } else if (c.family == T5Family::kSwitch && key == "expert_capacity") {
    TERN_ASSIGN(c.expert_capacity, SettingInt(key, value, 1, 1 << 24));
  } else {
    return UsageError(Str("--set ", Printable(key, 64), ": no such run-time setting"))
        .Hint(c.family == T5Family::kSwitch ? "This model has capacity_policy, expert_capacity" : "A T5 has none");
  }
  return std::shared_ptr<const Network>(std::make_shared<T5>(std::move(c)));
}

bool IsKind(const Json& j, std::initializer_list<std::string_view> names) {
  if (!j.is_object()) return false;
  for (const char* key : {"model_type", "architecture"})
    if (j.contains(key) && j[key].is_string()) {
      for (std::string_view name : names)
        if (j[key].get<std::string>() == name) return true;
      return false;
    }
  return false;
}

// "relu", "gated-gelu": the public config makes it of these two words unless the newer fields say otherwise.
Status ReadActivation(ConfigReader& r, T5Family family, Config* c) {
  std::string act = "relu";
  if (family == T5Family::kT5) {
    const std::string projection = r.Text({"feed_forward_proj"}, "relu");
    c->gated = projection.starts_with("gated-");
    act = c->gated ? projection.substr(6) : projection;
    if (projection == "gated-gelu") act = "gelu_new";
    c->gated = r.Bool({"is_gated_act"}, c->gated);
  }
  act = r.Text({"dense_act_fn"}, act);
  if (act == "swish") act = "silu";
  TERN_ASSIGN(c->activation, ValueOf(kActivations, act, "dense_act_fn"));
  return {};
}

// Layers i with i mod step == 1, or all of them for step 1; step = layers / sparse layers.
std::vector<int64_t> SparseByFormula(int64_t layers, int64_t sparse) {
  std::vector<int64_t> out;
  const int64_t step = sparse > 0 ? layers / sparse : 0;
  for (int64_t l = 0; l < layers; ++l)
    if (step == 1 || (step > 1 && l % step == 1)) out.push_back(l);
  return out;
}

Status ReadSparse(ConfigReader& r, bool ours, const std::vector<ForeignTensor>& checkpoint, Config* c) {
  c->n_experts = r.Int({"n_experts", "num_experts"}, 1, 16384, 8);
  c->expert_capacity = r.Int({"expert_capacity"}, 1, 1 << 24, 64);
  c->router_bias = r.Bool({"router_bias"}, false);
  TERN_ASSIGN(c->capacity_policy, ValueOf(kPolicies, r.Text({"capacity_policy"}, "hf_zero"), "capacity_policy"));
  if (const std::string dtype = r.Text({"router_dtype"}, "float32"); dtype != "float32")
    if (dtype != "float16" && dtype != "bfloat16") r.Fail("router_dtype", Str("is '", Printable(dtype, 64), "', expected float32, float16 or bfloat16"));
  if (ours) {
    c->sparse_encoder_layers = r.Ints({"sparse_encoder_layers"}, 0, c->n_layers - 1, 4096);
    c->sparse_decoder_layers = r.Ints({"sparse_decoder_layers"}, 0, c->n_decoder_layers - 1, 4096);
  } else if (!checkpoint.empty()) {
    c->sparse_encoder_layers = SparseLayersOf(checkpoint, false);
    c->sparse_decoder_layers = SparseLayersOf(checkpoint, true);
  } else {
    c->sparse_encoder_layers = SparseByFormula(c->n_layers, r.Int({"num_sparse_encoder_layers"}, 0, 4096, 3));
    c->sparse_decoder_layers = SparseByFormula(c->n_decoder_layers, r.Int({"num_sparse_decoder_layers"}, 0, 4096, 3));
  }
  return {};
}

// The class says which parts the checkpoint has.
void ReadClass(ConfigReader& r, const Json& j, bool ours, Config* c) {
  if (ours) {
    c->decoder = r.Bool({"decoder"}), c->head = r.Bool({"head"});
    return;
  }
  std::string name;
  if (j.contains("architectures") && j["architectures"].is_array() && !j["architectures"].empty() && j["architectures"][0].is_string()) name = j["architectures"][0].get<std::string>();
  if (name.ends_with("EncoderModel")) c->decoder = c->head = false;
  else if (name.ends_with("Model") && !name.ends_with("WithLMHeadModel")) c->head = false;
  else if (!name.empty() && !name.ends_with("ForConditionalGeneration") && !name.ends_with("WithLMHeadModel"))
    r.Fail("architectures", Str("names ", Printable(name, 64), ", which is not supported (ForConditionalGeneration, Model, EncoderModel)"));
}

template <T5Family kFamily>
Result<std::shared_ptr<const Network>> Parse(const Json& j, const std::vector<ForeignTensor>& checkpoint) {
  ConfigReader r(j);
  Config c;
  c.family = kFamily;
  const bool ours = r.Has("architecture");
  c.vocab_size = r.Int({"vocab_size"}, 1, 4 << 20);
  c.d_model = r.Int({"d_model", "hidden_size"}, 1, 65536);
  c.d_kv = r.Int({"d_kv"}, 1, 4096, ours ? std::nullopt : std::optional<int64_t>(64));
  c.d_ff = r.Int({"d_ff"}, 1, 1 << 20);
  c.n_heads = r.Int({"n_heads", "num_heads", "num_attention_heads"}, 1, 1024);
  c.n_layers = r.Int({"n_layers", "num_layers", "num_hidden_layers"}, 1, 4096);
  c.n_decoder_layers = r.Int({"n_decoder_layers", "num_decoder_layers"}, 1, 4096, c.n_layers);
  ReadClass(r, j, ours, &c);
  c.relative_attention_num_buckets = r.Int({"relative_attention_num_buckets"}, 4, 65536, 32);
  c.relative_attention_max_distance = r.Int({"relative_attention_max_distance"}, 1, 1 << 20, 128);
  c.layer_norm_epsilon = r.Float({"layer_norm_epsilon"}, 0, 1, 1e-6);
  if (ours) {
    TERN_ASSIGN(c.activation, ValueOf(kActivations, r.Text({"hidden_act"}), "hidden_act"));
    c.gated = r.Bool({"gated"});
  } else {
    TERN_RETURN_IF_ERROR(ReadActivation(r, kFamily, &c));
  }
  c.tied = r.Bool({"tied", "tie_word_embeddings"}, true);
  c.pad_token_id = r.Int({"pad_token_id"}, 0, c.vocab_size - 1, 0);
  c.eos_token_id = r.Int({"eos_token_id"}, -1, c.vocab_size - 1, std::min<int64_t>(1, c.vocab_size - 1));
  c.decoder_start_token_id = r.Int({"decoder_start_token_id"}, 0, c.vocab_size - 1, c.pad_token_id);
  if (kFamily == T5Family::kSwitch) TERN_RETURN_IF_ERROR(ReadSparse(r, ours, checkpoint, &c));
  // Half of a direction's buckets stand for one distance each; the logarithm of the others needs a farthest distance beyond them.
  if (c.relative_attention_max_distance <= c.relative_attention_num_buckets / 2)
    r.Fail("relative_attention_max_distance", Str("is ", c.relative_attention_max_distance, ", expected more than ", c.relative_attention_num_buckets / 2));
  if (c.n_heads * c.d_kv > 65536) r.Fail("d_kv", "num_heads x d_kv must be at most 65536");
  for (auto [layers, most] : {std::pair{&c.sparse_encoder_layers, c.n_layers}, std::pair{&c.sparse_decoder_layers, c.n_decoder_layers}})
    for (int64_t l : *layers)
      if (l >= most) r.Fail("num_layers", Str("is ", most, ", but the checkpoint has a router in layer ", l));
  constexpr int64_t kMostExperts = 32768;  // two matrices each: what one file can hold
  if (c.sparse_layers() * c.n_experts > kMostExperts) r.Fail("num_experts", Str("is ", c.n_experts, " in ", c.sparse_layers(), " layers, expected at most ", kMostExperts, " together"));
  TERN_RETURN_IF_ERROR(r.status());
  return std::shared_ptr<const Network>(std::make_shared<T5>(std::move(c)));
}

}  // namespace

const Architecture kT5{"t5", "T5 1.0 and 1.1, mT5: encoder-decoder, text to text; encoder-only too", [](const Json& j) { return IsKind(j, {"t5", "mt5"}); }, Parse<T5Family::kT5>};
const Architecture kSwitch{"switch", "Switch Transformer: T5 with sparse mixtures of experts, paged in on demand", [](const Json& j) { return IsKind(j, {"switch_transformers", "switch"}); },
                           Parse<T5Family::kSwitch>};

}  // namespace tern
