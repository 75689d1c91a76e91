#include "engine/base/json.h"

#include <unordered_set>
#include <vector>

#include "engine/base/utf8.h"

namespace tern {
namespace {

// Builds the value and stops (returns false) at the first broken limit.
class BoundedSax : public nlohmann::json_sax<Json> {
 public:
  explicit BoundedSax(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return Add(Json(nullptr)); }
  bool boolean(bool v) override { return Add(Json(v)); }
  bool number_integer(number_integer_t v) override { return Add(Json(v)); }
  bool number_unsigned(number_unsigned_t v) override { return Add(Json(v)); }
  bool number_float(number_float_t v, const string_t&) override { return Add(Json(v)); }
  bool string(string_t& v) override { return Add(Json(std::move(v))); }
  bool binary(binary_t&) override { return Fail("binary values are not JSON"); }
  bool start_object(std::size_t) override { return Open(Json::object()); }
  bool start_array(std::size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& k) override {
    if (!Count()) return false;
    if (!limits_.allow_duplicate_keys && !keys_.back().insert(k).second) return Fail(Str("the key '", Printable(k), "' stands twice"));
    key_ = std::move(k);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    offset_ = position;
    return Fail("not valid JSON");
  }

  Json root;
  std::string error;
  std::size_t offset_ = 0;

 private:
  bool Fail(std::string what) {
    if (error.empty()) error = std::move(what);
    return false;
  }
  bool Count() { return ++items_ <= limits_.max_items || Fail(Str("more than ", limits_.max_items, " values")); }
  Json* Put(Json v) {
    if (stack_.empty()) {
      root = std::move(v);
      return &root;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    // ordered_json searches linearly; our own key set has already refused duplicates, so append directly.
    auto& object = parent.get_ref<Json::object_t&>();
    if (limits_.allow_duplicate_keys) return &(parent[key_] = std::move(v));
    static_cast<std::vector<Json::object_t::value_type>&>(object).emplace_back(key_, std::move(v));
    return &object.back().second;
  }
  bool Add(Json v) { return Count() && Put(std::move(v)) != nullptr; }
  bool Open(Json v) {
    if (!Count()) return false;
    if (static_cast<int>(stack_.size()) >= limits_.max_depth) return Fail(Str("nesting deeper than ", limits_.max_depth));
    stack_.push_back(Put(std::move(v)));
    keys_.emplace_back();
    return true;
  }
  bool Close() {
    stack_.pop_back();
    keys_.pop_back();
    return true;
  }

  const JsonLimits& limits_;
  std::vector<Json*> stack_;  // a child is appended only to the innermost, so these pointers stay valid
  std::vector<std::unordered_set<std::string>> keys_;
  std::string key_;
  uint64_t items_ = 0;
};

}  // namespace

Result<Json> ParseJson(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    return Malformed("the JSON text is too long").Got(Str(text.size(), " bytes"), Str("at most ", limits.max_bytes));
  BoundedSax sax(limits);
  bool ok = Json::sax_parse(text.begin(), text.end(), &sax);
  if (!ok) {
    Status s = Malformed(sax.error.empty() ? "not valid JSON" : sax.error);
    return sax.offset_ ? std::move(s).Where(Str("offset ", sax.offset_)) : s;
  }
  return std::move(sax.root);
}

std::string DumpJson(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tern
