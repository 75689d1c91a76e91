#include "formats/tokenizer_spm_model.h"

#include <cmath>
#include <cstring>
#include <unordered_set>

#include "engine/base/bytes.h"

namespace tern {
namespace {

// One field of a protocol buffer message: a number, or bytes.
struct ProtoField {
  uint64_t number = 0;
  uint64_t integer = 0;    // varint, fixed64, fixed32
  std::string_view bytes;  // length-delimited
  int wire = 0;
};
constexpr int kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5;

class ProtoReader {
 public:
  explicit ProtoReader(std::string_view bytes, uint64_t base = 0)
      : reader_({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, base) {}
  bool done() const { return reader_.done(); }
  uint64_t offset() const { return reader_.offset(); }

  Result<ProtoField> Next() {
    ProtoField field;
    TERN_ASSIGN(uint64_t key, Varint());
    field.number = key >> 3;
    field.wire = static_cast<int>(key & 7);
    if (field.number == 0) return Bad("field number 0");
    switch (field.wire) {
      case kVarint: {
        TERN_ASSIGN(field.integer, Varint());
        break;
      }
      case kFixed64: {
        TERN_ASSIGN(field.integer, reader_.Read<uint64_t>());
        break;
      }
      case kFixed32: {
        TERN_ASSIGN(field.integer, reader_.Read<uint32_t>());
        break;
      }
      case kLength: {
        TERN_ASSIGN(uint64_t length, Varint());
        TERN_ASSIGN(field.bytes, reader_.Text(length));
        break;
      }
      default:
        return Bad(Str("wire type ", field.wire, " is not of this format"));
    }
    return field;
  }

 private:
  Result<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      TERN_ASSIGN(uint8_t byte, reader_.Read<uint8_t>());
      if (shift == 63 && byte > 1) break;
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    return Bad("an integer is longer than 10 bytes");
  }
  Status Bad(std::string what) const { return Malformed(std::move(what)).Where(Str("offset ", reader_.offset())); }
  ByteReader reader_;
};

Status Expect(const ProtoField& field, int wire, std::string_view name) {
  if (field.wire == wire) return {};
  return Malformed("a field has the wrong type").Where(name).Got(Str("wire type ", field.wire), wire);
}

Result<SpmPiece> ReadPiece(std::string_view bytes, uint64_t base) {
  SpmPiece piece;
  ProtoReader reader(bytes, base);
  while (!reader.done()) {
    TERN_ASSIGN(auto field, reader.Next());
    if (field.number == 1) {
      TERN_RETURN_IF_ERROR(Expect(field, kLength, "piece"));
      if (field.bytes.size() > SpmModel::kMaxPieceBytes)
        return Malformed("a piece is too long")
            .Got(Str(field.bytes.size(), " bytes"), Str("at most ", SpmModel::kMaxPieceBytes));
      piece.text = std::string(field.bytes);
    } else if (field.number == 2) {
      TERN_RETURN_IF_ERROR(Expect(field, kFixed32, "score"));
      uint32_t bits = static_cast<uint32_t>(field.integer);
      std::memcpy(&piece.score, &bits, sizeof bits);
      if (!std::isfinite(piece.score))
        return Malformed("the score of a piece is not a finite number").Got(piece.score, "a finite number");
    } else if (field.number == 3) {
      TERN_RETURN_IF_ERROR(Expect(field, kVarint, "type"));
      if (field.integer < 1 || field.integer > 6)
        return Malformed("a piece has an unknown type").Got(field.integer, "1 to 6");
      piece.type = static_cast<SpmType>(field.integer);
    }
  }
  return piece;
}

Status ReadTrainer(std::string_view bytes, uint64_t base, SpmModel* model) {
  ProtoReader reader(bytes, base);
  while (!reader.done()) {
    TERN_ASSIGN(auto field, reader.Next());
    auto flag = [&](bool* out) {
      *out = field.integer != 0;
      return Expect(field, kVarint, "trainer_spec");
    };
    switch (field.number) {
      case 3:
        TERN_RETURN_IF_ERROR(Expect(field, kVarint, "model_type"));
        if (field.integer < 1 || field.integer > 4)
          return Malformed("unknown kind of model").Where("model_type").Got(field.integer, "1 to 4");
        model->algorithm = static_cast<SpmAlgorithm>(field.integer);
        break;
      case 24:
        TERN_RETURN_IF_ERROR(flag(&model->whitespace_as_suffix));
        break;
      case 26:
        TERN_RETURN_IF_ERROR(flag(&model->allow_whitespace_only_pieces));
        break;
      case 35:
        TERN_RETURN_IF_ERROR(flag(&model->byte_fallback));
        break;
      case 40:
        TERN_RETURN_IF_ERROR(Expect(field, kVarint, "unk_id"));
        model->trainer_unk_id = static_cast<int64_t>(field.integer);
        break;
      case 45:
        TERN_RETURN_IF_ERROR(Expect(field, kLength, "unk_piece"));
        model->unk_piece = std::string(field.bytes.substr(0, SpmModel::kMaxPieceBytes));
        break;
      case 44:
        TERN_RETURN_IF_ERROR(Expect(field, kLength, "unk_surface"));
        if (field.bytes.size() > SpmModel::kMaxPieceBytes)
          return Malformed("the text of the unknown piece is too long").Where("unk_surface");
        model->unk_surface = std::string(field.bytes.substr(0, field.bytes.find('\0')));
        break;
      default:
        break;
    }
  }
  return {};
}

Status ReadNormalizer(std::string_view bytes, uint64_t base, SpmNormalizerSpec* spec) {
  ProtoReader reader(bytes, base);
  while (!reader.done()) {
    TERN_ASSIGN(auto field, reader.Next());
    switch (field.number) {
      case 1:
        TERN_RETURN_IF_ERROR(Expect(field, kLength, "normalizer name"));
        spec->name = std::string(field.bytes.substr(0, 256));
        break;
      case 2: {
        TERN_RETURN_IF_ERROR(Expect(field, kLength, "precompiled_charsmap"));
        TERN_ASSIGN(spec->charsmap, Charsmap::Parse(field.bytes));
        spec->charsmap_bytes = std::string(field.bytes);
        break;
      }
      case 3:
      case 4:
      case 5: {
        TERN_RETURN_IF_ERROR(Expect(field, kVarint, "normalizer_spec"));
        bool* flags[] = {&spec->add_dummy_prefix, &spec->remove_extra_whitespaces, &spec->escape_whitespaces};
        *flags[field.number - 3] = field.integer != 0;
        break;
      }
      default:
        break;
    }
  }
  return {};
}

// What the library checks when it makes its tables.
Status CheckPieces(SpmModel* model) {
  if (model->pieces.empty()) return Malformed("the model holds no pieces").Hint("Is this a SentencePiece model?");
  std::fill(std::begin(model->byte_id), std::end(model->byte_id), -1);
  std::unordered_set<std::string_view> normal, reserved;
  for (size_t i = 0; i < model->pieces.size(); ++i) {
    const SpmPiece& piece = model->pieces[i];
    const auto where = [&] { return Str("piece ", i); };
    const int32_t id = static_cast<int32_t>(i);
    if (piece.text.empty()) return Malformed("a piece is empty").Where(where());
    if (piece.type == SpmType::kUnused && piece.text.size() == 1 && piece.text[0] == 0) continue;  // a place out of use
    if (piece.text.find('\0') != std::string::npos) return Malformed("a piece holds a zero byte").Where(where());
    const bool is_normal =
        piece.type == SpmType::kNormal || piece.type == SpmType::kUserDefined || piece.type == SpmType::kUnused;
    if (!(is_normal ? normal : reserved).insert(piece.text).second)
      return Malformed(Str("the piece '", Printable(piece.text, 60), "' stands twice")).Where(where());
    if (piece.type == SpmType::kUnknown) {
      if (model->unk_id >= 0) return Malformed("a second unknown piece").Where(where()).Got(id, model->unk_id);
      model->unk_id = id;
    }
    if (piece.type == SpmType::kByte) {
      const int byte = SpmByteOf(piece.text);
      if (byte < 0)
        return Malformed(Str("bad byte token '", Printable(piece.text, 60), "'"))
            .Where(where())
            .Hint("Byte pieces are <0x00> to <0xFF>.");
      if (!model->byte_fallback) return Malformed("a byte token although byte_fallback is off").Where(where());
      model->byte_id[byte] = id;
    }
    if (piece.type == SpmType::kControl) {
      if (piece.text == "<s>") model->bos_id = id;
      if (piece.text == "</s>") model->eos_id = id;
      if (piece.text == "<pad>") model->pad_id = id;
    }
  }
  if (model->unk_id < 0 && !model->byte_fallback) return Malformed("no piece is of type 'unknown'");
  if (model->byte_fallback)
    for (int byte = 0; byte < 256; ++byte)
      if (model->byte_id[byte] < 0)
        return Malformed(Str("byte_fallback is on, but the byte token for ", byte, " is missing"));
  return {};
}

}  // namespace

int SpmByteOf(std::string_view piece) {
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
  auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  const int high = digit(piece[3]), low = digit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Result<SpmModel> SpmModel::Parse(std::string_view bytes) {
  if (bytes.empty()) return Malformed("the file is empty");
  SpmModel model;
  ProtoReader reader(bytes);
  while (!reader.done()) {
    const uint64_t at = reader.offset();
    TERN_ASSIGN(auto field, reader.Next());
    const uint64_t base = reader.offset() - field.bytes.size();
    switch (field.number) {
      case 1: {
        TERN_RETURN_IF_ERROR(Expect(field, kLength, "pieces"));
        if (static_cast<int64_t>(model.pieces.size()) >= kMaxPieces)
          return Malformed("too many pieces").Got(Str("more than ", kMaxPieces), Str("at most ", kMaxPieces));
        auto piece = ReadPiece(field.bytes, base);
        if (!piece.ok()) return Status(piece.status()).Where(Str("piece ", model.pieces.size()));
        model.pieces.push_back(std::move(piece).value());
        break;
      }
      case 2:
        TERN_RETURN_IF_ERROR(Expect(field, kLength, "trainer_spec"));
        TERN_RETURN_IF_ERROR(ReadTrainer(field.bytes, base, &model));
        break;
      case 3:
      case 5:
        TERN_RETURN_IF_ERROR(Expect(field, kLength, "normalizer_spec"));
        TERN_RETURN_IF_ERROR(
            ReadNormalizer(field.bytes, base, field.number == 3 ? &model.normalizer : &model.denormalizer));
        model.has_denormalizer |= field.number == 5;
        break;
      default:
        if (field.number > 536870911) return Malformed("this is not a SentencePiece model").Where(Str("offset ", at));
        break;
    }
  }
  TERN_RETURN_IF_ERROR(CheckPieces(&model));
  model.has_denormalizer = model.has_denormalizer && !model.denormalizer.charsmap.empty();
  return model;
}

}  // namespace tern
