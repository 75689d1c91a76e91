#include "formats/tokenizer_regex.h"

#include <algorithm>
#include <bitset>
#include <optional>
#include <string>

#include "engine/base/utf8.h"
#include "formats/tokenizer_classes.h"
#include "formats/tokenizer_unicode.h"

namespace tern {
namespace {

constexpr int kInfinite = INT32_MAX;
constexpr int kMaxRepeat = 1000, kMaxNesting = 24;
constexpr int64_t kStepsPerByte = 256, kFreeSteps = 100000;

bool Belongs(CharClass which, char32_t c) {
  switch (which) {
    case CharClass::kLetter:
      return library::IsLetter(c);
    case CharClass::kNumber:
      return library::IsNumber(c);
    case CharClass::kWord:
      return library::IsWord(c);
    default:
      return InClass(which, c);
  }
}

// A set of characters: ranges and classes, perhaps negated.
struct CharSet {
  std::vector<std::pair<char32_t, char32_t>> ranges;
  std::vector<std::pair<CharClass, bool>> classes;  // class, negated
  std::vector<CharSet> parts;                       // nested sets
  bool negated = false, fold = false;
  std::bitset<128> ascii;  // made by Finish

  bool Slow(char32_t c) const {
    bool in = Plain(c);
    if (!in && fold) {
      const char32_t lower = SimpleLower(c), upper = SimpleUpper(c);
      in = (lower != c && Plain(lower)) || (upper != c && Plain(upper));
    }
    return in != negated;
  }
  bool Plain(char32_t c) const {
    for (auto [first, last] : ranges)
      if (c >= first && c <= last) return true;
    for (auto [which, negate] : classes)
      if (Belongs(which, c) != negate) return true;
    for (const CharSet& part : parts)
      if (part.Slow(c)) return true;
    return false;
  }
  bool Has(char32_t c) const { return c < 128 ? ascii[c] : Slow(c); }
  void Finish() {
    for (char32_t c = 0; c < 128; ++c) ascii[c] = Slow(c);
  }
};

struct Node {
  enum Kind { kChar, kSequence, kAlternatives, kRepeat, kLookAhead, kStart, kEnd } kind = kSequence;
  CharSet set;              // kChar
  std::vector<Node> parts;  // kSequence, kAlternatives; one for kRepeat, kLookAhead
  int least = 0, most = 0;  // kRepeat
  bool lazy = false, possessive = false, negated = false;
};

}  // namespace

struct Regex::Program {
  Node root;
};

Regex::Regex() : program_(std::make_unique<Program>()) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

class RegexParser {
 public:
  explicit RegexParser(std::string_view pattern) : text_(ToCodePoints(pattern)) {}
  Result<Regex> Run() {
    Regex regex;
    TERN_ASSIGN(regex.program_->root, Alternatives(0));
    if (at_ < text_.size()) return Bad("an unmatched ')'");
    return regex;
  }

 private:
  Status Bad(std::string what) const {
    return Malformed("a pattern is not understood: " + what).Where(Str("pattern, character ", at_));
  }
  bool Is(char32_t c) const { return at_ < text_.size() && text_[at_] == c; }
  bool Take(char32_t c) {
    if (!Is(c)) return false;
    ++at_;
    return true;
  }

  Result<Node> Alternatives(int depth) {
    if (depth > kMaxNesting) return Bad("too deeply nested");
    Node out;
    out.kind = Node::kAlternatives;
    do {
      TERN_ASSIGN(Node branch, Sequence(depth));
      out.parts.push_back(std::move(branch));
    } while (Take('|'));
    if (out.parts.size() == 1) {
      Node only = std::move(out.parts[0]);
      return only;
    }
    return out;
  }

  Result<Node> Sequence(int depth) {
    Node out;
    const bool fold = fold_;
    while (at_ < text_.size() && !Is('|') && !Is(')')) {
      TERN_ASSIGN(std::optional<Node> atom, Atom(depth));
      if (!atom) continue;
      TERN_ASSIGN(Node repeated, Repeat(std::move(*atom)));
      out.parts.push_back(std::move(repeated));
    }
    fold_ = fold;
    return out;
  }

