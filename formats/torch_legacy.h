// torch.save before 1.6: five pickles in a row (magic, protocol, system, the object, the storage keys), then the
// storages, each with its element count.
#pragma once

#include <cstdint>
#include <span>

#include "engine/base/status.h"
#include "formats/pickle.h"
#include "formats/torch_tensors.h"

namespace tern {

// True if the bytes begin with the magic pickle.
bool LooksLikeTorchLegacy(std::span<const uint8_t> bytes);

// The object alone; storages are not looked at. `bytes` must outlive the tree.
Result<PicklePtr> ParseTorchLegacyObject(std::span<const uint8_t> bytes, PickleGlobals globals,
                                         const PickleLimits& limits = {});

// The tensors. `bytes` must outlive them.
Result<TorchContent> ParseTorchLegacy(std::span<const uint8_t> bytes, const PickleLimits& limits = {});

}  // namespace tern
