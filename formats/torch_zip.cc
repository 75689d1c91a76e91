#include "formats/torch_zip.h"

#include <string>

#include "formats/zip.h"

namespace tern {
namespace {

std::string_view Text(const ZipEntry& entry) {
  return {reinterpret_cast<const char*>(entry.data.data()), entry.data.size()};
}

Status RefuseTorchScript() {
  return Malformed("this is a TorchScript archive: it contains code")
      .Hint("Save the state_dict() of the model instead");
}

// The root folder of the archive, with its slash: the one that holds data.pkl.
Result<std::string> RootFolder(const ZipArchive& zip) {
  std::string root;
  for (const ZipEntry& entry : zip.entries()) {
    const size_t slash = entry.name.find('/');
    if (slash == std::string::npos || entry.name.substr(slash + 1) != "data.pkl") continue;
    if (!root.empty()) return Malformed("the zip archive has two data.pkl");
    root = entry.name.substr(0, slash + 1);
  }
  if (root.empty()) return Malformed("this zip archive is no torch checkpoint: it has no data.pkl");
  if (zip.Find(root + "constants.pkl")) return RefuseTorchScript();
  for (const ZipEntry& entry : zip.entries())
    if (!entry.name.starts_with(root))
      return Malformed("the entry stands outside of the root folder").Where(Str("zip entry '", entry.name, "'"));
  if (const ZipEntry* order = zip.Find(root + "byteorder"); order && Text(*order) != "little")
    return Malformed("unsupported byte order").Got(Str("'", Printable(Text(*order), 20), "'"), "'little'");
  if (const ZipEntry* version = zip.Find(root + "version");
      version && Text(*version).find_first_not_of("0123456789\r\n ") != std::string_view::npos)
    return Malformed("the version of the torch archive is no number")
        .Got(Str("'", Printable(Text(*version), 20), "'"), "'3'");
  return root;
}

struct Parsed {
  ZipArchive zip;
  std::string root;
  PicklePtr tree;
};
Result<Parsed> ParseObject(std::span<const uint8_t> bytes, PickleGlobals globals, const PickleLimits& limits) {
  Parsed out;
  auto zip = ZipArchive::Parse(bytes);
  // TorchScript compresses its code, so that the archive is refused before its entries are known.
  if (!zip.ok() && zip.status().where().find("/code/") != std::string::npos) return RefuseTorchScript();
  TERN_ASSIGN(out.zip, std::move(zip));
  TERN_ASSIGN(out.root, RootFolder(out.zip));
  const ZipEntry* entry = out.zip.Find(out.root + "data.pkl");
  if (!entry) return InternalError("data.pkl was found and lost");
  auto tree = ParsePickle(entry->data, globals, limits, static_cast<uint64_t>(entry->data.data() - bytes.data()));
  if (!tree.ok()) return Malformed(tree.status().message()).Where("data.pkl");
  out.tree = std::move(*tree);
  if (out.tree->pickle_bytes() != entry->data.size())
    return Malformed(Str(entry->data.size() - out.tree->pickle_bytes(), " bytes lie behind the pickle"))
        .Where("data.pkl");
  return out;
}

}  // namespace

Result<PicklePtr> ParseTorchZipObject(std::span<const uint8_t> bytes, PickleGlobals globals,
                                      const PickleLimits& limits) {
  TERN_ASSIGN(Parsed parsed, ParseObject(bytes, globals, limits));
  return std::move(parsed.tree);
}

Result<TorchContent> ParseTorchZip(std::span<const uint8_t> bytes, const PickleLimits& limits) {
  TERN_ASSIGN(Parsed parsed, ParseObject(bytes, PickleGlobals::kOpaque, limits));
  TorchStorages storages;
  for (size_t i = 0; i < parsed.tree->persistent_count(); ++i) {
    const PickleValue pid = parsed.tree->persistent(i);
    if (IsTorchModuleId(pid)) continue;
    TERN_ASSIGN(TorchStorageId id, ReadTorchStorageId(pid));
    if (storages.count(id.key)) continue;
    const ZipEntry* record = parsed.zip.Find(Str(parsed.root, "data/", id.key));
    if (!record) return Malformed(Str("the storage '", Printable(id.key), "' has no entry data/", Printable(id.key)));
    const uint64_t expected = static_cast<uint64_t>(id.elements * DTypeBytes(id.type));
    if (record->data.size() != expected)
      return Malformed("the size of a storage differs from its entry")
          .Where(Str("zip entry '", record->name, "'"))
          .Got(Str(record->data.size(), " bytes"), expected);
    storages.emplace(std::string(id.key), TorchStorage{id.type, record->data});
  }
  return CollectTorchTensors(*parsed.tree, storages);
}

}  // namespace tern
