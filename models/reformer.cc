#include "models/reformer.h"

#include <algorithm>
#include <numeric>

#include "models/config.h"
#include "models/encoder.h"
#include "models/reformer_import.h"

namespace tern {

bool ReformerConfig::has(bool lsh) const { return std::find(lsh_layers.begin(), lsh_layers.end(), lsh) != lsh_layers.end(); }

int64_t ReformerConfig::longest() const {
  if (!axial) return max_positions;
  int64_t product = 1;
  for (int64_t n : axial_shape) product = std::min(product * n, int64_t{1} << 40);
  return std::min(product, max_positions);
}

namespace {

struct Padding {
  int64_t multiple, shortest;
};
Padding PaddingOf(const ReformerConfig& c) {
  if (!c.has(true)) return {c.local_chunk, c.local_chunk};
  if (!c.has(false)) return {c.lsh_chunk, c.lsh_chunk};
  return {std::lcm(c.lsh_chunk, c.local_chunk), std::min(c.lsh_chunk, c.local_chunk)};
}

}  // namespace

int64_t ReformerConfig::PaddedLength(int64_t tokens) const {
  const Padding p = PaddingOf(*this);
  return tokens <= p.shortest ? tokens : (tokens + p.multiple - 1) / p.multiple * p.multiple;
}

int64_t ReformerConfig::LongestText() const {
  const Padding p = PaddingOf(*this);
  return std::max(longest() / p.multiple * p.multiple, std::min(longest(), p.shortest));
}

namespace {

using Config = ReformerConfig;
using Scope = Builder::Scope;
constexpr std::string_view kName = "reformer";
constexpr int64_t kMostChunk = 1 << 16;

constexpr std::pair<ReformerHead, std::string_view> kHeads[] = {{ReformerHead::kNone, "none"},         {ReformerHead::kLm, "lm"},
                                                                {ReformerHead::kMaskedLm, "masked_lm"}, {ReformerHead::kQuestion, "question"},
                                                                {ReformerHead::kSequence, "sequence"}};
constexpr std::pair<Activation, std::string_view> kActivations[] = {{Activation::kRelu, "relu"}, {Activation::kGelu, "gelu"}, {Activation::kGeluNew, "gelu_new"},
                                                                   {Activation::kSilu, "silu"}, {Activation::kTanh, "tanh"}};

class Graphs {
 public:
  Graphs(const Config& c, const EntryOptions& options, Builder& b) : c_(c), options_(options), b_(b) {}  // NOLINT

  void Build() {
    rows_ = b_.AddLength("T", options_.tokens) * options_.batch;
    padded_ = b_.AddLength("S", c_.PaddedLength(options_.tokens)) * options_.batch;
    Value ids = b_.Input("input_ids", DType::i32, rows_, 1);
    if (target()) targets_ = b_.Input("targets", DType::i32, rows_, 1);
    mask_ = b_.Input("attention_mask", DType::i32, rows_, 1, true);
    Value x = Embeddings(ids);
    if (c_.has(true)) Rotations(ids);
    // Two streams: attention reads the second and writes the first, the feed-forward the other way.
    Value first = x, second = x;
    for (size_t l = 0; l < c_.lsh_layers.size(); ++l) {
      if (options_.trace) b_.Output(Str("hidden_states.", l), b_.CutRows(second, {}, rows_, {options_.batch}));
      Scope layer(b_, "layers", static_cast<int64_t>(l));
      first = b_.Add(first, Attention(second, c_.lsh_layers[l]));
      second = FeedForward(first, second);
    }
    if (options_.trace) b_.Output(Str("hidden_states.", c_.lsh_layers.size()), b_.CutRows(second, {}, rows_, {options_.batch}));
    Heads(first, second);
  }

 private:
  using Logits = EntryOptions::Logits;
  bool target() const { return options_.logits == Logits::kTarget && c_.head == ReformerHead::kLm; }
  float eps() const { return static_cast<float>(c_.layer_norm_epsilon); }

