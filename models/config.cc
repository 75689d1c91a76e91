#include "models/config.h"

#include <charconv>
#include <cmath>

namespace tern {

void ConfigReader::Fail(std::string_view field, std::string what) {
  if (status_.ok()) status_ = Malformed(std::move(what)).Where(Str("config field '", field, "'"));
}

const Json* ConfigReader::Find(std::initializer_list<const char*> names, bool required) {
  for (const char* name : names)
    if (Has(name)) return &json_[name];
  if (required) Fail(*names.begin(), "is missing");
  return nullptr;
}

int64_t ConfigReader::Int(std::initializer_list<const char*> names, int64_t low, int64_t high, std::optional<int64_t> otherwise) {
  const Json* v = Find(names, !otherwise);
  int64_t fallback = otherwise.value_or(low);
  if (!v) return fallback;
  // A float that is a whole number is what some writers make of an integer.
  bool whole = v->is_number_integer() || (v->is_number_float() && std::floor(v->get<double>()) == v->get<double>() && std::abs(v->get<double>()) < 1e15);
  bool huge = v->is_number_unsigned() && v->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  int64_t value = whole && !huge ? (v->is_number_float() ? static_cast<int64_t>(v->get<double>()) : v->get<int64_t>()) : 0;
  if (!whole || huge || value < low || value > high) {
    if (status_.ok())
      status_ = Malformed("is out of range").Where(Str("config field '", *names.begin(), "'")).Got(Printable(DumpJson(*v), 64), Str("a whole number from ", low, " to ", high));
    return fallback;
  }
  return value;
}

double ConfigReader::Float(std::initializer_list<const char*> names, double low, double high, std::optional<double> otherwise) {
  const Json* v = Find(names, !otherwise);
  double fallback = otherwise.value_or(low);
  if (!v) return fallback;
  if (!v->is_number() || !(v->get<double>() >= low && v->get<double>() <= high)) {
    if (status_.ok())
      status_ = Malformed("is out of range").Where(Str("config field '", *names.begin(), "'")).Got(Printable(DumpJson(*v), 64), Str("a number from ", low, " to ", high));
    return fallback;
  }
  return v->get<double>();
}

bool ConfigReader::Bool(std::initializer_list<const char*> names, std::optional<bool> otherwise) {
  const Json* v = Find(names, !otherwise);
  if (!v) return otherwise.value_or(false);
  if (!v->is_boolean()) {
    Fail(*names.begin(), "is neither true nor false");
    return otherwise.value_or(false);
  }
  return v->get<bool>();
}

std::string ConfigReader::Text(std::initializer_list<const char*> names, std::optional<std::string> otherwise) {
  const Json* v = Find(names, !otherwise);
  if (!v) return otherwise.value_or("");
  if (!v->is_string()) {
    Fail(*names.begin(), "is no text");
    return otherwise.value_or("");
  }
  return v->get<std::string>();
}

std::vector<int64_t> ConfigReader::Ints(std::initializer_list<const char*> names, int64_t low, int64_t high, size_t most) {
  std::vector<int64_t> out;
  const Json* v = Find(names, false);
  if (!v) return out;
  if (!v->is_array() || v->size() > most) {
    Fail(*names.begin(), Str("must be a list of at most ", most, " numbers"));
    return out;
  }
  for (const Json& item : *v) {
    bool good = item.is_number_integer() && !(item.is_number_unsigned() && item.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
    if (!good || item.get<int64_t>() < low || item.get<int64_t>() > high) {
      Fail(*names.begin(), Str("holds ", Printable(DumpJson(item), 64), ", expected whole numbers from ", low, " to ", high));
      return out;
    }
    out.push_back(item.get<int64_t>());
  }
  return out;
}

std::vector<bool> ConfigReader::Bools(std::initializer_list<const char*> names, size_t most) {
  std::vector<bool> out;
  const Json* v = Find(names, false);
  if (!v) return out;
  if (!v->is_array() || v->size() > most) {
    Fail(*names.begin(), Str("must be a list of at most ", most, " of true and false"));
    return out;
  }
  for (const Json& item : *v) {
    if (!item.is_boolean()) {
      Fail(*names.begin(), "must hold only true and false");
      return out;
    }
    out.push_back(item.get<bool>());
  }
  return out;
}

Result<int64_t> SettingInt(std::string_view key, std::string_view value, int64_t low, int64_t high) {
  int64_t v = 0;
  auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), v);
  if (error != std::errc() || end != value.data() + value.size() || v < low || v > high)
    return UsageError(Str("--set ", key, " is out of range")).Got(Str("'", Printable(value, 64), "'"), Str("a whole number from ", low, " to ", high));
  return v;
}

Result<bool> SettingBool(std::string_view key, std::string_view value) {
  if (value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  return UsageError(Str("--set ", key, " is neither true nor false")).Got(Str("'", Printable(value, 64), "'"), "true or false");
}

std::vector<std::string> LabelsOf(const Json& j) {
  std::vector<std::string> labels;
  if (!j.contains("id2label") || !j["id2label"].is_object() || j["id2label"].size() > 65536) return labels;
  for (size_t i = 0; i < j["id2label"].size(); ++i) {
    const std::string key = std::to_string(i);
    if (!j["id2label"].contains(key) || !j["id2label"][key].is_string()) return {};
    labels.push_back(j["id2label"][key].get<std::string>());
  }
  return labels;
}

}  // namespace tern
