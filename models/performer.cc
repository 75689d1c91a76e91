#include "models/performer.h"

#include <cmath>

#include "models/config.h"
#include "models/performer_import.h"

namespace tern {
namespace {

using Config = PerformerConfig;
using Scope = Builder::Scope;
using Kernel = FavorOp::Kernel;
using Wrapper = Config::Wrapper;
using Positions = Config::Positions;
constexpr std::string_view kName = "performer";
constexpr float kNormEpsilon = 1e-5f;

constexpr std::pair<Kernel, std::string_view> kKernels[] = {{Kernel::kSoftmax, "softmax"}, {Kernel::kRelu, "relu"}, {Kernel::kElu1, "elu+1"},
                                                            {Kernel::kExp, "exp"},         {Kernel::kSigmoid, "sigmoid"}, {Kernel::kNone, "none"}};
constexpr std::pair<Wrapper, std::string_view> kWrappers[] = {{Wrapper::kLayerNorm, "layer_norm"}, {Wrapper::kReZero, "rezero"}, {Wrapper::kScaleNorm, "scale_norm"}};
constexpr std::pair<Positions, std::string_view> kPositions[] = {{Positions::kRotary, "rotary"}, {Positions::kAxial, "axial"}, {Positions::kLearned, "learned"}};

// What the branches of one graph read beside their input.
struct Around {
  const EntryOptions& options;
  Value ids, mask, context, context_mask;
  Value angles;  // rotary of the global heads
};

class Performer : public PerformerNetwork {
 public:
  explicit Performer(Config config) : c_(std::move(config)) {}

  std::string_view architecture() const override { return kName; }
  const PerformerConfig& performer() const override { return c_; }
  Json config() const override;
  std::vector<std::string> entries() const override {
    return c_.causal && !c_.cross_attend ? std::vector<std::string>{"encode", "step"} : std::vector<std::string>{"encode"};
  }
  void Build(const EntryOptions& options, Builder& b) const override;
  Result<Import> ImportFrom(const std::vector<ForeignTensor>& checkpoint) const override { return ImportPerformer(c_, checkpoint); }
  Result<std::shared_ptr<const Network>> WithSetting(std::string_view key, std::string_view value) const override;
  int64_t vocab_size() const override { return c_.vocab_size; }
  int64_t preferred_chunk() const override { return 512; }
  SegmentRule segments() const override { return {c_.max_positions, false}; }
  // The softmax kernel's stabiliser covers the keys of a call; the others have none.
  bool chunk_invariant() const override { return c_.kernel != Kernel::kSoftmax; }

 private:
  Value Embeddings(Builder& b, const Around& a) const;
  Value Norm(Builder& b, Value x) const;
  Value Scaled(Builder& b, Value y) const { return c_.wrapper == Wrapper::kReZero ? b.Gain(y, b.Vector("g", 1)) : y; }
  Value Shift(Builder& b, Value x, Value mask, const EntryOptions& options) const;
  Value Linear(Builder& b, std::string_view name, Value x, int64_t out, bool bias, Activation activation = Activation::kNone) const;
  Value Rotate(Builder& b, Value x, Value angles, int64_t heads) const { return angles.valid() ? b.RotaryPairs(x, angles, {heads, c_.d_head}) : x; }
  Value Favor(Builder& b, const Around& a, Value q, Value k, Value v, Value mask, int64_t heads, bool causal) const;
  Value Locals(Builder& b, const Around& a, Value qkv, Value base, int64_t heads) const;
  Value SelfAttention(Builder& b, const Around& a, Value x, int64_t local) const;
  Value CrossAttention(Builder& b, const Around& a, Value x) const;
  Value FeedForward(Builder& b, const Around& a, Value x, bool shifted) const;
  void Head(const EntryOptions& options, Builder& b, Value x, Dim rows) const;

