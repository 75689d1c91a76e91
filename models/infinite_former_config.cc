#include "models/infinite_former_config.h"

#include <algorithm>

#include "engine/base/checked.h"
#include "models/config.h"
#include "models/infinite_former_import.h"

namespace tern {
namespace {

using Config = InfiniteFormerConfig;

constexpr std::pair<MemoryHost, std::string_view> kHosts[] = {{MemoryHost::kTransformerXl, "transformer-xl"}, {MemoryHost::kGpt2, "gpt2"}, {MemoryHost::kDocument, "document"}};

bool Is(const Json& j, const char* key, std::string_view value) { return j.contains(key) && j[key].is_string() && j[key].get<std::string>() == value; }
bool True(const Json& j, const char* key) { return j.contains(key) && j[key] == true; }

Status Bad(std::string_view field, std::string what) { return Malformed(std::move(what)).Where(Str("config field '", field, "'")); }

// The object at a path of keys, or null.
const Json* Part(const Json& j, std::initializer_list<const char*> path) {
  const Json* at = &j;
  for (const char* key : path) {
    if (!at->is_object() || !at->contains(key)) return nullptr;
    at = &(*at)[key];
  }
  return at;
}

// The attributes of a pickled MemTransformerLM under the names that a config of it has.
Json FromModule(const Json& j, const std::vector<ForeignTensor>& checkpoint) {
  Json out;
  auto take = [&](const Json* from, std::initializer_list<std::pair<const char*, const char*>> names) {
    if (!from || !from->is_object()) return;
    for (auto [theirs, name] : names)
      if (from->contains(theirs)) out[name] = (*from)[theirs];
  };
  for (const char* same : {"n_token", "d_embed", "d_model", "n_head", "d_head", "n_layer", "tgt_len", "mem_len", "augment_len", "ext_len", "attn_type", "same_length", "clamp_len"})
    take(&j, {{same, same}});
  take(&j, {{"use_long_term_attention", "long_term_attention"}});
  take(Part(j, {"layers", "0", "dec_attn"}), {{"pre_lnorm", "pre_lnorm"}});
  take(Part(j, {"layers", "0", "dec_attn", "layer_norm"}), {{"eps", "layer_norm_epsilon"}});
  take(Part(j, {"word_emb"}), {{"div_val", "div_val"}});
  take(Part(j, {"layers", "0", "dec_attn", "long_term_attention"}), {{"attn_num_basis", "long_term_attention_basis"},
                                                                     {"attn_func", "long_term_attention_norm"},
                                                                     {"infinite_memory", "infinite_memory"},
                                                                     {"mask", "mask"},
                                                                     {"mask_type", "mask_type"},
                                                                     {"length", "augment_len"},
                                                                     {"nb_samples", "ltm_nb_samples"},
                                                                     {"tau", "ltm_tau"},
                                                                     {"ridge_penalty", "ltm_ridge_penalty"}});
  for (const ForeignTensor& t : checkpoint)
    if (t.name == "layers.0.pos_ff.CoreNet.0.weight" && t.shape.rank() == 2) out["d_inner"] = t.shape[0];
  return out;
}

Status ReadHost(const Json& json, Config* c) {
  if (c->on_gpt2()) {
    TERN_ASSIGN(c->gpt2, ReadGpt2Config(json));
    return {};
  }
  ConfigReader r(json);
  TransformerXlConfig& x = c->xl;
  if (int64_t type = r.Int({"attn_type"}, 0, 3, 0); type != 0) return Bad("attn_type", "this kind of attention is not supported").Got(type, "0");
  if (int64_t ext = r.Int({"ext_len"}, 0, 1 << 24, 0); ext != 0) return Bad("ext_len", "extended context is not supported").Got(ext, "0");
  if (int64_t div = r.Int({"div_val"}, 1, 1024, 1); div != 1) return Bad("div_val", "an adaptive embedding is not supported here").Got(div, "1");
  x.vocab_size = r.Int({"vocab_size", "n_token"}, 1, 4 << 20);
  x.d_model = r.Int({"d_model"}, 2, 65536);
  x.d_embed = r.Int({"d_embed"}, 1, 65536, x.d_model);
  x.n_heads = r.Int({"n_heads", "n_head"}, 1, 1024);
  x.d_head = r.Int({"d_head"}, 1, 4096);
  x.d_inner = r.Int({"d_inner"}, 1, 1 << 20);
  x.n_layers = r.Int({"n_layers", "n_layer"}, 1, 4096);
  x.pre_lnorm = r.Bool({"pre_lnorm"}, false);
  x.same_length = r.Bool({"same_length"}, false);
  x.mem_len = r.Int({"mem_len"}, 1, 1 << 20);
  x.clamp_len = r.Int({"clamp_len"}, -1, 16 << 20, -1);
  if (x.clamp_len == 0) x.clamp_len = -1;
  x.tgt_len = x.segment = r.Int({"tgt_len"}, 1, 1 << 20);
  x.layer_norm_epsilon = r.Float({"layer_norm_epsilon"}, 0, 1, 1e-5);
  TERN_RETURN_IF_ERROR(r.status());
  x.untie_r = false, x.zero_memory = false, x.tie_weight = false;
  x.tie_projs = {false};
  return CheckTransformerXl(x);
}

Status ReadWidths(const Json& json, LongTermMemory* m, std::initializer_list<double> otherwise) {
  std::vector<double> widths(otherwise);
  if (json.contains("ltm_sigmas") && !json["ltm_sigmas"].is_null()) {
    widths.clear();
    const Json& list = json["ltm_sigmas"];
    if (!list.is_array() || list.empty() || list.size() > LongTermMemory::kMostWidths)
      return Bad("ltm_sigmas", "must be a list of widths").Got(DumpJson(list).substr(0, 64), Str("1 to ", LongTermMemory::kMostWidths, " numbers"));
    for (const Json& w : list) {
      // Narrower ones would be zero between two samples.
      if (!w.is_number() || !(w.get<double>() >= 1e-6 && w.get<double>() <= 100)) return Bad("ltm_sigmas", "a width of the basis is out of range").Got(DumpJson(w).substr(0, 64), "0.000001 to 100");
      widths.push_back(w.get<double>());
    }
  }
  m->n_widths = static_cast<int>(widths.size());
  std::copy(widths.begin(), widths.end(), m->widths.begin());
  return {};
}

Status ReadMemory(const Json& json, Config* c) {
  ConfigReader r(json);
  LongTermMemory& m = c->memory;
  const bool xl = !c->on_gpt2();
  m.heads = xl ? c->xl.n_heads : c->gpt2.n_heads;
  m.head_width = xl ? c->xl.d_head : c->gpt2.head_width();
  m.basis = r.Int({"long_term_attention_basis"}, 1, 4096);
  m.length = xl ? r.Int({"augment_len"}, 2, 65536) : r.Int({"ltm_length"}, 2, 65536, 512);
  m.short_memory = xl ? c->xl.mem_len : 0;
  m.samples = r.Int({"ltm_nb_samples"}, 1, 16384, 512);
  m.tau = r.Float({"ltm_tau"}, 1e-6, 1 - 1e-6, xl ? 0.75 : 0.5);
  m.ridge = r.Float({"ltm_ridge_penalty"}, 1e-9, 1e9, xl ? 1 : 0.5);
  m.least_variance = r.Float({"ltm_sigma_sq_min"}, 1e-12, 100, xl ? 1e-6 : 1e-4);
  m.affines = r.Bool({"affines"}, true) || xl;
  m.sticky = !xl && r.Bool({"sticky_memories"}, false);
  const std::string norm = r.Text({"long_term_attention_norm"}, "softmax"), mask_type = r.Text({"mask_type"}, "cnn");
  const bool infinite = r.Bool({"infinite_memory"}, true), mask = r.Bool({"mask"}, false), continuous = r.Bool({"continuous"}, true);
  c->mem_threshold = c->host == MemoryHost::kGpt2 ? r.Int({"ltm_mem_threshold"}, 0, int64_t{1} << 40, 2048) : 0;
  if (r.Has("sticky_choice") && r.Text({"sticky_choice"}) == "draws") m.choice = StickyChoice::kDraws;
  m.seed = static_cast<uint64_t>(r.Int({"sticky_seed"}, 0, INT64_MAX, 0));
  TERN_RETURN_IF_ERROR(r.status());
  TERN_RETURN_IF_ERROR(xl ? ReadWidths(json, &m, {0.01, 0.05}) : ReadWidths(json, &m, {0.005, 0.01}));

  if (norm != "softmax" && norm != "sparsemax") return Bad("long_term_attention_norm", "is not known").Got(Str("'", Printable(norm, 64), "'"), "softmax or sparsemax");
  m.sparsemax = norm == "sparsemax";
  if (mask && mask_type == "cnn") m.mask = MemoryMask::kConvolution;
  else if (mask && mask_type == "affine" && !xl) m.mask = MemoryMask::kAffine;
  else if (mask) return Bad("mask_type", "is not known").Got(Str("'", Printable(mask_type, 64), "'"), xl ? "cnn" : "cnn or affine");
  if (!continuous) return Bad("continuous", "a memory that is not continuous is not supported (the public code has none either)");
  if (!infinite && c->host != MemoryHost::kGpt2) return Bad("infinite_memory", "only the GPT-2 fine-tune can have a finite memory");
  m.calls_per_fit = !infinite ? 1 : CeilDiv(c->mem_threshold, m.length);
  if (m.basis % m.n_widths != 0)
    return Bad("long_term_attention_basis", "the number of basis functions must be a multiple of the number of widths").Got(m.basis, Str("a multiple of ", m.n_widths));
  if (m.width() != c->d_model()) return Bad("d_head", "n_head x d_head must be the model's width: its rows are the memory's").Got(m.width(), c->d_model());
  if (xl && (c->xl.mem_len % c->xl.tgt_len != 0)) return Bad("mem_len", "must be a multiple of tgt_len").Got(c->xl.mem_len, Str("a multiple of ", c->xl.tgt_len));
  if (xl && m.length != c->xl.tgt_len && m.length != 2 * c->xl.tgt_len)
    return Bad("augment_len", "must be tgt_len or twice that").Got(m.length, Str(c->xl.tgt_len, " or ", 2 * c->xl.tgt_len));
  if (!xl && c->gpt2.n_positions < m.length) return Bad("ltm_length", "a block has more tokens than there are positions").Got(m.length, Str("at most ", c->gpt2.n_positions));
  if (!xl) c->gpt2.n_context = m.length;
  // Making the tables takes about this many multiply-adds, once.
  if (m.basis * m.basis * 2 * (m.samples + m.length) > (int64_t{1} << 37))
    return Bad("long_term_attention_basis", "the memory is too large: its regression tables would take minutes to make").Got(Str(m.basis, " functions, ", m.length, " rows"), "fewer");
  return {};
}

}  // namespace

bool RecognizesInfiniteFormer(const Json& j) {
  if (!j.is_object()) return false;
  if (Is(j, "model_type", kInfiniteFormerName) || Is(j, "architecture", kInfiniteFormerName)) return true;
  if (True(j, "long_term_attention") && (Is(j, "model_type", "gpt2") || Is(j, "model_type", "gpt2-medium"))) return true;
  return !j.contains("model_type") && j.contains("n_token") && j.contains("use_long_term_attention");  // a pickled module
}

Result<InfiniteFormerConfig> ReadInfiniteFormerConfig(const Json& given, const std::vector<ForeignTensor>& checkpoint) {
  const bool ours = given.contains("architecture");
  Config c;
  Json json = given;
  if (ours) {
    ConfigReader r(given);
    const std::string host = r.Text({"host"});
    TERN_RETURN_IF_ERROR(r.status());
    bool known = false;
    for (auto [value, name] : kHosts)
      if (name == host) c.host = value, known = true;
    if (!known) return Bad("host", "is not known").Got(Str("'", Printable(host, 64), "'"), "transformer-xl, gpt2 or document");
  } else if (Is(given, "model_type", kInfiniteFormerName)) {
    c.host = MemoryHost::kTransformerXl;
  } else if (given.contains("model_type")) {
    c.host = given.contains("continuous") || given.contains("affines") ? MemoryHost::kGpt2 : MemoryHost::kDocument;
    if (c.host == MemoryHost::kDocument)  // its code has no such options
      for (const char* key : {"mask_type", "infinite_memory"}) json.erase(key);
  } else {
    json = FromModule(given, checkpoint);
  }
  TERN_RETURN_IF_ERROR(ReadHost(json, &c));
  ConfigReader r(json);
  c.long_term_attention = r.Bool({"long_term_attention"}, true);
  TERN_RETURN_IF_ERROR(r.status());
  if (!c.long_term_attention && c.on_gpt2()) return Bad("long_term_attention", "a GPT-2 without the memory is a plain GPT-2");
  if (c.long_term_attention) TERN_RETURN_IF_ERROR(ReadMemory(json, &c));
  c.memory.imported = c.long_term_attention && (ours ? json.contains("imported_tables") && json["imported_tables"] == true : HasMemoryTables(c, checkpoint));
  return c;
}

Json WriteInfiniteFormerConfig(const InfiniteFormerConfig& c) {
  Json out = {{"architecture", kInfiniteFormerName}, {"long_term_attention", c.long_term_attention}};
  for (auto [value, name] : kHosts)
    if (value == c.host) out["host"] = name;
  if (c.on_gpt2()) {
    WriteGpt2Config(c.gpt2, &out);
  } else {
    const TransformerXlConfig& x = c.xl;
    out.update({{"vocab_size", x.vocab_size}, {"d_model", x.d_model}, {"d_embed", x.d_embed}, {"n_heads", x.n_heads}, {"d_head", x.d_head},
                {"d_inner", x.d_inner}, {"n_layers", x.n_layers}, {"pre_lnorm", x.pre_lnorm}, {"same_length", x.same_length}, {"mem_len", x.mem_len},
                {"clamp_len", x.clamp_len}, {"tgt_len", x.tgt_len}, {"layer_norm_epsilon", x.layer_norm_epsilon}});
  }
  if (!c.long_term_attention) return out;
  const LongTermMemory& m = c.memory;
  out.update({{"long_term_attention_basis", m.basis},
              {"long_term_attention_norm", m.sparsemax ? "sparsemax" : "softmax"},
              {"infinite_memory", m.calls_per_fit != 1},
              {"mask", m.mask != MemoryMask::kNone},
              {"mask_type", m.mask == MemoryMask::kAffine ? "affine" : "cnn"},
              {"affines", m.affines},
              {"sticky_memories", m.sticky},
              {c.on_gpt2() ? "ltm_length" : "augment_len", m.length},
              {"ltm_sigmas", std::vector<double>(m.widths.begin(), m.widths.begin() + m.n_widths)},
              {"ltm_tau", m.tau},
              {"ltm_ridge_penalty", m.ridge},
              {"ltm_nb_samples", m.samples},
              {"ltm_sigma_sq_min", m.least_variance},
              {"imported_tables", m.imported}});
  if (c.host == MemoryHost::kGpt2) out["ltm_mem_threshold"] = c.mem_threshold;
  if (m.sticky) out["sticky_choice"] = m.choice == StickyChoice::kDraws ? "draws" : "systematic", out["sticky_seed"] = m.seed;
  return out;
}

}  // namespace tern
