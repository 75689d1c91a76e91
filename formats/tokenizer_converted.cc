// Kinds albert, t5, reformer, bert, gpt2 and roberta: the files of the older ("slow") classes, turned into a pipeline
// the way Hugging Face converts them (versions: see each). What a folder's tokenizer_config.json says is followed.
#include <algorithm>
#include <unordered_map>

#include "engine/base/utf8.h"
#include "formats/tokenizer_config.h"
#include "formats/tokenizer_pipeline.h"
#include "formats/tokenizer_spm_model.h"
#include "formats/tokenizer_unicode.h"

namespace tern {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";

// tokenizer_config.json and special_tokens_map.json of the folder; empty objects where there are none.
struct Config {
  Json tokenizer = Json::object(), special = Json::object();

  static Config Read(const TokenizerFiles& files) {
    Config out;
    for (auto [name, json] : {std::pair<const char*, Json*>{"tokenizer_config.json", &out.tokenizer},
                              {"special_tokens_map.json", &out.special}}) {
      const std::string* bytes = files.Find(name);
      if (!bytes) continue;
      auto parsed = ParseJson(*bytes);
      if (parsed.ok() && parsed->is_object()) *json = std::move(*parsed);
    }
    return out;
  }
  bool Flag(const char* key, bool fallback) const {
    auto it = tokenizer.find(key);
    return it != tokenizer.end() && it->is_boolean() ? it->get<bool>() : fallback;
  }
  std::optional<bool> Maybe(const char* key) const {
    auto it = tokenizer.find(key);
    if (it == tokenizer.end() || !it->is_boolean()) return std::nullopt;
    return it->get<bool>();
  }
  int64_t Integer(const char* key, int64_t fallback) const {
    auto it = tokenizer.find(key);
    return it != tokenizer.end() && it->is_number_integer() ? it->get<int64_t>() : fallback;
  }
  std::string Token(const char* key, std::string fallback) const {
    for (const Json* json : {&tokenizer, &special}) {
      auto it = json->find(key);
      if (it == json->end()) continue;
      if (it->is_string()) return it->get<std::string>();
      if (it->is_object() && it->contains("content") && (*it)["content"].is_string())
        return (*it)["content"].get<std::string>();
    }
    return fallback;
  }
};

// One component from its JSON, written here as text.
template <class T>
Result<std::unique_ptr<T>> Component(Result<std::unique_ptr<T>> (*make)(const Json&), const std::string& text) {
  TERN_ASSIGN(Json config, ParseJson(text));
  return make(config);
}
std::string Quoted(std::string_view text) {
  return Json(std::string(text)).dump();
}

void AddSpecial(const std::string& token, PipelineParts* parts, bool lstrip = false) {
  if (token.empty()) return;
  for (AddedToken& known : parts->added)
    if (known.content == token) {
      known.lstrip |= lstrip;
      return;
    }
  AddedToken added;
  added.content = token;
  added.lstrip = lstrip;
  parts->added.push_back(std::move(added));
}

// [first, "A", sep] and [first, "A", sep, "B", sep] with type id 1 from B on; names left out where they are empty.
std::string TemplateText(const std::string& first, int32_t first_id, const std::string& last, int32_t last_id,
                         bool types) {
  auto special = [](const std::string& name, int type) {
    return "{\"SpecialToken\":{\"id\":" + Quoted(name) + ",\"type_id\":" + std::to_string(type) + "}}";
  };
  auto sequence = [](const char* name, int type) {
    return Str("{\"Sequence\":{\"id\":\"", name, "\",\"type_id\":", type, "}}");
  };
  const int second = types ? 1 : 0;
  std::string start = first.empty() ? "" : special(first, 0) + ",";
  std::string single = start + sequence("A", 0) + "," + special(last, 0);
  std::string pair = single + "," + sequence("B", second) + "," + special(last, second);
  std::string tokens = Quoted(last) + ":{\"ids\":[" + std::to_string(last_id) + "]}";
  if (!first.empty() && first != last) tokens += "," + Quoted(first) + ":{\"ids\":[" + std::to_string(first_id) + "]}";
  return "{\"type\":\"TemplateProcessing\",\"single\":[" + single + "],\"pair\":[" + pair + "],\"special_tokens\":{" +
         tokens + "}}";
}

// ---- SentencePiece models ----

// str.isdigit of Python, for one character.
bool IsPythonDigit(char32_t c) {
  return IsDecimalDigit(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
         (c >= 0x2080 && c <= 0x2089) || (c >= 0x1369 && c <= 0x1371) || c == 0x19DA || (c >= 0x2460 && c <= 0x2468) ||
         (c >= 0x2474 && c <= 0x247C) || (c >= 0x2488 && c <= 0x2490) || c == 0x24EA || (c >= 0x24F5 && c <= 0x24FD) ||
         c == 0x24FF || (c >= 0x2776 && c <= 0x277E) || (c >= 0x2780 && c <= 0x2788) || (c >= 0x278A && c <= 0x2792) ||
         (c >= 0x1F100 && c <= 0x1F10A);
}
// "9," and the like: ALBERT takes 100 from their score, so that they are not used.
bool IsDigitComma(std::string_view piece) {
  const std::u32string text = ToCodePoints(piece);
  return text.size() >= 2 && text.back() == ',' && IsPythonDigit(text[text.size() - 2]);
}

// All splits of pieces into two pieces, in the order of the merged pieces' ids (Reformer, 4.35.2) or falling scores
// (4.57.1).
std::vector<std::pair<std::string, std::string>> MergesOf(const SpmModel& model, bool by_score) {
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t i = 0; i < model.pieces.size(); ++i) ids[model.pieces[i].text] = static_cast<int32_t>(i);
  std::vector<int32_t> order;
  for (size_t i = 0; i < model.pieces.size(); ++i)
    if (ids[model.pieces[i].text] == static_cast<int32_t>(i)) order.push_back(static_cast<int32_t>(i));
  if (by_score)
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return model.pieces[static_cast<size_t>(a)].score > model.pieces[static_cast<size_t>(b)].score;
    });
  std::vector<std::pair<std::string, std::string>> merges;
  for (int32_t id : order) {
    const std::string_view text = model.pieces[static_cast<size_t>(id)].text;
    std::vector<std::tuple<int32_t, int32_t, size_t>> cuts;
    for (size_t cut = DecodeUtf8(text, 0).bytes; cut < text.size(); cut += DecodeUtf8(text, cut).bytes) {
      auto left = ids.find(text.substr(0, cut)), right = ids.find(text.substr(cut));
      if (left != ids.end() && right != ids.end()) cuts.push_back({left->second, right->second, cut});
    }
    std::sort(cuts.begin(), cuts.end());
    for (auto [left, right, cut] : cuts) merges.emplace_back(text.substr(0, cut), text.substr(cut));
  }
  return merges;
}