  Value Embeddings(Value ids) {
    Scope scope(b_, "embed");
    Value words = b_.Table("words", c_.vocab_size, c_.d_model);
    std::vector<Value> positions;
    if (c_.axial)
      for (size_t a = 0; a < c_.axial_shape.size(); ++a) positions.push_back(b_.Vector(Str("positions.", a), c_.axial_shape[a], c_.axial_dim[a]));
    else
      positions.push_back(b_.Table("positions", c_.max_positions, c_.d_model));
    return b_.AxialEmbed(ids, words, positions, padded_, {options_.batch, c_.pad_token_id});
  }

  // Positions that decoding remembers; 0: nothing is decoded.
  int64_t context() const {
    if (c_.head != ReformerHead::kLm) return 0;
    return options_.context < 0 ? c_.context : std::min(options_.context, c_.longest());
  }

  LshSpec Spec() const {
    return {options_.batch, c_.n_heads, c_.d_head, c_.lsh_chunk, c_.lsh_before, c_.lsh_after, c_.num_hashes, c_.causal, c_.hash_seed, c_.buckets, c_.max_positions, context()};
  }

  // All hashed layers share one draw. Its name tells the rounds, so that sessions with another number do not share it.
  void Rotations(Value ids) {
    const int64_t directions = MostDirections(Spec(), b_.graph().Capacity(padded_) / options_.batch);
    Scope scope(b_, Str("rotations.", c_.num_hashes));
    const bool fixed = c_.buckets.count > 0;
    int32_t drawn = -1;
    if (!fixed && context() > 0) {  // decoding goes on with those of the text's first piece
      StateSpec spec{"drawn", StateRule::kReplace};
      spec.lanes = 1, spec.elements = LshSpec::kNotes + c_.n_heads * c_.d_head * c_.num_hashes * directions;
      drawn = b_.State("drawn", spec);
    }
    rotations_ = b_.DrawRotations(Spec(), directions, fixed ? Value{} : ids, drawn);
    given_ = b_.Input("rotations", DType::f32, c_.n_heads * c_.d_head, c_.num_hashes * directions, true);
  }

  Value Attention(Value x, bool lsh) {
    const int64_t width = c_.n_heads * c_.d_head, d = c_.d_model;
    Scope scope(b_, "attention");
    Value h = b_.LayerNorm(x, {}, b_.Vector("norm.gamma", d), b_.Vector("norm.beta", d), eps());
    Value out;
    if (lsh) {
      Value qk = b_.MatMul(h, b_.Matrix("qk", width, d)), v = b_.MatMul(h, b_.Matrix("v", width, d));
      int32_t state = -1;
      if (context() > 0) {
        StateSpec spec{"memory", StateRule::kAppend};
        spec.lanes = options_.batch, spec.elements = Spec().state_elements();
        state = b_.State("memory", spec);
      }
      out = b_.LshAttention(qk, v, mask_, rotations_, given_, Spec(), state);
    } else {
      Value q = b_.MatMul(h, b_.Matrix("q", width, d)), k = b_.MatMul(h, b_.Matrix("k", width, d)), v = b_.MatMul(h, b_.Matrix("v", width, d));
      int32_t state = -1;
      if (context() > 0) {  // a later token sees its own chunk and those before
        StateSpec spec{"memory", StateRule::kKeepLast};
        spec.lanes = options_.batch, spec.heads = c_.n_heads, spec.head_width = c_.d_head;
        spec.slots = spec.keep = (c_.local_before + 1) * c_.local_chunk;
        state = b_.State("memory", spec);
      }
      out = b_.LocalAttention(q, k, v, mask_, {options_.batch, c_.n_heads, c_.d_head, c_.local_chunk, c_.local_before, c_.local_after, c_.causal}, state);
    }
    return b_.MatMul(out, b_.Matrix("o", d, width));
  }

  Value FeedForward(Value x, Value residual) {
    const int64_t d = c_.d_model, f = c_.d_inner;
    Scope scope(b_, "ff");
    return b_.ChunkedFeedForward(x, residual, b_.Vector("norm.gamma", d), b_.Vector("norm.beta", d), b_.Matrix("in.weight", f, d), b_.Vector("in.bias", f),
                                 b_.Matrix("out.weight", d, f), b_.Vector("out.bias", d), {c_.activation, eps()});
  }

