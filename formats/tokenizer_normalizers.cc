#include "formats/tokenizer_normalizers.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "engine/base/utf8.h"
#include "formats/tokenizer_bytelevel.h"
#include "formats/tokenizer_charsmap.h"
#include "formats/tokenizer_classes.h"
#include "formats/tokenizer_config.h"
#include "formats/tokenizer_pattern.h"
#include "formats/tokenizer_unicode.h"

namespace tern {
namespace {

// Bytes from `at` on that are ASCII.
size_t AsciiRun(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size() && static_cast<uint8_t>(text[end]) < 128) ++end;
  return end - at;
}

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {}
  Status Run(NormalizedText* text) const override {
    for (const auto& part : parts_) TERN_RETURN_IF_ERROR(part->Run(text));
    return {};
  }
  bool separable() const override {
    return std::all_of(parts_.begin(), parts_.end(), [](const auto& part) { return part->separable(); });
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

// Removes characters: what follows a kept character closes up, its alignment stays.
template <class Keeps>
void Filter(NormalizedText* text, Keeps keeps) {
  Rewriter out(text);
  while (out.at() < text->size()) {
    const Utf8Char c = DecodeUtf8(text->text, out.at());
    if (keeps(c.code))
      out.Keep(c.bytes);
    else
      out.Skip(c.bytes);
  }
  out.Finish();
}
template <class Map>
void MapCharacters(NormalizedText* text, Map map) {
  Rewriter out(text);
  while (out.at() < text->size()) {
    const Utf8Char c = DecodeUtf8(text->text, out.at());
    const char32_t to = map(c.code);
    if (to == c.code)
      out.Keep(c.bytes);
    else
      out.Put(to, c.bytes);
  }
  out.Finish();
}

void Lowercase(NormalizedText* text) {
  bool needed = false;
  for (char c : text->text) needed |= (c >= 'A' && c <= 'Z') || static_cast<uint8_t>(c) >= 128;
  if (!needed) return;
  if (AsciiRun(text->text, 0) == text->size()) {
    for (char& c : text->text)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    return;
  }
  Rewriter out(text);
  while (out.at() < text->size()) {
    const Utf8Char c = DecodeUtf8(text->text, out.at());
    const char32_t lower = c.code == 0x130 ? U'i' : library::Lower(c.code);
    if (lower == c.code)
      out.Keep(c.bytes);
    else
      out.Put(lower, c.bytes);
    if (c.code == 0x130) out.Insert(0x307);
  }
  out.Finish();
}

// The characters of a normal form and how each came about: 0 replaces one old character, 1 is new, -n replaces one and
// removes n behind it.
struct Change {
  char32_t code;
  int64_t change;
};

void Decompose(NormalizedText* text, bool compatible, std::vector<Change>* out) {
  size_t unsorted = 0;  // from here on stand marks that may still be reordered
  auto sort = [&] {
    std::stable_sort(out->begin() + static_cast<int64_t>(unsorted), out->end(), [](const Change& a, const Change& b) {
      return library::CombiningClass(a.code) < library::CombiningClass(b.code);
    });
    unsorted = out->size();
  };
  char32_t parts[32];
  for (size_t i = 0; i < text->size();) {
    const Utf8Char c = DecodeUtf8(text->text, i);
    size_t count = 1;
    if (c.code < 0xA0 || !library::IsDecomposed(c.code))
      parts[0] = c.code;
    else
      count = tern::Decompose(c.code, compatible, parts);
    for (size_t k = 0; k < count; ++k) {
      if (library::CombiningClass(parts[k]) == 0) {
        sort();
        out->push_back({parts[k], k > 0 ? 1 : 0});
        unsorted = out->size();
      } else {
        out->push_back({parts[k], k > 0 ? 1 : 0});
      }
    }
    i += c.bytes;
  }
  sort();
}

void Compose(std::vector<Change>* text) {
  std::vector<Change> out;
  std::optional<size_t> starter;  // index in out
  int last_class = -1;            // of what stands behind the starter; -1: nothing
  for (const Change& c : *text) {
    const int cc = library::CombiningClass(c.code);
    if (starter && (last_class < 0 || last_class < cc)) {
      if (const char32_t composite = tern::Compose(out[*starter].code, c.code)) {
        out[*starter].code = composite;
        out[*starter].change += c.change - 1;
        continue;
      }
    }
    if (cc == 0) {
      starter = out.size();
      last_class = -1;
    } else {
      last_class = cc;
    }
    out.push_back(c);
  }
  *text = std::move(out);
}

void Apply(NormalizedText* text, const std::vector<Change>& changes) {
  Rewriter out(text);
  for (const Change& change : changes) {
    if (change.change > 0) {
      out.Insert(change.code);
      continue;
    }
    const size_t bytes = out.at() < text->size() ? DecodeUtf8(text->text, out.at()).bytes : 0;
    out.Put(change.code, bytes);
    for (int64_t i = 0; i < -change.change && out.at() < text->size(); ++i)
      out.Skip(DecodeUtf8(text->text, out.at()).bytes);
  }
  out.Finish();
}

class UnicodeForm final : public Normalizer {
 public:
  UnicodeForm(bool compatible, bool compose) : compatible_(compatible), compose_(compose) {}
  Status Run(NormalizedText* text) const override {
    if (AsciiRun(text->text, 0) == text->size()) return {};
    std::vector<Change> changes;
    changes.reserve(text->size());
    Decompose(text, compatible_, &changes);
    if (compose_) Compose(&changes);
    Apply(text, changes);
    return {};
  }

 private:
  bool compatible_, compose_;
};

class LowercaseAll final : public Normalizer {
 public:
  Status Run(NormalizedText* text) const override {
    Lowercase(text);
    return {};
  }
};

class StripAccents final : public Normalizer {
 public:
  Status Run(NormalizedText* text) const override {
    if (AsciiRun(text->text, 0) < text->size())
      Filter(text, [](char32_t c) { return c < 0x300 || !library::IsCombiningMark(c); });
    return {};
  }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  Status Run(NormalizedText* text) const override {
    size_t begin = 0, end = text->size();
    while (left_ && begin < end) {
      const Utf8Char c = DecodeUtf8(text->text, begin);
      if (!IsWhiteSpace(c.code)) break;
      begin += c.bytes;
    }
    while (right_ && end > begin) {
      size_t last = end - 1;
      while (last > begin && (static_cast<uint8_t>(text->text[last]) & 0xC0) == 0x80) --last;
      if (!IsWhiteSpace(DecodeUtf8(text->text, last).code)) break;
      end = last;
    }
    if (begin == 0 && end == text->size()) return {};
    Rewriter out(text);
    out.Skip(begin);
    out.Keep(end - begin);
    out.Finish();
    return {};
  }
  bool separable() const override { return !left_; }

 private:
  bool left_, right_;
};

class Replace final : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Status Run(NormalizedText* text) const override {
    std::vector<std::pair<size_t, size_t>> matches;
    TERN_RETURN_IF_ERROR(pattern_.FindAll(text->text, &matches));
    if (matches.empty()) return {};
    Rewriter out(text);
    for (auto [begin, end] : matches) {
      out.Keep(begin - out.at());
      out.Skip(end - begin);
      for (size_t i = 0; i < content_.size();) {
        const size_t bytes = DecodeUtf8(content_, i).bytes;
        out.Insert(std::string_view(content_).substr(i, bytes));
        i += bytes;
      }
    }
    out.Keep(text->size() - out.at());
    out.Finish();
    return {};
  }
  // A plain string without white space on both sides, and runs of spaces, see nothing across one space between solid
  // characters.
  bool separable() const override {
    if (pattern_.is_space_run() || (pattern_.text() == " " && content_ == "\xE2\x96\x81")) return true;
    return !pattern_.is_regex() && pattern_.text().find(' ') == std::string::npos &&
           content_.find(' ') == std::string::npos && !content_.empty();
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string what) : what_(std::move(what)) {}
  Status Run(NormalizedText* text) const override {
    if (text->text.empty()) return {};
    PrependTo(text, what_);
    return {};
  }
  bool separable() const override { return false; }

 private:
  std::string what_;
};

class Nmt final : public Normalizer {
 public:
  Status Run(NormalizedText* text) const override {
    Filter(text, [](char32_t c) {
      return !((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F);
    });
    MapCharacters(text, [](char32_t c) {
      const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
      return space ? U' ' : c;
    });
    return {};
  }
};

class ByteLevel final : public Normalizer {
 public:
  Status Run(NormalizedText* text) const override {
    ToByteLevel(text);
    return {};
  }
  bool separable() const override { return false; }
};

// Grapheme clusters: one of fewer than six bytes is replaced whole by what its shortest mapped prefix maps to,
// otherwise each character alone.
class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(Charsmap map) : map_(std::move(map)) {}
  Status Run(NormalizedText* text) const override {
    if (!text->tracked) {
      std::string out;
      out.reserve(text->size());
      Walk(
          text->text, [&](std::string_view kept) { out += kept; },
          [&](std::string_view, std::string_view replacement) { out += replacement; });
      text->text = std::move(out);
      return {};
    }
    std::vector<Change> changes;
    Walk(
        text->text,
        [&](std::string_view kept) {
          for (size_t i = 0; i < kept.size();) {
            const Utf8Char c = DecodeUtf8(kept, i);
            changes.push_back({c.code, 0});
            i += c.bytes;
          }
        },
        [&](std::string_view part, std::string_view replacement) {
          const int64_t before = CountCharacters(part), after = CountCharacters(replacement);
          int64_t k = 0;
          for (size_t i = 0; i < replacement.size(); ++k) {
            const Utf8Char c = DecodeUtf8(replacement, i);
            changes.push_back({c.code, k < before ? 0 : 1});
            i += c.bytes;
          }
          if (after < before && !changes.empty()) changes.back().change += after - before;
        });
    Apply(text, changes);
    return {};
  }