  Result<Node> Repeat(Node atom) {
    while (at_ < text_.size()) {
      int least, most;
      if (Take('*')) {
        least = 0, most = kInfinite;
      } else if (Take('+')) {
        least = 1, most = kInfinite;
      } else if (Take('?')) {
        least = 0, most = 1;
      } else if (Is('{') && at_ + 1 < text_.size() &&
                 (text_[at_ + 1] == ',' || (text_[at_ + 1] >= '0' && text_[at_ + 1] <= '9'))) {
        ++at_;
        std::optional<int> first = Number();
        least = first.value_or(0);
        most = least;
        if (Take(',')) most = Number().value_or(kInfinite);
        if (!Take('}') || least > kMaxRepeat || (most != kInfinite && (most > kMaxRepeat || most < least)))
          return Bad("a wrong repetition");
      } else {
        break;
      }
      if (atom.kind == Node::kRepeat && atom.parts[0].kind == Node::kRepeat)
        return Bad("a repetition of a repetition of a repetition");
      Node repeat;
      repeat.kind = Node::kRepeat;
      repeat.least = least;
      repeat.most = most;
      repeat.lazy = Take('?');
      if (!repeat.lazy) repeat.possessive = Take('+');
      repeat.parts.push_back(std::move(atom));
      atom = std::move(repeat);
    }
    return atom;
  }

  std::optional<int> Number() {
    std::optional<int> out;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      out = std::min(out.value_or(0) * 10 + static_cast<int>(text_[at_] - '0'), kMaxRepeat + 1);
      ++at_;
    }
    return out;
  }

  // nullopt: something without a node (a flag).
  Result<std::optional<Node>> Atom(int depth) {
    const char32_t c = text_[at_++];
    Node node;
    if (c == '(') return Group(depth);
    if (c == '^' || c == '$') {
      node.kind = c == '^' ? Node::kStart : Node::kEnd;
      return std::optional<Node>(std::move(node));
    }
    if (c == '*' || c == '+' || c == '?') return Bad("a repetition of nothing");
    node.kind = Node::kChar;
    node.set.fold = fold_;
    if (c == '.') {
      node.set.negated = true;
      node.set.ranges.push_back({'\n', '\n'});
    } else if (c == '[') {
      TERN_ASSIGN(node.set, Set(depth));
    } else if (c == '\\') {
      TERN_RETURN_IF_ERROR(Escape(&node.set));
    } else {
      node.set.ranges.push_back({c, c});
    }
    node.set.Finish();
    return std::optional<Node>(std::move(node));
  }

  Result<std::optional<Node>> Group(int depth) {
    const bool fold = fold_;
    Node node;
    bool look_ahead = false;
    if (Take('?')) {
      if (Is('=') || Is('!')) {
        look_ahead = true;
        node.negated = text_[at_++] == '!';
      } else if (Is('<') || Is('>') || Is('P')) {
        return Bad("look-behind, atomic and named groups are not supported");
      } else {
        bool on = true;
        while (at_ < text_.size() && !Is(':') && !Is(')')) {
          if (Is('-'))
            on = false;
          else if (Is('i'))
            fold_ = on;
          else if (!Is('u') && !Is('m') && !Is('s'))
            return Bad("an unknown flag");
          ++at_;
        }
        if (Take(')')) return std::optional<Node>();  // the rest of the sequence has the flag
        if (!Take(':')) return Bad("an unfinished group");
      }
    }
    TERN_ASSIGN(Node inside, Alternatives(depth + 1));
    if (!Take(')')) return Bad("an unfinished group");
    fold_ = fold;
    if (!look_ahead) return std::optional<Node>(std::move(inside));
    node.kind = Node::kLookAhead;
    node.parts.push_back(std::move(inside));
    return std::optional<Node>(std::move(node));
  }

  Result<CharSet> Set(int depth) {
    if (depth > kMaxNesting) return Bad("too deeply nested");
    CharSet set;
    set.fold = fold_;
    set.negated = Take('^');
    bool first = true;
    while (true) {
      if (at_ >= text_.size()) return Bad("an unfinished set");
      if (!first && Take(']')) return set;
      first = false;
      if (Is('[')) {
        ++at_;
        if (Is(':')) return Bad("named sets are not supported");
        TERN_ASSIGN(CharSet part, Set(depth + 1));
        set.parts.push_back(std::move(part));
        continue;
      }
      if (Is('&') && at_ + 1 < text_.size() && text_[at_ + 1] == '&')
        return Bad("intersections of sets are not supported");
      const size_t ranges = set.ranges.size();
      if (Take('\\')) {
        TERN_RETURN_IF_ERROR(Escape(&set));
      } else {
        set.ranges.push_back({text_[at_], text_[at_]});
        ++at_;
      }
      // a-z; a '-' before ']' stands for itself.
      if (set.ranges.size() > ranges && Is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        if (Take('\\')) {
          CharSet end;
          TERN_RETURN_IF_ERROR(Escape(&end));
          if (end.ranges.size() != 1) return Bad("a wrong range");
          set.ranges.back().second = end.ranges[0].first;
        } else {
          set.ranges.back().second = text_[at_++];
        }
        if (set.ranges.back().second < set.ranges.back().first) return Bad("a range that runs backwards");
      }
    }
  }

