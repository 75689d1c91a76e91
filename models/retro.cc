#include "models/retro.h"

#include <algorithm>
#include <cmath>

#include "engine/base/checked.h"
#include "models/config.h"
#include "models/retro_import.h"

namespace tern {
namespace {

using Config = RetroConfig;
using Scope = Builder::Scope;
constexpr std::string_view kName = "retro";

constexpr std::pair<RetroNorm, std::string_view> kNorms[] = {{RetroNorm::kRms, "rms"},
                                                            {RetroNorm::kRmsGated, "rms_gated"},
                                                            {RetroNorm::kLayerNorm, "layer_norm"},
                                                            {RetroNorm::kLayerNorm1p, "layer_norm_1p"}};
constexpr std::pair<RetroCrossPositions, std::string_view> kCrossPositions[] = {
    {RetroCrossPositions::kNone, "none"}, {RetroCrossPositions::kPaper, "paper"}, {RetroCrossPositions::kLucid, "lucid"}};
constexpr std::pair<Activation, std::string_view> kActivations[] = {{Activation::kGelu, "gelu"}, {Activation::kSilu, "silu"}, {Activation::kRelu, "relu"}};

template <class E, size_t N>
void ReadName(ConfigReader* r, const char* field, const std::pair<E, std::string_view> (&list)[N], E* value) {
  const std::string said = r->Text({field}, std::string(NameOf(list, *value)));
  for (const auto& [v, name] : list)
    if (name == said) {
      *value = v;
      return;
    }
  r->Fail(field, Str("'", Printable(said, 32), "' is not known"));
}

bool Holds(const std::vector<int64_t>& list, int64_t v) { return std::find(list.begin(), list.end(), v) != list.end(); }

// One graph being built.
class Graphs {
 public:
  Graphs(const Config& c, const EntryOptions& options, Builder& b) : c_(c), o_(options), b_(b), retrieve_(options.entry == "retrieve") {}

  void Build();

 private:
  Value Norm(std::string_view name, Value x);
  Value Linear(std::string_view name, Value x, int64_t out, bool bias, Activation activation = Activation::kNone);
  Value Rotated(Value x, Value table) { return table.valid() ? b_.Rotary(x, table, c_.n_heads, c_.d_head) : x; }
  // f and what follows it: pre-norm x + f(norm(x)), post-norm norm(f(x) + scale * x). `norm` names the norm's scope.
  template <class F>
  Value Sublayer(const RetroStack& stack, Value x, F&& f);
  Value FeedForward(const RetroStack& stack, Value x);
  Value SelfAttention(Value x);
  Value Tokens(Value ids, Value positions);
  Value Encoder(Value context);
  Value EncoderLayer(int64_t l, Value x, Value context);
  Value CrossLayer(int64_t l, Value x);
  void Head(Value x);
  void DeclareRetrieval();

