#include "formats/tokenizer_pipeline.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "engine/base/utf8.h"
#include "formats/tokenizer_classes.h"
#include "formats/tokenizer_cut_stream.h"
#include "formats/tokenizer_replace.h"
#include "formats/tokenizer_unicode.h"
#include "formats/tokenizer_word_cache.h"

namespace tern {
namespace {

// Added tokens and their ids, and the search for them in a text: leftmost, longest first.
class AddedTokens {
 public:
  struct Match {
    size_t begin, end;
    int32_t id;
  };
  static Result<AddedTokens> Build(std::vector<AddedToken> tokens, const Vocabulary& vocabulary,
                                   const Normalizer* normalizer) {
    AddedTokens out;
    int32_t next = static_cast<int32_t>(vocabulary.count());
    std::vector<std::pair<std::string, int32_t>> raw, normalized;
    for (AddedToken& token : tokens) {
      if (token.content.empty()) continue;
      if (token.content.size() > Vocabulary::kMaxTokenBytes) return Malformed("an added token is too long");
      int32_t id = -1;
      if (auto known = out.ids_.find(token.content); known != out.ids_.end()) id = known->second;
      if (id < 0) id = vocabulary.IdOf(token.content);
      if (id < 0) id = next++;
      if (id >= next && id >= static_cast<int32_t>(vocabulary.count())) next = id + 1;
      if (id >= 2 * Vocabulary::kMaxEntries) return Malformed("too many added tokens");
      std::string pattern = token.content;
      if (token.normalized && normalizer) {
        NormalizedText text;
        text.Assign(pattern, false);
        TERN_RETURN_IF_ERROR(normalizer->Run(&text));
        pattern = text.text;
      }
      if (!pattern.empty()) (token.normalized ? normalized : raw).emplace_back(std::move(pattern), id);
      if (token.special) out.special_.insert(token.content);
      out.ids_[token.content] = id;
      out.end_id_ = std::max(out.end_id_, id + 1);
      out.tokens_[id] = std::move(token);
    }
    TERN_RETURN_IF_ERROR(out.raw_.Build(std::move(raw)));
    TERN_RETURN_IF_ERROR(out.normalized_.Build(std::move(normalized)));
    return out;
  }

  bool any_raw() const { return !raw_.trie.empty(); }
  bool any_normalized() const { return !normalized_.trie.empty(); }
  int32_t end_id() const { return end_id_; }
  const AddedToken* Token(int32_t id) const {
    auto it = tokens_.find(id);
    return it == tokens_.end() ? nullptr : &it->second;
  }
  int32_t IdOf(std::string_view content) const {
    auto it = ids_.find(std::string(content));
    return it == ids_.end() ? -1 : it->second;
  }
  bool IsSpecial(const std::string& content) const { return special_.count(content) > 0; }
  // True if a text may be cut at a space between two ASCII letters without touching an added token.
  bool survives_cuts() const {
    return std::all_of(tokens_.begin(), tokens_.end(), [](const auto& entry) {
      const std::string& content = entry.second.content;
      auto outside = [](char c) { return !((c | 32) >= 'a' && (c | 32) <= 'z') && static_cast<uint8_t>(c) < 128; };
      return content.find(' ') == std::string::npos && outside(content.front()) && outside(content.back());
    });
  }

  // Where raw (not normalized) tokens stand in `text`; lstrip and rstrip have widened the matches.
  void FindRaw(std::string_view text, std::vector<Match>* out) const { Find(text, raw_, out); }
  void FindNormalized(std::string_view text, std::vector<Match>* out) const { Find(text, normalized_, out); }

 private:
  struct Patterns {
    Trie trie;
    std::array<bool, 256> begins{};
    Status Build(std::vector<std::pair<std::string, int32_t>> patterns) {
      std::unordered_map<std::string_view, int32_t> first;
      for (const auto& [pattern, id] : patterns) first.emplace(pattern, id);
      std::vector<std::pair<std::string_view, int32_t>> entries(first.begin(), first.end());
      for (const auto& [pattern, id] : entries) begins[static_cast<uint8_t>(pattern[0])] = true;
      TERN_ASSIGN(trie, Trie::Build(std::move(entries)));
      return {};
    }
  };

  static bool IsWord(char32_t c) { return library::IsWord(c); }
  static size_t CharBefore(std::string_view text, size_t at) {
    do --at;
    while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80);
    return at;
  }

