#include "models/encoder.h"

#include "models/config.h"
#include "models/encoder_import.h"

namespace tern {
namespace {

using Config = EncoderConfig;
using Scope = Builder::Scope;

constexpr std::pair<EncoderFamily, std::string_view> kFamilies[] = {{EncoderFamily::kAlbert, "albert"}, {EncoderFamily::kBert, "bert"},
                                                                   {EncoderFamily::kRoberta, "roberta"}, {EncoderFamily::kDistilBert, "distilbert"}};
constexpr std::pair<EncoderHead, std::string_view> kHeads[] = {{EncoderHead::kNone, "none"},         {EncoderHead::kMaskedLm, "masked_lm"},
                                                               {EncoderHead::kPretraining, "pretraining"}, {EncoderHead::kSequence, "sequence"},
                                                               {EncoderHead::kToken, "token"},       {EncoderHead::kQuestion, "question"},
                                                               {EncoderHead::kChoice, "choice"}};
constexpr std::pair<Activation, std::string_view> kActivations[] = {{Activation::kGelu, "gelu"}, {Activation::kGeluNew, "gelu_new"}, {Activation::kRelu, "relu"},
                                                                   {Activation::kSilu, "silu"}, {Activation::kTanh, "tanh"}};
constexpr std::pair<Pooling, std::string_view> kPoolings[] = {{Pooling::kMean, "mean"}, {Pooling::kCls, "cls"}};

class Encoder : public EncoderNetwork {
 public:
  explicit Encoder(Config config) : c_(std::move(config)) {}

  std::string_view architecture() const override { return NameOf(kFamilies, c_.family); }
  const EncoderConfig& encoder() const override { return c_; }
  Json config() const override;
  std::vector<std::string> entries() const override {
    // A model with a task head is not asked for sentence vectors; the bare one is.
    return c_.head == EncoderHead::kNone ? std::vector<std::string>{"encode", "embed"} : std::vector<std::string>{"encode"};
  }
  void Build(const EntryOptions& options, Builder& b) const override;
  Result<Import> ImportFrom(const std::vector<ForeignTensor>& checkpoint) const override { return ImportEncoder(c_, checkpoint); }
  Result<std::shared_ptr<const Network>> WithSetting(std::string_view key, std::string_view value) const override;
  int64_t vocab_size() const override { return c_.vocab_size; }

 private:
  float eps() const { return static_cast<float>(c_.layer_norm_epsilon); }
  Value Norm(Builder& b, std::string_view name, Value x, Value residual, int64_t width) const;
  Value Linear(Builder& b, std::string_view name, Value x, int64_t out, Activation activation = Activation::kNone) const;
  Value Embeddings(Builder& b, Dim rows) const;
  Value Block(Builder& b, Value x, Value starts, Value key_bias) const;
  Value MaskedLm(Builder& b, Value x) const;
  void Heads(const EntryOptions& options, Builder& b, Value x, Dim sequences) const;

