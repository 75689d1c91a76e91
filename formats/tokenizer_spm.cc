// Kind "spm": a SentencePiece model as its own library uses it.
#include <algorithm>
#include <unordered_map>

#include "engine/base/utf8.h"
#include "formats/tokenizer.h"
#include "formats/tokenizer_scratch.h"
#include "formats/tokenizer_spm_bpe.h"
#include "formats/tokenizer_spm_model.h"
#include "formats/tokenizer_spm_normalizer.h"
#include "formats/tokenizer_spm_unigram.h"
#include "formats/tokenizer_utf8.h"

namespace tern {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81", kReplacement = "\xEF\xBF\xBD";
constexpr size_t kChunkBytes = 1 << 16;

class SpmEncoder;

class SpmTokenizer final : public Tokenizer {
 public:
  ~SpmTokenizer() override;
  static Result<std::unique_ptr<Tokenizer>> Make(TokenizerFiles files) {
    const std::string* bytes = files.Find("tokenizer.model");
    if (!bytes) return InternalError("no tokenizer.model was given");
    TERN_ASSIGN(SpmModel model, SpmModel::Parse(*bytes));
    std::unique_ptr<SpmTokenizer> tokenizer(new SpmTokenizer(std::move(files), std::move(model)));
    TERN_RETURN_IF_ERROR(tokenizer->Init());
    return std::unique_ptr<Tokenizer>(std::move(tokenizer));
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(model_.pieces.size()); }
  SpecialIds special_ids() const override {
    SpecialIds ids;
    ids.bos = model_.bos_id;
    ids.eos = model_.eos_id;
    ids.unk = model_.unk_id;
    ids.pad = model_.pad_id;
    return ids;
  }
  int32_t IdOf(std::string_view piece) const override {
    for (const auto* table : {&reserved_, &normal_})
      if (auto it = table->find(piece); it != table->end()) return it->second;
    return -1;
  }
  std::string PieceOf(int32_t id) const override { return Has(id) ? model_.pieces[static_cast<size_t>(id)].text : ""; }
  bool IsSpecial(int32_t id) const override { return Has(id) && model_.IsType(id, SpmType::kControl); }

  Status EncodeIds(std::string_view text, bool special_tokens, std::vector<int32_t>* ids) const override;
  std::unique_ptr<EncodeStream> NewEncodeStream() const override;
  std::unique_ptr<TokenDecoder> NewTokenDecoder(const DecodeOptions& options) const override;
  std::string DecodePieces(std::span<const std::string> pieces) const override;

 protected:
  Result<Encoding> EncodeAlone(std::string_view text, const EncodeOptions& options) const override;

 private:
  friend class SpmEncoder;
  friend class SpmDecoder;
  SpmTokenizer(TokenizerFiles files, SpmModel model) : Tokenizer(std::move(files)), model_(std::move(model)) {}
  Status Init();
  bool Has(int32_t id) const { return id >= 0 && id < static_cast<int64_t>(model_.pieces.size()); }

  const SpmModel model_;
  Trie user_defined_;
  std::unordered_map<std::string_view, int32_t> normal_, reserved_;
  std::optional<SpmNormalizer> normalizer_, denormalizer_;
  SpmUnigram unigram_;
  SpmBpe bpe_;
  mutable ScratchPool<SpmEncoder> encoders_;
};

Status SpmTokenizer::Init() {
  std::vector<std::pair<std::string_view, int32_t>> user_defined;
  for (size_t i = 0; i < model_.pieces.size(); ++i) {
    const SpmPiece& piece = model_.pieces[i];
    const bool is_normal =
        piece.type == SpmType::kNormal || piece.type == SpmType::kUserDefined || piece.type == SpmType::kUnused;
    (is_normal ? normal_ : reserved_).emplace(piece.text, static_cast<int32_t>(i));
    if (piece.type == SpmType::kUserDefined) user_defined.push_back({piece.text, static_cast<int32_t>(i)});
  }
  TERN_ASSIGN(user_defined_, Trie::Build(std::move(user_defined)));
  normalizer_.emplace(model_.normalizer, model_.whitespace_as_suffix, user_defined_.empty() ? nullptr : &user_defined_);
  if (model_.has_denormalizer) denormalizer_.emplace(model_.denormalizer, false, nullptr);
  if (model_.algorithm == SpmAlgorithm::kUnigram) {
    TERN_ASSIGN(unigram_, SpmUnigram::Build(model_));
  } else {
    TERN_ASSIGN(bpe_, SpmBpe::Build(model_, user_defined_));
  }
  return {};
}

// Normalized text to pieces, in portions; unknown pieces become bytes or one unknown id a run.
class SpmEncoder final : public EncodeStream {
 public:
  explicit SpmEncoder(const SpmTokenizer& tokenizer)
      : t_(tokenizer), normalizer_(*tokenizer.normalizer_), lattice_(tokenizer.unigram_) {}