  void Find(std::string_view text, const Patterns& patterns, std::vector<Match>* out) const {
    if (patterns.trie.empty()) return;
    size_t covered = 0;  // matches and the white space they took
    for (size_t at = 0; at < text.size();) {
      if (!patterns.begins[static_cast<uint8_t>(text[at])]) {
        ++at;
        continue;
      }
      int32_t id = -1;
      const size_t length = patterns.trie.LongestPrefix(text.substr(at), &id);
      if (length == 0) {
        ++at;
        continue;
      }
      size_t begin = at, end = at + length;
      at = end;
      const AddedToken& token = tokens_.find(id)->second;
      if (token.single_word) {
        const bool free_before = begin == 0 || !IsWord(DecodeUtf8(text, CharBefore(text, begin)).code);
        const bool free_behind = end == text.size() || !IsWord(DecodeUtf8(text, end).code);
        if (!free_before || !free_behind) continue;
      }
      if (token.lstrip) {
        while (begin > covered) {
          const size_t before = CharBefore(text, begin);
          if (before < covered || !IsWhiteSpace(DecodeUtf8(text, before).code)) break;
          begin = before;
        }
        begin = std::max(begin, covered);
      }
      if (token.rstrip)
        while (end < text.size()) {
          const Utf8Char c = DecodeUtf8(text, end);
          if (!IsWhiteSpace(c.code)) break;
          end += c.bytes;
        }
      out->push_back({begin, end, id});
      covered = end;
    }
  }

  std::unordered_map<int32_t, AddedToken> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_set<std::string> special_;
  Patterns raw_, normalized_;
  int32_t end_id_ = 0;
};

// Working memory of one call.
struct PipelineScratch {
  VocabModel::Scratch model;
  WordCache cache;
  std::vector<NormalizedText> parts;
  std::vector<ModelToken> tokens;
  std::vector<AddedTokens::Match> matches;
  struct Solid {
    char32_t code = 0;
    bool known = false, solid = false;
  };
  std::vector<Solid> solid = std::vector<Solid>(1024);
};

class PipelineTokenizer final : public Tokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> Make(TokenizerFiles files, PipelineParts parts) {
    if (!parts.decoder) parts.decoder = MakeSpaceJoiner();
    TERN_ASSIGN(AddedTokens added,
                AddedTokens::Build(std::move(parts.added), parts.model->vocabulary(), parts.normalizer.get()));
    std::unique_ptr<PipelineTokenizer> out(new PipelineTokenizer(std::move(files), std::move(parts), std::move(added)));
    TERN_RETURN_IF_ERROR(out->Init());
    return std::unique_ptr<Tokenizer>(std::move(out));
  }

  int64_t vocab_size() const override { return std::max(p_.model->vocabulary().end_id(), added_.end_id()); }
  SpecialIds special_ids() const override { return special_; }
  int32_t IdOf(std::string_view piece) const override {
    const int32_t id = added_.IdOf(piece);
    return id >= 0 ? id : p_.model->vocabulary().IdOf(piece);
  }
  std::string PieceOf(int32_t id) const override {
    const AddedToken* token = added_.Token(id);
    return token ? token->content : p_.model->vocabulary().TokenOf(id);
  }
  bool IsSpecial(int32_t id) const override { return added_.IsSpecial(PieceOf(id)); }

  Status EncodeIds(std::string_view text, bool special_tokens, std::vector<int32_t>* ids) const override;
  std::unique_ptr<EncodeStream> NewEncodeStream() const override;
  std::unique_ptr<TokenDecoder> NewTokenDecoder(const DecodeOptions& options) const override;
  std::string DecodePieces(std::span<const std::string> pieces) const override {
    auto stream = p_.decoder->NewStream();
    std::string out;
    const auto emit = [&](std::string_view token) { out += token; };
    for (const std::string& piece : pieces) stream->Push(piece, emit);
    stream->Finish(emit);
    return out;
  }

 protected:
  Result<Encoding> EncodeAlone(std::string_view text, const EncodeOptions& options) const override;
  int64_t SpecialCount(bool pair) const override { return p_.post_processor ? p_.post_processor->added(pair) : 0; }
  Encoding Join(Encoding first, const Encoding* second, const EncodeOptions& options) const override;
  bool empty_second_counts() const override { return kind() == "json"; }  // as the classes of Hugging Face have it
  FileLimits file_limits() const override { return {p_.max_length, p_.truncation, p_.truncate_left}; }

