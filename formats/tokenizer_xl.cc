// Transformer-XL's vocabularies. Kind "transfo-xl": words by the Moses rules, as Hugging Face 4.35 uses them. The kinds
// of the original code:
//   xl-pretok         words between white space, <eos> behind each line (the WikiText files)
//   xl-lm1b           the same, each line between <S> and <S>; for both, a text is one line, a stream is a file of
//   lines xl-text8          one character a symbol, '_' for the space xl-bytes-decimal  one byte a symbol, written in
//   decimal; line breaks vanish (enwik8)
#include <algorithm>
#include <unordered_map>

#include "engine/base/utf8.h"
#include "formats/tokenizer.h"
#include "formats/tokenizer_cut_stream.h"
#include "formats/tokenizer_moses.h"
#include "formats/tokenizer_replace.h"
#include "formats/tokenizer_unicode.h"
#include "formats/tokenizer_utf8.h"
#include "formats/tokenizer_xl_vocabulary.h"

namespace tern {
namespace {

// What all kinds share: the table of symbols.
class XlTokenizer : public Tokenizer {
 public:
  int64_t vocab_size() const override { return static_cast<int64_t>(vocabulary_.symbols.size()); }
  SpecialIds special_ids() const override {
    SpecialIds ids;
    ids.eos = IdOf("<eos>");
    if (ids.eos < 0) ids.eos = IdOf("<S>");
    ids.unk = vocabulary_.unk_id;
    return ids;
  }
  int32_t IdOf(std::string_view piece) const override {
    auto it = ids_.find(piece);
    return it == ids_.end() ? -1 : it->second;
  }
  std::string PieceOf(int32_t id) const override {
    return id >= 0 && id < vocab_size() ? vocabulary_.symbols[static_cast<size_t>(id)] : "";
  }
  bool IsSpecial(int32_t) const override {
    return false;
  }  // the original and the recorded way alike: every symbol is written

 protected:
  XlTokenizer(TokenizerFiles files, XlVocabulary vocabulary)
      : Tokenizer(std::move(files)), vocabulary_(std::move(vocabulary)) {
    for (size_t i = 0; i < vocabulary_.symbols.size(); ++i)
      ids_.emplace(vocabulary_.symbols[i], static_cast<int32_t>(i));
  }
  Status AddSymbol(std::string_view symbol, std::vector<int32_t>* ids) const {
    auto it = ids_.find(symbol);
    const int32_t id = it != ids_.end() ? it->second : vocabulary_.unk_id;
    if (id < 0)
      return Malformed(Str("'", Printable(symbol, 60), "' is not in the vocabulary, which has no unknown symbol"))
          .Hint("Vocabularies of the original code take only text prepared for them.");
    ids->push_back(id);
    return {};
  }
  const XlVocabulary vocabulary_;

 private:
  std::unordered_map<std::string_view, int32_t> ids_;
};

class MosesTokenizer final : public XlTokenizer {
 public:
  MosesTokenizer(TokenizerFiles files, XlVocabulary vocabulary)
      : XlTokenizer(std::move(files), std::move(vocabulary)) {}

  Status EncodeIds(std::string_view text, bool, std::vector<int32_t>* ids) const override {
    for (const std::string& word : Words(text)) TERN_RETURN_IF_ERROR(AddSymbol(word, ids));
    return {};
  }
  std::unique_ptr<EncodeStream> NewEncodeStream() const override;
  std::unique_ptr<TokenDecoder> NewTokenDecoder(const DecodeOptions& options) const override;
  std::string DecodePieces(std::span<const std::string> pieces) const override {
    MosesJoiner joiner;
    std::string out;
    for (const std::string& piece : pieces) out += joiner.Push(piece);
    return out + joiner.Finish();
  }

 protected:
  Result<Encoding> EncodeAlone(std::string_view text, const EncodeOptions& options) const override {
    Encoding out;
    std::vector<std::string> words = Words(text);
    for (const std::string& word : words) TERN_RETURN_IF_ERROR(AddSymbol(word, &out.ids));
    if (options.pieces) out.pieces = std::move(words);
    return out;
  }

