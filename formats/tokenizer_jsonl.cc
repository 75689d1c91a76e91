#include "formats/tokenizer_jsonl.h"

#include <algorithm>

#include "engine/base/checked.h"
#include "engine/base/json.h"

namespace tern {
namespace {

constexpr int64_t kMaxIds = 64 << 20;

Json Flat(const std::vector<TextSpan>& spans) {
  Json out = Json::array();
  for (const TextSpan& span : spans) {
    out.push_back(span.begin);
    out.push_back(span.end);
  }
  return out;
}

Result<std::string> TextField(const Json& request, const char* key) {
  auto it = request.find(key);
  if (it == request.end() || !it->is_string()) return UsageError(Str("the request lacks the text '", key, "'"));
  return it->get<std::string>();
}
Result<int64_t> IntegerField(const Json& request, const char* key, int64_t fallback, int64_t least, int64_t most) {
  auto it = request.find(key);
  if (it == request.end() || it->is_null()) return fallback;
  if (!it->is_number_integer()) return UsageError(Str("'", key, "' must be an integer"));
  const int64_t value = it->get<int64_t>();
  if (value < least || value > most)
    return UsageError(Str("'", key, "' is out of range")).Got(value, Str(least, " to ", most));
  return value;
}
Result<std::vector<int32_t>> IdsField(const Json& request) {
  auto it = request.find("ids");
  if (it == request.end() || !it->is_array()) return UsageError("the request lacks the list 'ids'");
  std::vector<int32_t> ids;
  for (const Json& id : *it) {
    if (!id.is_number_integer()) return UsageError("'ids' must hold integers");
    const int64_t value = id.get<int64_t>();
    ids.push_back(value < 0 || value > INT32_MAX ? -1 : static_cast<int32_t>(value));
  }
  return ids;
}

int HexDigit(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

Result<std::string> TextOrBytes(const Json& request) {
  auto it = request.find("bytes_hex");
  if (it == request.end()) return TextField(request, "text");
  if (!it->is_string()) return UsageError("'bytes_hex' must be a string");
  const std::string& hex = it->get_ref<const std::string&>();
  std::string out;
  if (hex.size() % 2 != 0) return UsageError("'bytes_hex' has an odd number of digits");
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = HexDigit(hex[i]), low = HexDigit(hex[i + 1]);
    if (high < 0 || low < 0) return UsageError("'bytes_hex' holds a character that is no digit");
    out.push_back(static_cast<char>(high * 16 + low));
  }
  return out;
}

void AddDecoded(const Tokenizer& tokenizer, std::span<const int32_t> ids, Json* out) {
  DecodeOptions options;
  (*out)["decoded"] = tokenizer.Decode(ids, options);
  options.skip_special_tokens = false;
  (*out)["decoded_special"] = tokenizer.Decode(ids, options);
  options.skip_special_tokens = true;
  options.clean_up = false;
  (*out)["decoded_raw"] = tokenizer.Decode(ids, options);
}

Result<Json> Plain(const Tokenizer& tokenizer, const Json& request) {
  TERN_ASSIGN(std::string text, TextOrBytes(request));
  EncodeOptions options;
  options.pieces = options.offsets = true;
  TERN_ASSIGN(Encoding e, tokenizer.Encode(text, options));
  // Of bytes that are no text, the pieces are named as the vocabulary has them (a surface could not be written as
  // JSON).
  if (tokenizer.kind() == "spm" && request.contains("bytes_hex"))
    for (size_t i = 0; i < e.ids.size(); ++i) e.pieces[i] = tokenizer.PieceOf(e.ids[i]);
  Json out;
  out["ids"] = e.ids;
  out["pieces"] = e.pieces;
  if (!e.offsets.empty() || e.ids.empty()) out["offsets"] = Flat(e.offsets);
  out["token_type_ids"] = e.type_ids;
  out["attention_mask"] = e.attention_mask.empty() ? std::vector<uint8_t>(e.ids.size(), 1) : e.attention_mask;
  AddDecoded(tokenizer, e.ids, &out);
  return out;
}

Result<Json> Pair(const Tokenizer& tokenizer, const Json& request) {
  TERN_ASSIGN(std::string a, TextField(request, "text_a"));
  TERN_ASSIGN(std::string b, TextField(request, "text_b"));
  EncodeOptions options;
  options.offsets = true;
  TERN_ASSIGN(Encoding e, tokenizer.EncodePair(a, b, options));
  Json out;
  out["ids"] = e.ids;
  out["token_type_ids"] = e.type_ids;
  out["offsets"] = Flat(e.offsets);
  out["attention_mask"] = e.attention_mask.empty() ? std::vector<uint8_t>(e.ids.size(), 1) : e.attention_mask;
  return out;
}

Result<Truncation> TruncationOf(const Json& request, const char* key, Truncation fallback) {
  auto it = request.find(key);
  if (it == request.end() || it->is_null()) return fallback;
  if (it->is_boolean()) return it->get<bool>() ? Truncation::kLongestFirst : Truncation::kNone;
  const std::string name = it->is_string() ? it->get<std::string>() : "";
  if (name == "longest_first") return Truncation::kLongestFirst;
  if (name == "only_first") return Truncation::kOnlyFirst;
  if (name == "only_second") return Truncation::kOnlySecond;
  if (name == "do_not_truncate") return Truncation::kNone;
  return UsageError(Str("unknown way to truncate '", Printable(name, 40), "'"))
      .Hint("longest_first, only_first, only_second or do_not_truncate.");
}

Result<Json> Truncate(const Tokenizer& tokenizer, const Json& request) {
  EncodeOptions options;
  TERN_ASSIGN(options.max_length, IntegerField(request, "max_length", 0, 1, kMaxIds));
  TERN_ASSIGN(options.truncation, TruncationOf(request, "strategy", Truncation::kLongestFirst));
  Encoding e;
  if (request.contains("text_a")) {
    TERN_ASSIGN(std::string a, TextField(request, "text_a"));
    TERN_ASSIGN(std::string b, TextField(request, "text_b"));
    TERN_ASSIGN(e, tokenizer.EncodePair(a, b, options));
  } else {
    TERN_ASSIGN(std::string text, TextOrBytes(request));
    TERN_ASSIGN(e, tokenizer.Encode(text, options));
  }
  Json out;
  out["ids"] = e.ids;
  out["token_type_ids"] = e.type_ids;
  return out;
}

// rows x length, or more than kMaxIds.
int64_t CheckedRows(size_t rows, int64_t length) {
  return CheckedMul(static_cast<int64_t>(rows), length).value_or(kMaxIds + 1);
}

struct Padding {
  int64_t length = 0, multiple = 0;
  bool longest = false, left = false;
  int32_t id = 0;
};

Result<Padding> PaddingOf(const Tokenizer& tokenizer, const Json& request, int64_t max_length) {
  Padding padding;
  auto it = request.find("padding");
  if (it != request.end() && it->is_boolean()) padding.longest = it->get<bool>();
  if (it != request.end() && it->is_string()) {
    const std::string name = it->get<std::string>();
    if (name != "longest" && name != "max_length" && name != "do_not_pad")
      return UsageError(Str("unknown way to pad '", Printable(name, 40), "'"))
          .Hint("longest, max_length or do_not_pad.");
    padding.longest = name == "longest";
    if (name == "max_length") padding.length = max_length;
  }
  TERN_ASSIGN(padding.multiple, IntegerField(request, "pad_to_multiple_of", 0, 0, kMaxIds));
  padding.left = request.value("padding_side", Json("right")) == "left";
  padding.id = std::max(tokenizer.special_ids().pad, 0);
  return padding;
}

void Pad(const Padding& padding, int64_t length, Encoding* e) {
  if (padding.multiple > 0) length = (length + padding.multiple - 1) / padding.multiple * padding.multiple;
  if (e->attention_mask.empty()) e->attention_mask.assign(e->ids.size(), 1);
  const int64_t missing = length - static_cast<int64_t>(e->ids.size());
  if (missing <= 0) return;
  auto add = [&](auto* list, auto value) {
    list->insert(padding.left ? list->begin() : list->end(), static_cast<size_t>(missing), value);
  };
  add(&e->ids, padding.id);
  add(&e->type_ids, 0);
  add(&e->attention_mask, uint8_t{0});
  if (!e->offsets.empty()) add(&e->offsets, TextSpan{});
}

Result<Json> Batch(const Tokenizer& tokenizer, const Json& request) {
  auto texts = request.find("texts");
  if (texts == request.end() || !texts->is_array()) return UsageError("the request lacks the list 'texts'");
  EncodeOptions options;
  TERN_ASSIGN(int64_t max_length, IntegerField(request, "max_length", 0, 1, kMaxIds));
  TERN_ASSIGN(options.truncation, TruncationOf(request, "truncation", Truncation::kNone));
  if (options.truncation != Truncation::kNone) options.max_length = max_length;
  TERN_ASSIGN(Padding padding, PaddingOf(tokenizer, request, max_length));
  std::vector<Encoding> rows;
  int64_t longest = 0;
  for (const Json& text : *texts) {
    if (!text.is_string()) return UsageError("'texts' must hold strings");
    TERN_ASSIGN(Encoding e, tokenizer.Encode(text.get_ref<const std::string&>(), options));
    longest = std::max(longest, static_cast<int64_t>(e.ids.size()));
    rows.push_back(std::move(e));
  }
  const int64_t length = padding.longest ? longest : padding.length;
  if (length > 0 && CheckedRows(rows.size(), length) > kMaxIds) return UsageError("the batch is too large");
  Json out = {{"ids", Json::array()}, {"attention_mask", Json::array()}, {"token_type_ids", Json::array()}};
  for (Encoding& row : rows) {
    if (length > 0)
      Pad(padding, length, &row);
    else if (row.attention_mask.empty())
      row.attention_mask.assign(row.ids.size(), 1);
    out["ids"].push_back(row.ids);
    out["attention_mask"].push_back(row.attention_mask);
    out["token_type_ids"].push_back(row.type_ids);
  }
  return out;
}

Result<Json> Windows(const Tokenizer& tokenizer, const Json& request) {
  TERN_ASSIGN(std::string question, TextField(request, "question"));
  TERN_ASSIGN(std::string context, TextField(request, "context"));
  TERN_ASSIGN(int64_t max_length, IntegerField(request, "max_length", 384, 1, kMaxIds));
  TERN_ASSIGN(int64_t stride, IntegerField(request, "stride", 128, 0, kMaxIds));
  TERN_ASSIGN(Padding padding, PaddingOf(tokenizer, request, max_length));
  if (request.value("padding", Json()) == true) {  // of windows, "yes" means to their full length
    padding.longest = false;
    padding.length = max_length;
  }
  TERN_ASSIGN(auto windows, tokenizer.EncodeWindows(question, context, max_length, stride));
  int64_t longest = 0;
  for (const TextWindow& window : windows)
    longest = std::max(longest, static_cast<int64_t>(window.encoding.ids.size()));
  const int64_t length = padding.longest ? longest : padding.length;
  if (length > 0 && CheckedRows(windows.size(), length) > kMaxIds)
    return UsageError("the windows are too large together");
  Json list = Json::array();
  for (TextWindow& window : windows) {
    const size_t plain = window.encoding.ids.size();
    if (length > 0) Pad(padding, length, &window.encoding);
    const int64_t shift = padding.left ? static_cast<int64_t>(window.encoding.ids.size() - plain) : 0;
    Json one;
    one["ids"] = window.encoding.ids;
    one["token_type_ids"] = window.encoding.type_ids;
    one["offsets"] = Flat(window.encoding.offsets);
    Json ends = Json::array();  // the first and the last context token, once if they are one
    const int64_t first = window.first_context_token, last = window.last_context_token;
    if (last >= first) ends.push_back(first + shift);
    if (last > first) ends.push_back(last + shift);
    one["context_tokens"] = std::move(ends);
    list.push_back(std::move(one));
  }
  return Json{{"windows", std::move(list)}};
}

Result<Json> Decode(const Tokenizer& tokenizer, const Json& request) {
  TERN_ASSIGN(auto ids, IdsField(request));
  Json out;
  DecodeOptions options;
  out["decoded"] = tokenizer.Decode(ids, options);
  options.skip_special_tokens = false;
  options.clean_up = false;
  out["decoded_raw"] = tokenizer.Decode(ids, options);
  Json pieces = Json::array();
  for (int32_t id : ids) pieces.push_back(tokenizer.PieceOf(id));
  out["pieces"] = std::move(pieces);
  if (tokenizer.kind() == "bytes") {  // what the ids are, before UTF-8
    std::string hex;
    for (int32_t id : ids)
      for (char c : tokenizer.PieceOf(id)) {
        hex += "0123456789abcdef"[static_cast<uint8_t>(c) >> 4];
        hex += "0123456789abcdef"[static_cast<uint8_t>(c) & 15];
      }
    out["bytes_hex"] = hex;
  }
  return out;
}

Result<Json> Detokenize(const Tokenizer& tokenizer, const Json& request) {
  auto it = request.find("pieces");
  if (it == request.end() || !it->is_array()) return UsageError("the request lacks the list 'pieces'");
  std::vector<std::string> pieces;
  for (const Json& piece : *it) {
    if (!piece.is_string()) return UsageError("'pieces' must hold strings");
    pieces.push_back(piece.get<std::string>());
  }
  return Json{{"decoded", tokenizer.DecodePieces(pieces)}};
}

Result<Json> Answer(const Tokenizer& tokenizer, std::string_view line) {
  TERN_ASSIGN(Json request, ParseJson(line));
  if (!request.is_object()) return UsageError("a request is a JSON object");
  std::string op = "plain";
  if (auto it = request.find("op"); it != request.end()) op = it->is_string() ? it->get<std::string>() : "";
  if (op == "plain") return Plain(tokenizer, request);
  if (op == "pair") return Pair(tokenizer, request);
  if (op == "truncate") return Truncate(tokenizer, request);
  if (op == "batch") return Batch(tokenizer, request);
  if (op == "windows") return Windows(tokenizer, request);
  if (op == "decode") return Decode(tokenizer, request);
  if (op == "detokenize") return Detokenize(tokenizer, request);
  return UsageError(Str("unknown op '", Printable(op, 40), "'"))
      .Hint("plain, pair, truncate, batch, windows, decode or detokenize.");
}

}  // namespace

std::string AnswerTokenizerRequest(const Tokenizer& tokenizer, std::string_view line) {
  auto answer = Answer(tokenizer, line);
  const Json out = answer.ok() ? *answer : Json{{"error", answer.status().message()}};
  return out.dump(-1, ' ', true, Json::error_handler_t::replace);
}

}  // namespace tern
