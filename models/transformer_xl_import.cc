#include "models/transformer_xl_import.h"

#include <cmath>

namespace tern {
namespace {

const ForeignTensor* Find(const std::vector<ForeignTensor>& checkpoint, const std::string& name) {
  for (const ForeignTensor& t : checkpoint)
    if (t.name == name) return &t;
  return nullptr;
}

// "transformer." in a TransfoXLLMHeadModel, nothing in the original module.
std::string Prefix(const std::vector<ForeignTensor>& checkpoint) {
  for (const ForeignTensor& t : checkpoint)
    if (t.name.starts_with("transformer.")) return "transformer.";
  return "";
}

std::string Name(std::string_view prefix, std::string_view list, int64_t i, std::string_view rest) { return Str(prefix, list, ".", i, rest); }

}  // namespace

Status CompleteTransformerXl(const Json& foreign, const std::vector<ForeignTensor>& checkpoint, TransformerXlConfig* c) {
  const size_t clusters = static_cast<size_t>(c->clusters());
  if (foreign.contains("model_type")) {  // Hugging Face
    if (c->tie_projs.empty()) {
      bool share = !foreign.contains("proj_share_all_but_first") || foreign["proj_share_all_but_first"] != false;
      c->tie_projs.assign(clusters, share);
      c->tie_projs[0] = false;
    }
    return {};
  }
  // The original module: what its parts carry, and what only shapes tell.
  auto part = [&](std::initializer_list<const char*> path) -> const Json* {
    const Json* at = &foreign;
    for (const char* key : path) {
      if (!at->is_object() || !at->contains(key)) return nullptr;
      at = &(*at)[key];
    }
    return at;
  };
  if (const Json* v = part({"word_emb", "cutoffs"}); v && v->is_array() && c->cutoffs.empty() && v->size() <= 64) {
    for (const Json& cutoff : *v)
      if (cutoff.is_number_integer() && cutoff > 0 && cutoff < c->vocab_size) c->cutoffs.push_back(cutoff.get<int64_t>());
  }
  if (const Json* v = part({"word_emb", "div_val"}); v && v->is_number_integer() && *v >= 1 && *v <= 1024) c->div_val = v->get<int64_t>();
  if (const Json* v = part({"layers", "0", "dec_attn", "pre_lnorm"}); v && v->is_boolean()) c->pre_lnorm = v->get<bool>();
  if (const Json* v = part({"layers", "0", "dec_attn", "layer_norm", "eps"}); v && v->is_number()) {
    c->layer_norm_epsilon = v->get<double>();
    if (!(c->layer_norm_epsilon >= 0 && c->layer_norm_epsilon <= 1))
      return Malformed("is out of range").Where("attribute 'layers.0.dec_attn.layer_norm.eps'").Got(c->layer_norm_epsilon, "a number from 0 to 1");
  }
  c->untie_r = !Find(checkpoint, "r_w_bias") && Find(checkpoint, "layers.0.dec_attn.r_w_bias");
  return {};
}

Result<Import> ImportTransformerXl(const TransformerXlConfig& c, const std::vector<ForeignTensor>& checkpoint) {
  const std::string model = Prefix(checkpoint);
  const std::string tables = model + "word_emb.emb_layers", projections = model + "word_emb.emb_projs";
  Import import;
  auto add = [&](std::string name, ImportRule::Part part) { import.rules.push_back({std::move(name), {std::move(part)}, {}}); };
  auto simple = [&](std::string name, std::vector<std::string> from) { add(std::move(name), {std::move(from)}); };

  for (int64_t i = 0; i < c.clusters(); ++i) {
    // With div_val 1 there is one table (and one row of biases) for all clusters; ours are its rows.
    const int64_t table = c.div_val == 1 ? 0 : i;
    ImportRule::Part rows;
    if (c.div_val == 1 && c.clusters() > 1) rows.first_row = c.cluster_begin(i), rows.rows = c.cluster_size(i);

    const std::string in = Name("", tables, table, ".weight"), out = Name("", "crit.out_layers", table, ".weight");
    rows.alternatives = c.tie_weight ? std::vector<std::string>{in, out} : std::vector<std::string>{in};
    add(Str("embed.table.", i), rows);
    if (!c.tie_weight) {
      rows.alternatives = {out};
      add(Str("head.table.", i), rows);
    }
    rows.alternatives = {Name("", "crit.out_layers", table, ".bias")};
    add(Str("head.bias.", i), rows);

    if (!c.projected()) continue;
    const bool tied = c.tie_projs[static_cast<size_t>(i)];
    const std::string in_projection = Str(projections, ".", table), out_projection = Str("crit.out_projs.", i);
    if (c.div_val > 1 || i == 0)
      simple(Str("embed.projection.", i), tied ? std::vector<std::string>{in_projection, out_projection} : std::vector<std::string>{in_projection});
    ImportRule::Part part{tied ? std::vector<std::string>{out_projection, in_projection} : std::vector<std::string>{out_projection}};
    part.transposed = true;  // stored [d_model, d_embed], applied as hidden . projection
    add(Str("head.projection.", i), part);
  }
  if (c.clusters() > 1) {
    simple("head.cluster.weight", {"crit.cluster_weight"});
    simple("head.cluster.bias", {"crit.cluster_bias"});
  }

  import.rules.push_back({"inv_freq", {{{model + "pos_emb.inv_freq"}}}, [d = c.d_model] {
                            std::vector<float> f(static_cast<size_t>(d / 2));
                            for (size_t k = 0; k < f.size(); ++k)
                              f[k] = 1.0f / static_cast<float>(std::pow(10000.0, static_cast<float>(2 * k) / static_cast<float>(d)));
                            return f;
                          }});
  for (auto [ours, theirs] : {std::pair{"u", "r_w_bias"}, std::pair{"v", "r_r_bias"}}) {
    std::vector<std::string> shared{model + theirs};  // one for all layers may be named by any of them
    for (int64_t l = 0; l < c.n_layers; ++l) {
      std::string own = Str(model, "layers.", l, ".dec_attn.", theirs);
      if (c.untie_r) simple(Str("layers.", l, ".attention.", ours), {own});
      shared.push_back(own);
    }
    if (!c.untie_r) simple(ours, shared);
  }
  static constexpr std::pair<const char*, const char*> kLayer[] = {
      {"attention.qkv", "dec_attn.qkv_net.weight"},          {"attention.r", "dec_attn.r_net.weight"},
      {"attention.o", "dec_attn.o_net.weight"},              {"attention.norm.gamma", "dec_attn.layer_norm.weight"},
      {"attention.norm.beta", "dec_attn.layer_norm.bias"},   {"ff.in.weight", "pos_ff.CoreNet.0.weight"},
      {"ff.in.bias", "pos_ff.CoreNet.0.bias"},               {"ff.out.weight", "pos_ff.CoreNet.3.weight"},
      {"ff.out.bias", "pos_ff.CoreNet.3.bias"},              {"ff.norm.gamma", "pos_ff.layer_norm.weight"},
      {"ff.norm.beta", "pos_ff.layer_norm.bias"}};
  for (int64_t l = 0; l < c.n_layers; ++l)
    for (auto [ours, theirs] : kLayer) simple(Str("layers.", l, ".", ours), {Str(model, "layers.", l, ".", theirs)});
  return import;
}

}  // namespace tern
