// Kind "bytes": id = byte + 2, no files (google/reformer-enwik8). Ids 0 (padding) and 1 stand for nothing.
#include "engine/base/utf8.h"
#include "formats/tokenizer.h"
#include "formats/tokenizer_utf8.h"

namespace tern {
namespace {

constexpr int32_t kFirstByte = 2;

class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(TokenizerFiles files) : Tokenizer(std::move(files)) {}

  int64_t vocab_size() const override { return 256 + kFirstByte; }
  SpecialIds special_ids() const override {
    SpecialIds ids;
    ids.pad = 0;
    return ids;
  }
  int32_t IdOf(std::string_view piece) const override {
    return piece.size() == 1 ? static_cast<uint8_t>(piece[0]) + kFirstByte : -1;
  }
  std::string PieceOf(int32_t id) const override {
    return id < kFirstByte || id >= vocab_size() ? std::string() : std::string(1, static_cast<char>(id - kFirstByte));
  }
  bool IsSpecial(int32_t id) const override { return id >= 0 && id < kFirstByte; }

  Status EncodeIds(std::string_view text, bool, std::vector<int32_t>* ids) const override {
    ids->reserve(ids->size() + text.size());
    for (char c : text) ids->push_back(static_cast<uint8_t>(c) + kFirstByte);
    return {};
  }
  std::unique_ptr<EncodeStream> NewEncodeStream() const override {
    struct Stream final : EncodeStream {
      explicit Stream(const ByteTokenizer& t) : t_(t) {}
      Status Push(std::string_view text, std::vector<int32_t>* ids) override { return t_.EncodeIds(text, false, ids); }
      Status Finish(std::vector<int32_t>*) override { return {}; }
      const ByteTokenizer& t_;
    };
    return std::make_unique<Stream>(*this);
  }
  std::unique_ptr<TokenDecoder> NewTokenDecoder(const DecodeOptions&) const override {
    struct Decoder final : TokenDecoder {
      explicit Decoder(const ByteTokenizer& t) : t_(t) {}
      std::string Push(int32_t id) override { return text_.Push(t_.PieceOf(id)); }
      std::string Finish() override { return text_.Finish(); }
      const ByteTokenizer& t_;
      Utf8Gatherer text_;
    };
    return std::make_unique<Decoder>(*this);
  }
  std::string DecodePieces(std::span<const std::string> pieces) const override {
    std::string bytes;
    for (const std::string& piece : pieces) bytes += piece;
    return ReplaceInvalidUtf8(bytes);
  }

 protected:
  Result<Encoding> EncodeAlone(std::string_view text, const EncodeOptions& options) const override {
    Encoding out;
    TERN_RETURN_IF_ERROR(EncodeIds(text, false, &out.ids));
    if (options.pieces)
      for (char c : text)
        out.pieces.push_back(static_cast<uint8_t>(c) < 128 ? std::string(1, c)
                                                           : Str("<", static_cast<int>(static_cast<uint8_t>(c)), ">"));
    return out;
  }
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> MakeByteTokenizer(TokenizerFiles files) {
  return std::unique_ptr<Tokenizer>(new ByteTokenizer(std::move(files)));
}

}  // namespace tern