 private:
  friend class PipelineStream;
  friend class PipelineDecoder;
  PipelineTokenizer(TokenizerFiles files, PipelineParts parts, AddedTokens added)
      : Tokenizer(std::move(files)), p_(std::move(parts)), added_(std::move(added)) {}

  Status Init();
  Status Parts(std::string_view text, bool track, std::vector<NormalizedText>* parts) const;
  Status EncodeSlow(std::string_view text, bool first, PipelineScratch* scratch, std::vector<int32_t>* ids) const;
  Status EncodeWords(std::string_view text, bool first, PipelineScratch* scratch, std::vector<int32_t>* ids) const;
  Status EncodeWord(std::string_view word, uint8_t kind, PipelineScratch* scratch, std::vector<int32_t>* ids) const;
  Status EncodePlain(std::string_view text, PipelineScratch* scratch, std::vector<int32_t>* ids) const;
  bool Solid(std::string_view text, size_t at, PipelineScratch* scratch) const;
  bool SolidBefore(std::string_view text, size_t at, PipelineScratch* scratch) const;

  const PipelineParts p_;
  const AddedTokens added_;
  SpecialIds special_;
  bool separable_ = false;          // words between single spaces are encoded one by one
  bool separable_at_line_ = false;  // and between single line breaks
  mutable ScratchPool<PipelineScratch> scratch_;
};

Status PipelineTokenizer::Init() {
  const std::pair<const std::string*, int32_t*> names[] = {
      {&p_.bos, &special_.bos}, {&p_.eos, &special_.eos}, {&p_.unk, &special_.unk},  {&p_.pad, &special_.pad},
      {&p_.cls, &special_.cls}, {&p_.sep, &special_.sep}, {&p_.mask, &special_.mask}};
  for (auto [name, id] : names)
    if (!name->empty()) *id = IdOf(*name);
  separable_ = p_.pre_tokenizer && p_.pre_tokenizer->separable() && (!p_.normalizer || p_.normalizer->separable()) &&
               !added_.any_normalized();
  if (separable_) {
    // Line breaks separate like spaces where both give the same parts.
    std::vector<NormalizedText> space, line;
    TERN_RETURN_IF_ERROR(Parts("x y", false, &space));
    TERN_RETURN_IF_ERROR(Parts("x\ny", false, &line));
    separable_at_line_ =
        space.size() == line.size() && std::equal(space.begin(), space.end(), line.begin(),
                                                  [](const auto& a, const auto& b) { return a.text == b.text; });
  }
  return {};
}

// The pre-tokenized parts of a text, added tokens among them.
Status PipelineTokenizer::Parts(std::string_view text, bool track, std::vector<NormalizedText>* parts) const {
  track |= p_.needs_offsets;
  std::vector<NormalizedText> raw;
  auto cut = [](NormalizedText whole, const std::vector<AddedTokens::Match>& matches,
                std::vector<NormalizedText>* out) {
    if (matches.empty()) {
      if (!whole.text.empty()) out->push_back(std::move(whole));
      return;
    }
    size_t at = 0;
    for (const auto& match : matches) {
      if (at < match.begin) out->push_back(whole.Slice(at, match.begin));
      if (match.begin < match.end) {
        out->push_back(whole.Slice(match.begin, match.end));
        out->back().added_id = match.id;
      }
      at = match.end;
    }
    if (at < whole.size()) out->push_back(whole.Slice(at, whole.size()));
  };
  NormalizedText whole;
  whole.Assign(text, track);
  std::vector<AddedTokens::Match> matches;
  added_.FindRaw(whole.text, &matches);
  cut(std::move(whole), matches, &raw);
  for (NormalizedText& part : raw) {
    if (part.added_id >= 0) {
      parts->push_back(std::move(part));
      continue;
    }
    if (p_.normalizer) TERN_RETURN_IF_ERROR(p_.normalizer->Run(&part));
    matches.clear();
    added_.FindNormalized(part.text, &matches);
    cut(std::move(part), matches, parts);
  }
  if (p_.pre_tokenizer) TERN_RETURN_IF_ERROR(p_.pre_tokenizer->Run(parts));
  return {};
}

// ---- with offsets ----

