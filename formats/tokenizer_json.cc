// Kind "json": a tokenizer.json of the tokenizers library.
#include "engine/base/file.h"
#include "formats/tokenizer_config.h"
#include "formats/tokenizer_pipeline.h"

namespace tern {
namespace {

Result<std::vector<AddedToken>> ReadAdded(const Json& config) {
  std::vector<AddedToken> out;
  auto list = config.find("added_tokens");
  if (list == config.end() || list->is_null()) return out;
  if (!list->is_array()) return Malformed("'added_tokens' must be a list");
  for (const Json& entry : *list) {
    if (!entry.is_object()) return Malformed("an added token must be an object").Where("added_tokens");
    AddedToken token;
    TERN_ASSIGN(token.content, ConfigString(entry, "content"));
    TERN_ASSIGN(token.special, ConfigBool(entry, "special", false));
    TERN_ASSIGN(token.single_word, ConfigBool(entry, "single_word", false));
    TERN_ASSIGN(token.lstrip, ConfigBool(entry, "lstrip", false));
    TERN_ASSIGN(token.rstrip, ConfigBool(entry, "rstrip", false));
    TERN_ASSIGN(token.normalized, ConfigBool(entry, "normalized", !token.special));
    out.push_back(std::move(token));
  }
  return out;
}

bool IsFirstScheme(const Json& config) {
  if (config.is_object()) {
    if (config.value("type", Json()) == "Metaspace" && config.value("prepend_scheme", Json()) == "first") return true;
    for (const auto& [key, value] : config.items())
      if (IsFirstScheme(value)) return true;
  }
  if (config.is_array())
    for (const Json& value : config)
      if (IsFirstScheme(value)) return true;
  return false;
}

Status ReadTruncation(const Json& config, PipelineParts* parts) {
  auto it = config.find("truncation");
  if (it == config.end() || it->is_null()) return {};
  if (!it->is_object()) return Malformed("'truncation' must be an object");
  TERN_ASSIGN(parts->max_length, ConfigInteger(*it, "max_length", 512, 0, INT32_MAX));
  TERN_ASSIGN(std::string strategy, ConfigString(*it, "strategy", "LongestFirst"));
  TERN_ASSIGN(std::string direction, ConfigString(*it, "direction", "Right"));
  parts->truncation = strategy == "OnlyFirst"    ? Truncation::kOnlyFirst
                      : strategy == "OnlySecond" ? Truncation::kOnlySecond
                                                 : Truncation::kLongestFirst;
  parts->truncate_left = direction == "Left";
  return {};
}

Status ReadPadding(const Json& config, PipelineParts* parts) {
  auto it = config.find("padding");
  if (it == config.end() || it->is_null()) return {};
  if (!it->is_object()) return Malformed("'padding' must be an object");
  constexpr int64_t kMost = 1 << 24;
  PipelineParts::Padding padding;
  if (auto strategy = it->find("strategy"); strategy != it->end() && strategy->is_object()) {
    TERN_ASSIGN(padding.length, ConfigInteger(*strategy, "Fixed", 0, 0, kMost));
  }
  TERN_ASSIGN(padding.multiple, ConfigInteger(*it, "pad_to_multiple_of", 0, 0, kMost));
  TERN_ASSIGN(int64_t id, ConfigInteger(*it, "pad_id", 0, 0, INT32_MAX));
  TERN_ASSIGN(int64_t type_id, ConfigInteger(*it, "pad_type_id", 0, 0, INT32_MAX));
  TERN_ASSIGN(std::string direction, ConfigString(*it, "direction", "Right"));
  padding.id = static_cast<int32_t>(id);
  padding.type_id = static_cast<int32_t>(type_id);
  padding.left = direction == "Left";
  parts->padding = padding;
  return {};
}

// A special token of tokenizer_config.json: a string, or an object with "content".
std::string SpecialName(const Json& config, const char* key) {
  auto it = config.find(key);
  if (it == config.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  if (it->is_object() && it->contains("content") && (*it)["content"].is_string())
    return (*it)["content"].get<std::string>();
  return "";
}

// The names in tokenizer_config.json and special_tokens_map.json, else what everybody calls them.
void FindSpecialNames(const TokenizerFiles& files, const std::vector<AddedToken>& added, PipelineParts* parts) {
  const std::pair<const char*, std::string*> keys[] = {
      {"bos_token", &parts->bos}, {"eos_token", &parts->eos}, {"unk_token", &parts->unk},  {"pad_token", &parts->pad},
      {"cls_token", &parts->cls}, {"sep_token", &parts->sep}, {"mask_token", &parts->mask}};
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const std::string* bytes = files.Find(file);
    if (!bytes) continue;
    auto config = ParseJson(*bytes);
    if (!config.ok() || !config->is_object()) continue;
    for (auto [key, name] : keys)
      if (name->empty()) *name = SpecialName(*config, key);
    if (config->contains("clean_up_tokenization_spaces") && (*config)["clean_up_tokenization_spaces"].is_boolean())
      parts->clean_up = (*config)["clean_up_tokenization_spaces"].get<bool>();
  }
  auto known = [&](std::string* name, std::initializer_list<const char*> usual) {
    for (const char* candidate : usual) {
      if (!name->empty()) return;
      for (const AddedToken& token : added)
        if (token.special && token.content == candidate) *name = candidate;
    }
  };
  known(&parts->bos, {"<s>", "<|begin_of_text|>", "<|endoftext|>", "<bos>"});
  known(&parts->eos, {"</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>"});
  known(&parts->unk, {"<unk>", "[UNK]"});
  known(&parts->pad, {"<pad>", "[PAD]"});
  known(&parts->cls, {"[CLS]", "<s>"});
  known(&parts->sep, {"[SEP]", "</s>"});
  known(&parts->mask, {"[MASK]", "<mask>"});
}

Result<PipelineParts> ReadParts(const Json& config) {
  if (!config.is_object()) return Malformed("the file must hold an object");
  auto model = config.find("model");
  if (model == config.end())
    return Malformed("the file has no 'model'").Hint("Is this a tokenizer.json of the tokenizers library?");
  PipelineParts parts;
  TERN_ASSIGN(parts.model, MakeVocabModel(*model));
  auto component = [&](const char* key) -> const Json* {
    auto it = config.find(key);
    return it == config.end() || it->is_null() ? nullptr : &*it;
  };
  if (const Json* c = component("normalizer")) {
    TERN_ASSIGN(parts.normalizer, MakeNormalizer(*c));
  }
  if (const Json* c = component("pre_tokenizer")) {
    TERN_ASSIGN(parts.pre_tokenizer, MakePreTokenizer(*c));
    parts.needs_offsets = IsFirstScheme(*c);
  }
  if (const Json* c = component("post_processor")) {
    TERN_ASSIGN(parts.post_processor, MakePostProcessor(*c));
  }
  if (const Json* c = component("decoder")) {
    TERN_ASSIGN(parts.decoder, MakeTextDecoder(*c));
  }
  TERN_RETURN_IF_ERROR(ReadTruncation(config, &parts));
  TERN_RETURN_IF_ERROR(ReadPadding(config, &parts));
  TERN_ASSIGN(parts.added, ReadAdded(config));
  return parts;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> MakeJsonTokenizer(TokenizerFiles files) {
  const std::string* bytes = files.Find("tokenizer.json");
  if (!bytes) return InternalError("no tokenizer.json was given");
  JsonLimits limits;
  limits.max_bytes = TokenizerFiles::kMaxFileBytes;
  limits.max_items = 64 << 20;
  TERN_ASSIGN(Json config, ParseJson(*bytes, limits));
  TERN_ASSIGN(PipelineParts parts, ReadParts(config));
  FindSpecialNames(files, parts.added, &parts);
  return MakePipelineTokenizer(std::move(files), std::move(parts));
}

}  // namespace tern
