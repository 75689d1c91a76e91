#include "engine/retrieval/chunker.h"

#include <algorithm>

namespace tern {

Result<Chunker> Chunker::Create(const Tokenizer& tokenizer, int64_t tokens, std::function<Status(std::string)> emit) {
  if (tokens < 1 || tokens > 65536) return UsageError("the length of a chunk is out of range").Got(tokens, "1 to 65536");
  EncodeOptions options;
  options.special_tokens = false, options.offsets = true;
  TERN_ASSIGN(Encoding probe, tokenizer.Encode("a b", options));
  if (probe.ids.empty() || probe.offsets.size() != probe.ids.size())
    return UsageError(Str("a tokenizer of kind ", tokenizer.kind(), " does not say where its tokens stand")).Hint("Choose an embedder with a WordPiece, BPE or SentencePiece tokenizer");
  return Chunker(tokenizer, tokens, std::move(emit));
}

Status Chunker::Add(std::string_view text) {
  if (text.size() > kMostBytes) return UsageError("a stretch of a document is too long").Got(Str(text.size(), " bytes"), Str("at most ", kMostBytes)).Hint("Break the text into lines or records");
  EncodeOptions options;
  options.special_tokens = false, options.offsets = true, options.max_length = INT32_MAX;
  TERN_ASSIGN(Encoding e, tokenizer_->Encode(text, options));
  const bool bytes = tokenizer_->kind() == "spm";
  size_t at = 0, begin = 0;  // byte of the code point that is reached; of the text not yet taken
  int64_t point = 0;
  for (size_t i = 0; i < e.offsets.size(); ++i) {
    if (!e.attention_mask.empty() && e.attention_mask[i] == 0) continue;  // a tokenizer.json may pad
    const TextSpan& span = e.offsets[i];
    if (bytes) at = std::clamp(static_cast<size_t>(std::max<int64_t>(span.begin, 0)), at, text.size());
    for (; !bytes && point < span.begin && at < text.size(); ++point)
      for (++at; at < text.size() && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80;) ++at;
    if (count_ == tokens_) {
      pending_ += text.substr(begin, at - begin);
      begin = at;
      TERN_RETURN_IF_ERROR(emit_(std::move(pending_)));
      pending_.clear();
      count_ = 0;
    }
    ++count_;
  }
  pending_ += text.substr(begin);
  if (pending_.size() <= kMostBytes) return {};
  if (count_ == 0) return Malformed("a document goes on without a token").Got(Str(pending_.size(), " bytes"), Str("at most ", kMostBytes));
  TERN_RETURN_IF_ERROR(emit_(std::move(pending_)));
  pending_.clear();
  count_ = 0;
  return {};
}

Status Chunker::EndDocument() {
  Status s = count_ > 0 ? emit_(std::move(pending_)) : Status();
  pending_.clear();
  count_ = 0;
  return s;
}

Result<ChunkTable> MakeChunkTable(std::span<const int64_t> offsets, int64_t chunk) {
  if (chunk < 1 || offsets.empty()) return UsageError("there is no chunk length, or there are no offsets of documents");
  ChunkTable t;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    if (offsets[d] < 0 || offsets[d + 1] < offsets[d]) return Malformed("the offsets of documents do not ascend").Where(Str("document ", d));
    for (int64_t at = offsets[d]; at < offsets[d + 1]; at += chunk) {
      t.start.push_back(at);
      t.length.push_back(std::min(chunk, offsets[d + 1] - at));
      t.document.push_back(static_cast<int64_t>(d));
      t.next.push_back(at + chunk < offsets[d + 1] ? static_cast<int64_t>(t.start.size()) : -1);
    }
  }
  return t;
}

Status RetrievedTokens(const ChunkTable& t, std::span<const int32_t> tokens, int64_t id, int64_t chunk, int32_t pad, std::span<int32_t> out) {
  if (static_cast<int64_t>(out.size()) != 2 * chunk) return InternalError("retrieved tokens need room for two chunks");
  std::fill(out.begin(), out.end(), pad);
  for (int64_t half = 0; half < 2 && id >= 0 && id < static_cast<int64_t>(t.start.size()); ++half) {
    const size_t i = static_cast<size_t>(id);
    if (t.start[i] + t.length[i] > static_cast<int64_t>(tokens.size())) return Malformed("a chunk lies outside of the tokens").Where(Str("chunk ", id));
    std::copy_n(tokens.begin() + t.start[i], std::min(t.length[i], chunk), out.begin() + half * chunk);
    id = t.next[i];
  }
  return {};
}

}  // namespace tern
