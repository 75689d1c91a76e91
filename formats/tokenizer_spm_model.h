// SpmModel: what a SentencePiece .model file says. The file is a protocol buffer; this is our own bounded reader of the
// few fields that matter.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"
#include "formats/tokenizer_charsmap.h"

namespace tern {

enum class SpmType : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
enum class SpmAlgorithm { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };

struct SpmPiece {
  std::string text;
  float score = 0;
  SpmType type = SpmType::kNormal;
};

struct SpmNormalizerSpec {
  std::string name;
  std::string charsmap_bytes;  // as stored
  Charsmap charsmap;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

struct SpmModel {
  static constexpr int64_t kMaxPieces = 4 << 20;
  static constexpr size_t kMaxPieceBytes = 1024;

  // Checks everything the library checks, and more: distinct, non-empty, bounded pieces, finite scores, exactly one
  // unknown piece, byte pieces <0x00>..<0xFF> complete where byte fallback is on. Errors: kMalformed.
  static Result<SpmModel> Parse(std::string_view bytes);

  bool IsType(int32_t id, SpmType type) const { return pieces[static_cast<size_t>(id)].type == type; }

  std::vector<SpmPiece> pieces;  // index = id
  SpmAlgorithm algorithm = SpmAlgorithm::kUnigram;
  bool byte_fallback = false, whitespace_as_suffix = false, allow_whitespace_only_pieces = false;
  int64_t trainer_unk_id = 0;  // what the training said, which is what converters go by
  std::string unk_piece = "<unk>";
  std::string unk_surface = " \xE2\x81\x87 ";
  int32_t unk_id = -1, bos_id = -1, eos_id = -1, pad_id = -1;  // -1: none
  int32_t byte_id[256];                                        // with byte_fallback: ids of <0x00>..<0xFF>
  SpmNormalizerSpec normalizer;
  bool has_denormalizer = false;
  SpmNormalizerSpec denormalizer;
};

// 0..255 for exactly "<0x00>".."<0xFF>" (capital hexadecimal), else -1.
int SpmByteOf(std::string_view piece);

}  // namespace tern
