#include "tools/corpus/text_units.h"

#include <algorithm>
#include <bit>

#include "tools/corpus/byte_masks.h"
#include "tools/corpus/chars.h"
#include "tools/corpus/mix_hash.h"

namespace tern::corpus {
namespace {

constexpr uint32_t kNone = 0xffffffff;
constexpr size_t kKeptRoomBytes = 8 << 20;

// An open-addressing table of 64-bit slots: the hash's high half, and a number + 1.
class SlotTable {
 public:
  SlotTable(std::vector<uint64_t>* slots, int64_t most_keys) : slots_(*slots) {
    size_t size = std::bit_ceil(static_cast<size_t>(std::max<int64_t>(most_keys, 8)) * 2);
    if (slots_.size() < size) slots_.resize(size);
    std::fill_n(slots_.begin(), size, 0);
    mask_ = size - 1;
  }
  // The number stored for this key, or, after storing `fresh` for it, kNone. same(number): is that number's key this key?
  template <class Same>
  uint32_t FindOrAdd(uint64_t hash, uint32_t fresh, Same&& same) {
    uint64_t tag = hash & 0xffffffff00000000u;
    for (size_t at = hash & mask_;; at = (at + 1) & mask_) {
      uint64_t slot = slots_[at];
      if (slot == 0) {
        slots_[at] = tag | (fresh + 1);
        return kNone;
      }
      if ((slot & 0xffffffff00000000u) == tag && same(static_cast<uint32_t>(slot) - 1)) return static_cast<uint32_t>(slot) - 1;
    }
  }