 private:
  // The special tokens are cut out of the raw text; each part between them goes through the rules on its own.
  std::vector<std::string> Words(std::string_view text) const {
    static const std::vector<std::string> kSpecial = {"<eos>", "<unk>", "<formula>"};
    std::u32string whole = ToCodePoints(text);
    if (lower_case()) whole = LowerAroundSpecial(whole, kSpecial);
    std::vector<std::string> out;
    size_t begin = 0;
    auto part = [&](size_t end) {
      const std::u32string_view view = std::u32string_view(whole).substr(begin, end - begin);
      if (view.empty()) return;
      for (std::string& word : MosesWords(view, kSpecial)) out.push_back(std::move(word));
    };
    for (size_t i = 0; i < whole.size(); ++i) {
      if (whole[i] != '<') continue;
      for (const std::string& special : kSpecial) {
        if (!std::u32string_view(whole).substr(i).starts_with(ToCodePoints(special))) continue;
        part(i);
        out.push_back(special);
        begin = i + special.size();
        i = begin - 1;
        break;
      }
    }
    part(whole.size());
    return out;
  }
  bool lower_case() const { return vocabulary_.lower_case; }
  static std::u32string LowerAroundSpecial(const std::u32string& text, const std::vector<std::string>& special) {
    std::u32string out;
    for (size_t i = 0; i < text.size();) {
      size_t kept = 0;
      if (text[i] == '<')
        for (const std::string& token : special)
          if (std::u32string_view(text).substr(i).starts_with(ToCodePoints(token))) kept = token.size();
      if (kept > 0)
        out.append(text, i, kept);
      else
        out += LowerPython(std::u32string_view(text).substr(i, 1), false);
      i += std::max<size_t>(kept, 1);
    }
    return out;
  }
};

// Parts are cut where no rule looks across: between two ASCII letters with one space or line break between them.
class MosesStream final : public CutStream {
 public:
  using CutStream::CutStream;

 private:
  Cut FindCut(std::string_view text) const override {
    for (size_t i = text.size(); i-- > 2;)
      if (IsAsciiLetter(text[i]) && (text[i - 1] == ' ' || text[i - 1] == '\n') && IsAsciiLetter(text[i - 2]))
        return {i - 1, i};
    return {};
  }
};

std::unique_ptr<EncodeStream> MosesTokenizer::NewEncodeStream() const {
  return std::make_unique<MosesStream>(*this);
}

class MosesDecoder final : public TokenDecoder {
 public:
  MosesDecoder(const MosesTokenizer& tokenizer, bool clean_up) : t_(tokenizer), clean_up_(clean_up) {}
  std::string Push(int32_t id) override {
    if (id < 0 || id >= t_.vocab_size()) return "";
    return Clean(joiner_.Push(t_.PieceOf(id)), false);
  }
  std::string Finish() override { return Clean(joiner_.Finish(), true); }

 private:
  std::string Clean(std::string text, bool last) { return clean_up_ ? cleaner_.Push(text, last) : text; }
  const MosesTokenizer& t_;
  MosesJoiner joiner_;
  CleanUp cleaner_;
  bool clean_up_;
};

std::unique_ptr<TokenDecoder> MosesTokenizer::NewTokenDecoder(const DecodeOptions& options) const {
  return std::make_unique<MosesDecoder>(*this, options.clean_up.value_or(true));
}

// ---- the original code ----

enum class XlMode { kWords, kLm1b, kText8, kBytes };

class OriginalTokenizer final : public XlTokenizer {
 public:
  OriginalTokenizer(TokenizerFiles files, XlVocabulary vocabulary, XlMode mode)
      : XlTokenizer(std::move(files), std::move(vocabulary)), mode_(mode) {}

  Status EncodeIds(std::string_view text, bool, std::vector<int32_t>* ids) const override {
    return Encode(text, ids, nullptr);
  }
  std::unique_ptr<EncodeStream> NewEncodeStream() const override;
  std::unique_ptr<TokenDecoder> NewTokenDecoder(const DecodeOptions& options) const override;
  std::string DecodePieces(std::span<const std::string> pieces) const override {
    std::string out;
    for (size_t i = 0; i < pieces.size(); ++i) out += (i > 0 && is_words() ? " " : "") + TextOf(pieces[i]);
    return mode_ == XlMode::kBytes ? ReplaceInvalidUtf8(out) : out;
  }