Result<std::unique_ptr<VocabModel>> SpmVocabModel(const SpmModel& model, bool albert, int64_t extra_ids,
                                                  bool merges_by_score) {
  if (model.trainer_unk_id < 0 || model.trainer_unk_id >= static_cast<int64_t>(model.pieces.size()))
    return Malformed("the model's unk_id lies outside its pieces")
        .Got(model.trainer_unk_id, Str("0 to ", model.pieces.size() - 1));
  if (extra_ids < 0 || extra_ids > 100000)
    return Malformed("extra_ids is out of range").Where("tokenizer_config.json").Got(extra_ids, "0 to 100000");
  if (model.algorithm == SpmAlgorithm::kUnigram) {
    std::vector<UnigramPiece> pieces;
    for (const SpmPiece& piece : model.pieces)
      pieces.push_back(
          {piece.text, static_cast<double>(piece.score) - (albert && IsDigitComma(piece.text) ? 100.0 : 0.0)});
    for (int64_t i = extra_ids - 1; i >= 0; --i) pieces.push_back({Str("<extra_id_", i, ">"), 0.0});
    return MakeUnigram(std::move(pieces), static_cast<int32_t>(model.trainer_unk_id), false);
  }
  if (model.algorithm != SpmAlgorithm::kBpe)
    return Malformed("a model of words or characters cannot be used so").Hint("Use --kind spm.");
  std::vector<std::pair<std::string, int32_t>> entries;
  for (size_t i = 0; i < model.pieces.size(); ++i) entries.emplace_back(model.pieces[i].text, static_cast<int32_t>(i));
  for (int64_t i = extra_ids - 1; i >= 0; --i)
    entries.emplace_back(Str("<extra_id_", i, ">"), static_cast<int32_t>(entries.size()));
  TERN_ASSIGN(Vocabulary vocabulary, Vocabulary::Build(std::move(entries)));
  BpeOptions options;
  options.unk_token = model.unk_piece;
  options.fuse_unk = true;
  return MakeBpe(std::move(vocabulary), MergesOf(model, merges_by_score), options);
}

