// ConfigReader: fields of a config with their ranges, read from untrusted JSON. The first mistake is kept; every field has a default or is required.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"

namespace tern {

class ConfigReader {
 public:
  explicit ConfigReader(const Json& json) : json_(json) {}

  // The first of `names` that is there and not null. `low` <= value <= `high`, else an error naming the field and the range.
  int64_t Int(std::initializer_list<const char*> names, int64_t low, int64_t high, std::optional<int64_t> otherwise = {});
  double Float(std::initializer_list<const char*> names, double low, double high, std::optional<double> otherwise = {});
  bool Bool(std::initializer_list<const char*> names, std::optional<bool> otherwise = {});
  std::string Text(std::initializer_list<const char*> names, std::optional<std::string> otherwise = {});
  // An array of integers, ascending or not, each within the range, at most `most` of them. Absent: empty.
  std::vector<int64_t> Ints(std::initializer_list<const char*> names, int64_t low, int64_t high, size_t most);
  std::vector<bool> Bools(std::initializer_list<const char*> names, size_t most);
  bool Has(const char* name) const { return json_.is_object() && json_.contains(name) && !json_[name].is_null(); }

  void Fail(std::string_view field, std::string what);
  const Status& status() const { return status_; }

 private:
  const Json* Find(std::initializer_list<const char*> names, bool required);
  const Json& json_;
  Status status_;
};

// "640" as an integer within a range, for --set KEY=VALUE.
Result<int64_t> SettingInt(std::string_view key, std::string_view value, int64_t low, int64_t high);
Result<bool> SettingBool(std::string_view key, std::string_view value);

// Enumerations by the names a config has for them.
template <class E, size_t N>
std::string_view NameOf(const std::pair<E, std::string_view> (&list)[N], E value) {
  for (const auto& [v, name] : list)
    if (v == value) return name;
  return "?";
}
template <class E, size_t N>
std::string Names(const std::pair<E, std::string_view> (&list)[N]) {
  std::string all;
  for (const auto& [v, name] : list) all += (all.empty() ? "" : ", ") + std::string(name);
  return all;
}
template <class E, size_t N>
Result<E> ValueOf(const std::pair<E, std::string_view> (&list)[N], std::string_view name, std::string_view field) {
  for (const auto& [v, n] : list)
    if (n == name) return v;
  return Malformed("is not known").Where(Str("config field '", field, "'")).Got(Str("'", Printable(name, 64), "'"), Str("one of ", Names(list)));
}

// The names in id2label, in the order of their numbers; empty if they are not all there.
std::vector<std::string> LabelsOf(const Json& config);

}  // namespace tern