  // What stands behind a backslash, added to *set.
  Status Escape(CharSet* set) {
    if (at_ >= text_.size()) return Bad("a backslash at the end");
    const char32_t c = text_[at_++];
    auto add = [&](CharClass which, bool negated) { set->classes.push_back({which, negated}); };
    auto literal = [&](char32_t code) { set->ranges.push_back({code, code}); };
    switch (c) {
      case 's':
        add(CharClass::kSpace, false);
        return {};
      case 'S':
        add(CharClass::kSpace, true);
        return {};
      case 'd':
        add(CharClass::kDecimal, false);
        return {};
      case 'D':
        add(CharClass::kDecimal, true);
        return {};
      case 'w':
        add(CharClass::kWord, false);
        return {};
      case 'W':
        add(CharClass::kWord, true);
        return {};
      case 'n':
        literal('\n');
        return {};
      case 'r':
        literal('\r');
        return {};
      case 't':
        literal('\t');
        return {};
      case 'f':
        literal('\f');
        return {};
      case 'v':
        literal('\v');
        return {};
      case 'x':
      case 'u': {
        const bool braces = Take('{');
        const int digits = braces ? 6 : c == 'x' ? 2 : 4;
        char32_t code = 0;
        int count = 0;
        for (; count < digits && at_ < text_.size(); ++count, ++at_) {
          const char32_t d = text_[at_];
          const int value = d >= '0' && d <= '9'                 ? static_cast<int>(d - '0')
                            : (d | 32) >= 'a' && (d | 32) <= 'f' ? static_cast<int>((d | 32) - 'a') + 10
                                                                 : -1;
          if (value < 0) break;
          code = code * 16 + static_cast<char32_t>(value);
        }
        if (count == 0 || (braces && !Take('}')) || code > 0x10FFFF) return Bad("a wrong character number");
        literal(code);
        return {};
      }
      case 'p':
      case 'P': {
        std::string name;
        bool negated = c == 'P';
        if (Take('{')) {
          if (Take('^')) negated = !negated;
          while (at_ < text_.size() && !Is('}') && name.size() < 32) AppendUtf8(text_[at_++], &name);
          if (!Take('}')) return Bad("an unfinished property");
        } else if (at_ < text_.size()) {
          AppendUtf8(text_[at_++], &name);
        }
        const std::optional<CharClass> which = CharClassOf(name);
        if (!which) return Bad(Str("the property '", Printable(name, 32), "' is not supported"));
        add(*which, negated);
        return {};
      }
      default:
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return Bad("an unknown escape");
        literal(c);
        return {};
    }
  }

  std::u32string text_;
  size_t at_ = 0;
  bool fold_ = false;
};

Result<Regex> Regex::Compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes)
    return Malformed("a pattern is too long").Got(Str(pattern.size(), " bytes"), Str("at most ", kMaxPatternBytes));
  return RegexParser(pattern).Run();
}

// Backtracking with continuations: Match(node, at, next) is true if node matches at `at` and `next` accepts where it
// ends.
class RegexMatcher {
 public:
  explicit RegexMatcher(std::string_view text)
      : text_(text), budget_(kFreeSteps + static_cast<int64_t>(text.size()) * kStepsPerByte) {}
  bool exhausted() const { return budget_ < 0; }

  // The end of the match that begins at `at`, or npos.
  size_t MatchAt(const Node& root, size_t at) {
    size_t end = std::string_view::npos;
    auto accept = [&](size_t position) {
      end = position;
      return true;
    };
    Match(root, at, Continuation(accept));
    return end;
  }

 private:
  // A reference to a callable, without allocation.
  class Continuation {
   public:
    template <class F>
    explicit Continuation(F& f)
        : object_(&f), call_([](void* object, size_t at) { return (*static_cast<F*>(object))(at); }) {}
    bool operator()(size_t at) const { return call_(object_, at); }

   private:
    void* object_;
    bool (*call_)(void*, size_t);
  };

  // The end of the character at `at` if the set has it, else 0.
  size_t One(const CharSet& set, size_t at) {
    if (at >= text_.size()) return 0;
    const uint8_t byte = static_cast<uint8_t>(text_[at]);
    if (byte < 128) return set.ascii[byte] ? at + 1 : 0;
    const Utf8Char c = DecodeUtf8(text_, at);
    return set.Slow(c.code) ? at + c.bytes : 0;
  }
  size_t Back(size_t at) const {
    do --at;
    while (at > 0 && (static_cast<uint8_t>(text_[at]) & 0xC0) == 0x80);
    return at;
  }

