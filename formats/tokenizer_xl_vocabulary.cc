#include "formats/tokenizer_xl_vocabulary.h"

#include <algorithm>
#include <unordered_set>

#include "engine/base/bytes.h"
#include "engine/base/utf8.h"
#include "formats/pickle.h"
#include "formats/tokenizer_unicode.h"

namespace tern {
namespace {

using Kind = PickleValue::Kind;

Result<std::string> SymbolOf(PickleValue value, size_t id) {
  if (!value.is(Kind::kString) && !value.is(Kind::kBytes))
    return Malformed("a symbol of the vocabulary is not a string").Where(Str("symbol ", id));
  if (value.text().size() > XlVocabulary::kMaxSymbolBytes)
    return Malformed("a symbol of the vocabulary is too long")
        .Where(Str("symbol ", id))
        .Got(Str(value.text().size(), " bytes"), Str("at most ", XlVocabulary::kMaxSymbolBytes));
  return ReplaceInvalidUtf8(value.text());
}

Status CheckCount(size_t count) {
  if (count == 0) return Malformed("the vocabulary holds no symbols");
  if (count > XlVocabulary::kMaxSymbols)
    return Malformed("the vocabulary is too large").Got(count, Str("at most ", XlVocabulary::kMaxSymbols));
  return {};
}

// The dict that holds idx2sym or sym2idx: the root, or the vocabulary (or Corpus) object's attributes.
PickleValue FieldsOf(PickleValue value) {
  if (value.is(Kind::kObject)) {
    PickleValue state = value.state();
    if (state.is(Kind::kTuple) && state.size() > 0) state = state[0];
    return state;
  }
  return value;
}

Status FromIdToSymbol(PickleValue list, std::vector<std::string>* symbols) {
  TERN_RETURN_IF_ERROR(CheckCount(list.size()));
  for (size_t i = 0; i < list.size(); ++i) {
    TERN_ASSIGN(std::string symbol, SymbolOf(list[i], i));
    symbols->push_back(std::move(symbol));
  }
  return {};
}

Status FromSymbolToId(PickleValue dict, std::vector<std::string>* symbols) {
  TERN_RETURN_IF_ERROR(CheckCount(dict.size()));
  const int64_t count = static_cast<int64_t>(dict.size());
  symbols->assign(dict.size(), "");
  std::vector<bool> seen(dict.size());
  for (size_t i = 0; i < dict.size(); ++i) {
    const int64_t id = dict[i].is(Kind::kInt) ? dict[i].integer() : -1;
    if (id < 0 || id >= count)
      return Malformed("sym2idx holds an id outside the vocabulary")
          .Where(Str("entry ", i))
          .Got(id, Str("0 to ", count - 1));
    if (seen[static_cast<size_t>(id)]) return Malformed("sym2idx gives one id to two symbols").Where(Str("id ", id));
    seen[static_cast<size_t>(id)] = true;
    TERN_ASSIGN((*symbols)[static_cast<size_t>(id)], SymbolOf(dict.key(i), i));
  }
  return {};
}

int32_t FindUnknown(const std::vector<std::string>& symbols, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (auto it = std::find(symbols.begin(), symbols.end(), name); it != symbols.end())
      return static_cast<int32_t>(it - symbols.begin());
  return -1;
}

}  // namespace

Result<XlVocabulary> XlVocabulary::FromPickle(std::span<const uint8_t> bytes) {
  TERN_ASSIGN(PicklePtr tree, LoadTorchObject(bytes));
  PickleValue fields = FieldsOf(tree->root());
  XlVocabulary out;
  bool corpus = false;
  if (fields.is(Kind::kDict)) {
    if (PickleValue dataset = fields.Find("dataset"); dataset.is(Kind::kString))
      out.dataset = std::string(dataset.text().substr(0, 64));
    if (PickleValue vocab = fields.Find("vocab"); vocab.is(Kind::kObject) || vocab.is(Kind::kDict)) {
      fields = FieldsOf(vocab);
      corpus = true;
    }
  }
  if (!fields.is(Kind::kDict))
    return Malformed("this pickle holds no vocabulary")
        .Hint("Expected: a dict with idx2sym and sym2idx, or a Corpus with one.");
  const PickleValue idx2sym = fields.Find("idx2sym"), sym2idx = fields.Find("sym2idx");
  if (idx2sym.is(Kind::kList) && idx2sym.size() > 0) {
    TERN_RETURN_IF_ERROR(FromIdToSymbol(idx2sym, &out.symbols));
  } else if (sym2idx.is(Kind::kDict)) {  // as saved again by Hugging Face 4.35, with an empty idx2sym
    TERN_RETURN_IF_ERROR(FromSymbolToId(sym2idx, &out.symbols));
  } else {
    return Malformed("this pickle holds no vocabulary: neither idx2sym nor sym2idx");
  }
  if (PickleValue unk = fields.Find("unk_idx"); unk.is(Kind::kInt)) {
    if (unk.integer() < 0 || unk.integer() >= static_cast<int64_t>(out.symbols.size()))
      return Malformed("unk_idx lies outside the vocabulary").Got(unk.integer(), Str("0 to ", out.symbols.size() - 1));
    out.unk_id = static_cast<int32_t>(unk.integer());
  } else if (!corpus) {
    out.unk_id = FindUnknown(out.symbols, {"<unk>", "<UNK>"});
  }
  out.lower_case = corpus && fields.Find("lower_case").boolean();
  return out;
}

Result<XlVocabulary> XlVocabulary::FromText(std::string_view text) {
  XlVocabulary out;
  std::unordered_set<std::string> seen;
  int64_t line_number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::u32string line = ToCodePoints(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    const std::u32string_view stripped = StripPython(line);
    size_t length = 0;
    while (length < stripped.size() && !IsPythonSpace(stripped[length])) ++length;
    if (length == 0) return Malformed("a line of the vocabulary is empty").Where(Str("line ", line_number));
    std::string symbol = ToUtf8(stripped.substr(0, length));
    if (symbol.size() > kMaxSymbolBytes)
      return Malformed("a symbol of the vocabulary is too long").Where(Str("line ", line_number));
    if (out.symbols.size() >= kMaxSymbols) return CheckCount(kMaxSymbols + 1);
    if (seen.insert(symbol).second) out.symbols.push_back(std::move(symbol));
  }
  TERN_RETURN_IF_ERROR(CheckCount(out.symbols.size()));
  out.unk_id = FindUnknown(out.symbols, {"<UNK>", "<unk>"});
  if (out.unk_id < 0) return Malformed("the vocabulary has no <UNK> and no <unk>");
  return out;
}

std::string XlVocabulary::Serialize() const {
  std::string out;
  auto add = [&](auto value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); };
  add(static_cast<uint32_t>(symbols.size()));
  add(unk_id);
  add(static_cast<uint32_t>(lower_case));
  for (const std::string& symbol : symbols) {
    add(static_cast<uint32_t>(symbol.size()));
    out += symbol;
  }
  return out;
}

