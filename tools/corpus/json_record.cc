#include "tools/corpus/json_record.h"

#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "engine/base/utf8.h"

namespace tern::corpus {
namespace {

constexpr const char kNotJson[] = "not JSON";

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }
inline bool IsHex(char c) { return IsDigit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }

// The first quote, backslash or control character at or behind p; `end` if there is none.
inline const char* StringStop(const char* p, const char* end) {
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
  while (end - p >= 16) {
    __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    __m128i stop = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(c, quote), _mm_cmpeq_epi8(c, slash)), _mm_cmpeq_epi8(_mm_min_epu8(c, control), c));
    if (int mask = _mm_movemask_epi8(stop)) return p + __builtin_ctz(static_cast<unsigned>(mask));
    p += 16;
  }
#endif
  while (p < end && *p != '"' && *p != '\\' && static_cast<unsigned char>(*p) >= 0x20) ++p;
  return p;
}

class Scanner {
 public:
  Scanner(std::string_view line, const FieldPath* paths, int count, JsonField* fields)
      : p_(line.data()), end_(line.data() + line.size()), paths_(paths), count_(count), fields_(fields) {}

  const char* Record() {
    SkipSpace();
    if (p_ == end_ || *p_ != '{') {
      return Value(0, 0, nullptr) && AtEnd() ? "not a JSON object" : kNotJson;
    }
    return Value((1u << count_) - 1, 0, nullptr) && AtEnd() ? nullptr : kNotJson;
  }

 private:
  void SkipSpace() {
    while (p_ < end_ && (*p_ == ' ' || *p_ == '\t' || *p_ == '\n' || *p_ == '\r')) ++p_;
  }
  bool AtEnd() {
    SkipSpace();
    return p_ == end_;
  }

  // At a quote: moves behind the closing one.
  bool String(bool* escaped) {
    *escaped = false;
    for (++p_;;) {
      p_ = StringStop(p_, end_);
      if (p_ == end_) return false;
      if (*p_ == '"') {
        ++p_;
        return true;
      }
      if (*p_ != '\\' || end_ - p_ < 2) return false;
      *escaped = true;
      switch (p_[1]) {
        case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't': p_ += 2; break;
        case 'u':
          if (end_ - p_ < 6 || !IsHex(p_[2]) || !IsHex(p_[3]) || !IsHex(p_[4]) || !IsHex(p_[5])) return false;
          p_ += 6;
          break;
        default: return false;
      }
    }
  }

  bool Number() {
    if (p_ < end_ && *p_ == '-') ++p_;
    if (p_ == end_ || !IsDigit(*p_)) return false;
    if (*p_ == '0') ++p_;
    else while (p_ < end_ && IsDigit(*p_)) ++p_;
    if (p_ < end_ && *p_ == '.') {
      if (++p_ == end_ || !IsDigit(*p_)) return false;
      while (p_ < end_ && IsDigit(*p_)) ++p_;
    }
    if (p_ < end_ && (*p_ | 0x20) == 'e') {
      if (++p_ < end_ && (*p_ == '+' || *p_ == '-')) ++p_;
      if (p_ == end_ || !IsDigit(*p_)) return false;
      while (p_ < end_ && IsDigit(*p_)) ++p_;
    }
    return true;
  }

  bool Word(std::string_view word) {
    if (static_cast<size_t>(end_ - p_) < word.size() || std::memcmp(p_, word.data(), word.size()) != 0) return false;
    p_ += word.size();
    return true;
  }

  // `wanted`: the paths whose first `depth` keys led here. `field`: where the value itself is wanted.
  bool Value(uint32_t wanted, int depth, JsonField* field) {
    if (depth > kMaxJsonDepth || p_ == end_) return false;
    const char* begin = p_;
    JsonKind kind = JsonKind::kOther;
    bool escaped = false, good;
    switch (*p_) {
      case '{': good = Object(wanted, depth); break;
      case '[': good = Array(depth); break;
      case '"': good = String(&escaped), kind = JsonKind::kString; break;
      case 't': good = Word("true"); break;
      case 'f': good = Word("false"); break;
      case 'n': good = Word("null"); break;
      default: good = Number(), kind = JsonKind::kNumber; break;
    }
    if (field) *field = {kind, escaped, std::string_view(begin, static_cast<size_t>(p_ - begin))};
    return good;
  }

