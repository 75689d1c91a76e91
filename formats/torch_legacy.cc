#include "formats/torch_legacy.h"

#include <cstring>
#include <map>
#include <string>

#include "engine/base/bytes.h"

namespace tern {
namespace {

using Kind = PickleValue::Kind;

constexpr int64_t kProtocolVersion = 1001;
// The integer 0x1950a86a20f9469cfc6c as LONG1 writes it, after PROTO and its version.
constexpr uint8_t kMagicStart[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

// Parses pickles one behind the other.
class PickleRow {
 public:
  PickleRow(std::span<const uint8_t> bytes, PickleGlobals globals, const PickleLimits& limits)
      : bytes_(bytes), globals_(globals), limits_(limits) {}
  Result<PicklePtr> Next(const char* what) {
    auto tree = ParsePickle(bytes_.subspan(at_), globals_, limits_, at_);
    if (!tree.ok()) return Malformed(tree.status().message()).Where(what);
    at_ += (*tree)->pickle_bytes();
    return tree;
  }
  uint64_t at() const { return at_; }

 private:
  std::span<const uint8_t> bytes_;
  const PickleGlobals globals_;
  const PickleLimits& limits_;
  uint64_t at_ = 0;
};

// Pickles 1 to 4; gives the fourth, the object.
Result<PicklePtr> ReadObject(PickleRow& row) {
  TERN_RETURN_IF_ERROR(row.Next("magic pickle").status());
  TERN_ASSIGN(PicklePtr version, row.Next("protocol pickle"));
  if (!version->root().is(Kind::kInt) || version->root().integer() != kProtocolVersion)
    return Malformed("unsupported version of the legacy torch format").Got(version->root().integer(), kProtocolVersion);
  TERN_ASSIGN(PicklePtr system, row.Next("system pickle"));
  const PickleValue little = system->root().Find("little_endian");
  if (!little.is(Kind::kBool)) return Malformed("the system pickle does not tell the byte order");
  if (!little.boolean())
    return Malformed("the file was written by a big-endian machine")
        .Hint("Load and save it again on a little-endian one");
  return row.Next("object pickle");
}

}  // namespace

bool LooksLikeTorchLegacy(std::span<const uint8_t> bytes) {
  return bytes.size() >= 2 + sizeof(kMagicStart) && bytes[0] == 0x80 &&
         std::memcmp(bytes.data() + 2, kMagicStart, sizeof(kMagicStart)) == 0;
}

Result<PicklePtr> ParseTorchLegacyObject(std::span<const uint8_t> bytes, PickleGlobals globals,
                                         const PickleLimits& limits) {
  PickleRow row(bytes, globals, limits);
  return ReadObject(row);
}

Result<TorchContent> ParseTorchLegacy(std::span<const uint8_t> bytes, const PickleLimits& limits) {
  PickleRow row(bytes, PickleGlobals::kOpaque, limits);
  TERN_ASSIGN(PicklePtr object, ReadObject(row));
  TERN_ASSIGN(PicklePtr keys, row.Next("list of storage keys"));

  // The bytes behind the pickles do not say their type: the persistent ids of the object do.
  std::map<std::string_view, TorchStorageId> ids;
  for (size_t i = 0; i < object->persistent_count(); ++i) {
    const PickleValue pid = object->persistent(i);
    if (IsTorchModuleId(pid)) continue;
    TERN_ASSIGN(TorchStorageId id, ReadTorchStorageId(pid));
    auto [it, fresh] = ids.emplace(id.key, id);
    if (!fresh && (it->second.type != id.type || it->second.elements != id.elements))
      return Malformed(Str("the storage '", Printable(id.key), "' is described in two ways"));
  }

  const PickleValue list = keys->root();
  if (!list.is(Kind::kList)) return Malformed("the storage keys are no list");
  TorchStorages storages;
  ByteReader reader(bytes);
  TERN_RETURN_IF_ERROR(reader.Seek(row.at()));
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string_view key = list[i].text();
    auto fail = [key](Status s) { return std::move(s).Where(Str("storage '", Printable(key), "'")); };
    auto id = ids.find(key);
    if (id == ids.end()) return fail(Malformed("no tensor speaks of this storage"));
    auto elements = reader.Read<int64_t>();
    if (!elements.ok()) return fail(Malformed(elements.status().message()));
    if (*elements != id->second.elements)
      return fail(Malformed("the element count differs from that of the object").Got(*elements, id->second.elements));
    auto data = reader.Bytes(static_cast<uint64_t>(*elements * DTypeBytes(id->second.type)));
    if (!data.ok()) return fail(Malformed(data.status().message()));
    if (!storages.emplace(std::string(key), TorchStorage{id->second.type, *data}).second)
      return fail(Malformed("the storage stands twice"));
  }
  if (!reader.done())
    return Malformed(Str(reader.remaining(), " bytes lie behind the last storage"))
        .Where(Str("offset ", reader.offset()));
  return CollectTorchTensors(*object, storages);
}

}  // namespace tern