 private:
  std::vector<uint64_t>& slots_;
  size_t mask_;
};

// Where the tokens of `text` begin and end, in order.
void FindTokens(std::string_view text, std::vector<uint32_t>* begins, std::vector<uint32_t>* ends) {
  uint32_t* b = nullptr;
  uint32_t* e = nullptr;
  size_t n = 0, m = 0, room = 0;
  auto make_room = [&] {  // for a block's worth
    if (n + 66 <= room) return;
    room = std::max(2 * room, text.size() / 4 + 256);
    if (begins->size() < room) begins->resize(room);
    if (ends->size() < room) ends->resize(room);
    room = begins->size() < ends->size() ? begins->size() : ends->size();
    b = begins->data();
    e = ends->data();
  };
  char tail[64];
  bool open = false;  // a run of token characters has not ended yet
  for (size_t at = 0; at < text.size();) {
    make_room();
    size_t bytes = std::min<size_t>(64, text.size() - at);
    const char* block = text.data() + at;
    if (bytes < 64) {
      std::memset(tail, ' ', sizeof tail);
      std::memcpy(tail, block, bytes);
      block = tail;
    }
    ByteMasks masks = MaskBytes(block);
    uint64_t word = masks.word, first = ~(word | masks.space | masks.high), last = first;  // of symbols: their first and last bytes
    for (uint64_t high = masks.high; high != 0;) {
      size_t p = static_cast<size_t>(std::countr_zero(high)), next = at + p;
      uint8_t kind = RuleBits(NextChar(text, &next));
      size_t length = next - at - p;
      if (p + length > bytes) {
        bytes = p;  // it does not end in this block: the next begins with it
        break;
      }
      uint64_t its = ((uint64_t{1} << length) - 1) << p;
      high &= ~its;
      if (kind & kTokenChar) {
        word |= its;
      } else if ((kind & kBlank) == 0) {
        first |= uint64_t{1} << p;
        last |= uint64_t{1} << (p + length - 1);
      }
    }
    uint64_t inside = ~uint64_t{0} >> (64 - bytes), end_bit = uint64_t{1} << (bytes - 1);
    word &= inside;
    uint64_t starts = (first & inside) | (word & ~(word << 1 | static_cast<uint64_t>(open)));
    uint64_t lasts = (last & inside) | (word & ~(word >> 1 | end_bit));  // a run that reaches the end may go on
    if (open && (word & 1) == 0) e[m++] = static_cast<uint32_t>(at);
    uint32_t base = static_cast<uint32_t>(at);
    for (; starts != 0; starts &= starts - 1) b[n++] = base + static_cast<uint32_t>(std::countr_zero(starts));
    for (; lasts != 0; lasts &= lasts - 1) e[m++] = base + static_cast<uint32_t>(std::countr_zero(lasts)) + 1;
    open = (word & end_bit) != 0;
    at += bytes;
  }
  if (open) e[m++] = static_cast<uint32_t>(text.size());
  begins->resize(n);
  ends->resize(n);
}

// Continuation bytes of UTF-8 in eight bytes.
uint32_t ContinuationBytes(uint64_t word) {
  uint64_t flags = (word & ~(word << 1) & 0x8080808080808080u) >> 7;
  return static_cast<uint32_t>(flags * 0x0101010101010101u >> 56);
}

}  // namespace

void TextUnits::MakeTokens() {
  FindTokens(text_, &token_begins_, &token_ends_);
  Tokens& t = tokens_;
  size_t n = token_begins_.size();
  bool ascii = chars() == static_cast<int64_t>(text_.size());
  t.begin.resize(n + 1);
  t.chars_before.resize(n + 1);
  t.id.resize(n);
  t.count.clear();
  t.first.clear();
  keys_.clear();
  if (t.packed.size() < text_.size() + 32) t.packed.resize(text_.size() + 32);
  char* packed = t.packed.data();
  uint32_t packed_bytes = 0, chars = 0;
  uint32_t byte_ids[128];
  std::fill_n(byte_ids, 128, kNone);
  SlotTable table(&slots_, static_cast<int64_t>(n));
  uint64_t seed = ProcessSeed();
  for (size_t i = 0; i < n; ++i) {
    size_t from = token_begins_[i], bytes = token_ends_[i] - from;
    char* here = packed + packed_bytes;
    t.begin[i] = packed_bytes;
    t.chars_before[i] = chars;
    const char* source = text_.data() + from;
    if (bytes <= 16 && from + 16 <= text_.size()) {
      std::memcpy(here, source, 16);
    } else {
      std::memcpy(here, source, bytes);
      source = here;
    }
    packed_bytes += static_cast<uint32_t>(bytes);
    chars += static_cast<uint32_t>(bytes);
    uint32_t fresh = static_cast<uint32_t>(t.count.size()), id = kNone;
    ShortKey key{};
    if (bytes == 1) {  // ASCII
      uint32_t& known = byte_ids[static_cast<unsigned char>(*here)];
      id = known;
      if (id == kNone) known = fresh;
    } else if (bytes <= 16) {
      key = ReadShortKey({source, bytes});
      if (!ascii) chars -= ContinuationBytes(key.low) + ContinuationBytes(key.high);
      id = table.FindOrAdd(HashPair(key.low, key.high, seed), fresh, [&](uint32_t other) { return keys_[other] == key; });
    } else {
      if (!ascii) chars -= static_cast<uint32_t>(static_cast<int64_t>(bytes) - CountCodePoints({here, bytes}));
      id = table.FindOrAdd(HashPadded({here, bytes}, seed), fresh, [&](uint32_t other) {
        uint32_t j = t.first[other];
        return std::string_view(packed + t.begin[j], t.begin[j + 1] - t.begin[j]) == std::string_view(here, bytes);
      });
    }
    if (id == kNone) {
      id = fresh;
      t.count.push_back(0);
      t.first.push_back(static_cast<uint32_t>(i));
      keys_.push_back(key);
    }
    ++t.count[id];
    t.id[i] = id;
  }
  t.begin[n] = packed_bytes;
  t.chars_before[n] = chars;
  std::fill_n(packed + packed_bytes, 16, '\0');
  have_tokens_ = true;
}

char32_t LastChar(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
  return NextChar(text, &at);
}

void TextUnits::Reset(std::string_view text) {
  if (tokens_.packed.size() > kKeptRoomBytes && text.size() < kKeptRoomBytes / 16) {  // the room of a giant document is given back
    tokens_ = Tokens();
    for (GramLevel& level : grams_) level = GramLevel();
    for (auto* room : {&repeatable_, &token_begins_, &token_ends_}) std::vector<uint32_t>().swap(*room);
    std::vector<uint64_t>().swap(slots_);
    std::vector<ShortKey>().swap(keys_);
    std::vector<uint8_t>().swap(repeats_here_);
    std::vector<std::string_view>().swap(pieces_);
  }
  text_ = text;
  rewritten_ = have_tokens_ = have_top_ = have_repeatable_ = false;
  chars_ = -1;
}

void TextUnits::Rewrite(std::string_view text) {
  if (text == text_) return;
  std::string held(text);  // `text` may point into own_
  own_.swap(held);
  Reset(own_);
  rewritten_ = true;
}

int64_t TextUnits::chars() {
  if (chars_ < 0) chars_ = CountCodePoints(text_);
  return chars_;
}

const Tokens& TextUnits::tokens() {
  if (!have_tokens_) MakeTokens();
  return tokens_;
}

int64_t TextUnits::token_count() {
  if (have_tokens_) return tokens_.size();
  FindTokens(text_, &token_begins_, &token_ends_);
  return static_cast<int64_t>(token_begins_.size());
}

// An n-gram can stand twice only if both (n-1)-grams in it do. So each level looks only at places where the level below repeats, and names an n-gram by
// the pair of its (n-1)-grams.
void TextUnits::CountTop() {
  const Tokens& t = tokens();
  uint64_t seed = ProcessSeed();
  const std::vector<uint32_t>* below = &t.id;
  const std::vector<uint32_t>* below_count = &t.count;
  for (int level = 2; level <= 4; ++level) {
    top_[level - 2] = {};
    int64_t places = t.size() - level + 1;
    if (places <= 0) continue;
    GramLevel& here = grams_[level & 1];
    here.gram.resize(static_cast<size_t>(places));
    here.count.clear();
    here.first.clear();
    here.key.clear();
    auto repeats = [&](int64_t i) {
      uint32_t gram = (*below)[i];
      return gram != kNone && (*below_count)[gram] > 1;
    };
    int64_t candidates = 0;
    for (int64_t i = 0; i < places; ++i) candidates += repeats(i) && repeats(i + 1);
    SlotTable table(&slots_, candidates);
    for (int64_t i = 0; i < places; ++i) {
      uint32_t name = kNone;
      if (repeats(i) && repeats(i + 1)) {
        uint32_t a = (*below)[i], b = (*below)[i + 1], fresh = static_cast<uint32_t>(here.key.size());
        uint64_t key = static_cast<uint64_t>(a) << 32 | b;
        name = table.FindOrAdd(HashPair(a, b, seed), fresh, [&](uint32_t g) { return here.key[g] == key; });
        if (name == kNone) {
          name = fresh;
          here.key.push_back(key);
          here.first.push_back(static_cast<uint32_t>(i));
          here.count.push_back(0);
        }
        ++here.count[name];
      }
      here.gram[i] = name;
    }
    uint32_t place = 0, count = 1;  // the first one, unless some stands twice
    for (size_t g = 0; g < here.count.size(); ++g)
      if (here.count[g] > count) count = here.count[g], place = here.first[g];
    top_[level - 2] = {count, static_cast<int64_t>(t.chars_before[place + level]) - t.chars_before[place] + level - 1};
    below = &here.gram;
    below_count = &here.count;
  }
  have_top_ = true;
}

TextUnits::TopGram TextUnits::Top(int n) {
  if (!have_top_) CountTop();
  return top_[n - 2];
}

int64_t TextUnits::TopBound(int n) {
  const Tokens& t = tokens();
  int64_t places = t.size() - n + 1;
  uint64_t bound = 0;
  for (int64_t i = 0; i < places; ++i) {
    uint32_t count = t.count[t.id[i]];
    for (int j = 1; j < n; ++j) count = std::min(count, t.count[t.id[i + j]]);
    uint64_t chars = t.chars_before[i + n] - t.chars_before[i] + static_cast<uint32_t>(n) - 1;
    bound = std::max(bound, chars * count);
  }
  return static_cast<int64_t>(bound);
}

// A repeated run of 16 packed bytes or more begins with 16 bytes that stand at two tokens. So the tokens that may begin a repeated run are those, found in
// one pass (hashes are not confirmed here: one too many costs little), and those whose run is shorter than 16 bytes.
void TextUnits::FindRepeatable() {
  const Tokens& t = tokens();
  int64_t n = t.size();
  uint64_t seed = ProcessSeed();
  size_t end = t.begin[n];
  std::vector<uint8_t>& repeats = repeats_here_;
  repeats.assign(static_cast<size_t>(n), 0);
  SlotTable table(&slots_, n);
  for (int64_t i = 0; i < n; ++i) {
    if (t.begin[i] + 16 > end) {
      repeats[i] = 1;
      continue;
    }
    const char* p = t.packed.data() + t.begin[i];
    uint64_t hash = HashPair(LoadWord(p), LoadWord(p + 8), seed);
    uint32_t before = table.FindOrAdd(hash, static_cast<uint32_t>(i), [](uint32_t) { return true; });
    if (before != kNone) repeats[before] = repeats[i] = 1;
  }
  repeatable_.clear();
  for (int64_t i = 0; i + kFewestDuplicated <= n; ++i)
    if (repeats[i] || t.begin[i + kFewestDuplicated] - t.begin[i] < 16) repeatable_.push_back(static_cast<uint32_t>(i));
  have_repeatable_ = true;
}

int64_t TextUnits::DuplicatedChars(int n) {
  if (!have_repeatable_) FindRepeatable();
  const Tokens& t = tokens();
  uint32_t places = static_cast<uint32_t>(std::max<int64_t>(t.size() - n + 1, 0));
  uint64_t seed = ProcessSeed();
  SlotTable table(&slots_, static_cast<int64_t>(repeatable_.size()));
  auto run = [&](uint32_t i) { return std::string_view(t.packed.data() + t.begin[i], t.begin[i + n] - t.begin[i]); };
  int64_t repeated = 0;
  uint32_t next = 0;  // the walk stands here: it jumps over a run that repeats
  for (uint32_t i : repeatable_) {
    if (i >= places) break;
    if (i < next) continue;
    std::string_view gram = run(i);
    if (gram.size() >= 16 && !repeats_here_[i]) continue;
    uint32_t before = table.FindOrAdd(HashPadded(gram, seed), i, [&](uint32_t j) { return run(j) == gram; });
    if (before == kNone) continue;
    repeated += t.chars_before[i + n] - t.chars_before[i];
    next = i + n;
  }
  return repeated;
}

Repeats TextUnits::CountRepeats(std::span<const std::string_view> members) {
  Repeats repeats;
  uint64_t seed = ProcessSeed();
  SlotTable table(&slots_, static_cast<int64_t>(members.size()));
  for (std::string_view member : members) {
    uint64_t hash = Xxh3({reinterpret_cast<const uint8_t*>(member.data()), member.size()}, seed);
    uint32_t before = table.FindOrAdd(hash, static_cast<uint32_t>(repeats.members), [&](uint32_t j) { return members[j] == member; });
    ++repeats.members;
    if (before == kNone) continue;
    ++repeats.repeated;
    repeats.repeated_chars += CountCodePoints(member);
  }
  return repeats;
}

namespace {

// The pieces of `text` between runs of at least `least` LFs.
void SplitAtLineFeeds(std::string_view text, size_t least, std::vector<std::string_view>* pieces) {
  pieces->clear();
  size_t begin = 0, at = 0;
  while ((at = text.find('\n', at)) != std::string_view::npos) {
    size_t end = at;
    while (end < text.size() && text[end] == '\n') ++end;
    if (end - at >= least) {
      pieces->push_back(text.substr(begin, at - begin));
      begin = end;
    }
    at = end;
  }
  pieces->push_back(text.substr(begin));
}

}  // namespace

Repeats TextUnits::RepeatedLines() {
  SplitAtLineFeeds(text_, 1, &pieces_);
  return CountRepeats(pieces_);
}

Repeats TextUnits::RepeatedParagraphs() {
  SplitAtLineFeeds(Trimmed(text_), 2, &pieces_);
  return CountRepeats(pieces_);
}

}  // namespace tern::corpus