  Config c_;
};

Value Performer::Embeddings(Builder& b, const Around& a) const {
  Scope scope(b, "embed");
  const int64_t d = c_.d_model;
  Value x = b.Embed(a.ids, {{b.Table("words", c_.vocab_size, d), {}, {}}}, d, 1);
  auto row = [&](Value table, int64_t divide, int64_t modulo, int64_t entries) {
    return b.Embed(b.Positions(a.ids, {a.options.batch, divide, modulo, entries}), {{table, {}, {}}}, d, 1);
  };
  if (c_.positions == Positions::kRotary) return b.Add(x, row(b.Vector("positions", c_.max_positions, d), 1, 0, c_.max_positions));
  if (c_.positions == Positions::kLearned) return b.Add(x, row(b.Table("positions", c_.max_positions, d), 1, 0, c_.max_positions));
  Value sum;  // of the axes, as the public code adds them
  int64_t divide = 1;
  for (int64_t n : c_.axial_shape) divide *= n;
  for (size_t axis = 0; axis < c_.axial_shape.size(); ++axis) {
    const int64_t n = c_.axial_shape[axis];
    divide /= n;
    Value one = row(b.Vector(Str("axis.", axis), n, d), divide, n, n);
    sum = sum.valid() ? b.Add(sum, one) : one;
  }
  return b.Add(x, sum);
}

// Before a function; ReZero has none.
Value Performer::Norm(Builder& b, Value x) const {
  if (c_.wrapper == Wrapper::kReZero) return x;
  if (c_.wrapper == Wrapper::kScaleNorm) return b.Gain(b.Normalize(x, kNormEpsilon), b.Vector("g", 1));
  Scope scope(b, "norm");
  return b.LayerNorm(x, {}, b.Vector("gamma", c_.d_model), b.Vector("beta", c_.d_model), kNormEpsilon);
}

Value Performer::Shift(Builder& b, Value x, Value mask, const EntryOptions& options) const {
  ShiftTokensOp op{options.batch, c_.causal};
  if (!c_.causal) return b.ShiftTokens(x, mask, op);
  StateSpec last;
  last.rule = StateRule::kReplace;
  last.lanes = options.batch;
  last.elements = c_.d_model / 2;
  return b.ShiftTokens(x, mask, op, b.State("shift", last));
}

Value Performer::Linear(Builder& b, std::string_view name, Value x, int64_t out, bool bias, Activation activation) const {
  Scope scope(b, name);
  return b.MatMul(x, b.Matrix("weight", out, b.extent(x).cols), bias ? b.Vector("bias", out) : Value{}, activation);
}

// The global heads' output, as wide as all heads.
Value Performer::Favor(Builder& b, const Around& a, Value q, Value k, Value v, Value mask, int64_t heads, bool causal) const {
  FavorOp op{a.options.batch, heads, c_.d_head, c_.n_features, c_.kernel, causal, c_.mask_keys};
  Value projection = c_.kernel == Kernel::kNone ? Value{} : b.PackFavor(b.Vector("projection", c_.n_features, c_.d_head));
  if (!causal) return b.Favor(q, k, v, projection, mask, c_.width(), op);
  StateSpec sums;
  sums.rule = StateRule::kAccumulate;
  sums.lanes = a.options.batch;
  sums.elements = heads * FavorOp::StateElements(c_.kernel == Kernel::kNone ? c_.d_head : c_.n_features, c_.d_head);
  return b.Favor(q, k, v, projection, mask, c_.width(), op, b.State("sums", sums));
}

// The last heads, exact in windows.
Value Performer::Locals(Builder& b, const Around& a, Value qkv, Value base, int64_t heads) const {
  const int64_t all = c_.width(), width = heads * c_.d_head, first = all - width;
  Value table = b.Sinusoid(b.Vector("local_inv_freq", c_.d_head / 2), (c_.causal ? 2 : 3) * c_.local_window);
  LocalWindowsOp op{a.options.batch, heads, c_.d_head, c_.local_window, c_.causal};
  int32_t state = -1;
  if (c_.causal) {
    StateSpec windows;
    windows.rule = StateRule::kKeepLast;
    windows.lanes = a.options.batch;
    windows.elements = heads * 4 * c_.local_window * c_.d_head;
    state = b.State("windows", windows);
  }
  return b.LocalWindows(b.Columns(qkv, first, width), b.Columns(qkv, all + first, width), b.Columns(qkv, 2 * all + first, width), table, a.mask, base, all, op, state);
}

Value Performer::SelfAttention(Builder& b, const Around& a, Value x, int64_t local) const {
  Value h = Norm(b, x);
  if (c_.shift_tokens) h = Shift(b, h, a.mask, a.options);
  const int64_t all = c_.width(), global = c_.n_heads - local, width = global * c_.d_head;
  Value qkv = Linear(b, "qkv", h, 3 * all, c_.qkv_bias), o;
  if (global > 0)
    o = Favor(b, a, Rotate(b, b.Columns(qkv, 0, width), a.angles, global), Rotate(b, b.Columns(qkv, all, width), a.angles, global), b.Columns(qkv, 2 * all, width), a.mask,
              global, c_.causal);
  if (local > 0) o = Locals(b, a, qkv, o, local);
  return Scaled(b, Linear(b, "o", o, c_.d_model, c_.out_bias));
}

Value Performer::CrossAttention(Builder& b, const Around& a, Value x) const {
  const int64_t all = c_.width();
  Value q = Linear(b, "q", Norm(b, x), all, c_.qkv_bias), kv = Linear(b, "kv", a.context, 2 * all, c_.qkv_bias);
  Value o = Favor(b, a, q, b.Columns(kv, 0, all), b.Columns(kv, all, all), a.context_mask, c_.n_heads, false);
  return Scaled(b, Linear(b, "o", o, c_.d_model, c_.out_bias));
}

Value Performer::FeedForward(Builder& b, const Around& a, Value x, bool shifted) const {
  Value h = Norm(b, x);
  if (shifted) h = Shift(b, h, {}, a.options);  // the public code passes no mask here
  Value inner = c_.glu ? b.Glu(Linear(b, "in", h, 2 * c_.d_inner, true), Activation::kGelu) : Linear(b, "in", h, c_.d_inner, true, Activation::kGelu);
  return Scaled(b, Linear(b, "out", inner, c_.d_model, true));
}

void Performer::Build(const EntryOptions& options, Builder& b) const {
  const bool whole = options.entry == "encode";
  Dim rows = b.AddLength("T", options.tokens) * options.batch;
  Around a{options, b.Input("input_ids", DType::i32, rows, 1), {}, {}, {}, {}};
  if (whole) a.mask = b.Input("mask", DType::f32, rows, 1);
  if (whole && c_.cross_attend) {
    Dim context_rows = b.AddLength("C", options.chunk) * options.batch;
    a.context = b.Input("context", DType::f32, context_rows, c_.d_model);
    a.context_mask = b.Input("context_mask", DType::f32, context_rows, 1);
  }
  Value x = Embeddings(b, a);
  if (c_.positions == Positions::kRotary)
    a.angles = b.Embed(b.Positions(a.ids, {options.batch, 1, 0, c_.max_positions}), {{b.Vector("rotary", c_.max_positions, c_.d_head), {}, {}}}, c_.d_head, 1);

  // Reversible: f reads the second stream and writes the first, g the other way round; the output is their sum.
  Value x1 = x, x2 = x;
  auto add = [&](bool second, auto&& branch) {
    Value& from = c_.reversible && !second ? x2 : x1;
    Value& to = c_.reversible && second ? x2 : x1;
    to = b.Add(to, branch(from));
  };
  for (int64_t l = 0; l < c_.n_layers; ++l) {
    if (options.trace && !c_.reversible) b.Output(Str("hidden_states.", l), x1);
    Scope layer(b, "layers", l);
    auto scoped = [&](const char* name, auto&& make) {
      return [&b, name, make](Value in) {
        Scope scope(b, name);
        return make(in);
      };
    };
    add(false, scoped("attention", [&](Value in) { return SelfAttention(b, a, in, c_.local_heads[static_cast<size_t>(l)]); }));
    add(true, scoped("ff", [&](Value in) { return FeedForward(b, a, in, c_.shift_tokens); }));
    if (!c_.cross_attend) continue;
    add(false, scoped("cross", [&](Value in) { return CrossAttention(b, a, in); }));
    add(true, scoped("cross_ff", [&](Value in) { return FeedForward(b, a, in, false); }));
  }
  Head(options, b, c_.reversible ? b.Add(x1, x2) : x1, rows);
}

void Performer::Head(const EntryOptions& options, Builder& b, Value x, Dim rows) const {
  using Logits = EntryOptions::Logits;
  if (options.logits == Logits::kLast) x = b.LastRows(x, options.batch);
  x = b.LayerNorm(x, {}, b.Vector("norm.gamma", c_.d_model), b.Vector("norm.beta", c_.d_model), kNormEpsilon);
  if (options.logits == Logits::kNone) return b.Output("hidden", x);
  Value weight = c_.tie_embed ? b.SharedTable("embed.words", c_.vocab_size, c_.d_model) : b.Matrix("head.weight", c_.vocab_size, c_.d_model);
  Value bias = b.Vector("head.bias", c_.vocab_size);
  if (options.logits == Logits::kTarget) b.Output("log_probs", b.TargetLogProb(x, {{weight, bias, {}}}, {}, {}, false, b.Input("targets", DType::i32, rows, 1)));
  else b.Output("logits", b.MatMul(x, weight, bias));
}

Json Performer::config() const {
  return {{"architecture", kName},
          {"vocab_size", c_.vocab_size},
          {"max_positions", c_.max_positions},
          {"d_model", c_.d_model},
          {"n_layers", c_.n_layers},
          {"n_heads", c_.n_heads},
          {"d_head", c_.d_head},
          {"d_inner", c_.d_inner},
          {"local_heads", c_.local_heads},
          {"local_window", c_.local_window},
          {"n_features", c_.n_features},
          {"kernel", NameOf(kKernels, c_.kernel)},
          {"causal", c_.causal},
          {"reversible", c_.reversible},
          {"glu", c_.glu},
          {"shift_tokens", c_.shift_tokens},
          {"cross_attend", c_.cross_attend},
          {"tie_embed", c_.tie_embed},
          {"qkv_bias", c_.qkv_bias},
          {"out_bias", c_.out_bias},
          {"mask_keys", c_.mask_keys},
          {"wrapper", NameOf(kWrappers, c_.wrapper)},
          {"positions", NameOf(kPositions, c_.positions)},
          {"axial_shape", c_.axial_shape}};
}

Result<std::shared_ptr<const Network>> Performer::WithSetting(std::string_view key, std::string_view value) const {
  Config c = c_;
  if (key != "mask_keys") return UsageError(Str("--set ", Printable(key, 64), ": no such run-time setting")).Hint("This model has mask_keys");
  TERN_ASSIGN(c.mask_keys, SettingBool(key, value));
  return std::shared_ptr<const Network>(std::make_shared<Performer>(std::move(c)));
}

bool Recognizes(const Json& j) {
  if (!j.is_object()) return false;
  auto is = [&](const char* key, std::string_view value) { return j.contains(key) && j[key].is_string() && j[key].get<std::string>() == value; };
  return is("model_type", "performer_lm") || is("architecture", kName);
}

constexpr int64_t kMost = 1 << 20;

// Our own config, field by field as config() writes it.
Result<Config> ParseOurs(const Json& j) {
  ConfigReader r(j);
  Config c;
  c.vocab_size = r.Int({"vocab_size"}, 1, 4 << 20);
  c.max_positions = r.Int({"max_positions"}, 1, 16 << 20);
  c.d_model = r.Int({"d_model"}, 1, 65536);
  c.n_layers = r.Int({"n_layers"}, 1, 4096);
  c.n_heads = r.Int({"n_heads"}, 1, 1024);
  c.d_head = r.Int({"d_head"}, 1, 4096);
  c.d_inner = r.Int({"d_inner"}, 1, kMost);
  c.local_heads = r.Ints({"local_heads"}, 0, c.n_heads, 4096);
  c.local_window = r.Int({"local_window"}, 1, kMost);
  c.n_features = r.Int({"n_features"}, 1, 65536);
  TERN_ASSIGN(c.kernel, ValueOf(kKernels, r.Text({"kernel"}), "kernel"));
  TERN_ASSIGN(c.wrapper, ValueOf(kWrappers, r.Text({"wrapper"}), "wrapper"));
  TERN_ASSIGN(c.positions, ValueOf(kPositions, r.Text({"positions"}), "positions"));
  c.causal = r.Bool({"causal"}), c.reversible = r.Bool({"reversible"}), c.glu = r.Bool({"glu"}), c.shift_tokens = r.Bool({"shift_tokens"});
  c.cross_attend = r.Bool({"cross_attend"}), c.tie_embed = r.Bool({"tie_embed"}), c.qkv_bias = r.Bool({"qkv_bias"}), c.out_bias = r.Bool({"out_bias"});
  c.mask_keys = r.Bool({"mask_keys"}, false);
  c.axial_shape = r.Ints({"axial_shape"}, 1, 16 << 20, 8);
  TERN_RETURN_IF_ERROR(r.status());
  return c;
}

// The arguments of performer_pytorch's PerformerLM, with its defaults; dropout and when features are redrawn in training do not matter here.
Result<Config> ParseTheirs(const Json& j, const std::vector<ForeignTensor>& checkpoint) {
  ConfigReader r(j);
  Config c;
  c.vocab_size = r.Int({"num_tokens"}, 1, 4 << 20);
  c.max_positions = r.Int({"max_seq_len"}, 1, 16 << 20);
  c.d_model = r.Int({"dim"}, 1, 65536);
  c.n_layers = r.Int({"depth"}, 1, 4096);
  c.n_heads = r.Int({"heads"}, 1, 1024);
  c.d_head = r.Int({"dim_head"}, 1, 4096, 64);
  c.d_inner = c.d_model * r.Int({"ff_mult"}, 1, 64, 4);
  if (r.Has("local_attn_heads") && j["local_attn_heads"].is_array()) c.local_heads = r.Ints({"local_attn_heads"}, 0, c.n_heads, 4096);
  else c.local_heads = {r.Int({"local_attn_heads"}, 0, c.n_heads, 0)};
  if (c.local_heads.size() == 1) c.local_heads.assign(static_cast<size_t>(c.n_layers), c.local_heads[0]);
  c.local_window = r.Int({"local_window_size"}, 1, kMost, 256);
  const int64_t by_rule = static_cast<int64_t>(static_cast<double>(c.d_head) * std::log(static_cast<double>(c.d_head)));
  const int64_t found = FeaturesOf(checkpoint);
  c.n_features = r.Int({"nb_features"}, 1, 65536, found > 0 ? found : by_rule);
  const bool generalized = r.Bool({"generalized_attention"}, false), none = r.Bool({"no_projection"}, false);
  if (none) c.kernel = Kernel::kNone;
  else if (generalized) {
    std::string name = r.Text({"kernel_fn"}, "relu");
    if (name == "ReLU" || name == "ReLU()") name = "relu";
    TERN_ASSIGN(c.kernel, ValueOf(kKernels, name, "kernel_fn"));
    if (c.kernel == Kernel::kSoftmax || c.kernel == Kernel::kNone) return Malformed("is no function of a number").Where("config field 'kernel_fn'").Got(name, "relu, elu+1, exp or sigmoid");
  }
  c.causal = r.Bool({"causal"}, false), c.reversible = r.Bool({"reversible"}, false), c.glu = r.Bool({"ff_glu"}, false);
  c.shift_tokens = r.Bool({"shift_tokens"}, false), c.cross_attend = r.Bool({"cross_attend"}, false), c.tie_embed = r.Bool({"tie_embed"}, false);
  c.qkv_bias = r.Bool({"qkv_bias"}, false), c.out_bias = r.Bool({"attn_out_bias"}, false);
  const bool scale_norm = r.Bool({"use_scalenorm"}, false), rezero = r.Bool({"use_rezero"}, false);
  c.wrapper = scale_norm ? Wrapper::kScaleNorm : rezero ? Wrapper::kReZero : Wrapper::kLayerNorm;
  const bool rotary = r.Bool({"rotary_position_emb"}, true), axial = r.Bool({"axial_position_emb"}, false);
  c.positions = rotary ? Positions::kRotary : axial ? Positions::kAxial : Positions::kLearned;
  if (c.positions == Positions::kAxial) {
    c.axial_shape = r.Ints({"axial_position_shape"}, 1, 16 << 20, 8);
    if (c.axial_shape.empty()) c.axial_shape = {(c.max_positions + 63) / 64, 64};
  }
  TERN_RETURN_IF_ERROR(r.status());
  if (c.d_model % c.n_heads != 0) return Malformed("must be a multiple of the number of heads").Where("config field 'dim'").Got(c.d_model, Str("a multiple of ", c.n_heads));
  return c;
}

// What no config may ask for, whoever wrote it.
Status CheckConfig(const Config& c) {
  auto bad = [](const char* field, std::string what) { return Malformed(std::move(what)).Where(Str("config field '", field, "'")); };
  if (static_cast<int64_t>(c.local_heads.size()) != c.n_layers) return bad("local_attn_heads", "must have one number, or one per layer").Got(c.local_heads.size(), c.n_layers);
  bool any_local = false;
  for (int64_t heads : c.local_heads) any_local = any_local || heads > 0;
  if (c.n_heads * c.d_head > 65536) return bad("dim_head", "heads x dim_head must be at most 65536");
  if (c.d_inner > kMost) return bad("ff_mult", Str("dim x ff_mult must be at most ", kMost));
  if (c.n_features < 1) return bad("nb_features", "there are no features: d log d of so narrow a head is below 1").Got(c.n_features, "1 or more");
  if (c.n_features > 65536) return bad("nb_features", "must be at most 65536").Got(c.n_features, "fewer");
  if (c.n_features * c.d_head > (int64_t{1} << 26)) return bad("nb_features", "nb_features x dim_head must be at most 2^26");
  if (c.positions == Positions::kRotary && (c.d_model % 2 != 0 || c.d_head % 2 != 0)) return bad("rotary_position_emb", "dim and dim_head must be even: half are sines, half cosines");
  if (any_local && c.d_head % 2 != 0) return bad("dim_head", "must be even: local heads rotate pairs");
  if (any_local && c.local_window * c.d_head > (int64_t{1} << 26)) return bad("local_window_size", "local_window_size x dim_head must be at most 2^26");
  if (c.shift_tokens && c.d_model < 3) return bad("dim", "is too small to shift parts of it");
  if (c.positions == Positions::kAxial) {
    int64_t entries = 1;
    for (int64_t n : c.axial_shape) {
      if (entries > (int64_t{16} << 20) / n) return bad("axial_position_shape", "has more than 2^24 positions");
      entries *= n;
    }
    if (c.axial_shape.empty() || entries < c.max_positions) return bad("axial_position_shape", "has fewer positions than max_seq_len").Got(entries, Str("at least ", c.max_positions));
  }
  return {};
}

Result<std::shared_ptr<const Network>> Parse(const Json& j, const std::vector<ForeignTensor>& checkpoint) {
  Config c;
  if (ConfigReader(j).Has("architecture")) {
    TERN_ASSIGN(c, ParseOurs(j));
  } else {
    TERN_ASSIGN(c, ParseTheirs(j, checkpoint));
  }
  TERN_RETURN_IF_ERROR(CheckConfig(c));
  return std::shared_ptr<const Network>(std::make_shared<Performer>(std::move(c)));
}

}  // namespace

const Architecture kPerformer{kName, "Performer: random-feature attention, linear in length (PerformerLM of performer_pytorch)", Recognizes, Parse};

}  // namespace tern
