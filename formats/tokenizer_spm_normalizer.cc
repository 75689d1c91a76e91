#include "formats/tokenizer_spm_normalizer.h"

#include <algorithm>

#include "engine/base/utf8.h"

namespace tern {
namespace {
constexpr std::string_view kEscapedSpace = "\xE2\x96\x81", kReplacement = "\xEF\xBF\xBD";
}  // namespace

SpmNormalizer::SpmNormalizer(const SpmNormalizerSpec& spec, bool whitespace_as_suffix, const Trie* user_defined)
    : spec_(&spec),
      whitespace_as_suffix_(whitespace_as_suffix),
      user_defined_(user_defined),
      space_(spec.escape_whitespaces ? kEscapedSpace : " "),
      lookahead_(
          std::max<size_t>({4, spec.charsmap.max_key_bytes(), user_defined ? user_defined->max_key_bytes() : 0})) {
  for (int byte = 0; byte < 128; ++byte)
    plain_[byte] = byte != ' ' && spec.charsmap.KeepsAscii(static_cast<uint8_t>(byte)) &&
                   !(user_defined && user_defined->Begins(static_cast<uint8_t>(byte)));
}

SpmNormalizer::Prefix SpmNormalizer::Next(std::string_view text) const {
  if (user_defined_)
    if (size_t length = user_defined_->LongestPrefix(text)) return {text.substr(0, length), length};
  if (auto match = spec_->charsmap.Longest(text); match.length) return {match.replacement, match.length};
  Utf8Char c = DecodeUtf8(text, 0);
  if (!c.valid) return {kReplacement, 1};
  return {text.substr(0, c.bytes), c.bytes};
}

void SpmNormalizer::Stream::AddSpace(std::string* out, std::vector<int64_t>* map) {
  out->append(n_->space_);
  if (map) map->insert(map->end(), n_->space_.size(), consumed_);
  if (!n_->spec_->remove_extra_whitespaces) certain_ = out->size();
}

void SpmNormalizer::Stream::Add(std::string_view replacement, std::string* out, std::vector<int64_t>* map) {
  const size_t before = out->size();
  for (char c : replacement) {
    if (c == ' ' && n_->spec_->escape_whitespaces)
      out->append(kEscapedSpace);
    else
      out->push_back(c);
  }
  if (map) map->insert(map->end(), out->size() - before, consumed_);
  size_t end = out->size();
  if (n_->spec_->remove_extra_whitespaces)
    while (end > before && std::string_view(*out).substr(0, end).ends_with(n_->space_)) end -= n_->space_.size();
  if (end > before) certain_ = end;
}

size_t SpmNormalizer::Stream::Push(std::string_view text, bool last, std::string* out, std::vector<int64_t>* map) {
  const SpmNormalizerSpec& spec = *n_->spec_;
  size_t at = 0;
  any_input_ |= !text.empty();
  if (!started_) {
    for (; at < text.size() && (last || text.size() - at >= n_->lookahead_);) {
      Prefix p{" ", 1};
      if (spec.remove_extra_whitespaces) p = n_->Next(text.substr(at));
      if (!spec.remove_extra_whitespaces || p.replacement != " ") {
        started_ = true;
        if (!n_->whitespace_as_suffix_ && spec.add_dummy_prefix) AddSpace(out, map);
        break;
      }
      at += p.length;
      consumed_ += static_cast<int64_t>(p.length);
    }
    if (!started_) return at;
  }
  while (at < text.size()) {
    // A run of bytes that stand for themselves, one behind the other.
    const size_t run = at;
    while (at + 1 < text.size() && n_->KeepsAscii(static_cast<uint8_t>(text[at])) &&
           static_cast<uint8_t>(text[at + 1]) < 128)
      ++at;
    if (at + 1 == text.size() && last && n_->KeepsAscii(static_cast<uint8_t>(text[at]))) ++at;
    if (at > run) {
      out->append(text.substr(run, at - run));
      if (map)
        for (size_t i = run; i < at; ++i) map->push_back(consumed_ + static_cast<int64_t>(i - run));
      consumed_ += static_cast<int64_t>(at - run);
      certain_ = out->size();
      previous_space_ = false;
      if (at == text.size()) break;
    }
    if (!last && text.size() - at < n_->lookahead_) break;
    Prefix p = n_->Next(text.substr(at));
    std::string_view replacement = p.replacement;
    while (previous_space_ && !replacement.empty() && replacement[0] == ' ') replacement.remove_prefix(1);
    if (!replacement.empty()) {
      Add(replacement, out, map);
      previous_space_ = replacement.back() == ' ';
    }
    at += p.length;
    consumed_ += static_cast<int64_t>(p.length);
    if (!spec.remove_extra_whitespaces) previous_space_ = false;
  }
  return at;
}

void SpmNormalizer::Stream::Finish(std::string* out, std::vector<int64_t>* map) {
  if (!started_) return;
  if (out->size() > certain_) {
    if (map) {
      consumed_ = (*map)[certain_];
      map->resize(certain_);
    }
    out->resize(certain_);
  }
  if (n_->whitespace_as_suffix_ && n_->spec_->add_dummy_prefix) AddSpace(out, map);
  certain_ = out->size();
  if (map) map->push_back(consumed_);
}

std::string SpmNormalizer::Normalize(std::string_view text, std::vector<int64_t>* map) const {
  std::string out;
  Stream stream(*this);
  stream.Push(text, true, &out, map);
  stream.Finish(&out, map);
  return out;
}

}  // namespace tern