  Value Linear(std::string_view name, Value x, int64_t out, Activation activation = Activation::kNone) {
    Scope scope(b_, name);
    return b_.MatMul(x, b_.Matrix("weight", out, b_.extent(x).cols), b_.Vector("bias", out), activation);
  }

  void Heads(Value first, Value second) {
    // Only the rows that the head reads.
    using Keep = CutRowsOp::Keep;
    const bool lm = c_.head == ReformerHead::kLm;
    const Keep keep = c_.head == ReformerHead::kSequence ? Keep::kFirst : lm && options_.logits == Logits::kLast ? Keep::kLast : Keep::kAll;
    Value z = b_.CutRows(first, second, rows_, {options_.batch, true, keep});
    z = b_.LayerNorm(z, {}, b_.Vector("norm.gamma", 2 * c_.d_model), b_.Vector("norm.beta", 2 * c_.d_model), eps());
    if (c_.head == ReformerHead::kNone || (options_.trace && keep == Keep::kAll)) b_.Output("last_hidden_state", z);
    switch (c_.head) {
      case ReformerHead::kNone: return;
      case ReformerHead::kLm:
      case ReformerHead::kMaskedLm: {
        Value weight = b_.Matrix("head.weight", c_.vocab_size, 2 * c_.d_model), bias = b_.Vector("head.bias", c_.vocab_size);
        if (target()) return b_.Output("log_probs", b_.TargetLogProb(z, {{weight, bias, {}}}, {}, {}, false, targets_));
        return b_.Output("logits", b_.MatMul(z, weight, bias));
      }
      case ReformerHead::kQuestion: {
        Value both = Linear("classifier", z, 2);
        b_.Output("start_logits", b_.Columns(both, 0, 1));
        return b_.Output("end_logits", b_.Columns(both, 1, 1));
      }
      case ReformerHead::kSequence: {
        return b_.Output("logits", Linear("classifier", Linear("pre_classifier", z, c_.d_model, Activation::kTanh), c_.n_labels));
      }
    }
  }

  const Config& c_;
  const EntryOptions& options_;
  Builder& b_;
  Dim rows_, padded_;
  Value mask_, targets_, rotations_, given_;
};

Json ConfigJson(const Config& c) {
  Json layers = Json::array(), buckets = nullptr;
  for (bool lsh : c.lsh_layers) layers.push_back(lsh ? "lsh" : "local");
  if (c.buckets.count == 1) buckets = c.buckets.factor[0];
  if (c.buckets.count > 1) buckets = std::vector<int32_t>(c.buckets.factor.begin(), c.buckets.factor.begin() + c.buckets.count);
  Json j = {{"architecture", kName},
            {"head", NameOf(kHeads, c.head)},
            {"vocab_size", c.vocab_size},
            {"d_model", c.d_model},
            {"n_heads", c.n_heads},
            {"d_head", c.d_head},
            {"d_inner", c.d_inner},
            {"attn_layers", layers},
            {"max_position_embeddings", c.max_positions},
            {"axial_pos_embds", c.axial},
            {"is_decoder", c.causal},
            {"local_attn_chunk_length", c.local_chunk},
            {"local_num_chunks_before", c.local_before},
            {"local_num_chunks_after", c.local_after},
            {"lsh_attn_chunk_length", c.lsh_chunk},
            {"lsh_num_chunks_before", c.lsh_before},
            {"lsh_num_chunks_after", c.lsh_after},
            {"num_hashes", c.num_hashes},
            {"num_buckets", buckets},
            {"context", c.context},
            {"hash_seed", static_cast<int64_t>(c.hash_seed)},
            {"hidden_act", NameOf(kActivations, c.activation)},
            {"layer_norm_epsilon", c.layer_norm_epsilon},
            {"pad_token_id", c.pad_token_id},
            {"eos_token_id", c.eos_token_id},
            {"n_labels", c.n_labels},
            {"labels", c.labels}};
  if (c.axial) j["axial_pos_shape"] = c.axial_shape, j["axial_pos_embds_dim"] = c.axial_dim;
  return j;
}

Result<std::shared_ptr<const Network>> MakeNetwork(Config c);

Result<Config> ChangeSetting(Config c, std::string_view key, std::string_view value) {
  if (key == "num_hashes") {
    TERN_ASSIGN(c.num_hashes, SettingInt(key, value, 1, 256));
  } else if (key == "hash_seed") {
    TERN_ASSIGN(int64_t seed, SettingInt(key, value, INT64_MIN, INT64_MAX));
    c.hash_seed = static_cast<uint64_t>(seed);
  } else if (key == "context") {
    TERN_ASSIGN(c.context, SettingInt(key, value, 1, c.longest()));
  } else {
    return UsageError(Str("--set ", Printable(key, 64), ": no such run-time setting")).Hint("This model has context, num_hashes, hash_seed");
  }
  return c;
}

// The LM is a decoder; the others are read whole, as encoders are.
template <class Base>
class Reformer : public Base, public ReformerNetwork {
 public:
  explicit Reformer(Config config) : c_(std::move(config)) {}