// Code points before each byte.
std::vector<uint32_t> CharacterIndex(std::string_view text) {
  std::vector<uint32_t> index(text.size() + 1);
  uint32_t count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<uint8_t>(text[i]) & 0xC0) != 0x80) ++count;
    index[i] = count - 1;
  }
  index[text.size()] = count;
  return index;
}

Result<Encoding> PipelineTokenizer::EncodeAlone(std::string_view given, const EncodeOptions& options) const {
  const std::string replaced = IsUtf8(given) ? std::string() : ReplaceInvalidUtf8(given);
  const std::string_view text = replaced.empty() ? given : std::string_view(replaced);
  if (text.size() > UINT32_MAX / 2) return UsageError("the text is too long for one call");
  Encoding out;
  if (!options.offsets && !options.pieces) {
    TERN_RETURN_IF_ERROR(EncodeIds(text, false, &out.ids));
    return out;
  }
  std::vector<NormalizedText> parts;
  TERN_RETURN_IF_ERROR(Parts(text, options.offsets, &parts));
  const std::vector<uint32_t> index = options.offsets ? CharacterIndex(text) : std::vector<uint32_t>();
  VocabModel::Scratch scratch;
  std::vector<ModelToken> tokens;
  for (const NormalizedText& part : parts) {
    tokens.clear();
    if (part.added_id >= 0)
      tokens.push_back({part.added_id, 0, static_cast<uint32_t>(part.size())});
    else
      TERN_RETURN_IF_ERROR(p_.model->Tokenize(part.text, &scratch, &tokens));
    for (const ModelToken& token : tokens) {
      out.ids.push_back(token.id);
      const bool as_text = part.added_id >= 0 || (token.id == p_.model->unk_id() && p_.model->unknown_keeps_text());
      out.pieces.push_back(as_text ? part.text.substr(token.begin, token.end - token.begin) : PieceOf(token.id));
      if (!options.offsets) continue;
      TextSpan span{part.origin, part.origin};
      if (token.end > token.begin && token.end <= part.align.size())
        span = {part.align[token.begin].begin, part.align[token.end - 1].end};
      if (static_cast<size_t>(span.begin) < text.size()) {
        const bool at_end = static_cast<size_t>(span.end) >= text.size();
        span = {index[static_cast<size_t>(span.begin)],
                at_end ? (span.end > 0 ? index[static_cast<size_t>(span.end) - 1] + 1 : 0)
                       : index[static_cast<size_t>(span.end)]};
      }
      out.offsets.push_back(span);
    }
  }
  return out;
}

Encoding PipelineTokenizer::Join(Encoding first, const Encoding* second, const EncodeOptions& options) const {
  std::vector<Encoding> parts;
  parts.push_back(std::move(first));
  if (second) parts.push_back(*second);
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].type_ids.assign(parts[i].ids.size(), static_cast<int32_t>(i));
    parts[i].sequence.assign(parts[i].ids.size(), static_cast<uint8_t>(i));
  }
  if (p_.post_processor) p_.post_processor->Run(options, &parts);
  const bool pieces =
      options.pieces && kind() == "json";  // the classes of Hugging Face name pieces by their ids instead
  Encoding out;
  for (Encoding& part : parts) {
    out.ids.insert(out.ids.end(), part.ids.begin(), part.ids.end());
    out.type_ids.insert(out.type_ids.end(), part.type_ids.begin(), part.type_ids.end());
    out.sequence.insert(out.sequence.end(), part.sequence.begin(), part.sequence.end());
    if (options.offsets) out.offsets.insert(out.offsets.end(), part.offsets.begin(), part.offsets.end());
    if (!pieces) continue;
    if (part.pieces.size() != part.ids.size()) {
      part.pieces.clear();
      for (int32_t id : part.ids) part.pieces.push_back(PieceOf(id));
    }
    std::move(part.pieces.begin(), part.pieces.end(), std::back_inserter(out.pieces));
  }
  if (p_.padding) {
    const auto& padding = *p_.padding;
    const int64_t size = static_cast<int64_t>(out.ids.size());
    int64_t length = padding.length > 0 ? padding.length : size;
    if (padding.multiple > 0) length = (length + padding.multiple - 1) / padding.multiple * padding.multiple;
    out.attention_mask.assign(out.ids.size(), 1);
    if (length > size) {
      auto pad = [&](auto* list, auto value) {
        list->insert(padding.left ? list->begin() : list->end(), static_cast<size_t>(length - size), value);
      };
      pad(&out.ids, padding.id);
      pad(&out.type_ids, padding.type_id);
      pad(&out.sequence, uint8_t{255});
      pad(&out.attention_mask, uint8_t{0});
      if (options.offsets) pad(&out.offsets, TextSpan{});
      if (pieces) pad(&out.pieces, PieceOf(padding.id));
    }
  }
  return out;
}

