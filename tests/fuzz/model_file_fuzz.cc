// `.tern` files: whatever the bytes, opening, verifying and reading them ends in a status.
//
// The digests of header and table are brought up to date first in every second input (chosen by the last byte), or no change would ever pass them.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "engine/base/hash.h"
#include "formats/model_file.h"

namespace {

void Reseal(uint8_t* data, size_t size) {
  if (size < 80) return;
  const uint64_t file_bytes = size;
  std::memcpy(data + 16, &file_bytes, 8);
  std::memcpy(data + size - 16, &file_bytes, 8);
  std::memcpy(data + size - 8, "TERN_END", 8);
  uint64_t table_bytes;
  std::memcpy(&table_bytes, data + 32, 8);
  if (table_bytes <= size - 80) {
    const uint64_t digest = tern::Xxh3({data + 64, table_bytes});
    std::memcpy(data + 40, &digest, 8);
  }
  const uint64_t digest = tern::Xxh3({data, 56});
  std::memcpy(data + 56, &digest, 8);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  void* block = nullptr;  // aligned as a mapping, and not a byte longer than the input
  if (posix_memalign(&block, 64, size) != 0) return 0;
  std::unique_ptr<void, decltype(&std::free)> owner(block, std::free);
  auto* bytes = static_cast<uint8_t*>(block);
  if (size > 0) std::memcpy(bytes, data, size);
  if (size > 0 && data[size - 1] % 2 == 0) Reseal(bytes, size);
  auto file = tern::ModelFile::FromBytes({bytes, size}, "input");
  if (!file.ok()) {
    (void)file.status().message();
    return 0;
  }
  std::vector<tern::ModelFile::NonFinite> found;
  (void)(*file)->Verify({}, &found);
  for (const tern::TensorRecord& t : (*file)->tensors()) {
    if ((*file)->Find(t.name) != &t) std::abort();
    (void)(*file)->CountNonFinite(t);
    (void)(*file)->Group(t.group);
  }
  for (const tern::BlobRecord& b : (*file)->blobs()) (void)(*file)->Blob(b.name);
  return 0;
}
