#include "formats/tokenizer_decoders.h"

#include <optional>
#include <vector>

#include "engine/base/utf8.h"
#include "formats/tokenizer_bytelevel.h"
#include "formats/tokenizer_config.h"
#include "formats/tokenizer_pattern.h"
#include "formats/tokenizer_replace.h"
#include "formats/tokenizer_utf8.h"

namespace tern {
namespace {

// A decoder whose streams need nothing but its settings: Stream(const Settings&).
template <class Stream, class Settings>
class Simple final : public TextDecoder {
 public:
  explicit Simple(Settings settings) : settings_(std::move(settings)) {}
  std::unique_ptr<DecoderStream> NewStream() const override { return std::make_unique<Stream>(settings_); }

 private:
  Settings settings_;
};
struct None {};

std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  if (from.empty()) return std::string(text);
  for (size_t at; (at = text.find(from)) != std::string_view::npos; text.remove_prefix(at + from.size())) {
    out += text.substr(0, at);
    out += to;
  }
  return out += text;
}

// English clean-up of one token, in the WordPiece decoder's order.
std::string CleanToken(std::string text) {
  static constexpr std::string_view kRules[][2] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules)
    if (text.find(from) != std::string::npos) text = Replaced(text, from, to);
  return text;
}

class ByteLevelStream final : public DecoderStream {
 public:
  explicit ByteLevelStream(None) {}
  void Push(std::string_view token, const Emit& emit) override {
    std::string bytes;
    bool all = true;
    for (size_t i = 0; all && i < token.size();) {
      const Utf8Char c = DecodeUtf8(token, i);
      const int byte = ByteOfByteLevel(c.code);
      all = byte >= 0;
      bytes.push_back(static_cast<char>(byte));
      i += c.bytes;
    }
    const std::string text = text_.Push(all ? std::string_view(bytes) : token);
    if (!text.empty()) emit(text);
  }
  void Finish(const Emit& emit) override {
    const std::string text = text_.Finish();
    if (!text.empty()) emit(text);
  }

 private:
  Utf8Gatherer text_;
};

struct WordPieceSettings {
  std::string prefix;
  bool cleanup;
};
class WordPieceStream final : public DecoderStream {
 public:
  explicit WordPieceStream(const WordPieceSettings& settings) : s_(settings) {}
  void Push(std::string_view token, const Emit& emit) override {
    std::string text;
    if (first_)
      text = token;
    else if (token.starts_with(s_.prefix))
      text = token.substr(s_.prefix.size());
    else
      text = " " + std::string(token);
    first_ = false;
    emit(s_.cleanup ? CleanToken(std::move(text)) : text);
  }
  void Finish(const Emit&) override {}

 private:
  const WordPieceSettings& s_;
  bool first_ = true;
};

struct MetaspaceSettings {
  std::string replacement;
  bool drops_first;  // the first token's replacements vanish
};
class MetaspaceStream final : public DecoderStream {
 public:
  explicit MetaspaceStream(const MetaspaceSettings& settings) : s_(settings) {}
  void Push(std::string_view token, const Emit& emit) override {
    emit(Replaced(token, s_.replacement, first_ && s_.drops_first ? "" : " "));
    first_ = false;
  }
  void Finish(const Emit&) override {}

 private:
  const MetaspaceSettings& s_;
  bool first_ = true;
};

// The suffix that ends a word is a space, but nothing at the very end: the last token waits.
class BpeStream final : public DecoderStream {
 public:
  explicit BpeStream(const std::string& suffix) : suffix_(suffix) {}
  void Push(std::string_view token, const Emit& emit) override {
    if (held_) emit(Replaced(*held_, suffix_, " "));
    held_ = std::string(token);
  }
  void Finish(const Emit& emit) override {
    if (held_) emit(Replaced(*held_, suffix_, ""));
  }

 private:
  const std::string& suffix_;
  std::optional<std::string> held_;
};

int ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
  };
  if (token[3] == '+') return digit(token[4]);
  const int high = digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// A run of byte tokens is text if it is valid UTF-8 as a whole, else one U+FFFD a byte: it ends where another token
// comes.
class ByteFallbackStream final : public DecoderStream {
 public:
  explicit ByteFallbackStream(None) {}
  void Push(std::string_view token, const Emit& emit) override {
    const int byte = ByteOfToken(token);
    if (byte >= 0) {
      bytes_.push_back(static_cast<char>(byte));
      return;
    }
    Finish(emit);
    emit(token);
  }
  void Finish(const Emit& emit) override {
    if (bytes_.empty()) return;
    if (IsUtf8(bytes_))
      emit(bytes_);
    else
      for (size_t i = 0; i < bytes_.size(); ++i) emit("\xEF\xBF\xBD");
    bytes_.clear();
  }

