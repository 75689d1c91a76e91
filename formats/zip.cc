#include "formats/zip.h"

#include <algorithm>
#include <optional>

#include "engine/base/bytes.h"
#include "engine/base/checked.h"
#include "formats/tensor_name.h"

namespace tern {
namespace {

// Signatures and fixed sizes (PKWARE APPNOTE 6.3, sections 4.3.7 to 4.3.16).
constexpr uint32_t kLocalSignature = 0x04034b50, kCentralSignature = 0x02014b50, kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50, kLocator64Signature = 0x07064b50, kDescriptorSignature = 0x08074b50;
constexpr uint64_t kEndBytes = 22, kLocator64Bytes = 20, kEnd64Bytes = 56, kCentralBytes = 46;
constexpr uint16_t kEncrypted = 1 << 0, kHasDescriptor = 1 << 3, kUtf8Name = 1 << 11;
constexpr uint16_t kZip64Extra = 1;
constexpr uint32_t kIn64 = 0xffffffff;

// Where the central directory lies and how many entries it says to have.
struct Directory {
  uint64_t entries, bytes, offset;
};

// What the central directory says of one entry.
struct Central {
  std::string name;
  uint16_t flags = 0;
  uint32_t crc32 = 0;
  uint64_t bytes = 0, header_offset = 0;
};

Result<uint16_t> U16(ByteReader& r) {
  return r.Read<uint16_t>();
}
Result<uint32_t> U32(ByteReader& r) {
  return r.Read<uint32_t>();
}
Result<uint64_t> U64(ByteReader& r) {
  return r.Read<uint64_t>();
}

Result<Directory> ReadEnd64(std::span<const uint8_t> bytes, uint64_t locator_at, const Directory& end32) {
  ByteReader r(bytes);
  TERN_RETURN_IF_ERROR(r.Seek(locator_at + 4));
  TERN_ASSIGN(uint32_t disk, U32(r));
  TERN_ASSIGN(uint64_t end_at, U64(r));
  TERN_ASSIGN(uint32_t disks, U32(r));
  if (disk != 0 || disks > 1) return Malformed("the zip archive is split over several files");
  if (locator_at < kEnd64Bytes || end_at != locator_at - kEnd64Bytes)
    return Malformed("the zip64 end record is not where its locator says")
        .Got(end_at, locator_at < kEnd64Bytes ? 0 : locator_at - kEnd64Bytes);
  TERN_RETURN_IF_ERROR(r.Seek(end_at));
  TERN_ASSIGN(uint32_t signature, U32(r));
  TERN_ASSIGN(uint64_t record_bytes, U64(r));
  if (signature != kEnd64Signature || record_bytes != kEnd64Bytes - 12)
    return Malformed("the zip64 end record is damaged");
  TERN_RETURN_IF_ERROR(r.Skip(4));  // versions
  TERN_ASSIGN(uint32_t this_disk, U32(r));
  TERN_ASSIGN(uint32_t first_disk, U32(r));
  if (this_disk != 0 || first_disk != 0) return Malformed("the zip archive is split over several files");
  Directory d;
  TERN_ASSIGN(uint64_t here, U64(r));
  TERN_ASSIGN(d.entries, U64(r));
  TERN_ASSIGN(d.bytes, U64(r));
  TERN_ASSIGN(d.offset, U64(r));
  if (here != d.entries) return Malformed("the zip archive is split over several files");
  // The short record may only repeat the long one, or refer to it.
  if ((end32.entries != 0xffff && end32.entries != d.entries) || (end32.bytes != kIn64 && end32.bytes != d.bytes) ||
      (end32.offset != kIn64 && end32.offset != d.offset))
    return Malformed("the zip64 end record contradicts the end record");
  if (d.offset > end_at || d.bytes != end_at - d.offset)
    return Malformed("the central directory does not end at the zip64 end record")
        .Got(Str(d.bytes, " bytes at ", d.offset), Str("end at ", end_at));
  return d;
}

Result<Directory> ReadEnd(std::span<const uint8_t> bytes) {
  if (bytes.size() < kEndBytes) return Malformed(Str("too short for a zip archive (got ", bytes.size(), " bytes)"));
  const uint64_t end_at = bytes.size() - kEndBytes;
  ByteReader r(bytes);
  TERN_RETURN_IF_ERROR(r.Seek(end_at));
  TERN_ASSIGN(uint32_t signature, U32(r));
  if (signature != kEndSignature)
    return Malformed("no zip end record at the end of the file")
        .Hint("The file is truncated, or something was appended to it");
  TERN_ASSIGN(uint16_t disk, U16(r));
  TERN_ASSIGN(uint16_t first_disk, U16(r));
  TERN_ASSIGN(uint16_t here, U16(r));
  TERN_ASSIGN(uint16_t entries, U16(r));
  TERN_ASSIGN(uint32_t directory_bytes, U32(r));
  TERN_ASSIGN(uint32_t offset, U32(r));
  TERN_ASSIGN(uint16_t comment, U16(r));
  if (comment != 0) return Malformed("the zip archive has a comment");
  if ((disk != 0 && disk != 0xffff) || (first_disk != 0 && first_disk != 0xffff) || here != entries)
    return Malformed("the zip archive is split over several files");
  Directory d{entries, directory_bytes, offset};
  if (end_at >= kLocator64Bytes) {
    ByteReader locator(bytes);
    TERN_RETURN_IF_ERROR(locator.Seek(end_at - kLocator64Bytes));
    TERN_ASSIGN(uint32_t mark, U32(locator));
    if (mark == kLocator64Signature) return ReadEnd64(bytes, end_at - kLocator64Bytes, d);
  }
  if (d.offset > end_at || d.bytes != end_at - d.offset)
    return Malformed("the central directory does not end at the end record")
        .Got(Str(d.bytes, " bytes at ", d.offset), Str("end at ", end_at));
  return d;
}

Status CheckEntryName(std::string_view name) {
  auto refuse = [&](const char* why) { return Malformed(Str("the zip entry name '", Printable(name), "' ", why)); };
  if (!CheckTensorName(name).ok()) return refuse("is empty, too long or not plain text");
  if (name.front() == '/' || name.find('\\') != std::string_view::npos || name.find(':') != std::string_view::npos)
    return refuse("is not a relative path");
  if (name.back() == '/') return refuse("is a folder");
  for (size_t at = 0; at <= name.size();) {
    size_t end = std::min(name.find('/', at), name.size());
    std::string_view part = name.substr(at, end - at);
    if (part.empty() || part == "." || part == "..") return refuse("leads outside of the archive");
    at = end + 1;
  }
  return {};
}

// The values of the zip64 extra field, in the order of the fields that are 0xffffffff; empty without such a field.
Result<std::vector<uint64_t>> Zip64Values(std::span<const uint8_t> extra, uint64_t offset) {
  ByteReader r(extra, offset);
  std::vector<uint64_t> values;
  bool found = false;
  while (!r.done()) {
    TERN_ASSIGN(uint16_t id, U16(r));
    TERN_ASSIGN(uint16_t bytes, U16(r));
    TERN_ASSIGN(auto body, r.Bytes(bytes));
    if (id != kZip64Extra) continue;
    if (found) return Malformed("a zip entry has two zip64 fields");
    found = true;
    ByteReader inner(body, offset);
    while (inner.remaining() >= 8) {
      TERN_ASSIGN(uint64_t v, U64(inner));
      values.push_back(v);
    }
  }
  return values;
}

Result<Central> ReadCentral(ByteReader& r) {
  TERN_ASSIGN(uint32_t signature, U32(r));
  if (signature != kCentralSignature) return Malformed("the central directory is damaged");
  Central c;
  TERN_RETURN_IF_ERROR(r.Skip(4));  // versions
  TERN_ASSIGN(c.flags, U16(r));
  TERN_ASSIGN(uint16_t method, U16(r));
  TERN_RETURN_IF_ERROR(r.Skip(4));  // time, date
  TERN_ASSIGN(c.crc32, U32(r));
  TERN_ASSIGN(uint32_t compressed, U32(r));
  TERN_ASSIGN(uint32_t plain, U32(r));
  TERN_ASSIGN(uint16_t name_bytes, U16(r));
  TERN_ASSIGN(uint16_t extra_bytes, U16(r));
  TERN_ASSIGN(uint16_t comment_bytes, U16(r));
  TERN_ASSIGN(uint16_t disk, U16(r));
  TERN_RETURN_IF_ERROR(r.Skip(6));  // attributes
  TERN_ASSIGN(uint32_t header_offset, U32(r));
  TERN_ASSIGN(std::string_view name, r.Text(name_bytes));
  const uint64_t extra_at = r.offset();
  TERN_ASSIGN(auto extra, r.Bytes(extra_bytes));
  TERN_RETURN_IF_ERROR(r.Skip(comment_bytes));
  TERN_RETURN_IF_ERROR(CheckEntryName(name));
  c.name = std::string(name);
  auto refuse = [&](std::string what) { return Malformed(std::move(what)).Where(Str("zip entry '", c.name, "'")); };
  if (c.flags & kEncrypted) return refuse("is encrypted");
  if (c.flags & ~(kHasDescriptor | kUtf8Name)) return refuse(Str("has unknown flag bits ", c.flags));
  if (method != 0)
    return refuse(Str("is compressed (method ", method, ")"))
        .Hint("torch stores its entries; archives made by other tools are not read");
  if (disk != 0) return refuse("lies on another disk");

  auto wide = Zip64Values(extra, extra_at);
  if (!wide.ok()) return Status(wide.status()).Where(Str("zip entry '", c.name, "'"));
  size_t used = 0;
  bool short_of_values = false;
  auto widen = [&](uint32_t value) -> uint64_t {
    if (value != kIn64) return value;
    if (used >= wide->size()) {
      short_of_values = true;
      return 0;
    }
    return (*wide)[used++];
  };
  const uint64_t plain64 = widen(plain), compressed64 = widen(compressed);
  c.header_offset = widen(header_offset);
  if (short_of_values) return refuse("lacks its zip64 sizes");
  if (plain64 != compressed64) return refuse("is stored, yet its two sizes differ").Got(compressed64, plain64);
  c.bytes = plain64;
  return c;
}

// A size in a local header: the true one, 0 where a descriptor follows, or 0xffffffff where the zip64 field has it.
bool LocalSizeAgrees(uint32_t value, uint64_t truth, bool descriptor, const std::vector<uint64_t>& wide) {
  if (value == kIn64) return !wide.empty() ? wide[0] == truth || (descriptor && wide[0] == 0) : truth == kIn64;
  return value == truth || (descriptor && value == 0);
}

// Checks the local header and gives the data; *end is where the entry ends (without its descriptor).
Result<std::span<const uint8_t>> ReadLocal(std::span<const uint8_t> bytes, uint64_t directory_at, const Central& c,
                                           uint64_t* end) {
  ByteReader r(bytes.first(directory_at));
  TERN_RETURN_IF_ERROR(r.Seek(c.header_offset));
  TERN_ASSIGN(uint32_t signature, U32(r));
  if (signature != kLocalSignature)
    return Malformed("no local header where the central directory says").Where(Str("offset ", c.header_offset));
  TERN_RETURN_IF_ERROR(r.Skip(2));  // version
  TERN_ASSIGN(uint16_t flags, U16(r));
  TERN_ASSIGN(uint16_t method, U16(r));
  TERN_RETURN_IF_ERROR(r.Skip(4));  // time, date
  TERN_ASSIGN(uint32_t crc32, U32(r));
  TERN_ASSIGN(uint32_t compressed, U32(r));
  TERN_ASSIGN(uint32_t plain, U32(r));
  TERN_ASSIGN(uint16_t name_bytes, U16(r));
  TERN_ASSIGN(uint16_t extra_bytes, U16(r));
  TERN_ASSIGN(std::string_view name, r.Text(name_bytes));
  const uint64_t extra_at = r.offset();
  TERN_ASSIGN(auto extra, r.Bytes(extra_bytes));
  const bool descriptor = c.flags & kHasDescriptor;
  auto differ = [](const char* what) { return Malformed(Str("local and central header differ in the ", what)); };
  if (name != c.name) return differ("name").Got(Str("'", name, "'"), Str("'", c.name, "'"));
  if (flags != c.flags) return differ("flags").Got(flags, c.flags);
  if (method != 0) return differ("method").Got(method, 0);
  if (crc32 != c.crc32 && !(descriptor && crc32 == 0)) return differ("CRC").Got(crc32, c.crc32);
  TERN_ASSIGN(auto wide, Zip64Values(extra, extra_at));
  if (!LocalSizeAgrees(plain, c.bytes, descriptor, wide) || !LocalSizeAgrees(compressed, c.bytes, descriptor, wide))
    return differ("size").Got(plain, c.bytes);
  if (c.bytes > r.remaining())
    return Malformed(Str("says ", c.bytes, " bytes, ", r.remaining(), " remain before the central directory"));
  TERN_ASSIGN(auto data, r.Bytes(c.bytes));
  *end = r.position();
  return data;
}

// Between the end of an entry's data and the next header stands nothing, or the descriptor the flags announce.
Status CheckDescriptor(std::span<const uint8_t> gap, const Central& c, uint64_t at) {
  if (!(c.flags & kHasDescriptor)) {
    if (gap.empty()) return {};
    return Malformed(Str("a gap of ", gap.size(), " bytes follows")).Where(Str("offset ", at));
  }
  ByteReader r(gap, at);
  if (gap.size() == 16 || gap.size() == 24) {
    TERN_ASSIGN(uint32_t signature, U32(r));
    if (signature != kDescriptorSignature) return Malformed("its data descriptor is damaged").Where(Str("offset ", at));
  } else if (gap.size() != 12 && gap.size() != 20) {
    return Malformed("its data descriptor is missing or of a wrong size")
        .Where(Str("offset ", at))
        .Got(Str(gap.size(), " bytes"), "12, 16, 20 or 24");
  }
  TERN_ASSIGN(uint32_t crc32, U32(r));
  const bool wide = r.remaining() == 16;
  uint64_t sizes[2];
  for (uint64_t& size : sizes) {
    if (wide) {
      TERN_ASSIGN(size, U64(r));
    } else {
      TERN_ASSIGN(size, U32(r));
    }
  }
  if (crc32 != c.crc32 || sizes[0] != c.bytes || sizes[1] != c.bytes)
    return Malformed("its data descriptor contradicts the central directory").Where(Str("offset ", at));
  return {};
}

}  // namespace

bool LooksLikeZip(std::span<const uint8_t> bytes) {
  return bytes.size() >= 4 && bytes[0] == 'P' && bytes[1] == 'K' &&
         ((bytes[2] == 3 && bytes[3] == 4) || (bytes[2] == 5 && bytes[3] == 6));
}

Result<ZipArchive> ZipArchive::Parse(std::span<const uint8_t> bytes) {
  TERN_ASSIGN(Directory directory, ReadEnd(bytes));
  if (directory.entries > kMaxEntries)
    return Malformed("too many zip entries").Got(directory.entries, Str("at most ", kMaxEntries));
  ByteReader r(bytes.subspan(directory.offset, directory.bytes), directory.offset);
  TERN_RETURN_IF_ERROR(r.CheckCount(directory.entries, kCentralBytes));

  ZipArchive out;
  std::vector<Central> centrals;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    TERN_ASSIGN(Central c, ReadCentral(r));
    if (!out.by_name_.emplace(c.name, i).second)
      return Malformed("the entry stands twice").Where(Str("zip entry '", c.name, "'"));
    centrals.push_back(std::move(c));
  }
  if (!r.done()) return Malformed(Str(r.remaining(), " bytes lie behind the last entry of the central directory"));

