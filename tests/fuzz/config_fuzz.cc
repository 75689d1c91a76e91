// Configs: any JSON text as a config.json, the attributes of a module, or the config of a `.tern` file ends in a network or a status; and the manifest of
// every network that is accepted can be made and planned against an empty checkpoint.
#include <string_view>

#include "engine/runtime/convert_plan.h"
#include "models/registry.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto json = tern::ParseJson({reinterpret_cast<const char*>(data), size});
  if (!json.ok()) {
    (void)json.status().message();
    return 0;
  }
  for (const tern::Architecture* architecture : tern::Architectures()) {
    const bool recognized = architecture->recognizes(*json);
    auto network = architecture->parse(*json, {});
    if (!network.ok()) {
      (void)network.status().message();
      continue;
    }
    const tern::Json canonical = (*network)->config();
    // Deep models cost time in proportion, not memory beyond it; the fuzzer should spend its time on the small ones.
    if (canonical.contains("n_layers") && canonical["n_layers"] > 64) continue;
    auto manifest = tern::MakeManifest(**network);
    if (!manifest.ok()) continue;
    auto import = (*network)->ImportFrom({});
    if (import.ok() && recognized) (void)tern::PlanConversion(*manifest, *import, {}, {}).status().message();
    // What a file keeps must be accepted again, and mean the same.
    auto again = architecture->parse(canonical, {});
    if (!again.ok() || (*again)->config() != canonical) __builtin_trap();
  }
  return 0;
}