 private:
  std::string bytes_;
};

// All tokens as one, which only the end knows.
class FuseStream final : public DecoderStream {
 public:
  explicit FuseStream(None) {}
  void Push(std::string_view token, const Emit&) override { all_ += token; }
  void Finish(const Emit& emit) override { emit(all_); }

 private:
  std::string all_;
};

struct StripSettings {
  std::string content;
  int64_t start, stop;
};
std::string Stripped(std::string_view token, const StripSettings& s) {
  for (int64_t i = 0; i < s.start && token.starts_with(s.content); ++i) token.remove_prefix(s.content.size());
  for (int64_t i = 0; i < s.stop && token.ends_with(s.content); ++i) token.remove_suffix(s.content.size());
  return std::string(token);
}
class StripStream final : public DecoderStream {
 public:
  explicit StripStream(const StripSettings& settings) : s_(settings) {}
  void Push(std::string_view token, const Emit& emit) override { emit(Stripped(token, s_)); }
  void Finish(const Emit&) override {}

 private:
  const StripSettings& s_;
};

// Fuse with Strip of the start behind it, as models with byte fallback have it: only the beginning of the text matters,
// so nothing waits for the end.
class StripStartStream final : public DecoderStream {
 public:
  explicit StripStartStream(const StripSettings& settings) : s_(settings), left_(settings.start) {}
  void Push(std::string_view token, const Emit& emit) override {
    while (left_ > 0 && !token.empty()) {
      if (!token.starts_with(s_.content)) {
        left_ = 0;
        break;
      }
      token.remove_prefix(s_.content.size());
      --left_;
    }
    if (!token.empty()) emit(token);
  }
  void Finish(const Emit&) override {}

 private:
  const StripSettings& s_;
  int64_t left_;
};

struct ReplaceSettings {
  Pattern pattern;
  std::string content;
};
class ReplaceStream final : public DecoderStream {
 public:
  explicit ReplaceStream(const ReplaceSettings& settings) : s_(settings) {}
  void Push(std::string_view token, const Emit& emit) override {
    std::vector<std::pair<size_t, size_t>> matches;
    if (!s_.pattern.FindAll(token, &matches).ok())
      matches.clear();  // a pattern that takes too long leaves the token as it is
    std::string out;
    size_t at = 0;
    for (auto [begin, end] : matches) {
      out += token.substr(at, begin - at);
      out += s_.content;
      at = end;
    }
    out += token.substr(at);
    emit(out);
  }
  void Finish(const Emit&) override {}

 private:
  const ReplaceSettings& s_;
};

struct CtcSettings {
  std::string pad, delimiter;
  bool cleanup;
};
class CtcStream final : public DecoderStream {
 public:
  explicit CtcStream(const CtcSettings& settings) : s_(settings) {}
  void Push(std::string_view token, const Emit& emit) override {
    if (previous_ && *previous_ == token) return;
    previous_ = std::string(token);
    std::string text = Replaced(token, s_.pad, "");
    if (s_.cleanup) text = Replaced(CleanToken(std::move(text)), s_.delimiter, " ");
    if (!text.empty()) emit(text);
  }
  void Finish(const Emit&) override {}

 private:
  const CtcSettings& s_;
  std::optional<std::string> previous_;
};

class SpaceStream final : public DecoderStream {
 public:
  explicit SpaceStream(None) {}
  void Push(std::string_view token, const Emit& emit) override {
    emit(first_ ? std::string(token) : " " + std::string(token));
    first_ = false;
  }
  void Finish(const Emit&) override {}

 private:
  bool first_ = true;
};

// Each decoder hears what the one before it says.
class Sequence final : public TextDecoder {
 public:
  explicit Sequence(std::vector<std::unique_ptr<TextDecoder>> parts) : parts_(std::move(parts)) {}
  std::unique_ptr<DecoderStream> NewStream() const override {
    struct Stream final : DecoderStream {
      std::vector<std::unique_ptr<DecoderStream>> parts;
      void Push(std::string_view token, const Emit& emit) override { PushTo(0, token, emit); }
      void Finish(const Emit& emit) override {
        for (size_t i = 0; i < parts.size(); ++i)
          parts[i]->Finish([&, i](std::string_view token) { PushTo(i + 1, token, emit); });
      }
      void PushTo(size_t i, std::string_view token, const Emit& emit) {
        if (i == parts.size()) return emit(token);
        parts[i]->Push(token, [&, i](std::string_view next) { PushTo(i + 1, next, emit); });
      }
    };
    auto stream = std::make_unique<Stream>();
    for (const auto& part : parts_) stream->parts.push_back(part->NewStream());
    return stream;
  }