  struct Extent {
    uint64_t begin, end;
    size_t entry;
  };
  std::vector<Extent> extents;
  for (size_t i = 0; i < centrals.size(); ++i) {
    const Central& c = centrals[i];
    uint64_t end = 0;
    auto data = ReadLocal(bytes, directory.offset, c, &end);
    if (!data.ok()) return Status(data.status()).Where(Str("zip entry '", c.name, "'"));
    extents.push_back({c.header_offset, end, i});
    out.entries_.push_back({c.name, *data, c.crc32, c.header_offset});
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  if ((extents.empty() ? directory.offset : extents[0].begin) != 0)
    return Malformed("something stands before the first zip entry");
  for (size_t i = 0; i < extents.size(); ++i) {
    const Central& c = centrals[extents[i].entry];
    const uint64_t next = i + 1 < extents.size() ? extents[i + 1].begin : directory.offset;
    const std::string where = Str("zip entry '", c.name, "'");
    if (next < extents[i].end)
      return Malformed(Str("overlaps the entry '", centrals[extents[i + 1].entry].name, "'")).Where(where);
    if (Status s = CheckDescriptor(bytes.subspan(extents[i].end, next - extents[i].end), c, extents[i].end); !s.ok())
      return Malformed(s.message()).Where(where);
  }
  return out;
}

const ZipEntry* ZipArchive::Find(std::string_view name) const {
  auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &entries_[it->second];
}

}  // namespace tern
