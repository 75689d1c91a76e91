#include "models/encoder_import.h"

namespace tern {
namespace {

// Names of one family: what stands before the encoder, and the parts of a block.
struct Names {
  std::string_view prefix;       // of task models; bare ones leave it out
  std::string_view class_prefix;  // "Albert" in AlbertForMaskedLM
  std::string_view embeddings;
  std::string_view pooler;       // empty: none
  // Within a block:
  std::string_view q, k, v, o, attention_norm, ff_in, ff_out, norm;
  // Of the masked language model's head:
  std::string_view transform, transform_norm, decoder, decoder_bias;
};

constexpr Names kAlbertNames{"albert.", "Albert", "embeddings", "pooler", "attention.query", "attention.key", "attention.value", "attention.dense", "attention.LayerNorm",
                             "ffn", "ffn_output", "full_layer_layer_norm", "predictions.dense", "predictions.LayerNorm", "predictions.decoder", "predictions.bias"};
constexpr Names kBertNames{"bert.", "Bert", "embeddings", "pooler.dense", "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
                           "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm", "cls.predictions.transform.dense",
                           "cls.predictions.transform.LayerNorm", "cls.predictions.decoder", "cls.predictions.bias"};
constexpr Names kRobertaNames{"roberta.", "Roberta", "embeddings", "pooler.dense", "attention.self.query", "attention.self.key", "attention.self.value",
                              "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm", "lm_head.dense",
                              "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias"};
constexpr Names kDistilBertNames{"distilbert.", "DistilBert", "embeddings", "", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm",
                                 "ffn.lin1", "ffn.lin2", "output_layer_norm", "vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector.bias"};

const Names& NamesOf(EncoderFamily family) {
  switch (family) {
    case EncoderFamily::kAlbert: return kAlbertNames;
    case EncoderFamily::kBert: return kBertNames;
    case EncoderFamily::kRoberta: return kRobertaNames;
    case EncoderFamily::kDistilBert: return kDistilBertNames;
  }
  return kBertNames;
}

class Importer {
 public:
  Importer(const EncoderConfig& c) : c_(c), n_(NamesOf(c.family)) {}  // NOLINT

  Import Make() {
    const std::string e(n_.embeddings);
    Body("embed.words", e + ".word_embeddings.weight");
    if (c_.type_vocab_size > 0) Body("embed.types", e + ".token_type_embeddings.weight");
    Body("embed.positions", e + ".position_embeddings.weight");
    Norm("embed.norm", e + ".LayerNorm");
    if (c_.family == EncoderFamily::kAlbert) {
      Linear("embed.mapping", "encoder.embedding_hidden_mapping_in");
      for (int64_t g = 0; g < c_.n_groups; ++g)
        for (int64_t j = 0; j < c_.inner_group_num; ++j) Block(Str("groups.", g, ".inner.", j), Str("encoder.albert_layer_groups.", g, ".albert_layers.", j));
    } else {
      const std::string_view layers = c_.family == EncoderFamily::kDistilBert ? "transformer.layer." : "encoder.layer.";
      for (int64_t l = 0; l < c_.n_layers; ++l) Block(Str("layers.", l), Str(layers, l));
    }
    if (c_.pooler) Linear("pooler", std::string(n_.pooler));
    Head();
    Ignore();
    return std::move(import_);
  }

