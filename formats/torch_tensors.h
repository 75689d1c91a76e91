// From the inert object of a torch file to named tensors: state dicts, nested dicts, dicts of Parameters, and whole
// pickled modules.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "formats/pickle.h"
#include "formats/strided_view.h"

namespace tern {

// The bytes behind each storage key.
struct TorchStorage {
  DType type = DType::f32;
  std::span<const uint8_t> bytes;
};
using TorchStorages = std::map<std::string, TorchStorage, std::less<>>;

// What a persistent id says: ('storage', class, key, location, elements[, view]).
struct TorchStorageId {
  std::string_view key;
  DType type = DType::f32;
  int64_t elements = 0;
  // A view of another storage (files before torch 0.4): elements [view_offset, view_offset + view_elements) of it,
  // under a key of its own.
  bool is_view = false;
  int64_t view_offset = 0, view_elements = 0;
};
// kMalformed if it is no storage id, of an unknown class, or with numbers out of range. REQUIRES: id is a kPersistent
// that is not ('module', ...).
Result<TorchStorageId> ReadTorchStorageId(const PickleValue& id);
bool IsTorchModuleId(const PickleValue& id);

struct TorchTensor {
  std::string name;
  StridedView view;        // checked against its storage
  bool attribute = false;  // not part of the state dict: a plain attribute of a module
};
struct TorchContent {
  std::vector<TorchTensor> tensors;  // state dict first, in its order
  Json attributes = Json::object();
};
Result<TorchContent> CollectTorchTensors(const PickleTree& tree, const TorchStorages& storages);

}  // namespace tern