 private:
  static std::string_view Cluster(const std::string& t, size_t begin) {
    Utf8Char c = DecodeUtf8(t, begin);
    size_t end = begin + c.bytes;
    int32_t state = 0;
    while (end < t.size()) {
      const Utf8Char next = DecodeUtf8(t, end);
      if (GraphemeBreak(c.code, next.code, &state)) break;
      c = next;
      end += next.bytes;
    }
    return std::string_view(t).substr(begin, end - begin);
  }
  static int64_t CountCharacters(std::string_view text) {
    return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
  }
  // Gives the text in order: what is kept, and what is replaced with its replacement.
  template <class Kept, class Replaced>
  void Walk(const std::string& t, Kept kept, Replaced replaced) const {
    auto one = [&](std::string_view part) {
      const Charsmap::Match match = map_.Shortest(part);
      if (match.length > 0) replaced(part, match.replacement);
      return match.length > 0;
    };
    for (size_t at = 0; at < t.size();) {
      // ASCII that stands for itself, with ASCII behind it (a mark would join its cluster).
      size_t end = at;
      while (end < t.size() && map_.KeepsAscii(static_cast<uint8_t>(t[end])) && t[end] != '\r' &&
             (end + 1 == t.size() || static_cast<uint8_t>(t[end + 1]) < 128))
        ++end;
      if (end > at) {
        kept(std::string_view(t).substr(at, end - at));
        at = end;
        continue;
      }
      const std::string_view cluster = Cluster(t, at);
      at += cluster.size();
      if (cluster.size() < 6 && one(cluster)) continue;
      for (size_t i = 0; i < cluster.size();) {
        const size_t bytes = DecodeUtf8(cluster, i).bytes;
        if (!one(cluster.substr(i, bytes))) kept(cluster.substr(i, bytes));
        i += bytes;
      }
    }
  }
  Charsmap map_;
};

class Bert final : public Normalizer {
 public:
  Bert(bool clean, bool chinese, bool strip, bool lower)
      : clean_(clean), chinese_(chinese), strip_(strip), lower_(lower) {}
  Status Run(NormalizedText* text) const override {
    const bool ascii = AsciiRun(text->text, 0) == text->size();
    if (clean_) {
      Filter(text, [](char32_t c) { return !(c == 0 || c == 0xFFFD || IsControl(c)); });
      MapCharacters(text, [](char32_t c) { return IsWhiteSpace(c) ? U' ' : c; });
    }
    if (chinese_ && !ascii) {
      Rewriter out(text);
      while (out.at() < text->size()) {
        const Utf8Char c = DecodeUtf8(text->text, out.at());
        if (!IsChinese(c.code)) {
          out.Keep(c.bytes);
          continue;
        }
        out.Put(U' ', c.bytes);
        out.Insert(c.code);
        out.Insert(U' ');
      }
      out.Finish();
    }
    if (strip_ && !ascii) {
      std::vector<Change> changes;
      Decompose(text, false, &changes);
      Apply(text, changes);
      Filter(text, [](char32_t c) { return c < 0x300 || !library::IsNonspacingMark(c); });
    }
    if (lower_) Lowercase(text);
    return {};
  }

