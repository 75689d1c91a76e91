#include "formats/tokenizer_files.h"

#include "engine/base/bytes.h"
#include "engine/base/hash.h"
#include "formats/tokenizer.h"

namespace tern {
namespace {
constexpr std::string_view kMagic = "TERNTOK1";
constexpr uint32_t kMaxFiles = 64, kMaxNameBytes = 256;

void AddString(std::string_view text, std::string* out) {
  const uint32_t size = static_cast<uint32_t>(text.size());
  out->append(reinterpret_cast<const char*>(&size), sizeof size);
  out->append(text);
}
Result<std::string_view> ReadString(ByteReader* reader, uint64_t max_bytes) {
  TERN_ASSIGN(uint32_t size, reader->Read<uint32_t>());
  if (size > max_bytes) return Malformed("a string of the tokenizer is too long").Got(size, Str("at most ", max_bytes));
  return reader->Text(size);
}
}  // namespace

std::string TokenizerFiles::Serialize() const {
  std::string out(kMagic);
  AddString(kind, &out);
  const uint32_t count = static_cast<uint32_t>(files.size());
  out.append(reinterpret_cast<const char*>(&count), sizeof count);
  for (const auto& [name, bytes] : files) {
    AddString(name, &out);
    AddString(bytes, &out);
  }
  const uint64_t digest = Xxh3({reinterpret_cast<const uint8_t*>(out.data()), out.size()});
  out.append(reinterpret_cast<const char*>(&digest), sizeof digest);
  return out;
}

Result<TokenizerFiles> TokenizerFiles::Deserialize(std::span<const uint8_t> bytes) {
  ByteReader reader(bytes);
  TERN_ASSIGN(auto magic, reader.Text(kMagic.size()));
  if (magic != kMagic) return Malformed("this is not a tokenizer of ours").Got(Printable(magic, 16), kMagic);
  TokenizerFiles out;
  TERN_ASSIGN(auto kind, ReadString(&reader, kMaxNameBytes));
  out.kind = std::string(kind);
  TERN_ASSIGN(uint32_t count, reader.Read<uint32_t>());
  if (count > kMaxFiles) return Malformed("too many parts in the tokenizer").Got(count, Str("at most ", kMaxFiles));
  TERN_RETURN_IF_ERROR(reader.CheckCount(count, 8));
  for (uint32_t i = 0; i < count; ++i) {
    TERN_ASSIGN(auto name, ReadString(&reader, kMaxNameBytes));
    TERN_ASSIGN(auto content, ReadString(&reader, kMaxFileBytes));
    out.files.emplace_back(name, content);
  }
  const uint64_t end = reader.position();
  TERN_ASSIGN(uint64_t digest, reader.Read<uint64_t>());
  if (!reader.done()) return Malformed(Str(reader.remaining(), " bytes after the end of the tokenizer"));
  if (digest != Xxh3(bytes.first(end))) return Status(Code::kDigest, "the digest of the tokenizer differs");
  return out;
}

Result<std::unique_ptr<Tokenizer>> MakeTokenizer(TokenizerFiles files) {
  if (files.kind == "spm") return MakeSpmTokenizer(std::move(files));
  if (files.kind == "bytes") return MakeByteTokenizer(std::move(files));
  if (files.kind == "json") return MakeJsonTokenizer(std::move(files));
  for (const char* kind : {"albert", "t5", "reformer", "bert", "gpt2", "roberta"})
    if (files.kind == kind) return MakeConvertedTokenizer(std::move(files));
  if (files.kind == "transfo-xl" || files.kind.starts_with("xl-")) return MakeXlTokenizer(std::move(files));
  return UsageError(Str("'", Printable(files.kind, 40), "' is not a kind of tokenizer"))
      .Hint(
          "Kinds: spm albert t5 reformer bert gpt2 roberta json transfo-xl xl-pretok xl-lm1b xl-text8 xl-bytes-decimal "
          "bytes.");
}

}  // namespace tern
