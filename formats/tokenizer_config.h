// Fields of a component's JSON: with the type checked and the place named.
#pragma once

#include <string>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "engine/base/utf8.h"

namespace tern {

inline Result<std::string> ConfigString(const Json& config, const char* key) {
  auto it = config.find(key);
  if (it == config.end() || !it->is_string()) return Malformed(Str("'", key, "' must be a string"));
  return it->get<std::string>();
}
// A missing or null field gives the fallback.
inline Result<std::string> ConfigString(const Json& config, const char* key, std::string fallback) {
  auto it = config.find(key);
  if (it == config.end() || it->is_null()) return fallback;
  return ConfigString(config, key);
}
inline Result<bool> ConfigBool(const Json& config, const char* key, bool fallback) {
  auto it = config.find(key);
  if (it == config.end() || it->is_null()) return fallback;
  if (!it->is_boolean()) return Malformed(Str("'", key, "' must be true or false"));
  return it->get<bool>();
}
inline Result<int64_t> ConfigInteger(const Json& config, const char* key, int64_t fallback, int64_t least,
                                     int64_t most) {
  auto it = config.find(key);
  if (it == config.end() || it->is_null()) return fallback;
  if (!it->is_number_integer()) return Malformed(Str("'", key, "' must be an integer"));
  if (it->is_number_unsigned() && it->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    return Malformed(Str("'", key, "' is too large"));
  const int64_t value = it->get<int64_t>();
  if (value < least || value > most)
    return Malformed(Str("'", key, "' is out of range")).Got(value, Str(least, " to ", most));
  return value;
}
// A string of exactly one character.
inline Result<std::string> ConfigCharacter(const Json& config, const char* key) {
  TERN_ASSIGN(std::string text, ConfigString(config, key));
  if (text.empty() || DecodeUtf8(text, 0).bytes != text.size())
    return Malformed(Str("'", key, "' must be one character"));
  return text;
}
inline Result<std::string> ConfigType(const Json& config) {
  if (!config.is_object()) return Malformed("a component must be an object");
  return ConfigString(config, "type");
}
inline Result<const Json*> ConfigArray(const Json& config, const char* key) {
  auto it = config.find(key);
  if (it == config.end() || !it->is_array()) return Malformed(Str("'", key, "' must be a list"));
  return &*it;
}

}  // namespace tern
