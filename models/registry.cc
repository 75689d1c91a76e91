#include "models/registry.h"

#include <unordered_map>

#include "models/encoder.h"
#include "models/gpt2.h"
#include "models/infinite_former.h"
#include "models/performer.h"
#include "models/reformer.h"
#include "models/retro.h"
#include "models/t5.h"
#include "models/transformer_xl.h"

namespace tern {

std::span<const Architecture* const> Architectures() {
  static const Architecture* const kAll[] = {&kInfiniteFormer, &kTransformerXl, &kAlbert,    &kBert,     &kRoberta,
                                             &kDistilBert,     &kGpt2,          &kRetro, &kPerformer, &kReformer,
                                             &kT5,             &kSwitch};
  return kAll;
}

const Architecture* FindArchitecture(std::string_view name) {
  for (const Architecture* a : Architectures())
    if (a->name == name) return a;
  return nullptr;
}

Result<const Architecture*> RecognizeArchitecture(const Json& foreign_config) {
  std::string known;
  for (const Architecture* a : Architectures()) {
    if (a->recognizes(foreign_config)) return a;
    known += (known.empty() ? "" : ", ") + std::string(a->name);
  }
  std::string said = "no model_type";
  if (foreign_config.is_object() && foreign_config.contains("model_type") && foreign_config["model_type"].is_string())
    said = "model_type '" + Printable(foreign_config["model_type"].get<std::string>(), 64) + "'";
  return Malformed("this architecture is not supported").Where("config").Got(said, Str("one of: ", known));
}

Result<std::vector<WeightSpec>> MakeManifest(const Network& network) {
  std::vector<WeightSpec> all;
  std::unordered_map<std::string, size_t> seen;
  for (const std::string& entry : network.entries()) {
    Builder b;
    EntryOptions options;
    options.entry = entry;
    network.Build(options, b);
    TERN_RETURN_IF_ERROR(b.status());
    for (const WeightSpec& w : b.graph().weights) {
      auto [at, first] = seen.emplace(w.name, all.size());
      if (first) {
        all.push_back(w);
      } else {  // one entry looks a tied table up, another multiplies by it
        all[at->second].multiplied |= w.multiplied;
        all[at->second].looked_up |= w.looked_up;
        all[at->second].no_int8 |= w.no_int8;
      }
    }
  }
  return all;
}

}  // namespace tern
