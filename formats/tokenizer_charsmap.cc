#include "formats/tokenizer_charsmap.h"

#include <algorithm>
#include <cstring>

#include "engine/base/bytes.h"

namespace tern {
namespace {
constexpr uint32_t kLabelMask = (1u << 31) | 0xFF;  // a value unit has the top bit set and so matches no byte
bool HasLeaf(uint32_t unit) {
  return (unit >> 8) & 1;
}
}  // namespace

Result<Charsmap> Charsmap::Parse(std::string_view blob) {
  Charsmap map;
  std::fill(std::begin(map.keeps_ascii_), std::end(map.keeps_ascii_), true);
  if (blob.empty()) return map;
  ByteReader reader(blob);
  TERN_ASSIGN(uint32_t trie_bytes, reader.Read<uint32_t>());
  if (trie_bytes == 0 || trie_bytes % 4 != 0)
    return Malformed("the normalization table has an odd size")
        .Where("precompiled_charsmap")
        .Got(Str(trie_bytes, " bytes"), "a multiple of 4");
  TERN_ASSIGN(auto trie, reader.Bytes(trie_bytes));
  TERN_ASSIGN(auto strings, reader.Text(reader.remaining()));
  map.units_.resize(trie_bytes / 4);
  std::memcpy(map.units_.data(), trie.data(), trie_bytes);
  map.strings_ = std::string(strings);
  TERN_RETURN_IF_ERROR(map.CheckReachable());
  return map;
}

// Visits every state from the root. Branches may share states (the builder merges equal tails), but no state may lead
// back to itself.
Status Charsmap::CheckReachable() {
  auto bad = [](std::string what) { return Malformed(std::move(what)).Where("precompiled_charsmap"); };
  const size_t count = units_.size();
  constexpr uint16_t kNew = 0, kOpen = 0xFFFF;
  std::vector<uint16_t> height(count, kNew);  // 1 + the longest way from here to a value
  // Units by the place their parent must point to: a unit with label c is a child where parents point to index ^ c.
  // Such a place lies in the same block of 256, so it may lie behind the last unit.
  const size_t places = (count + 255) / 256 * 256;
  std::vector<uint32_t> first(places + 1), units(count);
  auto place = [&](uint32_t index) { return index ^ (units_[index] & 0xFF); };
  auto has_place = [&](uint32_t index) { return (units_[index] >> 31) == 0; };
  for (uint32_t i = 0; i < count; ++i)
    if (has_place(i)) ++first[place(i) + 1];
  for (size_t i = 1; i < first.size(); ++i) first[i] += first[i - 1];
  std::vector<uint32_t> next(first.begin(), first.end());
  for (uint32_t i = 0; i < count; ++i)
    if (has_place(i)) units[next[place(i)]++] = i;

  struct Frame {
    uint32_t unit;        // index
    uint32_t child, end;  // children not visited yet, in `units`
    uint16_t highest;
  };
  std::vector<Frame> path;
  auto enter = [&](uint32_t index) -> Status {
    const uint32_t child = index ^ Offset(units_[index]);
    height[index] = kOpen;
    if (index != 0 && HasLeaf(units_[index])) {
      if (child >= count)
        return bad(
            Str("the normalization table points outside itself (unit ", index, " to ", child, " of ", count, ")"));
      const uint32_t value = units_[child] & 0x7FFFFFFFu;
      if (value >= strings_.size())
        return bad("a replacement lies outside the table").Got(Str("offset ", value), Str("below ", strings_.size()));
      const size_t length = strnlen(strings_.data() + value, strings_.size() - value);
      if (length == strings_.size() - value) return bad("the last replacement is not terminated");
      if (length > kMaxReplacementBytes)
        return bad("a replacement is too long").Got(Str(length, " bytes"), Str("at most ", kMaxReplacementBytes));
    }
    path.push_back({index, child < places ? first[child] : 0, child < places ? first[child + 1] : 0, 0});
    return {};
  };
  TERN_RETURN_IF_ERROR(enter(0));
  while (!path.empty()) {
    Frame& top = path.back();
    if (top.child == top.end) {
      const uint16_t mine = static_cast<uint16_t>(top.highest + 1);
      height[top.unit] = mine;
      path.pop_back();
      if (!path.empty()) path.back().highest = std::max(path.back().highest, mine);
      if (mine > kMaxKeyBytes + 1) return bad(Str("the normalization table has a key above ", kMaxKeyBytes, " bytes"));
      continue;
    }
    const uint32_t index = units[top.child++];
    if (index == 0 || height[index] == kOpen)
      return bad(Str("the normalization table runs in a circle (unit ", index, ")"));
    if (height[index] != kNew) {
      top.highest = std::max(top.highest, height[index]);
      continue;
    }
    if (path.size() > kMaxKeyBytes) return bad(Str("the normalization table has a key above ", kMaxKeyBytes, " bytes"));
    TERN_RETURN_IF_ERROR(enter(index));
  }
  max_key_bytes_ = height[0];
  for (uint32_t byte = 0; byte < 128; ++byte) {
    char pair[2] = {static_cast<char>(byte), 0};
    keeps_ascii_[byte] = Longest(std::string_view(pair, 1)).length == 0;
    for (int next = 0; next < 128 && keeps_ascii_[byte]; ++next) {
      pair[1] = static_cast<char>(next);
      keeps_ascii_[byte] = !Leads(std::string_view(pair, 2));
    }
  }
  return {};
}

bool Charsmap::Leads(std::string_view text) const {
  uint32_t position = Offset(units_[0]);
  for (char c : text) {
    const uint8_t byte = static_cast<uint8_t>(c);
    position ^= byte;
    if (position >= units_.size() || (units_[position] & kLabelMask) != byte) return false;
    position ^= Offset(units_[position]);
  }
  return true;
}

Charsmap::Match Charsmap::Find(std::string_view text, bool longest) const {
  Match match;
  if (units_.empty()) return match;
  const size_t count = units_.size();
  uint32_t position = Offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    position ^= byte;
    if (position >= count) break;
    const uint32_t unit = units_[position];
    if ((unit & kLabelMask) != byte) break;
    position ^= Offset(unit);
    if (HasLeaf(unit)) {
      match.length = i + 1;
      match.replacement = Replacement(units_[position] & 0x7FFFFFFFu);
      if (!longest) break;
    }
  }
  return match;
}

}  // namespace tern
