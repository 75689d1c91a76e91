// A session's state on disk.
//
//   0  8  "TERNSTAT"      8  4  version 1      12  4  header bytes (JSON)      16  8  XXH3-64 of all that follows
//   24 .. header: {"model": digest, "config": ..., "batch", "tokens_seen", "state_bytes", "extra"}, zeros up to a multiple of 64, then the state region.
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/runtime/session.h"

namespace tern {
namespace {

constexpr char kMagic[] = "TERNSTAT";
constexpr uint32_t kVersion = 1;

}  // namespace

Status Session::Save(const std::string& path, const Json& extra) const {
  Json header = {{"model", model_->file().digest()}, {"config", model_->network().config()}, {"batch", options_.batch},
                 {"tokens_seen", tokens_seen_},      {"segment_begin", segment_begin_}, {"state_bytes", memory_.state},         {"extra", extra}};
  std::string text = DumpJson(header);
  text.resize(static_cast<size_t>(RoundUp(24 + static_cast<int64_t>(text.size()), 64) - 24), ' ');
  Xxh3Stream digest;
  digest.Update({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  digest.Update({state_.data(), static_cast<size_t>(memory_.state)});
  const uint32_t version = kVersion, bytes = static_cast<uint32_t>(text.size());
  const uint64_t sum = digest.Digest();
  TERN_ASSIGN(FileWriter w, FileWriter::Create(path, 24 + text.size() + static_cast<uint64_t>(memory_.state)));
  TERN_RETURN_IF_ERROR(w.Write(kMagic, 8));
  TERN_RETURN_IF_ERROR(w.Write(&version, 4));
  TERN_RETURN_IF_ERROR(w.Write(&bytes, 4));
  TERN_RETURN_IF_ERROR(w.Write(&sum, 8));
  TERN_RETURN_IF_ERROR(w.Write(text));
  TERN_RETURN_IF_ERROR(w.Write(state_.data(), static_cast<uint64_t>(memory_.state)));
  return w.Commit();
}

Result<Json> Session::Restore(const std::string& path) {
  TERN_ASSIGN(auto file, MappedFile::Open(path));
  auto bad = [&](std::string what) { return Malformed(std::move(what)).File(path); };
  ByteReader r(file->bytes());
  auto magic = r.Text(8);
  if (!magic.ok() || *magic != kMagic) return bad("this is not a saved state");
  auto version = r.Read<uint32_t>();
  auto bytes = r.Read<uint32_t>();
  auto sum = r.Read<uint64_t>();
  if (!version.ok() || !bytes.ok() || !sum.ok()) return bad("the file ends too early");
  if (*version != kVersion) return bad("the state was written by another release").Got(*version, kVersion);
  if (r.remaining() < *bytes) return bad("the file ends too early").Got(Str(r.remaining(), " bytes"), *bytes);
  if (Xxh3(file->bytes().subspan(24)) != *sum) return Status(Code::kDigest, "the digest of the state differs").File(path);
  TERN_ASSIGN(std::string_view text, r.Text(*bytes));
  auto parsed = ParseJson(text);
  if (!parsed.ok()) return Status(parsed.status()).File(path);
  const Json& h = *parsed;
  auto is = [&](const char* key, const Json& want) { return h.contains(key) && h[key] == want; };
  if (!h.is_object() || !is("model", model_->file().digest())) return bad("the state belongs to another model");
  if (!is("config", model_->network().config()) || !is("batch", options_.batch) || !is("state_bytes", memory_.state) || static_cast<int64_t>(r.remaining()) != memory_.state)
    return bad("the state was saved with other settings").Hint("Use the same --set and batch as when it was saved");
  if (!h.contains("tokens_seen") || !h["tokens_seen"].is_number_integer() || h["tokens_seen"] < 0 || h["tokens_seen"] > (int64_t{1} << 60)) return bad("tokens_seen is damaged");
  const int64_t seen = h["tokens_seen"].get<int64_t>(), segment = model_->network().segments().length;
  int64_t begin = segment > 0 ? 0 : seen;  // files of models without segments need not say
  if (h.contains("segment_begin")) {
    if (!h["segment_begin"].is_number_integer() || h["segment_begin"] < 0 || h["segment_begin"] > seen) return bad("segment_begin is damaged");
    begin = h["segment_begin"].get<int64_t>();
  }
  if (segment > 0 && seen - begin > segment) return bad("segment_begin is damaged");
  std::memcpy(state_.data(), file->bytes().data() + r.position(), static_cast<size_t>(memory_.state));
  tokens_seen_ = seen, segment_begin_ = begin;
  return h.contains("extra") ? h["extra"] : Json();
}

}  // namespace tern
