// One JSON record, read without building it: the places of a few fields, and whether the whole is well formed (RFC 8259). Speed is that of the disk;
// nothing is allocated; hostile depth is refused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tern::corpus {

// The keys that lead to a field: "meta.body.text" -> meta, body, text.
using FieldPath = std::vector<std::string>;
FieldPath SplitFieldPath(std::string_view dotted);

enum class JsonKind : uint8_t { kMissing, kString, kNumber, kOther };

struct JsonField {
  JsonKind kind = JsonKind::kMissing;
  bool escaped = false;      // a string with a backslash
  std::string_view literal;  // as it stands, a string with its quotes
};

inline constexpr int kMaxJsonFields = 3;
inline constexpr int kMaxJsonDepth = 256;

// Reads the object in `line` and fills fields[i] for paths[i] (at most kMaxJsonFields; of a key that stands twice the last counts, as in Python). Gives
// null, or why it is not a record: a constant. UTF-8 is checked by the caller.
const char* ReadJsonRecord(std::string_view line, const FieldPath* paths, int count, JsonField* fields);

// Appends the text of a string literal (with its quotes) that ReadJsonRecord accepted. False for a lone surrogate.
bool AppendUnescaped(std::string_view literal, std::string* out);

}  // namespace tern::corpus