Result<XlVocabulary> XlVocabulary::Deserialize(std::string_view bytes) {
  ByteReader reader(bytes);
  XlVocabulary out;
  TERN_ASSIGN(uint32_t count, reader.Read<uint32_t>());
  TERN_RETURN_IF_ERROR(CheckCount(count));
  TERN_RETURN_IF_ERROR(reader.CheckCount(count, 4));
  TERN_ASSIGN(out.unk_id, reader.Read<int32_t>());
  if (out.unk_id < -1 || out.unk_id >= static_cast<int64_t>(count))
    return Malformed("the unknown symbol lies outside the vocabulary").Got(out.unk_id, Str("-1 to ", count - 1));
  TERN_ASSIGN(uint32_t flags, reader.Read<uint32_t>());
  if (flags > 1) return Malformed("unknown flags").Got(flags, "0 or 1");
  out.lower_case = flags == 1;
  for (uint32_t i = 0; i < count; ++i) {
    TERN_ASSIGN(uint32_t length, reader.Read<uint32_t>());
    if (length > kMaxSymbolBytes) return Malformed("a symbol of the vocabulary is too long").Where(Str("symbol ", i));
    TERN_ASSIGN(auto symbol, reader.Text(length));
    if (!IsUtf8(symbol)) return Malformed("a symbol of the vocabulary is not UTF-8").Where(Str("symbol ", i));
    out.symbols.emplace_back(symbol);
  }
  if (!reader.done()) return Malformed(Str(reader.remaining(), " bytes after the last symbol"));
  return out;
}

}  // namespace tern
