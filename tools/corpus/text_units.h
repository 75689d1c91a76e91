// TextUnits: what the quality rules count in a text: characters, lines, tokens and their repetitions (specification 12.5).
//
// A token is a run of code points of category L, M or N, or any other code point that is not white space, by itself. (The *words* of words.h are another
// thing: they serve comparison, tokens serve the rules.)
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/corpus/mix_hash.h"

namespace tern::corpus {

// Classes of a code point for the rules, one byte.
inline constexpr uint8_t kTokenChar = 1;    // category L, M, N
inline constexpr uint8_t kAlphabetic = 2;   // category L
inline constexpr uint8_t kBlank = 4;        // white space (12.1)
inline constexpr uint8_t kPunctuation = 8;  // the rules' punctuation set
inline constexpr uint8_t kTerminal = 16;    // the rules' terminal punctuation set
inline constexpr uint8_t kDigit = 32;       // category Nd
inline constexpr uint8_t kLineBreak = 64;   // ends a line: LF VT FF CR 1C-1E 85 2028 2029
inline constexpr uint8_t kLetterOrNumber = 128;  // category L, N

namespace internal {
extern std::atomic<const uint8_t*> rule_pages[0x1100];
const uint8_t* MakeRulePage(uint32_t page);
}  // namespace internal

// REQUIRES: c <= 0x10FFFF. Thread-safe.
inline uint8_t RuleBits(char32_t c) {
  const uint8_t* page = internal::rule_pages[c >> 8].load(std::memory_order_acquire);
  if (page == nullptr) page = internal::MakeRulePage(c >> 8);
  return page[c & 0xff];
}

// The code point at `at`, which moves behind it. REQUIRES: valid UTF-8, *at < text.size().
inline char32_t NextChar(std::string_view text, size_t* at) {
  auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
  size_t i = *at;
  char32_t b = byte(i);
  if (b < 0x80) return *at = i + 1, b;
  if (b < 0xe0) return *at = i + 2, (b & 0x1f) << 6 | (byte(i + 1) & 0x3f);
  if (b < 0xf0) return *at = i + 3, (b & 0xf) << 12 | (byte(i + 1) & 0x3f) << 6 | (byte(i + 2) & 0x3f);
  return *at = i + 4, (b & 7) << 18 | (byte(i + 1) & 0x3f) << 12 | (byte(i + 2) & 0x3f) << 6 | (byte(i + 3) & 0x3f);
}
// The last code point. REQUIRES: valid UTF-8, not empty.
char32_t LastChar(std::string_view text);

// The lines of `text` as the rules see them: separated by kLineBreak characters (CR LF is one), no empty last line. Calls f(string_view) for each.
template <class F>
void ForEachLine(std::string_view text, F&& f);

// Repeated members of a list: how many have stood before, and how many code points those have.
struct Repeats {
  int64_t members = 0, repeated = 0, repeated_chars = 0;
};

// Tokens of a text. Arrays of one entry a token; begins have one more.
struct Tokens {
  std::string packed;                 // the tokens' bytes one after another, at least 16 zero bytes behind them
  std::vector<uint32_t> begin;        // in packed
  std::vector<uint32_t> chars_before; // code points of the tokens before
  std::vector<uint32_t> id;           // equal for equal tokens, in order of first appearance
  std::vector<uint32_t> count;        // by id: how often it stands
  std::vector<uint32_t> first;        // by id: its first token
  int64_t size() const { return static_cast<int64_t>(id.size()); }
  std::string_view text(int64_t i) const { return std::string_view(packed).substr(begin[i], begin[i + 1] - begin[i]); }
};

// One document under the rules. Counts are made when they are first asked for and kept until the text changes; buffers are reused. One thread.
class TextUnits {
 public:
  // `text` is valid UTF-8 of less than 4 GiB and stays alive until the next Reset.
  void Reset(std::string_view text);
  // A rule rewrites the text. Equal to the present one: nothing happens.
  void Rewrite(std::string_view text);
  std::string_view text() const { return text_; }
  bool rewritten() const { return rewritten_; }

  int64_t chars();                 // code points
  const Tokens& tokens();
  int64_t token_count();           // tokens().size(), faster where the tokens are not needed
  // How often the most frequent N tokens in a row stand, and their code points joined by spaces (of the first seen among equals). N is 2, 3 or 4.
  struct TopGram {
    int64_t count = 0, chars = 0;
  };
  TopGram Top(int n);
  int64_t TopBound(int n);         // at least count * chars of Top(n), in a fraction of its time
  // Code points of repeated runs of n tokens (joined by nothing), walked as Gopher's rule does. n is 5..10.
  int64_t DuplicatedChars(int n);
  Repeats RepeatedLines();         // text split at runs of LF; empty ends count
  Repeats RepeatedParagraphs();    // trimmed text split at runs of two LF and more
  Repeats CountRepeats(std::span<const std::string_view> members);

 private:
  static constexpr int kFewestDuplicated = 5;
  void MakeTokens();
  void CountTop();
  void FindRepeatable();

  std::string_view text_;
  std::string own_;
  bool rewritten_ = false;
  int64_t chars_ = -1;
  bool have_tokens_ = false, have_top_ = false, have_repeatable_ = false;
  Tokens tokens_;
  TopGram top_[3];
  std::vector<uint8_t> repeats_here_;   // by token: its next 16 packed bytes stand at another token too, as far as hashes tell
  std::vector<uint32_t> repeatable_;    // tokens that may begin a repeated run
  // Reused room.
  std::vector<uint32_t> token_begins_, token_ends_;
  std::vector<ShortKey> keys_;          // by token id; zeros for a token of one or more than 16 bytes
  std::vector<uint64_t> slots_;
  std::vector<std::string_view> pieces_;
  struct GramLevel {
    std::vector<uint32_t> gram;         // by place: which n-gram begins here; none if it stands once
    std::vector<uint32_t> count, first; // by n-gram
    std::vector<uint64_t> key;          // by n-gram: the pair of (n-1)-grams in it
  } grams_[2];
};

template <class F>
void ForEachLine(std::string_view text, F&& f) {
  size_t begin = 0, at = 0;
  while (at < text.size()) {
    if (at + 8 <= text.size()) {
      uint64_t w = LoadWord(text.data() + at);  // skip eight bytes if each is ASCII above 0x1e, as most are
      if (((w | (w - 0x1f1f1f1f1f1f1f1fu)) & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    unsigned char b = static_cast<unsigned char>(text[at]);
    if (b > 0x1e && b < 0x80) {
      ++at;
      continue;
    }
    size_t here = at;
    char32_t c = NextChar(text, &at);
    if ((RuleBits(c) & kLineBreak) == 0) continue;
    f(text.substr(begin, here - begin));
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    begin = at;
  }
  if (begin < text.size()) f(text.substr(begin));
}

}  // namespace tern::corpus