constexpr const char* kSqueezeSpaces = R"({"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "})";

Result<std::unique_ptr<Tokenizer>> MakeFromSpm(TokenizerFiles files) {
  const std::string* bytes = files.Find("spiece.model");
  if (!bytes) return InternalError("no spiece.model was given");
  TERN_ASSIGN(SpmModel model, SpmModel::Parse(*bytes));
  const Config config = Config::Read(files);
  const bool albert = files.kind == "albert", t5 = files.kind == "t5";
  PipelineParts parts;
  TERN_ASSIGN(parts.model, SpmVocabModel(model, albert, t5 ? config.Integer("extra_ids", 100) : 0, t5));

  std::vector<std::unique_ptr<Normalizer>> normalizers;
  auto add = [&](const std::string& text) -> Status {
    TERN_ASSIGN(auto made, Component(&MakeNormalizer, text));
    normalizers.push_back(std::move(made));
    return {};
  };
  auto add_charsmap = [&]() -> Status {
    if (model.normalizer.charsmap_bytes.empty()) return {};
    TERN_ASSIGN(auto made, MakePrecompiled(model.normalizer.charsmap_bytes));
    normalizers.push_back(std::move(made));
    return {};
  };
  if (albert) {  // 4.35.2
    TERN_RETURN_IF_ERROR(add(R"({"type":"Replace","pattern":{"String":"``"},"content":"\""})"));
    TERN_RETURN_IF_ERROR(add(R"({"type":"Replace","pattern":{"String":"''"},"content":"\""})"));
    if (!config.Flag("keep_accents", false)) {
      TERN_RETURN_IF_ERROR(add(R"({"type":"NFKD"})"));
      TERN_RETURN_IF_ERROR(add(R"({"type":"StripAccents"})"));
    }
    if (config.Flag("do_lower_case", true)) TERN_RETURN_IF_ERROR(add(R"({"type":"Lowercase"})"));
    TERN_RETURN_IF_ERROR(add_charsmap());
    TERN_RETURN_IF_ERROR(add(kSqueezeSpaces));
  } else if (t5) {  // 4.57.1
    TERN_RETURN_IF_ERROR(add_charsmap());
    TERN_RETURN_IF_ERROR(add(R"({"type":"Strip","strip_left":false,"strip_right":true})"));
    TERN_RETURN_IF_ERROR(
        add("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"" + std::string(kSpace) + "\"}"));
  } else {  // reformer, 4.35.2
    TERN_RETURN_IF_ERROR(add_charsmap());
    TERN_RETURN_IF_ERROR(add(kSqueezeSpaces));
  }
  parts.normalizer = MakeNormalizerSequence(std::move(normalizers));

  parts.needs_offsets = t5 && !config.Flag("legacy", true);
  const std::string metaspace = Str("{\"type\":\"Metaspace\",\"replacement\":\"", kSpace, "\",\"prepend_scheme\":\"",
                                    parts.needs_offsets ? "first" : "always", "\"}");
  TERN_ASSIGN(parts.pre_tokenizer, Component(&MakePreTokenizer, metaspace));
  TERN_ASSIGN(parts.decoder, Component(&MakeTextDecoder, metaspace));
  parts.clean_up = config.Flag("clean_up_tokenization_spaces", !t5);

  auto id_of = [&](const std::string& token) { return parts.model->vocabulary().IdOf(token); };
  if (albert) {
    parts.cls = config.Token("cls_token", "[CLS]");
    parts.sep = config.Token("sep_token", "[SEP]");
    parts.bos = config.Token("bos_token", "[CLS]");
    parts.eos = config.Token("eos_token", "[SEP]");
    parts.unk = config.Token("unk_token", "<unk>");
    parts.pad = config.Token("pad_token", "<pad>");
    parts.mask = config.Token("mask_token", "[MASK]");
    for (const std::string* token : {&parts.bos, &parts.eos, &parts.unk, &parts.sep, &parts.pad, &parts.cls})
      AddSpecial(*token, &parts);
    AddSpecial(parts.mask, &parts, true);
    const int32_t cls = id_of("[CLS]"), sep = id_of("[SEP]");
    if (cls < 0 || sep < 0)
      return Malformed("the model lacks [CLS] or [SEP], which ALBERT needs")
          .Hint("Use --kind spm for a plain SentencePiece model.");
    TERN_ASSIGN(parts.post_processor, Component(&MakePostProcessor, TemplateText("[CLS]", cls, "[SEP]", sep, true)));
  } else {
    parts.eos = config.Token("eos_token", "</s>");
    parts.unk = config.Token("unk_token", "<unk>");
    if (t5) parts.pad = config.Token("pad_token", "<pad>");
    if (t5)  // the model's own control and user-defined symbols
      for (const SpmPiece& piece : model.pieces)
        if (piece.type == SpmType::kControl || piece.type == SpmType::kUserDefined) {
          AddSpecial(piece.text, &parts);
          parts.added.back().special = piece.type == SpmType::kControl;
        }
    AddSpecial(parts.eos, &parts);
    AddSpecial(parts.unk, &parts);
    AddSpecial(parts.pad, &parts);
    if (t5) {
      const int32_t eos = id_of("</s>");
      if (eos < 0)
        return Malformed("the model lacks </s>, which T5 needs")
            .Hint("Use --kind spm for a plain SentencePiece model.");
      for (int64_t i = config.Integer("extra_ids", 100) - 1; i >= 0; --i) AddSpecial(Str("<extra_id_", i, ">"), &parts);
      TERN_ASSIGN(parts.post_processor, Component(&MakePostProcessor, TemplateText("", 0, "</s>", eos, false)));
    }
  }
  return MakePipelineTokenizer(std::move(files), std::move(parts));
}

