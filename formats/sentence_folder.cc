#include "formats/sentence_folder.h"

#include "engine/base/file.h"

namespace tern {
namespace {

Result<Json> ReadJson(const std::string& path) {
  TERN_ASSIGN(std::string text, ReadFile(path, 1 << 20));
  auto json = ParseJson(text);
  if (!json.ok()) return Status(json.status()).File(path);
  return std::move(json).value();
}

bool Is(const Json& j, const char* key) { return j.is_object() && j.contains(key) && j[key].is_boolean() && j[key].get<bool>(); }

Status ReadPooling(const std::string& path, Json* config) {
  TERN_ASSIGN(Json pooling, ReadJson(path));
  const bool mean = Is(pooling, "pooling_mode_mean_tokens"), cls = Is(pooling, "pooling_mode_cls_token");
  bool other = false;
  for (const char* mode : {"pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"})
    other = other || Is(pooling, mode);
  if (mean == cls || other) return Malformed("this pooling is not supported").File(path).Hint("Mean and cls pooling are");
  (*config)["sentence_pooling"] = mean ? "mean" : "cls";
  return {};
}

}  // namespace

Status AddSentenceSettings(const std::string& folder, Json* config) {
  const std::string modules_path = folder + "/modules.json";
  if (folder.empty() || !config->is_object() || !IsRegularFile(modules_path)) return {};
  TERN_ASSIGN(Json modules, ReadJson(modules_path));
  if (!modules.is_array() || modules.size() > 16) return Malformed("is no list of modules").File(modules_path);
  bool normalize = false;
  for (const Json& m : modules) {
    if (!m.is_object() || !m.contains("type") || !m["type"].is_string()) return Malformed("is no list of modules").File(modules_path);
    const std::string type = m["type"].get<std::string>(), name = type.substr(type.rfind('.') + 1);
    if (name == "Normalize") normalize = true;
    else if (name == "Pooling") {
      // The one folder name that is read from the file: a plain name below this folder.
      std::string path = m.contains("path") && m["path"].is_string() ? m["path"].get<std::string>() : "";
      if (path.empty() || path.find('/') != std::string::npos || path[0] == '.') return Malformed("the pooling module's path must be a plain name").File(modules_path);
      TERN_RETURN_IF_ERROR(ReadPooling(folder + "/" + path + "/config.json", config));
    } else if (name != "Transformer") {
      return Malformed(Str("a module of this kind is not supported: ", Printable(type, 80))).File(modules_path);
    }
  }
  (*config)["sentence_normalize"] = normalize;
  const std::string length_path = folder + "/sentence_bert_config.json";
  if (IsRegularFile(length_path)) {
    TERN_ASSIGN(Json length, ReadJson(length_path));
    if (length.is_object() && length.contains("max_seq_length") && length["max_seq_length"].is_number_integer()) (*config)["max_length"] = length["max_seq_length"];
  }
  return {};
}

}  // namespace tern
