// JSON from untrusted files: nlohmann's SAX reader behind limits on size, depth, items and duplicate keys. Writing uses nlohmann directly.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "engine/base/status.h"

namespace tern {

using Json = nlohmann::ordered_json;  // keeps the order of keys: what we write is reproducible

struct JsonLimits {
  uint64_t max_bytes = 64 << 20;
  int max_depth = 32;
  uint64_t max_items = 8 << 20;  // values and keys together
  bool allow_duplicate_keys = false;
};

// kMalformed with the byte offset for anything that is not exactly one JSON value within the limits. Strings are valid UTF-8 afterwards.
Result<Json> ParseJson(std::string_view text, const JsonLimits& limits = {});

// One line; invalid UTF-8 in strings is replaced rather than thrown at.
std::string DumpJson(const Json& json, int indent = -1);

}  // namespace tern