// ---- BERT ----

// Lines as Python reads them: "\n", "\r\n" and "\r" end one.
std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("\r\n"), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(text.substr(end).starts_with("\r\n") ? end + 2 : std::min(end + 1, text.size()));
  }
  return lines;
}

Result<std::unique_ptr<Tokenizer>> MakeBert(TokenizerFiles files) {
  const std::string* bytes = files.Find("vocab.txt");
  if (!bytes) return InternalError("no vocab.txt was given");
  if (bytes->empty()) return Malformed("the vocabulary is empty");
  if (const size_t bad = FirstInvalidUtf8(*bytes); bad < bytes->size())
    return Malformed("the vocabulary is not UTF-8").Where(Str("offset ", bad));
  const Config config = Config::Read(files);
  std::vector<std::pair<std::string, int32_t>> entries;
  for (std::string_view line : Lines(*bytes)) entries.emplace_back(line, static_cast<int32_t>(entries.size()));
  TERN_ASSIGN(Vocabulary vocabulary, Vocabulary::Build(std::move(entries)));

  PipelineParts parts;
  parts.unk = config.Token("unk_token", "[UNK]");
  parts.sep = config.Token("sep_token", "[SEP]");
  parts.pad = config.Token("pad_token", "[PAD]");
  parts.cls = config.Token("cls_token", "[CLS]");
  parts.mask = config.Token("mask_token", "[MASK]");
  const int32_t unk = vocabulary.IdOf(parts.unk);
  auto id_of = [&](const std::string& token) {
    const int32_t id = vocabulary.IdOf(token);
    return id < 0 ? unk : id;
  };
  const int32_t cls = id_of(parts.cls), sep = id_of(parts.sep);
  if (cls < 0 || sep < 0)
    return Malformed(Str("the vocabulary lacks ", Printable(parts.cls, 20), ", ", Printable(parts.sep, 20), " or ",
                         Printable(parts.unk, 20), ", which BERT needs"));
  TERN_ASSIGN(parts.model, MakeWordPiece(std::move(vocabulary), parts.unk, "##", 100));
  const bool lower = config.Flag("do_lower_case", true);
  const std::optional<bool> strip = config.Maybe("strip_accents");
  TERN_ASSIGN(parts.normalizer,
              Component(&MakeNormalizer, Str(R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":)",
                                             config.Flag("tokenize_chinese_chars", true) ? "true" : "false",
                                             ",\"strip_accents\":", strip ? (*strip ? "true" : "false") : "null",
                                             ",\"lowercase\":", lower ? "true" : "false", "}")));
  TERN_ASSIGN(parts.pre_tokenizer, Component(&MakePreTokenizer, R"({"type":"BertPreTokenizer"})"));
  TERN_ASSIGN(parts.post_processor, Component(&MakePostProcessor, TemplateText(parts.cls, cls, parts.sep, sep, true)));
  TERN_ASSIGN(parts.decoder, Component(&MakeTextDecoder, R"({"type":"WordPiece","prefix":"##"})"));
  parts.clean_up = config.Flag("clean_up_tokenization_spaces", true);
  for (const std::string* token : {&parts.unk, &parts.sep, &parts.pad, &parts.cls, &parts.mask})
    AddSpecial(*token, &parts);
  return MakePipelineTokenizer(std::move(files), std::move(parts));
}

// ---- byte-level BPE ----

// merges.txt: the first line is a comment, the last what stands behind the last line break.
Result<std::vector<std::pair<std::string, std::string>>> ReadMerges(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> merges;
  int64_t line_number = 0;
  while (true) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (line_number++ == 0) continue;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos)
      return Malformed("a merge must be two tokens").Where(Str("merges.txt, line ", line_number));
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return merges;
}

Result<std::unique_ptr<Tokenizer>> MakeByteBpe(TokenizerFiles files) {
  const std::string *vocab = files.Find("vocab.json"), *merges_text = files.Find("merges.txt");
  if (!vocab || !merges_text) return InternalError("no vocab.json and merges.txt were given");
  const Config config = Config::Read(files);
  const bool roberta = files.kind == "roberta";
  JsonLimits limits;
  limits.max_items = 16 << 20;
  TERN_ASSIGN(Json json, ParseJson(*vocab, limits));
  TERN_ASSIGN(Vocabulary vocabulary, Vocabulary::FromJson(json));
  TERN_ASSIGN(auto merges, ReadMerges(*merges_text));
  PipelineParts parts;
  TERN_ASSIGN(parts.model, MakeBpe(std::move(vocabulary), merges, BpeOptions()));
  const std::string prefix = config.Flag("add_prefix_space", false) ? "true" : "false";
  TERN_ASSIGN(parts.pre_tokenizer,
              Component(&MakePreTokenizer, R"({"type":"ByteLevel","add_prefix_space":)" + prefix + "}"));
  TERN_ASSIGN(parts.decoder, Component(&MakeTextDecoder, R"({"type":"ByteLevel"})"));
  parts.clean_up = config.Flag("clean_up_tokenization_spaces", true);
  auto id_of = [&](const std::string& token) { return parts.model->vocabulary().IdOf(token); };
  if (roberta) {
    parts.bos = config.Token("bos_token", "<s>");
    parts.eos = config.Token("eos_token", "</s>");
    parts.unk = config.Token("unk_token", "<unk>");
    parts.sep = config.Token("sep_token", "</s>");
    parts.pad = config.Token("pad_token", "<pad>");
    parts.cls = config.Token("cls_token", "<s>");
    parts.mask = config.Token("mask_token", "<mask>");
    const int32_t cls = id_of(parts.cls), sep = id_of(parts.sep);
    if (cls < 0 || sep < 0)
      return Malformed(Str("the vocabulary lacks ", Printable(parts.cls, 20), " or ", Printable(parts.sep, 20),
                           ", which RoBERTa needs"));
    TERN_ASSIGN(
        parts.post_processor,
        Component(&MakePostProcessor, Str("{\"type\":\"RobertaProcessing\",\"sep\":[\"\",", sep, "],\"cls\":[\"\",",
                                          cls, "],\"trim_offsets\":true,\"add_prefix_space\":", prefix, "}")));
    for (const std::string* token : {&parts.bos, &parts.eos, &parts.unk, &parts.sep, &parts.pad, &parts.cls})
      AddSpecial(*token, &parts);
    AddSpecial(parts.mask, &parts, true);
  } else {
    parts.bos = config.Token("bos_token", "<|endoftext|>");
    parts.eos = config.Token("eos_token", "<|endoftext|>");
    parts.unk = config.Token("unk_token", "<|endoftext|>");
    parts.pad = config.Token("pad_token", "");
    for (const std::string* token : {&parts.bos, &parts.eos, &parts.unk, &parts.pad}) AddSpecial(*token, &parts);
  }
  return MakePipelineTokenizer(std::move(files), std::move(parts));
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> MakeConvertedTokenizer(TokenizerFiles files) {
  if (files.kind == "bert") return MakeBert(std::move(files));
  if (files.kind == "gpt2" || files.kind == "roberta") return MakeByteBpe(std::move(files));
  return MakeFromSpm(std::move(files));
}

}  // namespace tern
