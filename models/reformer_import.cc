#include "models/reformer_import.h"

namespace tern {
namespace {

class Importer {
 public:
  explicit Importer(const ReformerConfig& c) : c_(c) {}

  Import Make() {
    Body("embed.words", "embeddings.word_embeddings.weight");
    if (c_.axial)
      for (size_t a = 0; a < c_.axial_shape.size(); ++a) Body(Str("embed.positions.", a), Str("embeddings.position_embeddings.weights.", a));
    else
      Body("embed.positions", "embeddings.position_embeddings.embedding.weight");
    for (size_t l = 0; l < c_.lsh_layers.size(); ++l) Layer(Str("layers.", l, "."), Str("encoder.layers.", l, "."), c_.lsh_layers[l]);
    Norm("norm", "encoder.layer_norm");
    Head();
    // Constants that older files hold as buffers, and heads that a bare model does not read.
    import_.ignore = {"*mask_value_float16", "*mask_value_float32"};
    if (c_.head == ReformerHead::kNone)
      for (const char* head : {"lm_head.*", "qa_outputs.*", "classifier.*"}) import_.ignore.push_back(head);
    return std::move(import_);
  }

 private:
  void Add(std::string ours, std::vector<std::string> alternatives) {
    ImportRule rule{std::move(ours), {}, {}};
    rule.parts.push_back({std::move(alternatives)});
    import_.rules.push_back(std::move(rule));
  }
  // Of the model itself: with its prefix, or without in the file of a bare one.
  void Body(std::string ours, const std::string& theirs) { Add(std::move(ours), {"reformer." + theirs, theirs}); }
  void Norm(const std::string& ours, const std::string& theirs) {
    Body(ours + ".gamma", theirs + ".weight");
    Body(ours + ".beta", theirs + ".bias");
  }
  void Layer(const std::string& ours, const std::string& theirs, bool lsh) {
    Norm(ours + "attention.norm", theirs + "attention.layer_norm");
    const std::string self = theirs + "attention.self_attention.";
    if (lsh) Body(ours + "attention.qk", self + "query_key.weight");
    else Body(ours + "attention.q", self + "query.weight"), Body(ours + "attention.k", self + "key.weight");
    Body(ours + "attention.v", self + "value.weight");
    Body(ours + "attention.o", theirs + "attention.output.dense.weight");
    Norm(ours + "ff.norm", theirs + "feed_forward.layer_norm");
    for (const char* what : {"weight", "bias"}) {
      Body(Str(ours, "ff.in.", what), Str(theirs, "feed_forward.dense.dense.", what));
      Body(Str(ours, "ff.out.", what), Str(theirs, "feed_forward.output.dense.", what));
    }
  }
  void Linear(const std::string& ours, const std::string& theirs) {
    Add(ours + ".weight", {theirs + ".weight"});
    Add(ours + ".bias", {theirs + ".bias"});
  }
  void Head() {
    switch (c_.head) {
      case ReformerHead::kNone: return;
      case ReformerHead::kLm:
      case ReformerHead::kMaskedLm:
        Add("head.weight", {"lm_head.decoder.weight"});
        return Add("head.bias", {"lm_head.bias", "lm_head.decoder.bias"});
      case ReformerHead::kQuestion: return Linear("classifier", "qa_outputs");
      case ReformerHead::kSequence:
        Linear("pre_classifier", "classifier.dense");
        return Linear("classifier", "classifier.out_proj");
    }
  }

  const ReformerConfig& c_;
  Import import_;
};

}  // namespace

Result<ReformerHead> ReformerHeadOfClass(std::string_view name) {
  static constexpr std::pair<std::string_view, ReformerHead> kClasses[] = {{"ReformerModel", ReformerHead::kNone},
                                                                          {"ReformerModelWithLMHead", ReformerHead::kLm},
                                                                          {"ReformerForMaskedLM", ReformerHead::kMaskedLm},
                                                                          {"ReformerForQuestionAnswering", ReformerHead::kQuestion},
                                                                          {"ReformerForSequenceClassification", ReformerHead::kSequence}};
  if (name.empty()) return ReformerHead::kNone;
  std::string known;
  for (const auto& [class_name, head] : kClasses) {
    if (name == class_name) return head;
    known += (known.empty() ? "" : ", ") + std::string(class_name);
  }
  return Malformed("this class is not supported").Where("config field 'architectures'").Got(Printable(name, 64), Str("one of ", known));
}

Import ImportReformer(const ReformerConfig& c) { return Importer(c).Make(); }

}  // namespace tern