  bool Match(const Node& node, size_t at, Continuation next) {
    if (--budget_ < 0 || depth_ > 2000) {
      budget_ = -1;
      return false;
    }
    ++depth_;
    const bool matched = Step(node, at, next);
    --depth_;
    return matched;
  }

  bool Step(const Node& node, size_t at, Continuation next) {
    switch (node.kind) {
      case Node::kChar: {
        const size_t end = One(node.set, at);
        return end > 0 && next(end);
      }
      case Node::kStart:
        return at == 0 && next(at);
      case Node::kEnd:
        return at == text_.size() && next(at);
      case Node::kSequence:
        return Sequence(node, 0, at, next);
      case Node::kAlternatives:
        for (const Node& part : node.parts)
          if (Match(part, at, next)) return true;
        return false;
      case Node::kLookAhead: {
        auto accept = [](size_t) { return true; };
        const bool found = Match(node.parts[0], at, Continuation(accept));
        return found != node.negated && budget_ >= 0 && next(at);
      }
      case Node::kRepeat:
        return node.parts[0].kind == Node::kChar ? RepeatChar(node, at, next) : RepeatGroup(node, 0, at, next);
    }
    return false;
  }

  bool Sequence(const Node& node, size_t part, size_t at, Continuation next) {
    if (part == node.parts.size()) return next(at);
    if (part + 1 == node.parts.size()) return Match(node.parts[part], at, next);
    auto rest = [&](size_t end) { return Sequence(node, part + 1, end, next); };
    return Match(node.parts[part], at, Continuation(rest));
  }

  bool RepeatChar(const Node& node, size_t at, Continuation next) {
    const CharSet& set = node.parts[0].set;
    int count = 0;
    size_t end = at;
    while (count < node.least) {
      const size_t one = One(set, end);
      if (one == 0) return false;
      end = one;
      ++count;
    }
    if (node.lazy) {
      while (true) {
        if (next(end)) return true;
        if (count == node.most || --budget_ < 0) return false;
        const size_t one = One(set, end);
        if (one == 0) return false;
        end = one;
        ++count;
      }
    }
    const size_t least_end = end;
    while (count < node.most) {
      const size_t one = One(set, end);
      if (one == 0) break;
      end = one;
      ++count;
    }
    budget_ -= static_cast<int64_t>(end - at) / 8;
    if (node.possessive) return next(end);
    while (true) {
      if (next(end)) return true;
      if (end == least_end || --budget_ < 0) return false;
      end = Back(end);
    }
  }

  bool RepeatGroup(const Node& node, int count, size_t at, Continuation next) {
    auto again = [&](size_t end) {
      if (end == at && count >= node.least) return false;  // an empty round leads nowhere
      return RepeatGroup(node, count + 1, end, next);
    };
    if (node.possessive) return Possessive(node, at, next);
    if (count < node.least) return Match(node.parts[0], at, Continuation(again));
    if (node.lazy) return next(at) || (count < node.most && Match(node.parts[0], at, Continuation(again)));
    if (count < node.most && Match(node.parts[0], at, Continuation(again))) return true;
    return budget_ >= 0 && next(at);
  }

  bool Possessive(const Node& node, size_t at, Continuation next) {
    int count = 0;
    while (count < node.most) {
      size_t end = std::string_view::npos;
      auto accept = [&](size_t position) {
        end = position;
        return true;
      };
      if (!Match(node.parts[0], at, Continuation(accept)) || end == at) break;
      at = end;
      ++count;
    }
    return count >= node.least && next(at);
  }

  std::string_view text_;
  int64_t budget_;
  int depth_ = 0;
};

Status Regex::FindAll(std::string_view text, std::vector<std::pair<size_t, size_t>>* matches) const {
  RegexMatcher matcher(text);
  size_t at = 0;
  while (at <= text.size()) {
    const size_t end = matcher.MatchAt(program_->root, at);
    if (matcher.exhausted()) return Malformed("a pattern of the tokenizer takes too many steps on this text");
    if (end == std::string_view::npos) {
      if (at == text.size()) break;
      at += DecodeUtf8(text, at).bytes;
      continue;
    }
    // An empty match right behind another match does not count.
    if (end > at || matches->empty() || matches->back().second != at) matches->push_back({at, end});
    at = end > at ? end : at < text.size() ? at + DecodeUtf8(text, at).bytes : at + 1;
  }
  return {};
}

}  // namespace tern