  Config c_;
};

Value Encoder::Norm(Builder& b, std::string_view name, Value x, Value residual, int64_t width) const {
  Scope scope(b, name);
  return b.LayerNorm(x, residual, b.Vector("gamma", width), b.Vector("beta", width), eps());
}

Value Encoder::Linear(Builder& b, std::string_view name, Value x, int64_t out, Activation activation) const {
  Scope scope(b, name);
  return b.MatMul(x, b.Matrix("weight", out, b.extent(x).cols), b.Vector("bias", out), activation);
}

Value Encoder::Embeddings(Builder& b, Dim rows) const {
  Scope scope(b, "embed");
  auto look_up = [&](std::string_view input, std::string_view table, int64_t entries) {
    return b.Embed(b.Input(input, DType::i32, rows, 1), {{b.Table(table, entries, c_.d_embed), {}, {}}}, c_.d_embed, 1);
  };
  Value x = look_up("input_ids", "words", c_.vocab_size);
  // The public code's order of the sum.
  if (c_.type_vocab_size > 0) x = b.Add(x, look_up("token_type_ids", "types", c_.type_vocab_size));
  x = Norm(b, "norm", look_up("position_ids", "positions", c_.max_positions), x, c_.d_embed);
  return c_.family == EncoderFamily::kAlbert ? Linear(b, "mapping", x, c_.d_model) : x;
}

Value Encoder::Block(Builder& b, Value x, Value starts, Value key_bias) const {
  const int64_t d = c_.d_model;
  Value qkv = Linear(b, "qkv", x, 3 * d);
  AttendPackedOp attend{c_.n_heads, d / c_.n_heads, c_.longest()};
  Value context = b.AttendPacked(b.Columns(qkv, 0, d), b.Columns(qkv, d, d), b.Columns(qkv, 2 * d, d), starts, key_bias, attend);
  Value a = Norm(b, "attention_norm", Linear(b, "o", context, d), x, d);
  return Norm(b, "norm", Linear(b, "ff_out", Linear(b, "ff_in", a, c_.d_inner, c_.activation), d), a, d);
}

// Into the width of the embeddings, then their table.
Value Encoder::MaskedLm(Builder& b, Value x) const {
  const Activation activation = c_.family == EncoderFamily::kRoberta ? Activation::kGelu : c_.activation;
  Scope scope(b, "head");
  Value t = Norm(b, "norm", Linear(b, "transform", x, c_.d_embed, activation), {}, c_.d_embed);
  Value bias = b.Vector("bias", c_.vocab_size);
  if (!c_.tied_decoder) return b.MatMul(t, b.Matrix("decoder", c_.vocab_size, c_.d_embed), bias);
  return b.MatMul(t, b.SharedTable("embed.words", c_.vocab_size, c_.d_embed), bias);
}

void Encoder::Heads(const EntryOptions& options, Builder& b, Value x, Dim sequences) const {
  const int64_t d = c_.d_model;
  auto first = [&] { return b.TakeRows(x, b.Input("first_rows", DType::i32, sequences, 1)); };
  auto pooled = [&] { return Linear(b, "pooler", first(), d, Activation::kTanh); };
  switch (c_.head) {
    case EncoderHead::kNone:
      b.Output("last_hidden_state", x);
      if (c_.pooler) b.Output("pooler_output", pooled());
      return;
    case EncoderHead::kMaskedLm:
      if (options.logits == EntryOptions::Logits::kLast) x = b.TakeRows(x, b.Input("rows", DType::i32, b.AddLength("N", options.tokens), 1));
      return b.Output("logits", MaskedLm(b, x));
    case EncoderHead::kPretraining:
      b.Output("prediction_logits", MaskedLm(b, x));
      return b.Output(c_.family == EncoderFamily::kAlbert ? "sop_logits" : "seq_relationship_logits", Linear(b, "order", pooled(), 2));
    case EncoderHead::kSequence:
    case EncoderHead::kChoice: {
      Value in;
      if (c_.family == EncoderFamily::kRoberta) in = Linear(b, "pre_classifier", first(), d, Activation::kTanh);
      else if (c_.family == EncoderFamily::kDistilBert) in = Linear(b, "pre_classifier", first(), d, Activation::kRelu);
      else in = pooled();
      return b.Output("logits", Linear(b, "classifier", in, c_.head == EncoderHead::kChoice ? 1 : c_.n_labels));
    }
    case EncoderHead::kToken:
      return b.Output("logits", Linear(b, "classifier", x, c_.n_labels));
    case EncoderHead::kQuestion: {
      Value both = Linear(b, "classifier", x, 2);
      b.Output("start_logits", b.Columns(both, 0, 1));
      return b.Output("end_logits", b.Columns(both, 1, 1));
    }
  }
}

void Encoder::Build(const EntryOptions& options, Builder& b) const {
  Dim rows = b.AddLength("R", options.tokens), sequences = b.AddLength("S", options.batch), starts_rows = b.AddLength("S1", options.batch + 1);
  Value starts = b.Input("starts", DType::i32, starts_rows, 1), key_bias = b.Input("key_bias", DType::f32, rows, 1);
  Value x = Embeddings(b, rows);
  for (int64_t l = 0; l < c_.n_layers; ++l) {
    if (options.trace) b.Output(Str("hidden_states.", l), x);
    if (c_.family != EncoderFamily::kAlbert) {
      Scope layer(b, "layers", l);
      x = Block(b, x, starts, key_bias);
      continue;
    }
    Scope group(b, "groups", c_.group_of(l));
    for (int64_t j = 0; j < c_.inner_group_num; ++j) {
      Scope inner(b, "inner", j);
      x = Block(b, x, starts, key_bias);
    }
  }
  if (options.trace) b.Output(Str("hidden_states.", c_.n_layers), x);
  if (options.entry == "embed") {
    Value pooled = c_.pooling == Pooling::kCls ? b.TakeRows(x, b.Input("first_rows", DType::i32, sequences, 1)) : b.MeanRows(x, starts, sequences);
    b.Output("embeddings", c_.normalize ? b.Normalize(pooled) : pooled);
  } else {
    Heads(options, b, x, sequences);
  }
}

Json Encoder::config() const {
  return {{"architecture", architecture()},
          {"head", NameOf(kHeads, c_.head)},
          {"vocab_size", c_.vocab_size},
          {"d_embed", c_.d_embed},
          {"d_model", c_.d_model},
          {"n_layers", c_.n_layers},
          {"n_heads", c_.n_heads},
          {"d_inner", c_.d_inner},
          {"n_groups", c_.n_groups},
          {"inner_group_num", c_.inner_group_num},
          {"max_positions", c_.max_positions},
          {"type_vocab_size", c_.type_vocab_size},
          {"pad_token_id", c_.pad_token_id},
          {"n_labels", c_.n_labels},
          {"hidden_act", NameOf(kActivations, c_.activation)},
          {"layer_norm_epsilon", c_.layer_norm_epsilon},
          {"pooler", c_.pooler},
          {"tied_decoder", c_.tied_decoder},
          {"labels", c_.labels},
          {"pooling", NameOf(kPoolings, c_.pooling)},
          {"normalize", c_.normalize},
          {"max_length", c_.max_length}};
}

Result<std::shared_ptr<const Network>> Encoder::WithSetting(std::string_view key, std::string_view value) const {
  Config c = c_;
  if (key == "hidden_act") {
    TERN_ASSIGN(c.activation, ValueOf(kActivations, value, key));
  } else if (key == "pooling") {
    TERN_ASSIGN(c.pooling, ValueOf(kPoolings, value, key));
  } else if (key == "normalize") {
    TERN_ASSIGN(c.normalize, SettingBool(key, value));
  } else if (key == "max_length") {
    TERN_ASSIGN(c.max_length, SettingInt(key, value, 1, c.longest()));
  } else {
    return UsageError(Str("--set ", Printable(key, 64), ": no such run-time setting")).Hint("This model has hidden_act, pooling, normalize, max_length");
  }
  return std::shared_ptr<const Network>(std::make_shared<Encoder>(std::move(c)));
}

template <EncoderFamily kFamily>
bool Recognizes(const Json& j) {
  if (!j.is_object()) return false;
  for (const char* key : {"model_type", "architecture"})
    if (j.contains(key) && j[key].is_string()) return j[key].get<std::string>() == NameOf(kFamilies, kFamily);
  return false;
}

// Our own config, field by field as config() writes it.
Result<Config> ParseOurs(const Json& j, EncoderFamily family) {
  ConfigReader r(j);
  Config c;
  c.family = family;
  TERN_ASSIGN(c.head, ValueOf(kHeads, r.Text({"head"}), "head"));
  TERN_ASSIGN(c.activation, ValueOf(kActivations, r.Text({"hidden_act"}), "hidden_act"));
  TERN_ASSIGN(c.pooling, ValueOf(kPoolings, r.Text({"pooling"}, "mean"), "pooling"));
  c.d_embed = r.Int({"d_embed"}, 1, 65536);
  c.d_model = r.Int({"d_model"}, 1, 65536);
  c.n_layers = r.Int({"n_layers"}, 1, 4096);
  c.n_heads = r.Int({"n_heads"}, 1, 1024);
  c.d_inner = r.Int({"d_inner"}, 1, 1 << 20);
  c.max_positions = r.Int({"max_positions"}, 1, 16 << 20);
  c.layer_norm_epsilon = r.Float({"layer_norm_epsilon"}, 0, 1, 1e-12);
  c.n_labels = r.Int({"n_labels"}, 1, 65536, 2);
  c.pooler = r.Bool({"pooler"}, false);
  c.tied_decoder = r.Bool({"tied_decoder"}, true);
  c.normalize = r.Bool({"normalize"}, true);
  if (r.Has("labels") && j["labels"].is_array() && j["labels"].size() <= 65536)
    for (const Json& label : j["labels"])
      if (label.is_string()) c.labels.push_back(label.get<std::string>());
  TERN_RETURN_IF_ERROR(r.status());
  return c;
}

Result<Config> ParseHuggingFace(const Json& j, EncoderFamily family, const std::vector<ForeignTensor>& checkpoint) {
  ConfigReader r(j);
  Config c;
  c.family = family;
  std::string class_name;
  if (j.contains("architectures") && j["architectures"].is_array() && !j["architectures"].empty() && j["architectures"][0].is_string())
    class_name = j["architectures"][0].get<std::string>();
  TERN_ASSIGN(c.head, HeadOfClass(family, class_name));
  if (r.Text({"position_embedding_type"}, "absolute") != "absolute")
    return Malformed("this kind of positions is not supported").Where("config field 'position_embedding_type'").Got(Printable(r.Text({"position_embedding_type"}), 64), "absolute");
  const char* act = family == EncoderFamily::kDistilBert ? "activation" : "hidden_act";
  TERN_ASSIGN(c.activation, ValueOf(kActivations, r.Text({act}, family == EncoderFamily::kAlbert ? "gelu_new" : "gelu"), act));
  c.d_model = r.Int({"hidden_size", "dim"}, 1, 65536);
  c.d_embed = family == EncoderFamily::kAlbert ? r.Int({"embedding_size"}, 1, 65536, 128) : c.d_model;
  c.n_layers = r.Int({"num_hidden_layers", "n_layers"}, 1, 4096);
  c.n_heads = r.Int({"num_attention_heads", "n_heads"}, 1, 1024);
  c.d_inner = r.Int({"intermediate_size", "hidden_dim"}, 1, 1 << 20);
  c.max_positions = r.Int({"max_position_embeddings"}, 1, 16 << 20, 512);
  c.layer_norm_epsilon = family == EncoderFamily::kDistilBert ? 1e-12 : r.Float({"layer_norm_eps"}, 0, 1, 1e-12);
  c.labels = LabelsOf(j);
  c.n_labels = r.Int({"num_labels"}, 1, 65536, c.labels.empty() ? 2 : static_cast<int64_t>(c.labels.size()));
  c.tied_decoder = r.Bool({"tie_word_embeddings"}, true);
  c.pooler = (c.head == EncoderHead::kNone && HasPooler(family, checkpoint)) || c.head == EncoderHead::kPretraining ||
             ((c.head == EncoderHead::kSequence || c.head == EncoderHead::kChoice) && (family == EncoderFamily::kAlbert || family == EncoderFamily::kBert));
  // Added to the config by the converter from a sentence-transformers folder.
  TERN_ASSIGN(c.pooling, ValueOf(kPoolings, r.Text({"sentence_pooling"}, "mean"), "sentence_pooling"));
  c.normalize = r.Bool({"sentence_normalize"}, true);
  TERN_RETURN_IF_ERROR(r.status());
  return c;
}

template <EncoderFamily kFamily>
Result<std::shared_ptr<const Network>> Parse(const Json& j, const std::vector<ForeignTensor>& checkpoint) {
  ConfigReader r(j);
  Config c;
  if (r.Has("architecture")) {
    TERN_ASSIGN(c, ParseOurs(j, kFamily));
  } else {
    TERN_ASSIGN(c, ParseHuggingFace(j, kFamily, checkpoint));
  }
  c.vocab_size = r.Int({"vocab_size"}, 1, 4 << 20);
  c.pad_token_id = r.Int({"pad_token_id"}, 0, c.vocab_size - 1, kFamily == EncoderFamily::kRoberta ? 1 : 0);
  c.type_vocab_size = kFamily == EncoderFamily::kDistilBert ? 0 : r.Int({"type_vocab_size"}, 0, 65536, 2);
  c.n_groups = kFamily == EncoderFamily::kAlbert ? r.Int({"n_groups", "num_hidden_groups"}, 1, c.n_layers, 1) : 1;
  c.inner_group_num = kFamily == EncoderFamily::kAlbert ? r.Int({"inner_group_num"}, 1, 64, 1) : 1;
  c.max_length = r.Int({"max_length"}, 0, c.max_positions, 0);
  TERN_RETURN_IF_ERROR(r.status());
  if (c.d_model % c.n_heads != 0)
    return Malformed("must be a multiple of the number of heads").Where("config field 'hidden_size'").Got(c.d_model, Str("a multiple of ", c.n_heads));
  if (c.longest() < 1) return Malformed("leaves no position for a token").Where("config field 'max_position_embeddings'").Got(c.max_positions, Str("more than ", c.first_position()));
  return std::shared_ptr<const Network>(std::make_shared<Encoder>(std::move(c)));
}

}  // namespace

const Architecture kAlbert{"albert", "ALBERT: one shared block, factorised embeddings; all heads", Recognizes<EncoderFamily::kAlbert>, Parse<EncoderFamily::kAlbert>};
const Architecture kBert{"bert", "BERT, MiniLM and sentence encoders; all heads", Recognizes<EncoderFamily::kBert>, Parse<EncoderFamily::kBert>};
const Architecture kRoberta{"roberta", "RoBERTa; all heads", Recognizes<EncoderFamily::kRoberta>, Parse<EncoderFamily::kRoberta>};
const Architecture kDistilBert{"distilbert", "DistilBERT; all heads", Recognizes<EncoderFamily::kDistilBert>, Parse<EncoderFamily::kDistilBert>};

}  // namespace tern
