// LoadTorchObject: the plain object in a file, whatever container it came in.
#include "formats/foreign_kind.h"
#include "formats/pickle.h"
#include "formats/torch_legacy.h"
#include "formats/torch_zip.h"
#include "formats/zip.h"

namespace tern {

Result<PicklePtr> LoadTorchObject(std::span<const uint8_t> bytes, PickleGlobals globals, const PickleLimits& limits) {
  if (LooksLikeZip(bytes)) return ParseTorchZipObject(bytes, globals, limits);
  if (LooksLikeTorchLegacy(bytes)) return ParseTorchLegacyObject(bytes, globals, limits);
  if (bytes.empty() || bytes[0] != 0x80) return RefuseAsCheckpoint(bytes);
  TERN_ASSIGN(PicklePtr tree, ParsePickle(bytes, globals, limits));
  if (tree->pickle_bytes() != bytes.size())
    return Malformed(Str(bytes.size() - tree->pickle_bytes(), " bytes lie behind the pickle"));
  return tree;
}

}  // namespace tern