  const Config& c_;
  const EntryOptions& o_;
  Builder& b_;
  const bool retrieve_;
  int64_t k_ = 0, r_ = 0;         // neighbours, their length
  Dim rows_, completed_rows_;      // B*T, B*E*m
  Value table_, encoder_table_, context_table_, cross_table_, keys_table_;  // rotary; absent: not rotated
  Value chunks_, active_, starts_, neighbor_ids_, neighbor_positions_;
  Value encoded_;                  // the encoder's output, once the first cross-attention layer was reached
};

Value Graphs::Norm(std::string_view name, Value x) {
  Scope scope(b_, name);
  const int64_t d = b_.extent(x).cols;
  Value gamma = b_.Vector("gamma", d);
  switch (c_.norm) {
    case RetroNorm::kRms: return b_.ClampedRmsNorm(x, gamma, {});
    case RetroNorm::kRmsGated: return b_.ClampedRmsNorm(x, gamma, b_.Vector("gate", d));
    case RetroNorm::kLayerNorm1p: gamma = b_.OnePlus(gamma); [[fallthrough]];
    case RetroNorm::kLayerNorm: break;
  }
  return b_.LayerNorm(x, {}, gamma, b_.Vector("beta", d), static_cast<float>(c_.layer_norm_epsilon));
}

Value Graphs::Linear(std::string_view name, Value x, int64_t out, bool bias, Activation activation) {
  Scope scope(b_, name);
  return b_.MatMul(x, b_.Matrix("weight", out, b_.extent(x).cols), bias ? b_.Vector("bias", out) : Value{}, activation);
}

template <class F>
Value Graphs::Sublayer(const RetroStack& stack, Value x, F&& f) {
  if (c_.post_norm) return Norm("norm", b_.Residual(x, f(x), {}, static_cast<float>(stack.residual_scale)));
  return b_.Add(x, f(Norm("norm", x)));
}

Value Graphs::FeedForward(const RetroStack& stack, Value x) {
  Scope scope(b_, "ff");
  return Sublayer(stack, x, [&](Value in) {
    Value inner = Linear("in", in, stack.d_inner, c_.ffn_bias, c_.activation);
    if (c_.gated_ffn) inner = b_.Mul(inner, Linear("up", in, stack.d_inner, c_.ffn_bias));
    return Linear("out", inner, stack.d_model, c_.ffn_bias);
  });
}

// Decoder: causal over everything the lane has seen.
Value Graphs::SelfAttention(Value x) {
  Scope scope(b_, "attention");
  const int64_t a = c_.d_attention();
  return Sublayer(c_.decoder, x, [&](Value in) {
    Value qkv = Linear("qkv", in, 3 * a, c_.qkv_bias);
    StateSpec memory{"memory", StateRule::kAppend};
    memory.lanes = o_.batch, memory.heads = c_.n_heads, memory.head_width = c_.d_head;
    memory.keep = memory.slots = c_.max_positions;
    const int32_t state = b_.State("memory", memory);
    b_.AppendKv(state, Rotated(b_.Columns(qkv, a, a), table_), b_.Columns(qkv, 2 * a, a));
    AttendCausalOp attend{o_.batch, c_.n_heads, c_.d_head, 1.0f / std::sqrt(static_cast<float>(c_.d_head))};
    return Linear("o", b_.AttendCausal(state, Rotated(b_.Columns(qkv, 0, a), table_), attend), c_.decoder.d_model, c_.o_bias);
  });
}

// Words of width encoder.d_model; both stacks share the tables.
Value Graphs::Tokens(Value ids, Value positions) {
  const int64_t d = c_.encoder.d_model;
  Value x = b_.Embed(ids, {{b_.SharedTable("embed.words", c_.vocab_size, d), {}, {}}}, d, 1);
  if (!positions.valid()) return x;
  return b_.Add(x, b_.Embed(positions, {{b_.SharedTable("embed.positions", c_.max_positions, d), {}, {}}}, d, 1));
}

Value Graphs::EncoderLayer(int64_t l, Value x, Value context) {
  Scope layer(b_, "layers", l);
  const int64_t a = c_.d_attention(), d = c_.encoder.d_model;
  {
    Scope scope(b_, "attention");
    x = Sublayer(c_.encoder, x, [&](Value in) {
      Value qkv = Linear("qkv", in, 3 * a, c_.qkv_bias);
      AttendPackedOp attend{c_.n_heads, c_.d_head, r_};
      return Linear("o", b_.AttendPacked(Rotated(b_.Columns(qkv, 0, a), encoder_table_), Rotated(b_.Columns(qkv, a, a), encoder_table_),
                                         b_.Columns(qkv, 2 * a, a), starts_, {}, attend),
                    d, c_.o_bias);
    });
  }
  if (Holds(c_.encoder.cross_layers, l)) {
    Scope scope(b_, "cross");
    auto attend = [&](Value in) {
      Value kv = Linear("kv", context, 2 * a, c_.qkv_bias);
      AttendChunkOp op{c_.n_heads, c_.d_head, c_.chunk, k_};
      return Linear("o", b_.AttendChunk(Rotated(Linear("q", in, a, c_.qkv_bias), encoder_table_), Rotated(b_.Columns(kv, 0, a), context_table_),
                                        b_.Columns(kv, a, a), starts_, op),
                    d, c_.o_bias);
    };
    if (c_.normed_residual) {
      Value y = Norm("norm", x);
      x = b_.Add(y, attend(y));
    } else {
      x = Sublayer(c_.encoder, x, attend);
    }
  }
  return FeedForward(c_.encoder, x);
}

// The neighbours of every completed chunk, read in the light of `context` [B*E*m, D].
Value Graphs::Encoder(Value context) {
  Value x = Tokens(neighbor_ids_, c_.neighbor_positions ? neighbor_positions_ : Value{});
  Scope scope(b_, "encoder");
  for (int64_t l = 0; l < c_.encoder.n_layers; ++l) x = EncoderLayer(l, x, context);
  if (c_.encoder.final_norm) x = Norm("norm", x);
  return c_.project_encoder ? Linear("project", x, c_.decoder.d_model, true) : x;
}

Value Graphs::CrossLayer(int64_t l, Value x) {
  const int64_t a = c_.d_attention();
  const std::string scope_name = Str("layers.", l, ".cross");
  Value y = x;
  if (!c_.post_norm) {
    Scope scope(b_, scope_name);
    y = Norm("norm", x);
  }
  if (!encoded_.valid()) {
    StateSpec incomplete{"incomplete", StateRule::kKeepLast};
    incomplete.lanes = o_.batch, incomplete.elements = c_.chunk * c_.decoder.d_model;
    const int32_t state = b_.State("incomplete", incomplete);
    encoded_ = Encoder(b_.KeepChunk(state, c_.normed_context ? y : x, chunks_, completed_rows_, KeepChunkOp{o_.batch, c_.chunk}));
  }
  Scope scope(b_, scope_name);
  Value kv = Linear("kv", encoded_, 2 * a, c_.qkv_bias), null_k, null_v;
  if (c_.null_key) null_k = b_.Vector("null_k", a), null_v = b_.Vector("null_v", a);
  StateSpec neighbors{"neighbors", StateRule::kReplace};
  neighbors.lanes = o_.batch, neighbors.heads = c_.n_heads, neighbors.head_width = c_.d_head;
  neighbors.keep = neighbors.slots = k_ * r_ + (c_.null_key ? 1 : 0);
  StateSpec count{"neighbor_count", StateRule::kReplace};
  count.lanes = o_.batch, count.elements = 1;
  const int32_t state = b_.State("neighbors", neighbors);
  AttendNeighborsOp op{o_.batch, c_.n_heads, c_.d_head, c_.chunk, k_, c_.null_key, b_.State("neighbor_count", count)};
  Value o = b_.AttendNeighbors(state, Rotated(Linear("q", y, a, c_.qkv_bias), cross_table_), Rotated(b_.Columns(kv, 0, a), keys_table_),
                               b_.Columns(kv, a, a), starts_, chunks_, null_k, null_v, op);
  // Tokens before the first completed chunk get nothing, not even the projection's bias.
  x = b_.Residual(x, Linear("o", o, c_.decoder.d_model, c_.o_bias), active_, c_.post_norm ? static_cast<float>(c_.decoder.residual_scale) : 1);
  return c_.post_norm ? Norm("norm", x) : x;
}

// Inputs and tables of retrieval.
void Graphs::DeclareRetrieval() {
  k_ = std::max<int64_t>(1, o_.neighbors), r_ = std::max<int64_t>(1, o_.neighbor_length);
  const int64_t chunks = CeilDiv(o_.tokens, c_.chunk);  // that T tokens can complete
  completed_rows_ = b_.AddLength("E", chunks) * (o_.batch * c_.chunk);
  Dim packed = b_.AddLength("N", o_.batch * chunks * k_ * r_), starts = b_.AddLength("S", o_.batch * chunks * k_ + 1);
  chunks_ = b_.Input("chunks", DType::i32, 4, 1);
  active_ = b_.Input("active", DType::f32, rows_, 1);
  starts_ = b_.Input("starts", DType::i32, starts, 1);
  neighbor_ids_ = b_.Input("neighbor_ids", DType::i32, packed, 1);
  if (c_.neighbor_positions || c_.encoder_rotary > 0 || c_.cross_positions != RetroCrossPositions::kNone)
    neighbor_positions_ = b_.Input("neighbor_positions", DType::i32, packed, 1);
  if (c_.encoder_rotary > 0) {
    Value inv_freq = b_.Vector("encoder.inv_freq", c_.encoder_rotary / 2);
    encoder_table_ = b_.RotaryTable(neighbor_positions_, inv_freq);
    context_table_ = b_.RotaryTable(b_.Input("context_positions", DType::i32, completed_rows_, 1), inv_freq);
  }
  if (c_.cross_positions != RetroCrossPositions::kNone) {
    Value inv_freq = b_.Vector("decoder.inv_freq", c_.rotary / 2);
    cross_table_ = b_.RotaryTable(b_.Input("cross_positions", DType::i32, rows_, 1), inv_freq);
    keys_table_ = b_.RotaryTable(neighbor_positions_, inv_freq);
  }
  StateSpec session{"chunk", StateRule::kKeepLast};
  session.lanes = o_.batch, session.elements = c_.chunk + 1;
  b_.State("chunk", session);
}

void Graphs::Head(Value x) {
  using Logits = EntryOptions::Logits;
  const int64_t d = c_.decoder.d_model;
  if (c_.decoder.final_norm) {
    Scope scope(b_, "decoder");
    x = Norm("norm", x);
  }
  if (o_.logits == Logits::kNone) return b_.Output("hidden", x);
  Value weight = c_.tied ? b_.SharedTable("embed.words", c_.vocab_size, d) : b_.Matrix("head.weight", c_.vocab_size, d);
  Value bias = b_.Vector("head.bias", c_.vocab_size);
  if (o_.logits == Logits::kTarget) {
    Value targets = b_.Input("targets", DType::i32, rows_, 1);
    return b_.Output("log_probs", b_.TargetLogProb(x, {{weight, bias, {}}}, {}, {}, false, targets));
  }
  if (o_.logits == Logits::kLast) x = b_.LastRows(x, o_.batch);
  b_.Output("logits", b_.MatMul(x, weight, bias));
}

void Graphs::Build() {
  rows_ = b_.AddLength("T", o_.tokens) * o_.batch;
  Value ids = b_.Input("input_ids", DType::i32, rows_, 1), positions;
  if (c_.positions || c_.rotary > 0) positions = b_.Input("position_ids", DType::i32, rows_, 1);
  if (c_.rotary > 0) table_ = b_.RotaryTable(positions, b_.Vector("decoder.inv_freq", c_.rotary / 2));
  if (retrieve_) DeclareRetrieval();
  Value x = Tokens(ids, c_.positions ? positions : Value{});
  if (c_.project_input) x = Linear("embed.project", x, c_.decoder.d_model, true);
  for (int64_t l = 0; l < c_.decoder.n_layers; ++l) {
    if (o_.trace) b_.Output(Str("hidden_states.", l), x);
    {
      Scope layer(b_, "layers", l);
      x = SelfAttention(x);
    }
    if (retrieve_ && Holds(c_.decoder.cross_layers, l)) x = CrossLayer(l, x);
    Scope layer(b_, "layers", l);
    x = FeedForward(c_.decoder, x);
  }
  if (o_.trace) b_.Output(Str("hidden_states.", c_.decoder.n_layers), x);
  Head(x);
}

Json StackToJson(const RetroStack& s) {
  return {{"d_model", s.d_model}, {"d_inner", s.d_inner}, {"n_layers", s.n_layers}, {"cross_layers", s.cross_layers},
          {"residual_scale", s.residual_scale}, {"final_norm", s.final_norm}};
}

RetroStack StackFromJson(const Json& j, const char* field, Status* status) {
  static const Json kNone = Json::object();
  ConfigReader r(j.contains(field) && j[field].is_object() ? j[field] : kNone);
  RetroStack s;
  s.d_model = r.Int({"d_model"}, 1, 65536);
  s.d_inner = r.Int({"d_inner"}, 1, 1 << 20);
  s.n_layers = r.Int({"n_layers"}, 1, 4096);
  s.cross_layers = r.Ints({"cross_layers"}, 0, s.n_layers - 1, 4096);
  s.residual_scale = r.Float({"residual_scale"}, 0, 1e6, 1);
  s.final_norm = r.Bool({"final_norm"}, true);
  if (status->ok() && !r.status().ok()) *status = r.status();
  return s;
}

class Retro : public RetroNetwork {
 public:
  explicit Retro(Config config) : c_(std::move(config)) {}
  std::string_view architecture() const override { return kName; }
  const RetroConfig& retro() const override { return c_; }
  Json config() const override;
  std::vector<std::string> entries() const override { return {"step", "retrieve"}; }
  void Build(const EntryOptions& options, Builder& b) const override { Graphs(c_, options, b).Build(); }
  Result<Import> ImportFrom(const std::vector<ForeignTensor>& checkpoint) const override { return ImportRetro(c_, checkpoint); }
  Result<std::shared_ptr<const Network>> WithSetting(std::string_view key, std::string_view value) const override;
  int64_t vocab_size() const override { return c_.vocab_size; }
  int64_t eos_token_id() const override { return c_.eos_token_id; }
  SegmentRule segments() const override { return {c_.max_positions, false}; }