 private:
  static bool IsControl(char32_t c) {
    if (c == '\t' || c == '\n' || c == '\r') return false;
    if (c < 128) return c < 0x20 || c == 0x7F;
    return library::IsControl(c);
  }
  static bool IsChinese(char32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
  }
  bool clean_, chinese_, strip_, lower_;
};

Result<std::unique_ptr<Normalizer>> Make(const Json& config, int depth) {
  if (depth > 8) return Malformed("normalizers are nested too deeply");
  TERN_ASSIGN(std::string type, ConfigType(config));
  std::unique_ptr<Normalizer> out;
  if (type == "Sequence") {
    TERN_ASSIGN(const Json* list, ConfigArray(config, "normalizers"));
    std::vector<std::unique_ptr<Normalizer>> parts;
    for (const Json& part : *list) {
      TERN_ASSIGN(auto made, Make(part, depth + 1));
      parts.push_back(std::move(made));
    }
    out = std::make_unique<Sequence>(std::move(parts));
  } else if (type == "BertNormalizer") {
    TERN_ASSIGN(bool clean, ConfigBool(config, "clean_text", true));
    TERN_ASSIGN(bool chinese, ConfigBool(config, "handle_chinese_chars", true));
    TERN_ASSIGN(bool lower, ConfigBool(config, "lowercase", true));
    TERN_ASSIGN(bool strip, ConfigBool(config, "strip_accents", lower));
    out = std::make_unique<Bert>(clean, chinese, strip, lower);
  } else if (type == "NFD" || type == "NFC" || type == "NFKD" || type == "NFKC") {
    out = std::make_unique<UnicodeForm>(type[2] == 'K', type.back() == 'C');
  } else if (type == "Lowercase") {
    out = std::make_unique<LowercaseAll>();
  } else if (type == "StripAccents") {
    out = std::make_unique<StripAccents>();
  } else if (type == "Strip") {
    TERN_ASSIGN(bool left, ConfigBool(config, "strip_left", true));
    TERN_ASSIGN(bool right, ConfigBool(config, "strip_right", true));
    out = std::make_unique<Strip>(left, right);
  } else if (type == "Replace") {
    TERN_ASSIGN(Pattern pattern, Pattern::FromConfig(config, "pattern"));
    TERN_ASSIGN(std::string content, ConfigString(config, "content"));
    out = std::make_unique<Replace>(std::move(pattern), std::move(content));
  } else if (type == "Prepend") {
    TERN_ASSIGN(std::string what, ConfigString(config, "prepend"));
    out = std::make_unique<Prepend>(std::move(what));
  } else if (type == "Nmt") {
    out = std::make_unique<Nmt>();
  } else if (type == "ByteLevel") {
    out = std::make_unique<ByteLevel>();
  } else if (type == "Precompiled") {
    TERN_ASSIGN(std::string encoded, ConfigString(config, "precompiled_charsmap", ""));
    TERN_ASSIGN(std::string table, DecodeBase64(encoded));
    TERN_ASSIGN(out, MakePrecompiled(table));
  } else {
    return Malformed(Str("unknown normalizer '", Printable(type, 40), "'"));
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<Normalizer>> MakeNormalizer(const Json& config) {
  auto made = Make(config, 0);
  if (!made.ok()) return Status(made.status()).Where("normalizer");
  return made;
}

Result<std::unique_ptr<Normalizer>> MakePrecompiled(std::string_view charsmap) {
  TERN_ASSIGN(Charsmap map, Charsmap::Parse(charsmap));
  return std::unique_ptr<Normalizer>(new Precompiled(std::move(map)));
}

std::unique_ptr<Normalizer> MakeNormalizerSequence(std::vector<std::unique_ptr<Normalizer>> parts) {
  return std::make_unique<Sequence>(std::move(parts));
}

Result<std::string> DecodeBase64(std::string_view text) {
  auto value = [](char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
  };
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int count = 0;
  for (char c : text) {
    const int v = value(c);
    if (v < 0) return Malformed("a table is not base64");
    bits = bits << 6 | static_cast<uint32_t>(v);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count & 0xFF));
    }
  }
  if (count >= 6) return Malformed("a table is not base64");
  return out;
}

}  // namespace tern
