// ConfigReader: fields of a config with their ranges, read from untrusted JSON. The first mistake is kept; every field has a default or is required.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
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

}  // namespace tern
