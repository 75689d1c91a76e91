#include "engine/runtime/state_file.h"

#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/runtime/session.h"

namespace tern {
namespace {

constexpr char kMagic[] = "TERNSTAT";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 24;

}  // namespace

Status Session::Save(const std::string& path, const Json& extra) const {
  Json header = {{"model", model_->file().digest()},
                 {"config", model_->network().config()},
                 {"batch", options_.batch},
                 {"tokens_seen", tokens_seen_},
                 {"segment_begin", segment_begin_},
                 {"segment_previous", segment_previous_},
                 {"segment_index", segment_index_},
                 {"state_bytes", memory_.state},
                 {"extra", extra}};
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

Result<SavedState> ParseState(std::span<const uint8_t> data) {
  ByteReader r(data);
  auto magic = r.Text(8);
  if (!magic.ok() || *magic != kMagic) return Malformed("this is not a saved state");
  auto version = r.Read<uint32_t>();
  auto bytes = r.Read<uint32_t>();
  auto sum = r.Read<uint64_t>();
  if (!version.ok() || !bytes.ok() || !sum.ok()) return Malformed("the file ends too early");
  if (*version != kVersion) return Malformed("the state was written by another release").Got(*version, kVersion);
  if (r.remaining() < *bytes) return Malformed("the file ends too early").Got(Str(r.remaining(), " bytes"), *bytes);
  if (Xxh3(data.subspan(kHeaderBytes)) != *sum) return Status(Code::kDigest, "the digest of the state differs");
  TERN_ASSIGN(std::string_view text, r.Text(*bytes));
  SavedState saved;
  TERN_ASSIGN(saved.header, ParseJson(text));
  const Json& h = saved.header;
  if (!h.is_object()) return Malformed("the state's header is damaged");
  if (!h.contains("tokens_seen") || !h["tokens_seen"].is_number_integer() || h["tokens_seen"] < 0 || h["tokens_seen"] > (int64_t{1} << 60))
    return Malformed("tokens_seen is damaged");
  saved.tokens_seen = h["tokens_seen"].get<int64_t>();
  saved.state = data.subspan(static_cast<size_t>(r.position()));
  return saved;
}

Result<Json> Session::Restore(const std::string& path) {
  TERN_ASSIGN(auto file, MappedFile::Open(path));
  auto parsed = ParseState(file->bytes());
  if (!parsed.ok()) return Status(parsed.status()).File(path);
  const Json& h = parsed->header;
  auto is = [&](const char* key, const Json& want) { return h.contains(key) && h[key] == want; };
  if (!is("model", model_->file().digest())) return Malformed("the state belongs to another model").File(path);
  if (!is("config", model_->network().config()) || !is("batch", options_.batch) || !is("state_bytes", memory_.state) ||
      static_cast<int64_t>(parsed->state.size()) != memory_.state)
    return Malformed("the state was saved with other settings").File(path).Hint("Use the same --set and batch as when it was saved");
  // Files of models without segments need not say where the present one began.
  const int64_t seen = parsed->tokens_seen;
  bool good = true;
  auto number = [&](const char* key, int64_t most, int64_t otherwise) {
    if (!h.contains(key)) return otherwise;
    const bool ok = h[key].is_number_integer() && h[key] >= 0 && h[key] <= most;
    good = good && ok;
    return ok ? h[key].get<int64_t>() : int64_t{0};
  };
  const SegmentRule rule = model_->network().segments();
  const int64_t begin = number("segment_begin", seen, rule.length > 0 ? 0 : seen);
  const int64_t previous = number("segment_previous", begin, 0), index = number("segment_index", begin, 0);
  const bool bounded = rule.length > 0 && !(rule.recurrent && options_.call_is_segment);
  if (!good || (bounded && (seen - begin > rule.length || previous > rule.length)))
    return Malformed("the segment's place is damaged").File(path);
  std::memcpy(state_.data(), parsed->state.data(), parsed->state.size());
  tokens_seen_ = seen, segment_begin_ = begin, segment_previous_ = previous, segment_index_ = index;
  return h.contains("extra") ? h["extra"] : Json();
}

}  // namespace tern
