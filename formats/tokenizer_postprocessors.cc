#include "formats/tokenizer_postprocessors.h"

#include <algorithm>
#include <map>

#include "engine/base/utf8.h"
#include "formats/tokenizer_config.h"
#include "formats/tokenizer_unicode.h"

namespace tern {
namespace {

constexpr uint8_t kNoSequence = 255;
constexpr int64_t kMaxSpecial = 64;

Encoding SpecialPart(const std::vector<int32_t>& ids, int32_t type_id, bool offsets) {
  Encoding part;
  part.ids = ids;
  part.type_ids.assign(ids.size(), type_id);
  part.sequence.assign(ids.size(), kNoSequence);
  if (offsets) part.offsets.assign(ids.size(), {0, 0});
  return part;
}
// Takes the white space at both ends of a token's text out of its offsets.
void TrimOffsets(bool add_prefix_space, Encoding* e) {
  for (size_t i = 0; i < e->offsets.size(); ++i) {
    const std::u32string token = ToCodePoints(e->pieces[i]);
    auto space = [](char32_t c) { return c == 0x120 || IsWhiteSpace(c); };
    int64_t leading = 0, trailing = 0;
    const int64_t size = static_cast<int64_t>(token.size());
    while (leading < size && space(token[static_cast<size_t>(leading)])) ++leading;
    while (trailing < size && space(token[static_cast<size_t>(size - 1 - trailing)])) ++trailing;
    TextSpan& span = e->offsets[i];
    if (leading > 0) {
      // The space that add_prefix_space put before the text is not in the text.
      if ((i == 0 || span.begin == 0) && add_prefix_space && leading == 1) leading = 0;
      span.begin = std::min(span.begin + leading, span.end);
    }
    if (trailing > 0 && span.end >= trailing) span.end = std::max(span.end - trailing, span.begin);
  }
}

class Template final : public PostProcessor {
 public:
  struct Piece {
    int sequence = -1;  // 0 or 1; -1: special tokens
    std::vector<int32_t> ids;
    int32_t type_id = 0;
  };
  Template(std::vector<Piece> single, std::vector<Piece> pair) : single_(std::move(single)), pair_(std::move(pair)) {}
  int64_t added(bool pair) const override {
    int64_t count = 0;
    for (const Piece& piece : pair ? pair_ : single_) count += static_cast<int64_t>(piece.ids.size());
    return count;
  }
  void Run(const EncodeOptions& options, std::vector<Encoding>* parts) const override {
    std::vector<Encoding> out;
    for (const Piece& piece : parts->size() > 1 ? pair_ : single_) {
      if (piece.sequence < 0) {
        if (options.special_tokens) out.push_back(SpecialPart(piece.ids, piece.type_id, options.offsets));
        continue;
      }
      if (static_cast<size_t>(piece.sequence) >= parts->size()) continue;
      Encoding part = (*parts)[static_cast<size_t>(piece.sequence)];
      part.type_ids.assign(part.ids.size(), piece.type_id);
      out.push_back(std::move(part));
    }
    *parts = std::move(out);
  }

 private:
  std::vector<Piece> single_, pair_;
};

class Bert final : public PostProcessor {
 public:
  Bert(int32_t cls, int32_t sep) : cls_(cls), sep_(sep) {}
  int64_t added(bool pair) const override { return pair ? 3 : 2; }
  void Run(const EncodeOptions& options, std::vector<Encoding>* parts) const override {
    if (!options.special_tokens) return;
    std::vector<Encoding> out;
    for (size_t i = 0; i < parts->size(); ++i) {
      const int32_t type_id = i == 0 ? 0 : 1;
      if (i == 0) out.push_back(SpecialPart({cls_}, 0, options.offsets));
      (*parts)[i].type_ids.assign((*parts)[i].ids.size(), type_id);
      out.push_back(std::move((*parts)[i]));
      out.push_back(SpecialPart({sep_}, type_id, options.offsets));
    }
    *parts = std::move(out);
  }

 private:
  int32_t cls_, sep_;
};

class Roberta final : public PostProcessor {
 public:
  Roberta(int32_t cls, int32_t sep, bool trim, bool prefix) : cls_(cls), sep_(sep), trim_(trim), prefix_(prefix) {}
  int64_t added(bool pair) const override { return pair ? 4 : 2; }
  void Run(const EncodeOptions& options, std::vector<Encoding>* parts) const override {
    std::vector<Encoding> out;
    for (size_t i = 0; i < parts->size(); ++i) {
      Encoding& part = (*parts)[i];
      if (trim_ && options.offsets) TrimOffsets(prefix_, &part);
      part.type_ids.assign(part.ids.size(), 0);
      if (options.special_tokens) out.push_back(SpecialPart({i == 0 ? cls_ : sep_}, 0, options.offsets));
      out.push_back(std::move(part));
      if (options.special_tokens) out.push_back(SpecialPart({sep_}, 0, options.offsets));
    }
    *parts = std::move(out);
  }

 private:
  int32_t cls_, sep_;
  bool trim_, prefix_;
};

class ByteLevel final : public PostProcessor {
 public:
  ByteLevel(bool trim, bool prefix) : trim_(trim), prefix_(prefix) {}
  int64_t added(bool) const override { return 0; }
  void Run(const EncodeOptions& options, std::vector<Encoding>* parts) const override {
    if (trim_ && options.offsets)
      for (Encoding& part : *parts) TrimOffsets(prefix_, &part);
  }