 protected:
  Result<Encoding> EncodeAlone(std::string_view text, const EncodeOptions& options) const override {
    Encoding out;
    TERN_RETURN_IF_ERROR(Encode(text, &out.ids, options.pieces ? &out.pieces : nullptr));
    return out;
  }

 private:
  friend class OriginalStream;
  friend class OriginalDecoder;
  bool is_words() const { return mode_ == XlMode::kWords || mode_ == XlMode::kLm1b; }

  // What a symbol stands for.
  std::string TextOf(const std::string& symbol) const {
    if (mode_ == XlMode::kText8) return symbol == "_" ? " " : symbol;
    if (mode_ != XlMode::kBytes) return symbol;
    int value = 0;
    for (char c : symbol) value = c >= '0' && c <= '9' && value < 256 ? value * 10 + (c - '0') : 256;
    return value < 256 && !symbol.empty() ? std::string(1, static_cast<char>(value)) : "";
  }

  Status Add(std::string_view symbol, std::vector<int32_t>* ids, std::vector<std::string>* pieces) const {
    // The original stops here with an assertion.
    if (vocabulary_.unk_id >= 0 && symbol.find("<eos>") != std::string_view::npos && IdOf(symbol) < 0)
      return Malformed(Str("'", Printable(symbol, 60), "' holds <eos>, which is not in this vocabulary"));
    TERN_RETURN_IF_ERROR(AddSymbol(symbol, ids));
    if (pieces) pieces->emplace_back(symbol);
    return {};
  }

  Status AddLine(std::string_view line, std::vector<int32_t>* ids, std::vector<std::string>* pieces) const {
    std::u32string text = ToCodePoints(line);
    if (vocabulary_.lower_case) text = LowerPython(StripPython(text), true);
    if (mode_ == XlMode::kLm1b) TERN_RETURN_IF_ERROR(Add("<S>", ids, pieces));
    for (size_t i = 0; i < text.size();) {
      size_t end = i;
      while (end < text.size() && !IsPythonSpace(text[end])) ++end;
      if (end > i) TERN_RETURN_IF_ERROR(Add(ToUtf8(std::u32string_view(text).substr(i, end - i)), ids, pieces));
      i = end + 1;
    }
    return Add(mode_ == XlMode::kLm1b ? "<S>" : "<eos>", ids, pieces);
  }

  // The lines of a file; they end with "\n", "\r" or "\r\n", as Python reads a text file.
  Status AddLines(std::string_view text, std::vector<int32_t>* ids) const {
    while (!text.empty()) {
      const size_t end = std::min(text.find_first_of("\r\n"), text.size());
      TERN_RETURN_IF_ERROR(AddLine(text.substr(0, end), ids, nullptr));
      text.remove_prefix(text.substr(end).starts_with("\r\n") ? end + 2 : std::min(end + 1, text.size()));
    }
    return {};
  }

  Status Encode(std::string_view text, std::vector<int32_t>* ids, std::vector<std::string>* pieces) const {
    if (is_words())
      return AddLine(text, ids, pieces);  // a line break inside is white space; a stream is a file, see below
    if (mode_ == XlMode::kBytes) {
      for (char c : text)
        if (c != '\n') TERN_RETURN_IF_ERROR(Add(std::to_string(static_cast<uint8_t>(c)), ids, pieces));
      return {};
    }
    const std::u32string whole = ToCodePoints(text);
    return AddCharacters(StripPython(whole), ids, pieces);
  }
  Status AddCharacters(std::u32string_view text, std::vector<int32_t>* ids, std::vector<std::string>* pieces) const {
    for (char32_t c : text) {
      if (c == ' ') {
        TERN_RETURN_IF_ERROR(Add("_", ids, pieces));
      } else if (!IsPythonSpace(c)) {
        TERN_RETURN_IF_ERROR(
            Add(ToUtf8(vocabulary_.lower_case ? LowerPython({&c, 1}, true) : std::u32string(1, c)), ids, pieces));
      }
    }
    return {};
  }