 private:
  // A tensor of the encoder itself stands with the family's prefix in task models, without in bare ones; old files say gamma and beta.
  std::vector<std::string> Alternatives(const std::string& name, bool body) const {
    std::vector<std::string> out;
    auto add = [&](const std::string& n) {
      if (body) out.push_back(std::string(n_.prefix) + n);
      out.push_back(n);
    };
    add(name);
    if (name.find("orm.weight") != std::string::npos) add(name.substr(0, name.size() - 6) + "gamma");
    if (name.find("orm.bias") != std::string::npos) add(name.substr(0, name.size() - 4) + "beta");
    return out;
  }
  void Add(std::string ours, std::vector<std::vector<std::string>> parts) {
    ImportRule rule{std::move(ours), {}, {}};
    for (auto& alternatives : parts) rule.parts.push_back({std::move(alternatives)});
    import_.rules.push_back(std::move(rule));
  }
  void Body(std::string ours, const std::string& theirs) { Add(std::move(ours), {Alternatives(theirs, true)}); }
  void Linear(const std::string& ours, const std::string& theirs) {
    Body(ours + ".weight", theirs + ".weight");
    Body(ours + ".bias", theirs + ".bias");
  }
  void Norm(const std::string& ours, const std::string& theirs) {
    Body(ours + ".gamma", theirs + ".weight");
    Body(ours + ".beta", theirs + ".bias");
  }
  void Block(const std::string& ours, const std::string& theirs) {
    for (const char* what : {"weight", "bias"}) {
      auto name = [&](std::string_view part) { return Alternatives(Str(theirs, ".", part, ".", what), true); };
      Add(Str(ours, ".qkv.", what), {name(n_.q), name(n_.k), name(n_.v)});
    }
    Linear(ours + ".o", Str(theirs, ".", n_.o));
    Norm(ours + ".attention_norm", Str(theirs, ".", n_.attention_norm));
    Linear(ours + ".ff_in", Str(theirs, ".", n_.ff_in));
    Linear(ours + ".ff_out", Str(theirs, ".", n_.ff_out));
    Norm(ours + ".norm", Str(theirs, ".", n_.norm));
  }
  // Of the head: no prefix.
  void HeadLinear(const std::string& ours, const std::string& theirs) {
    Add(ours + ".weight", {{theirs + ".weight"}});
    Add(ours + ".bias", {{theirs + ".bias"}});
  }
  void MaskedLm() {
    HeadLinear("head.transform", std::string(n_.transform));
    for (auto [ours, theirs] : {std::pair{"head.norm.gamma", ".weight"}, std::pair{"head.norm.beta", ".bias"}})
      Add(ours, {Alternatives(std::string(n_.transform_norm) + theirs, false)});
    Add("head.bias", {{std::string(n_.decoder_bias), std::string(n_.decoder) + ".bias"}});
    const std::string decoder = std::string(n_.decoder) + ".weight";
    if (c_.tied_decoder) import_.rules[0].parts[0].alternatives.push_back(decoder);
    else Add("head.decoder", {{decoder}});
  }
  void Head() {
    switch (c_.head) {
      case EncoderHead::kNone: return;
      case EncoderHead::kMaskedLm: return MaskedLm();
      case EncoderHead::kPretraining:
        MaskedLm();
        return HeadLinear("order", c_.family == EncoderFamily::kAlbert ? "sop_classifier.classifier" : "cls.seq_relationship");
      case EncoderHead::kQuestion: return HeadLinear("classifier", "qa_outputs");
      case EncoderHead::kToken: return HeadLinear("classifier", "classifier");
      case EncoderHead::kSequence:
      case EncoderHead::kChoice:
        if (c_.family == EncoderFamily::kRoberta && c_.head == EncoderHead::kSequence) {
          HeadLinear("pre_classifier", "classifier.dense");
          return HeadLinear("classifier", "classifier.out_proj");
        }
        if (c_.family == EncoderFamily::kDistilBert) HeadLinear("pre_classifier", "pre_classifier");
        return HeadLinear("classifier", "classifier");
    }
  }
  // Buffers, and parts that a head of this kind does not read.
  void Ignore() {
    import_.ignore = {"*position_ids", "*token_type_ids"};
    if (!c_.pooler && !n_.pooler.empty()) import_.ignore.insert(import_.ignore.end(), {Str("*", n_.pooler, ".weight"), Str("*", n_.pooler, ".bias")});
    if (c_.head == EncoderHead::kNone)  // the bare encoder of a checkpoint that has a head
      for (const char* head : {"cls.*", "predictions.*", "sop_classifier.*", "lm_head.*", "vocab_*"}) import_.ignore.push_back(head);
    if (c_.head == EncoderHead::kMaskedLm)
      for (const char* head : {"cls.seq_relationship.*", "sop_classifier.*"}) import_.ignore.push_back(head);
  }

  const EncoderConfig& c_;
  const Names& n_;
  Import import_;
};

}  // namespace

Result<EncoderHead> HeadOfClass(EncoderFamily family, std::string_view name) {
  const std::string_view prefix = NamesOf(family).class_prefix;
  static constexpr std::pair<std::string_view, EncoderHead> kClasses[] = {{"Model", EncoderHead::kNone},
                                                                          {"ForMaskedLM", EncoderHead::kMaskedLm},
                                                                          {"ForPreTraining", EncoderHead::kPretraining},
                                                                          {"ForSequenceClassification", EncoderHead::kSequence},
                                                                          {"ForTokenClassification", EncoderHead::kToken},
                                                                          {"ForQuestionAnswering", EncoderHead::kQuestion},
                                                                          {"ForMultipleChoice", EncoderHead::kChoice}};
  if (name.empty()) return EncoderHead::kNone;
  std::string known;
  for (const auto& [suffix, head] : kClasses) {
    if (name == Str(prefix, suffix)) return head;
    known += (known.empty() ? "" : ", ") + Str(prefix, suffix);
  }
  return Malformed("this class is not supported").Where("config field 'architectures'").Got(Printable(name, 64), Str("one of ", known));
}

bool HasPooler(EncoderFamily family, const std::vector<ForeignTensor>& checkpoint) {
  const Names& n = NamesOf(family);
  if (n.pooler.empty()) return false;
  for (const ForeignTensor& t : checkpoint)
    if (t.name == Str(n.pooler, ".weight") || t.name == Str(n.prefix, n.pooler, ".weight")) return true;
  return false;
}

Result<Import> ImportEncoder(const EncoderConfig& c, const std::vector<ForeignTensor>& checkpoint) {
  for (const ForeignTensor& t : checkpoint)
    if (t.name.find("/kernel") != std::string::npos)
      return Malformed("these are TensorFlow names").Where(Str("tensor '", Printable(t.name), "'")).Hint("Convert the checkpoint to PyTorch first");
  return Importer(c).Make();
}

}  // namespace tern
