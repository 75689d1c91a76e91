// Pickles: every value that was built can be walked, in both modes of names, and nothing is ever executed.
#include <algorithm>

#include "formats/pickle.h"

namespace {

// Visits what can be reached, each value at most a few times deep.
void Walk(const tern::PickleValue& v, int depth, int64_t* budget) {
  using Kind = tern::PickleValue::Kind;
  if (depth > 20 || --*budget < 0) return;
  (void)v.boolean(), (void)v.integer(), (void)v.number(), (void)v.offset();
  size_t bytes = 0;
  for (char c : v.text()) bytes += static_cast<unsigned char>(c);
  for (char c : v.class_name()) bytes += static_cast<unsigned char>(c);
  volatile size_t sink = bytes;
  (void)sink;
  (void)v.Find("state_dict");
  for (size_t i = 0; i < v.size() && *budget > 0; ++i) {
    if (v.is(Kind::kDict)) Walk(v.key(i), depth + 1, budget);
    Walk(v[i], depth + 1, budget);
  }
  if (!v.is(Kind::kObject)) return;
  Walk(v.callable(), depth + 1, budget);
  Walk(v.state(), depth + 1, budget);
  Walk(v.entries(), depth + 1, budget);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (auto mode : {tern::PickleGlobals::kData, tern::PickleGlobals::kOpaque}) {
    auto tree = tern::ParsePickle({data, size}, mode);
    if (!tree.ok()) {
      (void)tree.status().message();
      continue;
    }
    int64_t budget = 20'000;
    Walk((*tree)->root(), 0, &budget);
    Walk((*tree)->first_opaque(), 0, &budget);
    for (size_t i = 0; i < (*tree)->persistent_count(); ++i) Walk((*tree)->persistent(i), 0, &budget);
  }
  auto object = tern::LoadTorchObject({data, size});
  if (!object.ok()) (void)object.status().message();
  return 0;
}
