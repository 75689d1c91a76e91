#include "formats/foreign_kind.h"

#include "formats/file_kind.h"

namespace tern {

Status RefuseAsCheckpoint(std::span<const uint8_t> bytes) {
  constexpr const char* kRead = "safetensors files and what torch.save writes are read";
  const FileKind kind = SniffFileKind(bytes);
  switch (kind) {
    case FileKind::kTar:
      return Malformed("this is a tar archive, and tar checkpoints (torch before 0.1.10) are unsupported")
          .Hint("Load and save it with a newer torch, or unpack it");
    case FileKind::kPickle:
      return Malformed("this is a plain Python pickle, not a checkpoint").Hint(kRead);
    case FileKind::kSafetensors:
    case FileKind::kZip:
    case FileKind::kText:
    case FileKind::kUnknown:
      if (bytes.size() < 32) return Malformed(Str("too short for a header (got ", bytes.size(), " bytes)")).Hint(kRead);
      return Malformed("not a checkpoint that is read").Hint(kRead);
    default:
      return WrongKind(kind, "a checkpoint");
  }
}

}  // namespace tern
