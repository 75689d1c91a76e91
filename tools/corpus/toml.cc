#include "tools/corpus/toml.h"

#include <string>

#ifdef TERN_TOML
#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#define TOML_MAX_NESTED_VALUES 64
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>
#endif

namespace tern::corpus {

#ifdef TERN_TOML
namespace {

// False, with *where, for a value that JSON has not.
bool ToJson(const toml::node& node, Json* out, const toml::node** where) {
  if (const toml::table* table = node.as_table()) {
    *out = Json::object();
    for (const auto& [key, value] : *table)
      if (!ToJson(value, &(*out)[std::string(key.str())], where)) return false;
  } else if (const toml::array* array = node.as_array()) {
    *out = Json::array();
    for (const toml::node& value : *array)
      if (!ToJson(value, &out->emplace_back(), where)) return false;
  } else if (const auto* text = node.as_string()) {
    *out = text->get();
  } else if (const auto* integer = node.as_integer()) {
    *out = integer->get();
  } else if (const auto* real = node.as_floating_point()) {
    *out = real->get();
  } else if (const auto* flag = node.as_boolean()) {
    *out = flag->get();
  } else {
    *where = &node;
    return false;
  }
  return true;
}

}  // namespace

Result<Json> ParseToml(std::string_view text) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return Malformed(Str("this is no TOML: ", Printable(error.description()))).Where(Str("line ", error.source().begin.line));
  }
  Json json;
  const toml::node* where = nullptr;
  if (!ToJson(parsed.table(), &json, &where)) return Malformed("dates and times have no meaning here").Where(Str("line ", where->source().begin.line));
  return json;
}
#else
Result<Json> ParseToml(std::string_view) {
  return Malformed("this build reads no TOML").Hint("Write the same as JSON, or install libtomlplusplus-dev and build again");
}
#endif

}  // namespace tern::corpus