 private:
  Config c_;
};

Json Retro::config() const {
  return {{"architecture", kName}, {"dialect", c_.dialect}, {"vocab_size", c_.vocab_size}, {"max_positions", c_.max_positions},
          {"n_heads", c_.n_heads}, {"d_head", c_.d_head}, {"chunk", c_.chunk}, {"neighbors", c_.neighbors},
          {"neighbor_length", c_.neighbor_length}, {"pad_token_id", c_.pad_token_id}, {"eos_token_id", c_.eos_token_id},
          {"encoder", StackToJson(c_.encoder)}, {"decoder", StackToJson(c_.decoder)}, {"norm", NameOf(kNorms, c_.norm)},
          {"layer_norm_epsilon", c_.layer_norm_epsilon}, {"post_norm", c_.post_norm}, {"rotary", c_.rotary},
          {"encoder_rotary", c_.encoder_rotary}, {"positions", c_.positions}, {"neighbor_positions", c_.neighbor_positions},
          {"cross_positions", NameOf(kCrossPositions, c_.cross_positions)}, {"null_key", c_.null_key}, {"masked_pads", c_.masked_pads},
          {"normed_context", c_.normed_context}, {"normed_residual", c_.normed_residual}, {"partial_first", c_.partial_first},
          {"activation", NameOf(kActivations, c_.activation)}, {"gated_ffn", c_.gated_ffn}, {"qkv_bias", c_.qkv_bias}, {"o_bias", c_.o_bias},
          {"ffn_bias", c_.ffn_bias}, {"project_input", c_.project_input}, {"project_encoder", c_.project_encoder}, {"tied", c_.tied}};
}

Result<Config> ParseOurs(const Json& j) {
  ConfigReader r(j);
  Config c;
  c.dialect = r.Text({"dialect"}, "lucid");
  c.vocab_size = r.Int({"vocab_size"}, 1, 4 << 20);
  c.max_positions = r.Int({"max_positions"}, 1, 16 << 20);
  c.n_heads = r.Int({"n_heads"}, 1, 1024);
  c.d_head = r.Int({"d_head"}, 1, 4096);
  c.chunk = r.Int({"chunk"}, 1, 65536);
  c.neighbors = r.Int({"neighbors"}, 1, 1024, 2);
  c.neighbor_length = r.Int({"neighbor_length"}, 1, 1 << 20, 2 * c.chunk);
  c.pad_token_id = r.Int({"pad_token_id"}, 0, c.vocab_size - 1, 0);
  c.eos_token_id = r.Int({"eos_token_id"}, -1, c.vocab_size - 1, -1);
  Status status;
  c.encoder = StackFromJson(j, "encoder", &status);
  c.decoder = StackFromJson(j, "decoder", &status);
  ReadName(&r, "norm", kNorms, &c.norm);
  c.layer_norm_epsilon = r.Float({"layer_norm_epsilon"}, 0, 1, 1e-5);
  c.post_norm = r.Bool({"post_norm"}, false);
  c.rotary = r.Int({"rotary"}, 0, c.d_head, 0);
  c.encoder_rotary = r.Int({"encoder_rotary"}, 0, c.d_head, 0);
  c.positions = r.Bool({"positions"});
  c.neighbor_positions = r.Bool({"neighbor_positions"});
  ReadName(&r, "cross_positions", kCrossPositions, &c.cross_positions);
  c.null_key = r.Bool({"null_key"});
  c.masked_pads = r.Bool({"masked_pads"});
  c.normed_context = r.Bool({"normed_context"});
  c.normed_residual = r.Bool({"normed_residual"});
  c.partial_first = r.Bool({"partial_first"});
  ReadName(&r, "activation", kActivations, &c.activation);
  c.gated_ffn = r.Bool({"gated_ffn"});
  c.qkv_bias = r.Bool({"qkv_bias"});
  c.o_bias = r.Bool({"o_bias"});
  c.ffn_bias = r.Bool({"ffn_bias"});
  c.project_input = r.Bool({"project_input"});
  c.project_encoder = r.Bool({"project_encoder"});
  c.tied = r.Bool({"tied"});
  TERN_RETURN_IF_ERROR(status);
  TERN_RETURN_IF_ERROR(r.status());
  return c;
}

// What no config may ask for, wherever it came from.
Status CheckConfig(const Config& c) {
  auto bad = [](const char* field, std::string what) { return Malformed(std::move(what)).Where(Str("config field '", field, "'")); };
  if (c.d_attention() > 65536) return bad("d_head", "heads x width of a head must be at most 65536");
  if (c.rotary % 2 != 0 || c.rotary > c.d_head) return bad("rotary", "must be even and at most the width of a head");
  if (c.encoder_rotary % 2 != 0 || c.encoder_rotary > c.d_head) return bad("encoder_rotary", "must be even and at most the width of a head");
  if (c.cross_positions != RetroCrossPositions::kNone && c.rotary == 0) return bad("cross_positions", "need rotary positions");
  for (const RetroStack* s : {&c.encoder, &c.decoder}) {
    int64_t before = -1;
    for (int64_t l : s->cross_layers) {
      if (l <= before || l >= s->n_layers) return bad("cross_layers", "must be layers of the model, ascending");
      before = l;
    }
  }
  if (c.decoder.cross_layers.empty()) return bad("cross_layers", "the decoder has no layer with cross-attention: this is no RETRO");
  if (!c.project_encoder && c.encoder.d_model != c.decoder.d_model) return bad("project_encoder", "stacks of two widths need a projection");
  if (!c.project_input && c.encoder.d_model != c.decoder.d_model) return bad("project_input", "stacks of two widths need a projection");
  if (c.tied && c.project_input) return bad("tied", "a table of another width cannot be the output matrix");
  if (c.normed_residual && c.post_norm) return bad("normed_residual", "belongs to pre-norm models");
  if (c.max_positions < c.neighbor_length && c.neighbor_positions) return bad("neighbor_length", "is longer than the table of positions");
  return {};
}

bool Recognizes(const Json& j) {
  if (!j.is_object()) return false;
  for (const char* key : {"model_type", "architecture"})
    if (j.contains(key) && j[key].is_string()) return j[key].get<std::string>() == kName;
  return false;
}

Result<std::shared_ptr<const Network>> Parse(const Json& j, const std::vector<ForeignTensor>& checkpoint) {
  ConfigReader r(j);
  Config c;
  if (r.Has("architecture")) {
    TERN_ASSIGN(c, ParseOurs(j));
  } else if (const std::string dialect = r.Text({"retro_dialect"}, r.Has("retro_chunk_length") ? "megatron" : "lucid"); dialect == "megatron") {
    TERN_ASSIGN(c, ParseMegatronRetro(j, checkpoint));
  } else if (dialect == "lucid" || dialect == "paper") {
    TERN_ASSIGN(c, ParseLucidRetro(j, checkpoint));
  } else {
    return Malformed("is not known").Where("config field 'retro_dialect'").Got(Str("'", Printable(dialect, 32), "'"), "lucid, paper or megatron");
  }
  TERN_RETURN_IF_ERROR(r.status());
  TERN_RETURN_IF_ERROR(CheckConfig(c));
  return std::shared_ptr<const Network>(std::make_shared<Retro>(std::move(c)));
}

Result<std::shared_ptr<const Network>> Retro::WithSetting(std::string_view key, std::string_view value) const {
  Config c = c_;
  if (key == "neighbors") {
    TERN_ASSIGN(c.neighbors, SettingInt(key, value, 1, 1024));
  } else if (key == "neighbor_length") {
    TERN_ASSIGN(c.neighbor_length, SettingInt(key, value, 1, c.neighbor_positions ? c.max_positions : 1 << 20));
  } else if (key == "cross_positions" && c.rotary > 0) {
    if (value != "paper" && value != "lucid")
      return UsageError("--set cross_positions is not known").Got(Str("'", Printable(value, 32), "'"), "paper or lucid");
    c.cross_positions = value == "paper" ? RetroCrossPositions::kPaper : RetroCrossPositions::kLucid;
  } else {
    return UsageError(Str("--set ", Printable(key, 64), ": no such run-time setting")).Hint("This model has neighbors, neighbor_length, cross_positions");
  }
  return std::shared_ptr<const Network>(std::make_shared<Retro>(std::move(c)));
}

}  // namespace

const Architecture kRetro{kName, "RETRO: a decoder that reads retrieved neighbours (RETRO-pytorch, Megatron-core's RetroModel)", Recognizes, Parse};

}  // namespace tern