  void Reset() {
    normalizer_ = SpmNormalizer::Stream(*t_.normalizer_);
    lattice_.Reset(t_.unigram_);
    rest_.clear();
    text_.clear();
    previous_unknown_ = false;
  }

  Status Push(std::string_view text, std::vector<int32_t>* ids) override {
    while (!text.empty()) {
      const std::string_view chunk = text.substr(0, kChunkBytes);
      text.remove_prefix(chunk.size());
      if (rest_.empty()) {
        rest_ = chunk.substr(normalizer_.Push(chunk, false, &text_, nullptr));
      } else {
        rest_ += chunk;
        rest_.erase(0, normalizer_.Push(rest_, false, &text_, nullptr));
      }
      Cut(false, ids);
    }
    return {};
  }
  Status Finish(std::vector<int32_t>* ids) override {
    Last(rest_, ids);
    return {};
  }
  // A whole text in one call.
  void Whole(std::string_view text, std::vector<int32_t>* ids) {
    if (text.size() <= kChunkBytes) return Last(text, ids);
    (void)Push(text, ids);
    Last(rest_, ids);
  }
  // The pieces of normalized text (all of it, at once).
  void Steps(std::string_view normalized, std::vector<SpmUnigram::Step>* steps) {
    if (t_.model_.algorithm == SpmAlgorithm::kUnigram) {
      lattice_.Push(normalized, true, steps);
      return;
    }
    while (!normalized.empty()) {
      const size_t end = t_.bpe_.SegmentEnd(normalized, true);
      t_.bpe_.Encode(normalized.substr(0, end), &scratch_, steps);
      normalized.remove_prefix(end);
    }
  }

 private:
  void Last(std::string_view text, std::vector<int32_t>* ids) {
    normalizer_.Push(text, true, &text_, nullptr);
    normalizer_.Finish(&text_, nullptr);
    Cut(true, ids);
  }
  // Takes what is certain of text_ and drops the part whose pieces are known.
  void Cut(bool last, std::vector<int32_t>* ids) {
    const std::string_view certain = std::string_view(text_).substr(0, normalizer_.certain_bytes());
    steps_.clear();
    size_t done = 0;
    if (t_.model_.algorithm == SpmAlgorithm::kUnigram) {
      lattice_.Push(certain.substr(lattice_.pending_bytes()), last, &steps_);
    } else if (certain.size() >= retry_at_ || last) {
      for (size_t at = 0; at < certain.size();) {
        const size_t end = t_.bpe_.SegmentEnd(certain.substr(at), last);
        if (end == 0) break;
        t_.bpe_.Encode(certain.substr(at, end), &scratch_, &steps_);
        at += end;
        retry_at_ = (certain.size() - at) * 2;  // a long segment is not searched for its end again and again
      }
      if (steps_.empty()) retry_at_ = certain.size() * 2;
    }
    const bool byte_fallback = t_.model_.byte_fallback;
    for (auto [id, length] : steps_) {
      const bool unknown = id == t_.model_.unk_id;
      if (!unknown)
        ids->push_back(id);
      else if (byte_fallback)
        for (int32_t i = 0; i < length; ++i)
          ids->push_back(t_.model_.byte_id[static_cast<uint8_t>(certain[done + static_cast<size_t>(i)])]);
      else if (!previous_unknown_)
        ids->push_back(id);
      previous_unknown_ = unknown;
      done += static_cast<size_t>(length);
    }
    if (done == 0) return;
    text_.erase(0, done);
    normalizer_.Dropped(done);
  }

  const SpmTokenizer& t_;
  SpmNormalizer::Stream normalizer_;
  SpmUnigram::Lattice lattice_;
  SpmBpe::Scratch scratch_;
  std::vector<SpmUnigram::Step> steps_;
  std::string rest_, text_;  // source not yet normalized; normalized text whose pieces are not known yet
  size_t retry_at_ = 0;
  bool previous_unknown_ = false;
};

SpmTokenizer::~SpmTokenizer() = default;

Status SpmTokenizer::EncodeIds(std::string_view text, bool, std::vector<int32_t>* ids) const {
  auto encoder = encoders_.Take();
  if (!encoder) encoder = std::make_unique<SpmEncoder>(*this);
  encoder->Reset();
  encoder->Whole(text, ids);
  encoders_.Give(std::move(encoder));
  return {};
}

std::unique_ptr<EncodeStream> SpmTokenizer::NewEncodeStream() const {
  return std::make_unique<SpmEncoder>(*this);
}

Result<Encoding> SpmTokenizer::EncodeAlone(std::string_view text, const EncodeOptions& options) const {
  Encoding out;
  if (!options.pieces && !options.offsets) {
    TERN_RETURN_IF_ERROR(EncodeIds(text, false, &out.ids));
    return out;
  }
  std::vector<int64_t> source;
  const std::string normalized = normalizer_->Normalize(text, &source);
  std::vector<SpmUnigram::Step> steps;
  SpmEncoder(*this).Steps(normalized, &steps);
  size_t at = 0;
  bool previous_unknown = false;
  for (auto [id, length] : steps) {
    const std::string_view piece = std::string_view(normalized).substr(at, static_cast<size_t>(length));
    const TextSpan span{source[at], source[at + piece.size()]};
    const bool unknown = id == model_.unk_id;
    if (unknown && model_.byte_fallback) {  // the last byte holds the source
      for (size_t i = 0; i < piece.size(); ++i) {
        const int32_t byte = model_.byte_id[static_cast<uint8_t>(piece[i])];
        out.ids.push_back(byte);
        out.pieces.push_back(model_.pieces[static_cast<size_t>(byte)].text);
        out.offsets.push_back({span.begin, i + 1 == piece.size() ? span.end : span.begin});
      }
    } else if (unknown && previous_unknown) {
      out.pieces.back() += piece;
      out.offsets.back().end = span.end;
    } else {
      out.ids.push_back(id);
      out.pieces.emplace_back(piece);
      out.offsets.push_back(span);
    }
    previous_unknown = unknown;
    at += piece.size();
  }
  if (!options.pieces) out.pieces.clear();
  if (!options.offsets) out.offsets.clear();
  return out;
}

// Pieces to text: U+2581 is a space, the dummy prefix goes, bytes gather to characters.
class SpmDecoder final : public TokenDecoder {
 public:
  explicit SpmDecoder(const SpmTokenizer& tokenizer, bool hold) : t_(tokenizer), hold_(hold) {}