  std::string_view architecture() const override { return kName; }
  Json config() const override { return ConfigJson(c_); }
  std::vector<std::string> entries() const override { return {c_.head == ReformerHead::kLm ? "step" : "encode"}; }
  void Build(const EntryOptions& options, Builder& b) const override { Graphs(c_, options, b).Build(); }
  Result<Import> ImportFrom(const std::vector<ForeignTensor>&) const override { return ImportReformer(c_); }
  Result<std::shared_ptr<const Network>> WithSetting(std::string_view key, std::string_view value) const override {
    TERN_ASSIGN(Config changed, ChangeSetting(c_, key, value));
    return MakeNetwork(std::move(changed));
  }

  int64_t vocab_size() const override { return c_.vocab_size; }
  int64_t eos_token_id() const override { return c_.eos_token_id; }
  int64_t preferred_chunk() const override { return std::min(c_.context, c_.LongestText()); }
  bool chunk_invariant() const override { return false; }
  SegmentRule segments() const override { return {c_.longest(), false, true, c_.LongestText(), c_.context}; }
  int64_t padded_length(int64_t tokens) const override { return c_.PaddedLength(tokens); }

  const ReformerConfig& reformer() const override { return c_; }

 protected:
  Config c_;
};

class ReformerEncoder final : public Reformer<EncoderNetwork> {
 public:
  explicit ReformerEncoder(Config config) : Reformer(std::move(config)) {
    view_.vocab_size = c_.vocab_size, view_.d_model = c_.d_model, view_.max_positions = c_.LongestText(), view_.type_vocab_size = 0;
    view_.pad_token_id = c_.pad_token_id, view_.n_labels = c_.n_labels, view_.labels = c_.labels;
    view_.head = c_.head == ReformerHead::kMaskedLm   ? EncoderHead::kMaskedLm
                 : c_.head == ReformerHead::kQuestion ? EncoderHead::kQuestion
                 : c_.head == ReformerHead::kSequence ? EncoderHead::kSequence
                                                      : EncoderHead::kNone;
  }
  const EncoderConfig& encoder() const override { return view_; }

