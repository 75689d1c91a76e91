#include "models/infinite_former_import.h"

#include "models/transformer_xl_import.h"

namespace tern {
namespace {

constexpr std::string_view kTables = "layers.0.dec_attn.long_term_attention.";  // the same in every layer

struct Table {
  std::string ours, theirs;
  Shape shape;
};
std::vector<Table> TablesOf(const LongTermMemory& m) {
  auto one = [](const char* ours, std::string theirs, Shape shape) { return Table{Str("memory_tables.", ours), Str(kTables, theirs), shape}; };
  return {one("fit", Str("Gs.", m.length), {m.length, m.basis}), one("update", "G_inf", {m.samples + m.length, m.basis}), one("samples", "samples", {m.samples, m.basis}),
          one("centers", "basis_mu", {m.basis}), one("widths", "basis_sigma", {m.basis})};
}

}  // namespace

bool HasMemoryTables(const InfiniteFormerConfig& c, const std::vector<ForeignTensor>& checkpoint) {
  if (c.on_gpt2() || c.memory.length != c.xl.tgt_len) return false;  // a first fit of another length needs tables of its own
  for (const Table& wanted : TablesOf(c.memory)) {
    bool found = false;
    for (const ForeignTensor& t : checkpoint) found = found || (t.attribute && t.name == wanted.theirs && t.shape == wanted.shape);
    if (!found) return false;
  }
  return true;
}

Result<Import> ImportInfiniteFormer(const InfiniteFormerConfig& c, const std::vector<ForeignTensor>& checkpoint) {
  Import import;
  std::string layer;
  if (c.on_gpt2()) {
    import = ImportGpt2(c.gpt2, checkpoint);
    layer = ".attn.long_term_attention.";
  } else {
    TERN_ASSIGN(import, ImportTransformerXl(c.xl, checkpoint));
    std::erase_if(import.rules, [](const ImportRule& rule) { return rule.name.starts_with("head."); });
    import.rules.push_back({"head", {{{"proj_output.weight"}}}, {}});
    layer = ".dec_attn.long_term_attention.";
  }
  std::string prefix = "layers.";
  if (c.on_gpt2()) {
    prefix = "h.";
    for (const ForeignTensor& t : checkpoint)
      if (t.name.starts_with("transformer.")) prefix = "transformer.h.";
  }
  const LongTermMemory& m = c.memory;
  for (int64_t l = 0; l < c.n_layers() && c.long_term_attention; ++l) {
    auto add = [&](const char* name, const char* theirs) { import.rules.push_back({Str("layers.", l, ".memory.", name), {{{Str(prefix, l, layer, theirs)}}}, {}}); };
    add("key", "proj_key.weight"), add("value", "proj_value.weight"), add("out", "attn_out.weight");
    if (m.affines) add("mu", "mu.weight"), add("sigma", "sigma.weight");
    if (m.mask != MemoryMask::kNone) add("mask.weight", "mask_net.weight"), add("mask.bias", "mask_net.bias");
  }
  if (m.imported)
    for (const Table& t : TablesOf(m)) import.rules.push_back({t.ours, {{{t.theirs}}}, {}});
  for (const char* unused : {"*proj_query.weight", "*qkv_net_.weight"}) import.ignore.push_back(unused);
  return import;
}

}  // namespace tern