// ---- ids only ----

// A text as a whole: parts, then the model. `first`: the text begins where the original does.
Status PipelineTokenizer::EncodeSlow(std::string_view text, bool first, PipelineScratch* s,
                                     std::vector<int32_t>* ids) const {
  s->parts.clear();
  TERN_RETURN_IF_ERROR(Parts(text, false, &s->parts));
  (void)first;
  for (const NormalizedText& part : s->parts) {
    if (part.added_id >= 0) {
      ids->push_back(part.added_id);
      continue;
    }
    s->tokens.clear();
    TERN_RETURN_IF_ERROR(p_.model->Tokenize(part.text, &s->model, &s->tokens));
    for (const ModelToken& token : s->tokens) ids->push_back(token.id);
  }
  return {};
}

Status PipelineTokenizer::EncodeWord(std::string_view word, uint8_t kind, PipelineScratch* s,
                                     std::vector<int32_t>* ids) const {
  if (auto known = s->cache.Find(word, kind); known.data()) {
    ids->insert(ids->end(), known.begin(), known.end());
    return {};
  }
  const size_t before = ids->size();
  // A part behind an added token does not begin the text.
  std::vector<NormalizedText> parts(1);
  parts[0].Assign(word, p_.needs_offsets);
  if (kind == 2) {
    parts[0].origin = 1;
    for (Alignment& a : parts[0].align) ++a.begin, ++a.end;
  }
  if (p_.normalizer) TERN_RETURN_IF_ERROR(p_.normalizer->Run(&parts[0]));
  if (parts[0].text.empty()) parts.clear();
  TERN_RETURN_IF_ERROR(p_.pre_tokenizer->Run(&parts));
  for (const NormalizedText& part : parts) {
    s->tokens.clear();
    TERN_RETURN_IF_ERROR(p_.model->Tokenize(part.text, &s->model, &s->tokens));
    for (const ModelToken& token : s->tokens) ids->push_back(token.id);
  }
  s->cache.Put(word, kind, std::span<const int32_t>(*ids).subspan(before));
  return {};
}

// True if the character at `at` neither vanishes, nor becomes white space, nor joins a neighbour: what stands on its
// two sides does not meet.
bool PipelineTokenizer::Solid(std::string_view text, size_t at, PipelineScratch* s) const {
  const uint8_t byte = static_cast<uint8_t>(text[at]);
  if (byte < 128) return byte > ' ' && byte < 0x7F;
  const char32_t code = DecodeUtf8(text, at).code;
  auto& entry = s->solid[code % s->solid.size()];
  if (entry.known && entry.code == code) return entry.solid;
  entry = {code, true, false};
  const bool plain = InClass(CharClass::kLetter, code) || InClass(CharClass::kNumber, code) ||
                     InClass(CharClass::kPunctuation, code) || InClass(CharClass::kSymbol, code);
  int32_t state = 0;
  if (!plain || !GraphemeBreak(code, U' ', &state)) return false;
  NormalizedText around;
  std::string sample = "x";
  AppendUtf8(code, &sample);
  around.Assign(sample += "x", false);
  if (p_.normalizer && !p_.normalizer->Run(&around).ok()) return false;
  const std::u32string result = ToCodePoints(around.text);
  if (result.size() < 3 || result.front() != result.back()) return false;
  for (char32_t c : result)
    if (IsWhiteSpace(c) || c == 0x2581) return false;
  entry.solid = !IsWhiteSpace(code);
  return entry.solid;
}
bool PipelineTokenizer::SolidBefore(std::string_view text, size_t at, PipelineScratch* s) const {
  do --at;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80);
  return Solid(text, at, s);
}

