#include "models/transformer_xl.h"

#include <algorithm>
#include <cmath>

#include "models/config.h"
#include "models/transformer_xl_import.h"

namespace tern {
namespace {

using Config = TransformerXlConfig;
using Scope = Builder::Scope;
constexpr std::string_view kName = "transformer-xl";

class TransformerXl : public Network {
 public:
  explicit TransformerXl(Config config) : c_(std::move(config)) {}

  std::string_view architecture() const override { return kName; }
  Json config() const override;
  std::vector<std::string> entries() const override { return {"step"}; }
  void Build(const EntryOptions& options, Builder& b) const override;
  Result<Import> ImportFrom(const std::vector<ForeignTensor>& checkpoint) const override { return ImportTransformerXl(c_, checkpoint); }
  Result<std::shared_ptr<const Network>> WithSetting(std::string_view key, std::string_view value) const override;

  int64_t vocab_size() const override { return c_.vocab_size; }
  int64_t eos_token_id() const override { return c_.eos_token_id; }
  bool chunk_invariant() const override { return c_.same_length && c_.mem_len > 0; }

 private:
  std::vector<Builder::Cluster> InputClusters(Builder& b) const;
  std::vector<Builder::Cluster> OutputClusters(Builder& b) const;

  Config c_;
};

std::string Numbered(std::string_view name, int64_t i) { return Str(name, ".", i); }

std::vector<Builder::Cluster> TransformerXl::InputClusters(Builder& b) const {
  Scope scope(b, "embed");
  std::vector<Builder::Cluster> clusters;
  for (int64_t c = 0; c < c_.clusters(); ++c) {
    Builder::Cluster cluster;
    cluster.weight = b.Table(Numbered("table", c), c_.cluster_size(c), c_.cluster_width(c));
    // With div_val 1 all clusters share the one projection.
    if (c_.projected()) cluster.projection = b.Matrix(Numbered("projection", c_.div_val == 1 ? 0 : c), c_.d_model, c_.cluster_width(c));
    clusters.push_back(cluster);
  }
  return clusters;
}

std::vector<Builder::Cluster> TransformerXl::OutputClusters(Builder& b) const {
  std::vector<Builder::Cluster> clusters;
  for (int64_t c = 0; c < c_.clusters(); ++c) {
    Builder::Cluster cluster;
    {
      Scope scope(b, c_.tie_weight ? "embed" : "head");
      cluster.weight = b.Table(Numbered("table", c), c_.cluster_size(c), c_.cluster_width(c));
    }
    Scope scope(b, "head");
    cluster.bias = b.Vector(Numbered("bias", c), c_.cluster_size(c));
    if (c_.projected()) cluster.projection = b.Matrix(Numbered("projection", c), c_.cluster_width(c), c_.d_model);
    clusters.push_back(cluster);
  }
  return clusters;
}

}  // namespace

Value XlSinusoid(Builder& b, const TransformerXlConfig& c, const EntryOptions& options) {
  // The farthest distance a query can see; the table is the same for every plan of a session.
  int64_t farthest = c.same_length && c.mem_len > 0 ? c.mem_len - 1 : c.mem_len + std::max(options.chunk, c.segment) - 1;
  if (c.clamp_len > 0) farthest = std::min(farthest, c.clamp_len);
  return b.Sinusoid(b.Vector("inv_freq", c.d_model / 2), farthest + 1);
}

Value XlLayer(Builder& b, const TransformerXlConfig& c, const EntryOptions& options, Value x, Value sinusoid, const XlExtra& extra) {
  const int64_t a = c.n_heads * c.d_head;
  const float eps = static_cast<float>(c.layer_norm_epsilon);
  Value y;
  {
    Scope attention(b, "attention");
    Value gamma = b.Vector("norm.gamma", c.d_model), beta = b.Vector("norm.beta", c.d_model);
    Value w_qkv = b.Matrix("qkv", 3 * a, c.d_model);
    Value rk = b.PackXlPositions(b.MatMul(sinusoid, b.Matrix("r", a, c.d_model)), c.n_heads, c.d_head);
    Value qkv = b.MatMul(c.pre_lnorm ? b.LayerNorm(x, {}, gamma, beta, eps) : x, w_qkv);

    StateSpec memory{"memory", StateRule::kKeepLast};
    memory.lanes = options.batch, memory.heads = c.n_heads, memory.head_width = c.d_head;
    memory.keep = c.mem_len;
    memory.slots = c.mem_len + std::max(options.chunk, c.segment);
    memory.initial = c.zero_memory ? c.mem_len : 0;
    // Memory rows are stored before the norm, which turns a row of zeros into beta; without a bias in W, zeros stay zeros.
    if (c.pre_lnorm) memory.initial_row = b.Columns(b.MatMul(beta, w_qkv), a, 2 * a).id;
    int32_t state = b.State("memory", memory);
    b.AppendKv(state, b.Columns(qkv, a, a), b.Columns(qkv, 2 * a, a));

    AttendXlOp attend{options.batch, c.n_heads, c.d_head, c.same_length && c.mem_len > 0 ? c.mem_len : 0, b.extent(sinusoid).rows.scale};
    Value u, v;
    if (c.untie_r) u = b.Vector("u", c.n_heads, c.d_head), v = b.Vector("v", c.n_heads, c.d_head);
    else u = b.Shared("u", c.n_heads, c.d_head), v = b.Shared("v", c.n_heads, c.d_head);
    Value q = b.Columns(qkv, 0, a);
    Value o = b.MatMul(b.AttendXl(state, q, u, v, rk, attend), b.Matrix("o", c.d_model, a));
    if (extra) o = extra(q, o);
    y = c.pre_lnorm ? b.Add(x, o) : b.LayerNorm(o, x, gamma, beta, eps);
  }
  Scope ff(b, "ff");
  Value gamma = b.Vector("norm.gamma", c.d_model), beta = b.Vector("norm.beta", c.d_model);
  Value in = c.pre_lnorm ? b.LayerNorm(y, {}, gamma, beta, eps) : y;
  Value inner = b.MatMul(in, b.Matrix("in.weight", c.d_inner, c.d_model), b.Vector("in.bias", c.d_inner), Activation::kRelu);
  Value out = b.MatMul(inner, b.Matrix("out.weight", c.d_model, c.d_inner), b.Vector("out.bias", c.d_model));
  return c.pre_lnorm ? b.Add(y, out) : b.LayerNorm(out, y, gamma, beta, eps);
}

namespace {

void TransformerXl::Build(const EntryOptions& options, Builder& b) const {
  Dim rows = b.AddLength("T", options.tokens) * options.batch;
  Value ids = b.Input("input_ids", DType::i32, rows, 1);
  Value x = b.Embed(ids, InputClusters(b), c_.d_model, static_cast<float>(std::sqrt(static_cast<double>(c_.d_model))));
  Value sinusoid = XlSinusoid(b, c_, options);
  for (int64_t l = 0; l < c_.n_layers; ++l) {
    if (options.trace) b.Output(Numbered("hidden_states", l), x);
    Scope layer(b, "layers", l);
    x = XlLayer(b, c_, options, x, sinusoid, {});
  }
  if (options.trace) b.Output(Numbered("hidden_states", c_.n_layers), x);

  using Logits = EntryOptions::Logits;
  if (options.logits == Logits::kNone) return b.Output("hidden", x);
  auto clusters = OutputClusters(b);
  Value cluster_weight, cluster_bias;
  if (c_.clusters() > 1) {
    cluster_weight = b.Matrix("head.cluster.weight", c_.clusters() - 1, c_.d_embed);
    cluster_bias = b.Vector("head.cluster.bias", c_.clusters() - 1);
  }
  if (options.logits == Logits::kTarget) {
    Value targets = b.Input("targets", DType::i32, rows, 1);
    b.Output("log_probs", b.TargetLogProb(x, clusters, cluster_weight, cluster_bias, c_.reversed_clusters, targets));
  } else {
    if (options.logits == Logits::kLast) x = b.LastRows(x, options.batch);
    b.Output("logits", b.LogSoftmax(x, clusters, cluster_weight, cluster_bias, c_.reversed_clusters));
  }
}

Json TransformerXl::config() const {
  return {{"architecture", kName},          {"vocab_size", c_.vocab_size},   {"d_model", c_.d_model},
          {"d_embed", c_.d_embed},          {"n_heads", c_.n_heads},         {"d_head", c_.d_head},
          {"d_inner", c_.d_inner},          {"n_layers", c_.n_layers},       {"div_val", c_.div_val},
          {"cutoffs", c_.cutoffs},          {"tie_projs", c_.tie_projs},     {"tie_weight", c_.tie_weight},
          {"untie_r", c_.untie_r},          {"pre_lnorm", c_.pre_lnorm},     {"same_length", c_.same_length},
          {"mem_len", c_.mem_len},          {"clamp_len", c_.clamp_len},     {"tgt_len", c_.tgt_len},
          {"eos_token_id", c_.eos_token_id}, {"layer_norm_epsilon", c_.layer_norm_epsilon},
          {"zero_memory", c_.zero_memory},  {"reversed_clusters", c_.reversed_clusters}};
}

}  // namespace

Status CheckTransformerXl(const TransformerXlConfig& c) {
  auto bad = [](const char* field, std::string what) { return Malformed(std::move(what)).Where(Str("config field '", field, "'")); };
  if (c.d_model % 2 != 0) return bad("d_model", "must be even: half of it are sines, half cosines");
  if (c.n_heads * c.d_head > 65536) return bad("d_head", "n_head x d_head must be at most 65536");
  int64_t before = 0;
  for (int64_t cutoff : c.cutoffs) {
    if (cutoff <= before || cutoff >= c.vocab_size) return bad("cutoffs", "must ascend between 0 and vocab_size");
    before = cutoff;
  }
  if (c.cluster_width(c.clusters() - 1) < 1) return bad("div_val", "leaves nothing of d_embed for the last cluster");
  if (static_cast<int64_t>(c.tie_projs.size()) != c.clusters()) return bad("tie_projs", Str("must have one entry per cluster, ", c.clusters()));
  return {};
}

namespace {

bool Recognizes(const Json& j) {
  if (!j.is_object()) return false;
  auto is = [&](const char* key, std::string_view value) { return j.contains(key) && j[key].is_string() && j[key].get<std::string>() == value; };
  if (is("model_type", "transfo-xl") || is("architecture", kName)) return true;
  // A module of the original PyTorch code, by the attributes it carries.
  return !j.contains("model_type") && j.contains("attn_type") && j.contains("n_token") && j.contains("d_embed") && j.contains("mem_len");
}

Result<std::shared_ptr<const Network>> Parse(const Json& json, const std::vector<ForeignTensor>& checkpoint) {
  ConfigReader r(json);
  Config c;
  const bool ours = r.Has("architecture");
  const bool original = !ours && !r.Has("model_type");
  if (int64_t type = r.Int({"attn_type"}, 0, 3, 0); type != 0)
    return Malformed("this kind of attention is not supported").Where("config field 'attn_type'").Got(type, "0");
  if (int64_t ext = r.Int({"ext_len"}, 0, 1 << 24, 0); ext != 0)
    return Malformed("extended context is not supported").Where("config field 'ext_len'").Got(ext, "0");
  c.vocab_size = r.Int({"vocab_size", "n_token"}, 1, 4 << 20);
  c.d_model = r.Int({"d_model"}, 2, 65536);
  c.d_embed = r.Int({"d_embed"}, 1, 65536, c.d_model);
  c.n_heads = r.Int({"n_heads", "n_head"}, 1, 1024);
  c.d_head = r.Int({"d_head"}, 1, 4096);
  c.d_inner = r.Int({"d_inner"}, 1, 1 << 20);
  c.n_layers = r.Int({"n_layers", "n_layer"}, 1, 4096);
  c.div_val = r.Int({"div_val"}, 1, 1024, 1);
  c.cutoffs = r.Ints({"cutoffs"}, 1, 4 << 20, 64);
  c.tie_weight = r.Bool({"tie_weight", "tie_word_embeddings"}, true);
  c.untie_r = r.Bool({"untie_r"}, !original);
  c.pre_lnorm = r.Bool({"pre_lnorm"}, false);
  c.same_length = r.Bool({"same_length"}, false);
  c.mem_len = r.Int({"mem_len"}, 0, 16 << 20, 0);
  c.clamp_len = r.Int({"clamp_len"}, -1, 16 << 20, -1);
  c.tgt_len = r.Int({"tgt_len"}, 1, 16 << 20, 128);
  c.eos_token_id = r.Int({"eos_token_id"}, -1, c.vocab_size - 1, -1);
  c.layer_norm_epsilon = r.Float({"layer_norm_epsilon"}, 0, 1, 1e-5);
  c.zero_memory = r.Bool({"zero_memory"}, !original);
  c.reversed_clusters = r.Bool({"reversed_clusters"}, original);
  c.tie_projs = r.Bools({"tie_projs"}, 65);
  if (c.clamp_len == 0) c.clamp_len = -1;  // both switch it off
  TERN_RETURN_IF_ERROR(r.status());
  if (!ours) TERN_RETURN_IF_ERROR(CompleteTransformerXl(json, checkpoint, &c));
  c.tie_projs.resize(static_cast<size_t>(c.clusters()), false);
  TERN_RETURN_IF_ERROR(CheckTransformerXl(c));
  return std::shared_ptr<const Network>(std::make_shared<TransformerXl>(std::move(c)));
}

Result<std::shared_ptr<const Network>> TransformerXl::WithSetting(std::string_view key, std::string_view value) const {
  Config c = c_;
  if (key == "mem_len") {
    TERN_ASSIGN(c.mem_len, SettingInt(key, value, 0, 16 << 20));
  } else if (key == "clamp_len") {
    TERN_ASSIGN(c.clamp_len, SettingInt(key, value, -1, 16 << 20));
    if (c.clamp_len == 0) c.clamp_len = -1;
  } else if (key == "same_length") {
    TERN_ASSIGN(c.same_length, SettingBool(key, value));
  } else {
    return UsageError(Str("--set ", Printable(key, 64), ": no such run-time setting")).Hint("This model has mem_len, clamp_len, same_length");
  }
  return std::shared_ptr<const Network>(std::make_shared<TransformerXl>(std::move(c)));
}

}  // namespace

const Architecture kTransformerXl{kName, "Transformer-XL: segment recurrence, relative positions, adaptive softmax (TransfoXLLMHeadModel, model.pt)",
                                  Recognizes, Parse};

}  // namespace tern
