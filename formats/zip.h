// Zip archives whose entries are stored, not compressed: the container of torch.save since 1.6. A strict reader, so
// that no two readers can disagree.
//
// The archive must fill the file from its first byte to its last: local headers, data and descriptors without gap or
// overlap, the central directory, the end records. Central and local headers must say the same. Compressed, encrypted,
// split and duplicate entries and names that are paths outside are refused.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"

namespace tern {

struct ZipEntry {
  std::string name;
  std::span<const uint8_t> data;
  uint32_t crc32 = 0;  // as the central directory says; not checked here
  uint64_t header_offset = 0;
};

class ZipArchive {
 public:
  static constexpr uint64_t kMaxEntries = 65'536;

  // `bytes` must outlive the archive. kMalformed names the entry and the rule.
  static Result<ZipArchive> Parse(std::span<const uint8_t> bytes);

  const std::vector<ZipEntry>& entries() const { return entries_; }  // in the order of the central directory
  const ZipEntry* Find(std::string_view name) const;                 // nullptr if absent

 private:
  std::vector<ZipEntry> entries_;
  std::map<std::string, size_t, std::less<>> by_name_;
};

bool LooksLikeZip(std::span<const uint8_t> bytes);

}  // namespace tern