  XlMode mode_;
};

class OriginalStream final : public EncodeStream {
 public:
  explicit OriginalStream(const OriginalTokenizer& tokenizer) : t_(tokenizer) {}
  Status Push(std::string_view text, std::vector<int32_t>* ids) override {
    if (t_.mode_ == XlMode::kBytes) return t_.Encode(text, ids, nullptr);
    if (!t_.is_words()) return Characters(utf8_.Push(text), ids);
    rest_ += text;
    return Lines(ids);
  }
  Status Finish(std::vector<int32_t>* ids) override {
    if (t_.mode_ == XlMode::kText8) return Characters(utf8_.Finish(), ids);
    Status status = t_.AddLines(rest_, ids);
    rest_.clear();
    return status;
  }

 private:
  // Whole lines; a "\r" at the end waits, "\n" may follow.
  Status Lines(std::vector<int32_t>* ids) {
    const size_t size = !rest_.empty() && rest_.back() == '\r' ? rest_.size() - 1 : rest_.size();
    const size_t end = std::string_view(rest_).substr(0, size).find_last_of("\r\n");
    if (end == std::string::npos) return {};
    TERN_RETURN_IF_ERROR(t_.AddLines(std::string_view(rest_).substr(0, end + 1), ids));
    rest_.erase(0, end + 1);
    return {};
  }
  Status Characters(const std::string& whole, std::vector<int32_t>* ids) {
    const std::u32string text = ToCodePoints(whole);
    for (char32_t c : text) {
      if (IsPythonSpace(c)) {
        if (started_ && c == ' ') ++spaces_;
        continue;
      }
      started_ = true;
      TERN_RETURN_IF_ERROR(t_.AddCharacters(std::u32string(static_cast<size_t>(spaces_), ' ') + c, ids, nullptr));
      spaces_ = 0;
    }
    return {};
  }
  const OriginalTokenizer& t_;
  std::string rest_;
  Utf8Gatherer utf8_;
  bool started_ = false;
  int64_t spaces_ = 0;  // they may be the end of the text
};

std::unique_ptr<EncodeStream> OriginalTokenizer::NewEncodeStream() const {
  return std::make_unique<OriginalStream>(*this);
}

class OriginalDecoder final : public TokenDecoder {
 public:
  explicit OriginalDecoder(const OriginalTokenizer& tokenizer) : t_(tokenizer) {}
  std::string Push(int32_t id) override {
    if (id < 0 || id >= t_.vocab_size()) return "";
    std::string text = t_.TextOf(t_.PieceOf(id));
    if (t_.mode_ == XlMode::kBytes) return bytes_.Push(text);
    if (t_.is_words() && !first_) text.insert(0, 1, ' ');
    first_ = false;
    return text;
  }
  std::string Finish() override { return bytes_.Finish(); }

 private:
  const OriginalTokenizer& t_;
  Utf8Gatherer bytes_;
  bool first_ = true;
};

std::unique_ptr<TokenDecoder> OriginalTokenizer::NewTokenDecoder(const DecodeOptions&) const {
  return std::make_unique<OriginalDecoder>(*this);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> MakeXlTokenizer(TokenizerFiles files) {
  const std::string* bytes = files.Find("symbols");
  if (!bytes) return InternalError("no symbols were given");
  TERN_ASSIGN(XlVocabulary vocabulary, XlVocabulary::Deserialize(*bytes));
  const std::string kind = files.kind;
  std::unique_ptr<Tokenizer> out;
  if (kind == "transfo-xl") {
    out = std::make_unique<MosesTokenizer>(std::move(files), std::move(vocabulary));
  } else {
    const XlMode mode = kind == "xl-lm1b"            ? XlMode::kLm1b
                        : kind == "xl-text8"         ? XlMode::kText8
                        : kind == "xl-bytes-decimal" ? XlMode::kBytes
                                                     : XlMode::kWords;
    out = std::make_unique<OriginalTokenizer>(std::move(files), std::move(vocabulary), mode);
  }
  return out;
}

}  // namespace tern