  bool Array(int depth) {
    ++p_;
    SkipSpace();
    if (p_ < end_ && *p_ == ']') return ++p_, true;
    for (;;) {
      SkipSpace();
      if (!Value(0, depth + 1, nullptr)) return false;
      SkipSpace();
      if (p_ == end_) return false;
      if (*p_ == ']') return ++p_, true;
      if (*p_++ != ',') return false;
    }
  }

  bool Object(uint32_t wanted, int depth) {
    ++p_;
    SkipSpace();
    if (p_ < end_ && *p_ == '}') return ++p_, true;
    for (;;) {
      SkipSpace();
      if (p_ == end_ || *p_ != '"') return false;
      const char* key = p_;
      bool escaped;
      if (!String(&escaped)) return false;
      std::string_view literal(key, static_cast<size_t>(p_ - key));
      SkipSpace();
      if (p_ == end_ || *p_++ != ':') return false;
      SkipSpace();
      Routes routes;
      if (wanted) routes = Follow(literal, escaped, wanted, static_cast<size_t>(depth));
      JsonField value;
      if (!Value(routes.deeper, depth + 1, routes.here ? &value : nullptr)) return false;
      for (int i = 0; routes.here >> i; ++i)
        if (routes.here >> i & 1) fields_[i] = value;
      SkipSpace();
      if (p_ == end_) return false;
      if (*p_ == '}') return ++p_, true;
      if (*p_++ != ',') return false;
    }
  }

  struct Routes {
    uint32_t deeper = 0, here = 0;  // paths that go on below this key, paths that end at it
  };
  // What the wanted paths make of this key. A path that comes through here again starts anew: the last of two equal keys counts.
  Routes Follow(std::string_view literal, bool escaped, uint32_t wanted, size_t depth) {
    std::string_view key = literal.substr(1, literal.size() - 2);
    std::string plain;
    if (escaped) {
      AppendUnescaped(literal, &plain);
      key = plain;
    }
    Routes routes;
    for (int i = 0; wanted >> i; ++i) {
      if (!(wanted >> i & 1) || paths_[i][depth] != key) continue;
      fields_[i] = {};
      (depth + 1 == paths_[i].size() ? routes.here : routes.deeper) |= 1u << i;
    }
    return routes;
  }

  const char* p_;
  const char* end_;
  const FieldPath* paths_;
  int count_;
  JsonField* fields_;
};

int HexDigit(char c) { return IsDigit(c) ? c - '0' : (c | 0x20) - 'a' + 10; }
uint32_t Hex4(const char* p) {
  uint32_t v = 0;
  for (int i = 0; i < 4; ++i) v = v << 4 | static_cast<uint32_t>(HexDigit(p[i]));
  return v;
}

}  // namespace

FieldPath SplitFieldPath(std::string_view dotted) {
  FieldPath path;
  for (;;) {
    size_t dot = dotted.find('.');
    path.emplace_back(dotted.substr(0, dot));
    if (dot == std::string_view::npos) return path;
    dotted.remove_prefix(dot + 1);
  }
}

const char* ReadJsonRecord(std::string_view line, const FieldPath* paths, int count, JsonField* fields) {
  for (int i = 0; i < count; ++i) fields[i] = {};
  return Scanner(line, paths, count, fields).Record();
}

bool AppendUnescaped(std::string_view literal, std::string* out) {
  const char* p = literal.data() + 1;
  const char* end = literal.data() + literal.size() - 1;
  while (p < end) {
    const void* found = std::memchr(p, '\\', static_cast<size_t>(end - p));
    const char* slash = found ? static_cast<const char*>(found) : end;
    out->append(p, static_cast<size_t>(slash - p));
    if (slash == end) break;
    p = slash + 2;
    switch (slash[1]) {
      case 'b': *out += '\b'; break;
      case 'f': *out += '\f'; break;
      case 'n': *out += '\n'; break;
      case 'r': *out += '\r'; break;
      case 't': *out += '\t'; break;
      case 'u': {
        uint32_t c = Hex4(p);
        p += 4;
        if (c >= 0xdc00 && c <= 0xdfff) return false;
        if (c >= 0xd800 && c <= 0xdbff) {
          if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return false;
          uint32_t low = Hex4(p + 2);
          if (low < 0xdc00 || low > 0xdfff) return false;
          c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
          p += 6;
        }
        AppendUtf8(c, out);
        break;
      }
      default: *out += slash[1]; break;
    }
  }
  return true;
}

}  // namespace tern::corpus
