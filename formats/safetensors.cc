#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>

#include "engine/base/bytes.h"
#include "engine/base/checked.h"
#include "formats/tensor_name.h"

namespace tern {
namespace {

//  our type    their name
#define TERN_SAFETENSORS_TYPES(X) \
  X(f64, "F64")                   \
  X(f32, "F32")                   \
  X(f16, "F16")                   \
  X(bf16, "BF16")                 \
  X(i64, "I64")                   \
  X(i32, "I32")                   \
  X(i16, "I16")                   \
  X(i8, "I8")                     \
  X(u8, "U8")                     \
  X(boolean, "BOOL")

std::optional<DType> TypeByName(std::string_view name) {
#define X(type, text) \
  if (name == text) return DType::type;
  TERN_SAFETENSORS_TYPES(X)
#undef X
  return std::nullopt;
}

// What the header says of one tensor, checked as far as it stands alone.
struct Entry {
  std::string name;
  DType type = DType::f32;
  Shape shape;
  uint64_t begin = 0, end = 0;
};

Result<uint64_t> Unsigned(const Json& value, const char* what) {
  if (!value.is_number_integer()) return Malformed(Str(what, " must be a whole number but is ", value.type_name()));
  if (!value.is_number_unsigned() && value.get<int64_t>() < 0) return Malformed(Str(what, " is negative"));
  return value.get<uint64_t>();
}

Result<Shape> ReadShape(const Json& value) {
  if (!value.is_array()) return Malformed(Str("the shape must be a list but is ", value.type_name()));
  if (value.size() > static_cast<size_t>(Shape::kMaxRank))
    return Malformed("too many dimensions").Got(value.size(), Str("at most ", Shape::kMaxRank));
  Shape shape;
  for (const Json& dim : value) {
    TERN_ASSIGN(uint64_t d, Unsigned(dim, "a dimension"));
    auto fits = CheckedCast<int64_t>(d);
    if (!fits) return Malformed(Str("the dimension ", d, " is too large"));
    shape.Push(*fits);
  }
  return shape;
}

Result<Entry> ReadEntry(const std::string& name, const Json& value, uint64_t buffer_bytes) {
  Entry entry;
  entry.name = name;
  TERN_RETURN_IF_ERROR(CheckTensorName(name));
  if (!value.is_object()) return Malformed(Str("the entry must be an object but is ", value.type_name()));
  for (const auto& [key, unused] : value.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      return Malformed(Str("the key '", Printable(key), "' does not belong into a tensor's entry"));
  if (value.size() != 3) return Malformed("the entry lacks 'dtype', 'shape' or 'data_offsets'");
  const Json& type = value["dtype"];
  if (!type.is_string()) return Malformed(Str("the dtype must be a string but is ", type.type_name()));
  auto known = TypeByName(type.get_ref<const std::string&>());
  if (!known)
    return Malformed(Str("unsupported dtype '", Printable(type.get_ref<const std::string&>(), 40), "'"))
        .Hint("F64, F32, F16, BF16, I64, I32, I16, I8, U8 and BOOL are read");
  entry.type = *known;
  TERN_ASSIGN(entry.shape, ReadShape(value["shape"]));
  const Json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) return Malformed("data_offsets must be a list of two numbers");
  TERN_ASSIGN(entry.begin, Unsigned(offsets[0], "an offset"));
  TERN_ASSIGN(entry.end, Unsigned(offsets[1], "an offset"));
  if (entry.begin > entry.end || entry.end > buffer_bytes)
    return Malformed("the data_offsets lie outside of the data")
        .Got(Str("[", entry.begin, ", ", entry.end, "]"), Str("within ", buffer_bytes, " bytes"));
  auto elements = entry.shape.CheckedElements();
  auto bytes = elements ? CheckedMul(*elements, DTypeBytes(entry.type)) : std::nullopt;
  if (!bytes) return Malformed(Str("the size of shape ", entry.shape, " overflows"));
  if (static_cast<uint64_t>(*bytes) != entry.end - entry.begin)
    return Malformed("the data_offsets do not fit type and shape")
        .Got(Str(entry.end - entry.begin, " bytes"),
             Str(*bytes, " for ", type.get_ref<const std::string&>(), " ", entry.shape));
  return entry;
}

// The entries sorted by place must cover [0, buffer_bytes) exactly.
Status CheckCover(const std::vector<Entry>& entries, uint64_t buffer_bytes) {
  uint64_t at = 0;
  const Entry* before = nullptr;
  for (const Entry& e : entries) {
    if (e.begin < at)
      return Malformed(Str("the bytes [", e.begin, ", ", e.end, ") overlap those of tensor '", Printable(before->name),
                           "', [", before->begin, ", ", before->end, ")"))
          .Where(Str("tensor '", e.name, "'"));
    if (e.begin > at)
      return Malformed(Str("a hole of ", e.begin - at, " bytes lies before the data"))
          .Where(Str("tensor '", e.name, "'"));
    at = e.end;
    before = &e;
  }
  if (at != buffer_bytes) return Malformed(Str(buffer_bytes - at, " bytes lie behind the last tensor"));
  return {};
}

Result<std::map<std::string, std::string>> ReadMetadata(const Json& value) {
  std::map<std::string, std::string> metadata;
  if (!value.is_object()) return Malformed(Str("__metadata__ must be an object but is ", value.type_name()));
  if (value.size() > 16'384) return Malformed("too many metadata keys").Got(value.size(), "at most 16384");
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string())
      return Malformed(Str("the metadata '", Printable(key), "' must be a string but is ", text.type_name()));
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

}  // namespace

std::string_view SafetensorsTypeName(DType type) {
  switch (type) {
#define X(ours, text) \
  case DType::ours:   \
    return text;
    TERN_SAFETENSORS_TYPES(X)
#undef X
  }
  return "?";
}

bool LooksLikeSafetensors(std::span<const uint8_t> bytes) {
  return bytes.size() > 8 && bytes[8] == '{';
}

Result<Safetensors> Safetensors::Parse(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return Malformed("the file is empty");
  if (bytes.size() < 8) return Malformed(Str("too short for a header (got ", bytes.size(), " bytes)"));
  ByteReader reader(bytes);
  TERN_ASSIGN(uint64_t header_bytes, reader.Read<uint64_t>());
  if (header_bytes > kMaxSafetensorsHeaderBytes)
    return Malformed(
        Str("the header says ", header_bytes, " bytes, at most ", kMaxSafetensorsHeaderBytes, " are read"));
  if (header_bytes > reader.remaining())
    return Malformed(Str("the header says ", header_bytes, " bytes, ", reader.remaining(), " remain"));
  TERN_ASSIGN(std::string_view header, reader.Text(header_bytes));
  if (header.empty() || header[0] != '{') return Malformed("the header does not begin with '{'").Where("header");
  JsonLimits limits;
  limits.max_depth = 8;
  auto parsed = ParseJson(header, limits);
  if (!parsed.ok()) return Status(parsed.status()).Where("header");
  TERN_ASSIGN(auto buffer, reader.Bytes(reader.remaining()));

  Safetensors out;
  std::vector<Entry> entries;
  const uint64_t tensors = parsed->size() - parsed->contains("__metadata__");
  if (tensors > kMaxCheckpointTensors)
    return Malformed("too many tensors").Got(tensors, Str("at most ", kMaxCheckpointTensors));
  for (const auto& [name, value] : parsed->items()) {
    if (name == "__metadata__") {
      TERN_ASSIGN(out.metadata_, ReadMetadata(value));
      continue;
    }
    auto entry = ReadEntry(name, value, buffer.size());
    if (!entry.ok()) return Status(entry.status()).Where(Str("tensor '", Printable(name), "'"));
    entries.push_back(std::move(*entry));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  TERN_RETURN_IF_ERROR(CheckCover(entries, buffer.size()));
  out.items_.reserve(entries.size());
  for (Entry& e : entries) {
    out.by_name_[e.name] = out.items_.size();
    out.items_.push_back({std::move(e.name), ConstTensor{buffer.data() + e.begin, e.type, e.shape}});
  }
  return out;
}

Result<Safetensors> Safetensors::Open(const std::string& path) {
  TERN_ASSIGN(auto file, MappedFile::Open(path));
  auto parsed = Parse(file->bytes());
  if (!parsed.ok()) return Status(parsed.status()).File(path);
  parsed->file_ = std::move(file);
  for (Item& item : parsed->items_) {
    ConstTensor& t = item.tensor;
    if (reinterpret_cast<uintptr_t>(t.data) % static_cast<uintptr_t>(DTypeBytes(t.type)) == 0 || t.bytes() == 0)
      continue;
    auto& copy = parsed->copies_.emplace_back(static_cast<size_t>(CeilDiv(t.bytes(), 8)));
    std::memcpy(copy.data(), t.data, static_cast<size_t>(t.bytes()));
    t.data = copy.data();
  }
  return parsed;
}

const ConstTensor* Safetensors::Find(std::string_view name) const {
  auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &items_[it->second].tensor;
}

Status WriteSafetensors(const std::string& path, const std::vector<Safetensors::Item>& items,
                        const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string_view> names;
  uint64_t at = 0;
  for (const auto& [name, tensor] : items) {
    if (Status s = CheckTensorName(name); !s.ok()) return UsageError(s.what()).File(path);
    if (!names.insert(name).second || name == "__metadata__")
      return UsageError(Str("the tensor name '", Printable(name), "' stands twice or is reserved")).File(path);
    const uint64_t bytes = static_cast<uint64_t>(tensor.bytes());
    Json shape = Json::array();
    for (int64_t d : tensor.shape) shape.push_back(d);
    Json entry = {
        {"dtype", SafetensorsTypeName(tensor.type)}, {"shape", std::move(shape)}, {"data_offsets", {at, at + bytes}}};
    // Appended directly: ordered_json would search all names for each.
    static_cast<std::vector<Json::object_t::value_type>&>(header.get_ref<Json::object_t&>())
        .emplace_back(name, std::move(entry));
    at += bytes;
  }
  std::string text = DumpJson(header);
  text.resize(static_cast<size_t>(RoundUp(static_cast<int64_t>(text.size()), 8)), ' ');
  if (text.size() > kMaxSafetensorsHeaderBytes)
    return UsageError("the header would be larger than readers accept").File(path);

  TERN_ASSIGN(FileWriter writer, FileWriter::Create(path, 8 + text.size() + at));
  const uint64_t header_bytes = text.size();
  TERN_RETURN_IF_ERROR(writer.Write(&header_bytes, 8));
  TERN_RETURN_IF_ERROR(writer.Write(text));
  for (const auto& item : items)
    TERN_RETURN_IF_ERROR(writer.Write(item.tensor.data, static_cast<uint64_t>(item.tensor.bytes())));
  return writer.Commit();
}

}  // namespace tern
