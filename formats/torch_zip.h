// torch.save since 1.6: a stored zip with one root folder: data.pkl (the object), data/<key> (one storage each),
// version, byteorder.
#pragma once

#include <cstdint>
#include <span>

#include "engine/base/status.h"
#include "formats/pickle.h"
#include "formats/torch_tensors.h"

namespace tern {

// The object alone; storages are not looked at. `bytes` must outlive the tree.
Result<PicklePtr> ParseTorchZipObject(std::span<const uint8_t> bytes, PickleGlobals globals,
                                      const PickleLimits& limits = {});

// The tensors. `bytes` must outlive them. TorchScript archives and other zip files are refused by name.
Result<TorchContent> ParseTorchZip(std::span<const uint8_t> bytes, const PickleLimits& limits = {});

}  // namespace tern