 private:
  bool trim_, prefix_;
};

class Sequence final : public PostProcessor {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PostProcessor>> parts) : parts_(std::move(parts)) {}
  int64_t added(bool pair) const override {
    int64_t count = 0;
    for (const auto& part : parts_) count += part->added(pair);
    return count;
  }
  void Run(const EncodeOptions& options, std::vector<Encoding>* parts) const override {
    for (const auto& part : parts_) part->Run(options, parts);
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> parts_;
};

Result<int32_t> IdField(const Json& value) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > INT32_MAX)
    return Malformed("an id must be a number from 0");
  return static_cast<int32_t>(value.get<int64_t>());
}
// ["[SEP]", 102]
Result<int32_t> NamedId(const Json& config, const char* key) {
  auto it = config.find(key);
  if (it == config.end() || !it->is_array() || it->size() != 2)
    return Malformed(Str("'", key, "' must be [token, id]"));
  return IdField((*it)[1]);
}

Result<std::vector<Template::Piece>> ReadTemplate(const Json& config, const char* key,
                                                  const std::map<std::string, std::vector<int32_t>>& special) {
  TERN_ASSIGN(const Json* list, ConfigArray(config, key));
  std::vector<Template::Piece> out;
  if (static_cast<int64_t>(list->size()) > kMaxSpecial) return Malformed("the template is too long").Where(key);
  for (const Json& entry : *list) {
    if (!entry.is_object() || entry.size() != 1)
      return Malformed("a piece of the template must be a Sequence or a SpecialToken").Where(key);
    const std::string name = entry.begin().key();
    const Json& body = entry.begin().value();
    if (!body.is_object()) return Malformed("a piece of the template must be an object").Where(key);
    Template::Piece piece;
    TERN_ASSIGN(std::string id, ConfigString(body, "id"));
    TERN_ASSIGN(int64_t type_id, ConfigInteger(body, "type_id", 0, 0, INT32_MAX));
    piece.type_id = static_cast<int32_t>(type_id);
    if (name == "Sequence" && (id == "A" || id == "B")) {
      piece.sequence = id == "A" ? 0 : 1;
    } else if (name == "SpecialToken") {
      auto found = special.find(id);
      if (found == special.end())
        return Malformed(Str("the special token '", Printable(id, 40), "' of the template is not defined")).Where(key);
      piece.ids = found->second;
    } else {
      return Malformed(Str("unknown piece '", Printable(name, 40), "' of the template")).Where(key);
    }
    out.push_back(std::move(piece));
  }
  return out;
}

Result<std::unique_ptr<PostProcessor>> Make(const Json& config, int depth) {
  if (depth > 8) return Malformed("post-processors are nested too deeply");
  TERN_ASSIGN(std::string type, ConfigType(config));
  if (type == "TemplateProcessing") {
    std::map<std::string, std::vector<int32_t>> special;
    auto tokens = config.find("special_tokens");
    if (tokens != config.end() && tokens->is_object()) {
      for (const auto& [name, token] : tokens->items()) {
        if (!token.is_object()) return Malformed("a special token of the template must be an object");
        TERN_ASSIGN(const Json* ids, ConfigArray(token, "ids"));
        if (static_cast<int64_t>(ids->size()) > kMaxSpecial)
          return Malformed("a special token of the template has too many ids");
        for (const Json& id : *ids) {
          TERN_ASSIGN(int32_t value, IdField(id));
          special[name].push_back(value);
        }
      }
    }
    TERN_ASSIGN(auto single, ReadTemplate(config, "single", special));
    TERN_ASSIGN(auto pair, ReadTemplate(config, "pair", special));
    return std::unique_ptr<PostProcessor>(new Template(std::move(single), std::move(pair)));
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    TERN_ASSIGN(int32_t sep, NamedId(config, "sep"));
    TERN_ASSIGN(int32_t cls, NamedId(config, "cls"));
    if (type == "BertProcessing") return std::unique_ptr<PostProcessor>(new Bert(cls, sep));
    TERN_ASSIGN(bool trim, ConfigBool(config, "trim_offsets", true));
    TERN_ASSIGN(bool prefix, ConfigBool(config, "add_prefix_space", true));
    return std::unique_ptr<PostProcessor>(new Roberta(cls, sep, trim, prefix));
  }
  if (type == "ByteLevel") {
    TERN_ASSIGN(bool trim, ConfigBool(config, "trim_offsets", true));
    TERN_ASSIGN(bool prefix, ConfigBool(config, "add_prefix_space", true));
    return std::unique_ptr<PostProcessor>(new ByteLevel(trim, prefix));
  }
  if (type == "Sequence") {
    TERN_ASSIGN(const Json* list, ConfigArray(config, "processors"));
    std::vector<std::unique_ptr<PostProcessor>> parts;
    for (const Json& part : *list) {
      TERN_ASSIGN(auto made, Make(part, depth + 1));
      parts.push_back(std::move(made));
    }
    return std::unique_ptr<PostProcessor>(new Sequence(std::move(parts)));
  }
  return Malformed(Str("unknown post-processor '", Printable(type, 40), "'"));
}

}  // namespace

Result<std::unique_ptr<PostProcessor>> MakePostProcessor(const Json& config) {
  auto made = Make(config, 0);
  if (!made.ok()) return Status(made.status()).Where("post_processor");
  return made;
}

}  // namespace tern