  std::string Push(int32_t id) override {
    if (!t_.Has(id)) return "";
    return PushPiece(id, t_.model_.pieces[static_cast<size_t>(id)].text);
  }
  std::string PushPiece(int32_t id, std::string_view piece) {
    std::string out;
    if (t_.model_.IsType(id, SpmType::kByte)) {
      bytes_.push_back(static_cast<char>(SpmByteOf(piece)));
      TakeBytes(false, &out);
    } else {
      TakeBytes(true, &out);
      any_text_ |= !out.empty();
      if (space_seen_ || any_text_) at_start_ = false;
      space_seen_ = false;
      Append(id, piece, &out);
    }
    any_text_ |= !out.empty();
    return Give(std::move(out));
  }
  std::string Finish() override {
    std::string out;
    TakeBytes(true, &out);
    out = Give(std::move(out));
    return hold_ ? t_.denormalizer_->Normalize(held_) : out;
  }

 private:
  std::string Give(std::string out) {
    if (!hold_) return out;
    held_ += out;
    return "";
  }
  void Append(int32_t id, std::string_view piece, std::string* out) {
    const SpmModel& model = t_.model_;
    if (model.IsType(id, SpmType::kControl)) return;
    if (model.IsType(id, SpmType::kUnknown)) {
      *out += piece == model.pieces[static_cast<size_t>(id)].text ? std::string_view(model.unk_surface) : piece;
      return;
    }
    if (at_start_ && (model.normalizer.add_dummy_prefix || model.normalizer.remove_extra_whitespaces) &&
        piece.starts_with(kSpace)) {
      piece.remove_prefix(kSpace.size());
      space_seen_ = !model.normalizer.remove_extra_whitespaces;
    }
    while (!piece.empty()) {
      const size_t space = piece.find(kSpace);
      *out += piece.substr(0, space);
      if (space == std::string_view::npos) break;
      *out += ' ';
      piece.remove_prefix(space + kSpace.size());
    }
  }
  // Whole characters of bytes_; a byte that cannot be part of one becomes U+FFFD. What may still become a character
  // waits, unless `all`.
  void TakeBytes(bool all, std::string* out) {
    size_t at = 0;
    while (at < bytes_.size()) {
      const Utf8Char c = DecodeUtf8(bytes_, at);
      if (!c.valid && !all && at + c.bytes == bytes_.size() && IncompleteUtf8(std::string_view(bytes_).substr(at)))
        break;
      *out += c.valid ? std::string_view(bytes_).substr(at, c.bytes) : kReplacement;
      at += c.valid ? c.bytes : 1;
    }
    bytes_.erase(0, at);
  }

  const SpmTokenizer& t_;
  std::string bytes_, held_;
  bool hold_;
  bool at_start_ = true, space_seen_ = false, any_text_ = false;
};

std::unique_ptr<TokenDecoder> SpmTokenizer::NewTokenDecoder(const DecodeOptions&) const {
  return std::make_unique<SpmDecoder>(*this, denormalizer_.has_value());
}

std::string SpmTokenizer::DecodePieces(std::span<const std::string> pieces) const {
  SpmDecoder decoder(*this, denormalizer_.has_value());
  std::string out;
  for (const std::string& piece : pieces) {
    int32_t id = IdOf(piece);
    if (id < 0) id = model_.unk_id;
    if (id >= 0) out += decoder.PushPiece(id, piece);
  }
  return out + decoder.Finish();
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> MakeSpmTokenizer(TokenizerFiles files) {
  return SpmTokenizer::Make(std::move(files));
}

}  // namespace tern