 private:
  EncoderConfig view_;  // what tasks ask of an encoder
};

Result<std::shared_ptr<const Network>> MakeNetwork(Config c) {
  if (c.head == ReformerHead::kLm) return std::shared_ptr<const Network>(std::make_shared<Reformer<Network>>(std::move(c)));
  return std::shared_ptr<const Network>(std::make_shared<ReformerEncoder>(std::move(c)));
}

bool Recognizes(const Json& j) {
  if (!j.is_object()) return false;
  for (const char* key : {"model_type", "architecture"})
    if (j.contains(key) && j[key].is_string()) return j[key].get<std::string>() == kName;
  return false;
}

Status Bad(std::string_view field, std::string what) { return Malformed(std::move(what)).Where(Str("config field '", field, "'")); }

Result<std::vector<bool>> ReadLayers(const Json& j) {
  std::vector<bool> layers;
  if (!j.contains("attn_layers") || j["attn_layers"].is_null()) return std::vector<bool>{false, true, false, true, false, true};  // the class's default
  const Json& list = j["attn_layers"];
  if (!list.is_array() || list.empty() || list.size() > 4096) return Bad("attn_layers", "must be a list of 1 to 4096 layers");
  for (const Json& item : list) {
    const std::string kind = item.is_string() ? item.get<std::string>() : DumpJson(item);
    if (kind != "local" && kind != "lsh") return Bad("attn_layers", "holds an unknown kind of layer").Got(Printable(kind, 64), "\"local\" or \"lsh\"");
    layers.push_back(kind == "lsh");
  }
  return layers;
}

Result<BucketFactors> ReadBuckets(const Json& j) {
  BucketFactors b;
  if (!j.contains("num_buckets") || j["num_buckets"].is_null()) return b;
  const Json& value = j["num_buckets"];
  const Json list = value.is_array() ? value : Json::array({value});
  if (list.empty() || list.size() > BucketFactors::kMost) return Bad("num_buckets", Str("must be a number or a list of 1 to ", BucketFactors::kMost, " of them"));
  int64_t product = 1;
  for (const Json& item : list) {
    const int64_t f = item.is_number_integer() && !(item.is_number_unsigned() && item.get<uint64_t>() > (1u << 24)) ? item.get<int64_t>() : 0;
    if (f < 2 || f > (1 << 24) || f % 2 != 0) return Bad("num_buckets", "is no number of buckets").Got(Printable(DumpJson(item), 64), Str("an even number from 2 to ", 1 << 24));
    if ((product *= f) > (1 << 24)) return Bad("num_buckets", "makes too many buckets").Got(Printable(DumpJson(value), 64), Str("a product of at most ", 1 << 24));
    b.factor[static_cast<size_t>(b.count++)] = static_cast<int32_t>(f);
  }
  return b;
}

Status CheckConfig(const Config& c, bool tied) {
  if (tied) return Bad("tie_word_embeddings", "cannot be: the head reads both streams and is twice as wide as the embeddings").Got("true", "false");
  if (c.n_heads * c.d_head > 65536) return Bad("attention_head_size", "heads x head size must be at most 65536");
  if (c.axial) {
    if (c.axial_shape.empty() || c.axial_shape.size() != c.axial_dim.size() || c.axial_shape.size() > 8)
      return Bad("axial_pos_shape", "must have as many entries as axial_pos_embds_dim").Got(c.axial_shape.size(), Str(c.axial_dim.size(), ", from 1 to 8"));
    const int64_t width = std::accumulate(c.axial_dim.begin(), c.axial_dim.end(), int64_t{0});
    if (width != c.d_model) return Bad("axial_pos_embds_dim", "must add up to hidden_size").Got(width, c.d_model);
  }
  if (c.PaddedLength(1 << 20) > (16 << 20)) return Bad("lsh_attn_chunk_length", "has too large a common multiple with local_attn_chunk_length").Got(Str(c.lsh_chunk, " and ", c.local_chunk), "");
  if (c.head == ReformerHead::kLm) {
    if (!c.causal) return Bad("is_decoder", "must be true for a language model").Got("false", "true");
    if ((c.has(true) && c.lsh_after > 0) || (c.has(false) && c.local_after > 0)) return Bad(c.has(true) && c.lsh_after > 0 ? "lsh_num_chunks_after" : "local_num_chunks_after", "must be 0 for a language model");
  }
  if (c.head == ReformerHead::kMaskedLm && c.causal) return Bad("is_decoder", "must be false for a masked language model").Got("true", "false");
  return {};
}

std::vector<std::string> ReadLabels(const Json& j) {
  std::vector<std::string> labels;
  if (j.contains("labels") && j["labels"].is_array() && j["labels"].size() <= 65536) {
    for (const Json& label : j["labels"])
      if (label.is_string()) labels.push_back(label.get<std::string>());
    return labels;
  }
  return LabelsOf(j);
}

Result<std::shared_ptr<const Network>> Parse(const Json& j, const std::vector<ForeignTensor>&) {
  ConfigReader r(j);
  Config c;
  const bool ours = r.Has("architecture");
  if (ours) {
    TERN_ASSIGN(c.head, ValueOf(kHeads, r.Text({"head"}), "head"));
  } else {
    std::string class_name;
    if (j.contains("architectures") && j["architectures"].is_array() && !j["architectures"].empty() && j["architectures"][0].is_string())
      class_name = j["architectures"][0].get<std::string>();
    TERN_ASSIGN(c.head, ReformerHeadOfClass(class_name));
  }
  TERN_ASSIGN(c.activation, ValueOf(kActivations, r.Text({"hidden_act"}, "relu"), "hidden_act"));
  TERN_ASSIGN(c.lsh_layers, ReadLayers(j));
  TERN_ASSIGN(c.buckets, ReadBuckets(j));
  c.vocab_size = r.Int({"vocab_size"}, 1, 4 << 20, 320);
  c.d_model = r.Int({"d_model", "hidden_size"}, 1, 65536, 256);
  c.n_heads = r.Int({"n_heads", "num_attention_heads"}, 1, 1024, 12);
  c.d_head = r.Int({"d_head", "attention_head_size"}, 1, 4096, 64);
  c.d_inner = r.Int({"d_inner", "feed_forward_size"}, 1, 1 << 20, 512);
  c.max_positions = r.Int({"max_position_embeddings"}, 1, 16 << 20, 4096);
  c.axial = r.Bool({"axial_pos_embds"}, true);
  if (c.axial) {
    c.axial_shape = r.Has("axial_pos_shape") ? r.Ints({"axial_pos_shape"}, 1, 16 << 20, 8) : std::vector<int64_t>{64, 64};
    c.axial_dim = r.Has("axial_pos_embds_dim") ? r.Ints({"axial_pos_embds_dim"}, 1, 65536, 8) : std::vector<int64_t>{64, 192};
  }
  c.causal = r.Bool({"is_decoder"}, false);
  c.local_chunk = r.Int({"local_attn_chunk_length"}, 1, kMostChunk, 64);
  c.local_before = r.Int({"local_num_chunks_before"}, 0, 64, 1);
  c.local_after = r.Int({"local_num_chunks_after"}, 0, 64, 0);
  c.lsh_chunk = r.Int({"lsh_attn_chunk_length"}, 1, kMostChunk, 64);
  c.lsh_before = r.Int({"lsh_num_chunks_before"}, 0, 64, 1);
  c.lsh_after = r.Int({"lsh_num_chunks_after"}, 0, 64, 0);
  c.num_hashes = r.Int({"num_hashes"}, 1, 256, 1);
  c.hash_seed = static_cast<uint64_t>(r.Int({"hash_seed"}, INT64_MIN, INT64_MAX, 0));
  c.layer_norm_epsilon = r.Float({"layer_norm_epsilon", "layer_norm_eps"}, 0, 1, 1e-12);
  c.pad_token_id = r.Int({"pad_token_id"}, 0, c.vocab_size - 1, 0);
  c.eos_token_id = r.Int({"eos_token_id"}, -1, 4 << 20, 2);
  c.labels = ReadLabels(j);
  c.n_labels = r.Int({"n_labels", "num_labels"}, 1, 65536, c.labels.empty() ? 2 : static_cast<int64_t>(c.labels.size()));
  const bool tied = r.Bool({"tie_word_embeddings"}, false);
  TERN_RETURN_IF_ERROR(r.status());
  TERN_RETURN_IF_ERROR(CheckConfig(c, tied));
  c.context = r.Int({"context"}, 1, c.longest(), std::min<int64_t>(c.longest(), 4096));
  TERN_RETURN_IF_ERROR(r.status());
  return MakeNetwork(std::move(c));
}

}  // namespace

const Architecture kReformer{kName, "Reformer: local and hashed attention, reversible streams, axial positions; LM and all heads", Recognizes, Parse};

}  // namespace tern
