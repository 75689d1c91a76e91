#include "formats/tokenizer.h"

#include <algorithm>

namespace tern {
namespace {

void Append(const Encoding& from, int64_t begin, int64_t end, Encoding* to) {
  auto add = [&](const auto& source, auto* target) {
    if (!source.empty()) target->insert(target->end(), source.begin() + begin, source.begin() + end);
  };
  add(from.ids, &to->ids);
  add(from.type_ids, &to->type_ids);
  add(from.attention_mask, &to->attention_mask);
  add(from.offsets, &to->offsets);
  add(from.sequence, &to->sequence);
  add(from.pieces, &to->pieces);
}

int64_t Length(const Encoding& e) {
  return static_cast<int64_t>(e.ids.size());
}

Encoding Slice(const Encoding& from, int64_t begin, int64_t end) {
  Encoding out;
  Append(from, begin, end, &out);
  return out;
}

// Keeps `length` tokens.
void Cut(Encoding* e, int64_t length, bool from_left) {
  if (length >= Length(*e)) return;
  *e = from_left ? Slice(*e, Length(*e) - length, Length(*e)) : Slice(*e, 0, length);
}

// Cuts to `room` tokens together, as the tokenizers library does.
Status Truncate(Encoding* a, Encoding* b, int64_t room, Truncation strategy, bool from_left) {
  const int64_t total = Length(*a) + (b ? Length(*b) : 0);
  if (total <= room || strategy == Truncation::kNone) return {};
  if (room <= 0) {
    Cut(a, 0, from_left);
    if (b) Cut(b, 0, from_left);
    return {};
  }
  if (strategy == Truncation::kLongestFirst) {
    if (!b) {
      Cut(a, room, from_left);
      return {};
    }
    int64_t shorter = std::min(Length(*a), Length(*b));
    const bool first_is_shorter = Length(*a) <= Length(*b);
    int64_t longer = shorter > room ? shorter : std::max(shorter, room - shorter);
    if (shorter + longer > room) {
      shorter = room / 2;
      longer = shorter + room % 2;
    }
    Cut(a, first_is_shorter ? shorter : longer, from_left);
    Cut(b, first_is_shorter ? longer : shorter, from_left);
    return {};
  }
  Encoding* target = strategy == Truncation::kOnlyFirst ? a : b;
  const int64_t remove = total - room;
  if (!target || Length(*target) <= remove)
    return UsageError("the text to be cut is too short to fit max_length")
        .Got(Str(total, " tokens"), Str("at most ", room));
  Cut(target, Length(*target) - remove, from_left);
  return {};
}

}  // namespace

Encoding Tokenizer::Join(Encoding first, const Encoding* second, const EncodeOptions&) const {
  first.type_ids.assign(first.ids.size(), 0);
  if (!first.offsets.empty()) first.sequence.assign(first.ids.size(), 0);
  if (!second) return first;
  Encoding plain = *second;
  plain.type_ids.assign(plain.ids.size(), 1);
  if (!plain.offsets.empty()) plain.sequence.assign(plain.ids.size(), 1);
  Append(plain, 0, Length(plain), &first);
  return first;
}

Result<Encoding> Tokenizer::EncodeBoth(std::string_view a, const std::string_view* b,
                                       const EncodeOptions& options) const {
  TERN_ASSIGN(Encoding first, EncodeAlone(a, options));
  std::optional<Encoding> second;
  if (b) {
    TERN_ASSIGN(second, EncodeAlone(*b, options));
  }
  FileLimits limits = file_limits();
  if (options.max_length > 0) {
    limits.max_length = options.max_length;
    limits.truncation = options.truncation;
  }
  if (limits.max_length > 0) {
    const int64_t room = limits.max_length - (options.special_tokens ? SpecialCount(b != nullptr) : 0);
    TERN_RETURN_IF_ERROR(Truncate(&first, second ? &*second : nullptr, room, limits.truncation, limits.truncate_left));
  }
  Encoding out = Join(std::move(first), second ? &*second : nullptr, options);
  if (options.pieces && out.pieces.size() != out.ids.size()) {
    out.pieces.clear();
    for (int32_t id : out.ids) out.pieces.push_back(PieceOf(id));
  }
  return out;
}

Result<Encoding> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  return EncodeBoth(text, nullptr, options);
}
Result<Encoding> Tokenizer::EncodePair(std::string_view a, std::string_view b, const EncodeOptions& options) const {
  return EncodeBoth(a, b.empty() && !empty_second_counts() ? nullptr : &b, options);
}

Result<int64_t> Tokenizer::Count(std::string_view text, bool special_tokens) const {
  auto ids = count_buffers_.Take();
  if (!ids) ids = std::make_unique<std::vector<int32_t>>();
  ids->clear();
  Status status = EncodeIds(text, special_tokens, ids.get());
  const int64_t count = static_cast<int64_t>(ids->size());
  count_buffers_.Give(std::move(ids));
  if (!status.ok()) return status;
  return count;
}

Result<std::vector<TextWindow>> Tokenizer::EncodeWindows(std::string_view question, std::string_view context,
                                                         int64_t max_length, int64_t stride) const {
  EncodeOptions options;
  options.pieces = false;
  options.offsets = true;
  if (context.empty() && !empty_second_counts()) {
    TextWindow only;
    options.max_length = max_length;
    TERN_ASSIGN(only.encoding, Encode(question, options));
    std::vector<TextWindow> out;
    out.push_back(std::move(only));
    return out;
  }
  TERN_ASSIGN(Encoding first, EncodeAlone(question, options));
  TERN_ASSIGN(Encoding whole, EncodeAlone(context, options));
  const int64_t room = max_length - SpecialCount(true) - Length(first);
  if (room <= 0 || stride < 0 || (Length(whole) > room && stride >= room))
    return UsageError("the question and the stride leave no room for the context")
        .Got(Str("room for ", room, " context tokens"), Str("more than the stride of ", stride));
  std::vector<TextWindow> out;
  int64_t begin = 0;
  do {
    const int64_t end = std::min(begin + room, Length(whole));
    const Encoding part = Slice(whole, begin, end);
    TextWindow window;
    window.encoding = Join(first, &part, options);
    // The context's tokens are the last ones of sequence 1.
    const auto& sequence = window.encoding.sequence;
    const auto at = std::find(sequence.begin(), sequence.end(), 1);
    window.first_context_token = at - sequence.begin();
    window.last_context_token = window.first_context_token + Length(part) - 1;
    out.push_back(std::move(window));
    if (end == Length(whole)) break;
    begin += room - stride;
  } while (true);
  return out;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, const DecodeOptions& options) const {
  auto decoder = NewTokenDecoder(options);
  std::string out;
  for (int32_t id : ids) out += decoder->Push(id);
  out += decoder->Finish();
  return out;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::Deserialize(std::span<const uint8_t> bytes) {
  TERN_ASSIGN(TokenizerFiles files, TokenizerFiles::Deserialize(bytes));
  return MakeTokenizer(std::move(files));
}

}  // namespace tern
