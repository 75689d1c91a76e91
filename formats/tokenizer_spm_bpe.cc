#include "formats/tokenizer_spm_bpe.h"

#include <string>
#include <unordered_map>

#include "engine/base/utf8.h"

namespace tern {
namespace {
size_t CharBytes(std::string_view text) {
  const uint8_t lead = static_cast<uint8_t>(text[0]);
  return std::min<size_t>(lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4, text.size());
}
constexpr std::string_view kSpace = "\xE2\x96\x81";
}  // namespace

void MergeTable::Build(const std::vector<Merge>& merges) {
  size_t size = 16;
  while (size < merges.size() * 2) size *= 2;
  slots_.assign(size, {-1, -1, -1, 0});
  mask_ = size - 1;
  for (const Merge& merge : merges) {
    size_t i = Hash(merge.left, merge.right) & mask_;
    while (slots_[i].left >= 0 && (slots_[i].left != merge.left || slots_[i].right != merge.right)) i = (i + 1) & mask_;
    slots_[i] = merge;
  }
}

// Few symbols: look for the best pair, merge, look again. merges_[i] is what symbols i and i + 1 merge to.
void BpeMerger::RunShort(const MergeTable& table, std::vector<Symbol>* symbols) {
  std::vector<Symbol>& s = *symbols;
  size_t n = s.size();
  for (size_t i = 0; i + 1 < n; ++i) merges_[i] = table.Find(s[i].id, s[i + 1].id);
  while (n > 1) {
    size_t best = n;
    uint32_t rank = UINT32_MAX;
    for (size_t i = 0; i + 1 < n; ++i)
      if (merges_[i] && merges_[i]->rank < rank) {
        best = i;
        rank = merges_[i]->rank;
      }
    if (best == n) break;
    s[best].id = merges_[best]->merged;
    s[best].bytes += s[best + 1].bytes;
    for (size_t i = best + 1; i + 1 < n; ++i) {
      s[i] = s[i + 1];
      merges_[i] = i + 2 < n ? merges_[i + 1] : nullptr;
    }
    --n;
    if (best > 0) merges_[best - 1] = table.Find(s[best - 1].id, s[best].id);
    if (best + 1 < n) merges_[best] = table.Find(s[best].id, s[best + 1].id);
  }
  s.resize(n);
}

Result<SpmBpe> SpmBpe::Build(const SpmModel& model, const Trie& user_defined) {
  SpmBpe bpe;
  bpe.model_ = &model;
  bpe.user_defined_ = &user_defined;
  // Symbols: pieces that can be formed, under their ids; behind them single characters that are no pieces themselves.
  std::unordered_map<std::string_view, int32_t> symbol_of;
  std::vector<uint32_t> rank_of(model.pieces.size());
  std::vector<int32_t> by_score;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const SpmPiece& piece = model.pieces[i];
    const int32_t id = static_cast<int32_t>(i);
    // What is no piece of text is never written, nor (but see EncodeWithUnused) a piece out of use.
    const bool written = piece.type == SpmType::kNormal || piece.type == SpmType::kUserDefined;
    bpe.id_of_.push_back(written ? id : model.unk_id);
    bpe.bytes_of_.push_back(static_cast<int32_t>(piece.text.size()));
    if (piece.type == SpmType::kUnknown || piece.type == SpmType::kControl || piece.type == SpmType::kByte) continue;
    bpe.has_unused_ |= piece.type == SpmType::kUnused;
    symbol_of[piece.text] = id;
    by_score.push_back(id);
  }
  auto character = [&](std::string_view text) {
    auto [it, is_new] = symbol_of.insert({text, static_cast<int32_t>(bpe.id_of_.size())});
    if (is_new) {
      bpe.id_of_.push_back(model.unk_id);
      bpe.bytes_of_.push_back(static_cast<int32_t>(text.size()));
    }
  };
  for (const SpmPiece& piece : model.pieces)
    for (std::string_view rest = piece.text; !rest.empty(); rest.remove_prefix(CharBytes(rest)))
      character(rest.substr(0, CharBytes(rest)));
  if (model.algorithm == SpmAlgorithm::kBpe) {
    std::stable_sort(by_score.begin(), by_score.end(), [&](int32_t a, int32_t b) {
      return model.pieces[static_cast<size_t>(a)].score > model.pieces[static_cast<size_t>(b)].score;
    });
    uint32_t rank = 0;
    for (size_t i = 0; i < by_score.size(); ++i) {
      if (i > 0 && model.pieces[static_cast<size_t>(by_score[i])].score !=
                       model.pieces[static_cast<size_t>(by_score[i - 1])].score)
        ++rank;
      rank_of[static_cast<size_t>(by_score[i])] = rank;
    }
    std::vector<MergeTable::Merge> merges;
    for (int32_t id : by_score) {
      const std::string_view text = model.pieces[static_cast<size_t>(id)].text;
      for (size_t cut = CharBytes(text); cut < text.size(); cut += CharBytes(text.substr(cut))) {
        bpe.inside_.set(static_cast<size_t>(static_cast<uint8_t>(text[cut - 1])) << 8 |
                        static_cast<uint8_t>(text[cut]));
        auto left = symbol_of.find(text.substr(0, cut)), right = symbol_of.find(text.substr(cut));
        if (left != symbol_of.end() && right != symbol_of.end())
          merges.push_back({left->second, right->second, id, rank_of[static_cast<size_t>(id)]});
      }
    }
    bpe.merges_.Build(merges);
  }
  std::vector<std::pair<std::string_view, int32_t>> entries;
  for (auto [text, symbol] : symbol_of)
    if (model.algorithm == SpmAlgorithm::kWord || text.size() == CharBytes(text) ||
        symbol >= static_cast<int32_t>(model.pieces.size()) ||
        model.pieces[static_cast<size_t>(symbol)].type == SpmType::kUserDefined)
      entries.push_back({text, symbol});
  TERN_ASSIGN(bpe.symbols_, Trie::Build(std::move(entries)));
  return bpe;
}