// A text without added tokens, word by word.
Status PipelineTokenizer::EncodeWords(std::string_view text, bool first, PipelineScratch* s,
                                      std::vector<int32_t>* ids) const {
  size_t begin = 0;
  uint8_t kind = first ? 1 : 2;
  for (size_t i = 1; i + 1 < text.size(); ++i) {
    const char c = text[i];
    if (c != ' ' && (c != '\n' || !separable_at_line_)) continue;
    if (!SolidBefore(text, i, s) || !Solid(text, i + 1, s)) continue;
    TERN_RETURN_IF_ERROR(EncodeWord(text.substr(begin, i - begin), kind, s, ids));
    begin = i;
    kind = 0;
  }
  if (begin < text.size()) TERN_RETURN_IF_ERROR(EncodeWord(text.substr(begin), kind, s, ids));
  return {};
}

Status PipelineTokenizer::EncodePlain(std::string_view text, PipelineScratch* s, std::vector<int32_t>* ids) const {
  if (!separable_) return EncodeSlow(text, true, s, ids);
  s->matches.clear();
  added_.FindRaw(text, &s->matches);
  size_t at = 0;
  for (const auto& match : s->matches) {
    if (at < match.begin) TERN_RETURN_IF_ERROR(EncodeWords(text.substr(at, match.begin - at), at == 0, s, ids));
    ids->push_back(match.id);
    at = match.end;
  }
  if (at < text.size()) TERN_RETURN_IF_ERROR(EncodeWords(text.substr(at), at == 0, s, ids));
  return {};
}

Status PipelineTokenizer::EncodeIds(std::string_view given, bool special_tokens, std::vector<int32_t>* ids) const {
  if (special_tokens && (p_.post_processor || p_.padding || p_.max_length > 0)) {
    TERN_ASSIGN(Encoding e, Encode(given));
    ids->insert(ids->end(), e.ids.begin(), e.ids.end());
    return {};
  }
  auto scratch = scratch_.Take();
  if (!scratch) scratch = std::make_unique<PipelineScratch>();
  Status status;
  if (IsUtf8(given))
    status = EncodePlain(given, scratch.get(), ids);
  else
    status = EncodePlain(ReplaceInvalidUtf8(given), scratch.get(), ids);
  scratch_.Give(std::move(scratch));
  return status;
}

// Parts are cut before a space between two ASCII letters, where nothing looks across; a tokenizer that
// does look across words gets the whole text at the end.
class PipelineStream final : public CutStream {
 public:
  explicit PipelineStream(const PipelineTokenizer& t)
      : CutStream(t), cuts_(t.separable_ && t.added_.survives_cuts() && !t.p_.needs_offsets) {}

 private:
  Cut FindCut(std::string_view text) const override {
    for (size_t i = cuts_ ? text.size() - 1 : 0; i-- > 1;)
      if (text[i] == ' ' && IsAsciiLetter(text[i - 1]) && IsAsciiLetter(text[i + 1])) return {i, i};
    return {};
  }
  const bool cuts_;
};

std::unique_ptr<EncodeStream> PipelineTokenizer::NewEncodeStream() const {
  return std::make_unique<PipelineStream>(*this);
}

class PipelineDecoder final : public TokenDecoder {
 public:
  PipelineDecoder(const PipelineTokenizer& tokenizer, const DecodeOptions& options)
      : t_(tokenizer),
        stream_(tokenizer.p_.decoder->NewStream()),
        skip_special_(options.skip_special_tokens),
        clean_up_(options.clean_up.value_or(tokenizer.p_.clean_up)) {}
  std::string Push(int32_t id) override {
    const std::string piece = t_.PieceOf(id);
    if (id < 0 || id >= t_.vocab_size() || (piece.empty() && !t_.added_.Token(id)) ||
        (skip_special_ && t_.added_.IsSpecial(piece)))
      return "";
    std::string out;
    stream_->Push(piece, [&](std::string_view token) { out += token; });
    return clean_up_ ? cleaner_.Push(out, false) : out;
  }
  std::string Finish() override {
    std::string out;
    stream_->Finish([&](std::string_view token) { out += token; });
    return clean_up_ ? cleaner_.Push(out, true) : out;
  }

 private:
  const PipelineTokenizer& t_;
  std::unique_ptr<DecoderStream> stream_;
  CleanUp cleaner_;
  bool skip_special_, clean_up_;
};

std::unique_ptr<TokenDecoder> PipelineTokenizer::NewTokenDecoder(const DecodeOptions& options) const {
  return std::make_unique<PipelineDecoder>(*this, options);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> MakePipelineTokenizer(TokenizerFiles files, PipelineParts parts) {
  return PipelineTokenizer::Make(std::move(files), std::move(parts));
}

}  // namespace tern