 private:
  std::vector<std::unique_ptr<TextDecoder>> parts_;
};

Result<StripSettings> ReadStrip(const Json& config) {
  StripSettings s;
  TERN_ASSIGN(s.content, ConfigCharacter(config, "content"));
  TERN_ASSIGN(s.start, ConfigInteger(config, "start", 0, 0, INT32_MAX));
  TERN_ASSIGN(s.stop, ConfigInteger(config, "stop", 0, 0, INT32_MAX));
  return s;
}

bool IsType(const Json& config, const char* type) {
  if (!config.is_object()) return false;
  auto it = config.find("type");
  return it != config.end() && *it == type;
}

template <class Stream, class Settings>
std::unique_ptr<TextDecoder> New(Settings settings) {
  return std::make_unique<Simple<Stream, Settings>>(std::move(settings));
}

Result<std::unique_ptr<TextDecoder>> Make(const Json& config, int depth) {
  if (depth > 8) return Malformed("decoders are nested too deeply");
  TERN_ASSIGN(std::string type, ConfigType(config));
  if (type == "Sequence") {
    TERN_ASSIGN(const Json* list, ConfigArray(config, "decoders"));
    std::vector<std::unique_ptr<TextDecoder>> parts;
    for (size_t i = 0; i < list->size(); ++i) {
      const bool fused_strip = i + 2 == list->size() && IsType((*list)[i], "Fuse") && IsType((*list)[i + 1], "Strip");
      if (fused_strip) {
        TERN_ASSIGN(StripSettings strip, ReadStrip((*list)[i + 1]));
        if (strip.stop == 0) {
          parts.push_back(New<StripStartStream>(std::move(strip)));
          break;
        }
      }
      const bool last_fuse = i + 1 == list->size() && IsType((*list)[i], "Fuse");
      if (last_fuse) break;  // all is joined anyway
      TERN_ASSIGN(auto made, Make((*list)[i], depth + 1));
      parts.push_back(std::move(made));
      if (i + 1 < list->size() && IsType((*list)[i], "ByteLevel"))
        parts.push_back(New<FuseStream>(None()));  // it gives one token
    }
    return std::unique_ptr<TextDecoder>(new Sequence(std::move(parts)));
  }
  if (type == "ByteLevel") return New<ByteLevelStream>(None());
  if (type == "ByteFallback") return New<ByteFallbackStream>(None());
  if (type == "Fuse") return New<FuseStream>(None());
  if (type == "WordPiece") {
    WordPieceSettings s;
    TERN_ASSIGN(s.prefix, ConfigString(config, "prefix", "##"));
    TERN_ASSIGN(s.cleanup, ConfigBool(config, "cleanup", true));
    return New<WordPieceStream>(std::move(s));
  }
  if (type == "Metaspace") {
    MetaspaceSettings s;
    TERN_ASSIGN(s.replacement, ConfigCharacter(config, "replacement"));
    TERN_ASSIGN(bool prefix, ConfigBool(config, "add_prefix_space", true));
    TERN_ASSIGN(std::string scheme, ConfigString(config, "prepend_scheme", "always"));
    s.drops_first = prefix && scheme != "never";
    return New<MetaspaceStream>(std::move(s));
  }
  if (type == "BPEDecoder") {
    TERN_ASSIGN(std::string suffix, ConfigString(config, "suffix", "</w>"));
    return New<BpeStream>(std::move(suffix));
  }
  if (type == "Strip") {
    TERN_ASSIGN(StripSettings strip, ReadStrip(config));
    return New<StripStream>(std::move(strip));
  }
  if (type == "Replace") {
    TERN_ASSIGN(Pattern pattern, Pattern::FromConfig(config, "pattern"));
    TERN_ASSIGN(std::string content, ConfigString(config, "content"));
    return New<ReplaceStream>(ReplaceSettings{std::move(pattern), std::move(content)});
  }
  if (type == "CTC") {
    CtcSettings s;
    TERN_ASSIGN(s.pad, ConfigString(config, "pad_token", "<pad>"));
    TERN_ASSIGN(s.delimiter, ConfigString(config, "word_delimiter_token", "|"));
    TERN_ASSIGN(s.cleanup, ConfigBool(config, "cleanup", true));
    return New<CtcStream>(std::move(s));
  }
  return Malformed(Str("unknown decoder '", Printable(type, 40), "'"));
}

}  // namespace

Result<std::unique_ptr<TextDecoder>> MakeTextDecoder(const Json& config) {
  auto made = Make(config, 0);
  if (!made.ok()) return Status(made.status()).Where("decoder");
  return made;
}
std::unique_ptr<TextDecoder> MakeSpaceJoiner() {
  return New<SpaceStream>(None());
}

}  // namespace tern