bool SpmBpe::Frozen(std::string_view text, size_t* length) const {
  *length = user_defined_->LongestPrefix(text);
  const bool frozen = *length > 0;
  if (!frozen) *length = CharBytes(text);
  return frozen;
}

size_t SpmBpe::SegmentEnd(std::string_view text, bool last) const {
  if (model_->algorithm == SpmAlgorithm::kWord) {
    const size_t next = text.find(kSpace, 1);
    return next != std::string_view::npos ? next : last ? text.size() : 0;
  }
  if (has_unused_) return last ? text.size() : 0;
  const size_t lookahead = std::max<size_t>(user_defined_->max_key_bytes(), 4);
  size_t at = 0;
  bool previous_frozen = true;
  while (at < text.size()) {
    if (!last && text.size() - at < lookahead) return 0;
    size_t length;
    const bool frozen = Frozen(text.substr(at), &length);
    if (at > 0 &&
        (frozen || previous_frozen ||
         !inside_[static_cast<size_t>(static_cast<uint8_t>(text[at - 1])) << 8 | static_cast<uint8_t>(text[at])]))
      return at;
    previous_frozen = frozen;
    at += length;
  }
  return last ? at : 0;
}

void SpmBpe::Encode(std::string_view segment, Scratch* scratch, std::vector<Step>* steps) const {
  if (model_->algorithm == SpmAlgorithm::kWord) {
    const int32_t symbol = symbols_.Find(segment);
    steps->push_back(
        {symbol < 0 ? model_->unk_id : id_of_[static_cast<size_t>(symbol)], static_cast<int32_t>(segment.size())});
    return;
  }
  auto& symbols = scratch->symbols;
  symbols.clear();
  for (size_t at = 0; at < segment.size();) {
    size_t length;
    const bool frozen = Frozen(segment.substr(at), &length);
    const int32_t symbol = symbols_.Find(segment.substr(at, length));
    // A frozen symbol keeps its id, below -1 so that it merges with nothing.
    symbols.push_back({frozen ? -2 - symbol : symbol, static_cast<int32_t>(length)});
    at += length;
  }
  if (has_unused_) return EncodeWithUnused(scratch, steps);
  if (model_->algorithm == SpmAlgorithm::kBpe) scratch->merger.Run(merges_, &symbols);
  for (auto [symbol, bytes] : symbols) {
    if (symbol < -1) symbol = -2 - symbol;
    steps->push_back({symbol < 0 ? model_->unk_id : id_of_[static_cast<size_t>(symbol)], bytes});
  }
}

// Pieces of type "unused" take part in merging and are taken apart again, the way they were last put together anywhere
// in the text.
void SpmBpe::EncodeWithUnused(Scratch* scratch, std::vector<Step>* steps) const {
  std::unordered_map<int32_t, std::pair<int32_t, int32_t>> parts;
  auto unused = [&](int32_t symbol) {
    return symbol < static_cast<int32_t>(model_->pieces.size()) && model_->IsType(symbol, SpmType::kUnused);
  };
  if (model_->algorithm == SpmAlgorithm::kBpe)
    scratch->merger.Run(merges_, &scratch->symbols, [&](const MergeTable::Merge& merge) {
      if (unused(merge.merged)) parts[merge.merged] = {merge.left, merge.right};
    });
  std::vector<std::pair<int32_t, int32_t>> todo;  // symbol, bytes
  for (auto [symbol, bytes] : scratch->symbols) {
    if (symbol < -1) symbol = -2 - symbol;
    todo.push_back({symbol, bytes});
    while (!todo.empty()) {
      auto [top, top_bytes] = todo.back();
      todo.pop_back();
      auto part = top >= 0 && unused(top) ? parts.find(top) : parts.end();
      if (part == parts.end()) {
        steps->push_back({top < 0 ? model_->unk_id : id_of_[static_cast<size_t>(top)], top_bytes});
        continue;
      }
      todo.push_back({part->second.second, bytes_of_[static_cast<size_t>(part->second.second)]});
      todo.push_back({part->second.first, bytes_of_[static_cast<size_t>(part->second.first)]});
    }
  }
}

}  // namespace tern
