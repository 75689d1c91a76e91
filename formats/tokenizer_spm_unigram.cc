#include "formats/tokenizer_spm_unigram.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

namespace tern {
namespace {
constexpr float kUnknownPenalty = 10.0f;
constexpr float kScoreReset = 100000.0f;  // where the library starts the sum anew, so that float32 keeps its digits
constexpr size_t kFirstCheck = 1 << 14;

size_t CharBytes(uint8_t lead) {
  return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}
}  // namespace

Result<SpmUnigram> SpmUnigram::Build(const SpmModel& model) {
  SpmUnigram unigram;
  float min_score = FLT_MAX;
  for (const SpmPiece& piece : model.pieces)
    if (piece.type == SpmType::kNormal) min_score = std::min(min_score, piece.score);
  unigram.unk_id_ = model.unk_id;
  unigram.unk_score_ = min_score - kUnknownPenalty;
  unigram.score_.resize(model.pieces.size());
  std::vector<std::pair<std::string_view, int32_t>> entries;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const SpmPiece& piece = model.pieces[i];
    if (piece.type != SpmType::kNormal && piece.type != SpmType::kUserDefined) continue;
    entries.push_back({piece.text, static_cast<int32_t>(i)});
    // A user-defined piece scores above all others, so that it always wins.
    unigram.score_[i] = piece.type == SpmType::kUserDefined
                            ? static_cast<float>(0.1 * (static_cast<double>(piece.text.size()) - 1))
                            : piece.score;
  }
  TERN_ASSIGN(unigram.trie_, Trie::Build(std::move(entries)));
  return unigram;
}

void SpmUnigram::Lattice::Reset(const SpmUnigram& unigram) {
  u_ = &unigram;
  at_ = reach_ = 0;
  check_at_ = kFirstCheck;
  base_score_ = 0;
  back_.assign(1, {-1, 0});
  score_.assign(1, 0.0f);
}

size_t SpmUnigram::Lattice::Push(std::string_view text, bool last, std::vector<Step>* steps) {
  const Trie& trie = u_->trie_;
  const size_t max_piece = std::max<size_t>(trie.max_key_bytes(), 4);
  size_t taken = 0;
  while (taken < text.size()) {
    if (!last && text.size() - taken < max_piece) {
      // Fewer bytes than the longest piece: fine as long as the walk below ends before the text does.
      uint32_t node = Trie::kRoot;
      size_t i = taken;
      while (i < text.size() && trie.Step(&node, static_cast<uint8_t>(text[i]))) ++i;
      if (i == text.size() || taken + CharBytes(static_cast<uint8_t>(text[taken])) > text.size()) break;
    }
    const size_t ends = std::min(at_ + max_piece, at_ + (text.size() - taken));
    if (back_.size() <= ends) {
      back_.resize(std::max(ends + 1, back_.size() * 2), {-1, 0});
      score_.resize(back_.size());
    }
    if (std::abs(score_[at_]) > kScoreReset) {
      const float offset = score_[at_];
      score_[at_] = 0.0f;
      for (size_t i = at_ + 1; i <= reach_; ++i)
        if (back_[i].length != 0) score_[i] -= offset;
    }
    const float here = score_[at_];
    const uint8_t* s = reinterpret_cast<const uint8_t*>(text.data()) + taken;
    const size_t left = text.size() - taken, char_bytes = std::min(CharBytes(s[0]), left);
    auto offer = [&](int32_t id, float score, size_t length) {
      const float candidate = score + here;
      const size_t end = at_ + length;
      if (back_[end].length == 0 || candidate > score_[end]) {
        back_[end] = {id, static_cast<int32_t>(length)};
        score_[end] = candidate;
      }
      reach_ = std::max(reach_, end);
    };
    bool covered = false;
    uint32_t node = Trie::kRoot;
    for (size_t i = 0; i < left && trie.Step(&node, s[i]);) {
      ++i;
      const int32_t id = trie.Value(node);
      if (id < 0) continue;
      offer(id, u_->score_[static_cast<size_t>(id)], i);
      covered |= i == char_bytes;
    }
    if (!covered) offer(u_->unk_id_, u_->unk_score_, char_bytes);
    taken += char_bytes;
    at_ += char_bytes;
    if (reach_ <= at_) {
      Emit(at_, steps);
    } else if (at_ >= check_at_) {
      const size_t common = CommonEnd(at_);
      if (common > 0) Emit(common, steps);
      check_at_ = std::max(kFirstCheck, at_ * 2);
    }
  }
  if (last && at_ > 0) Emit(at_, steps);
  return taken;
}

// The position closest to `at` through which the best paths to all positions from `at` on pass (0 if that is the
// start).
size_t SpmUnigram::Lattice::CommonEnd(size_t at) const {
  // All later paths go through a position in [at, reach_] that some piece ends at, or through `at` itself. Their best
  // paths are walked back together: the furthest one steps first, until one is left.
  std::vector<size_t> live;
  for (size_t i = at; i <= reach_; ++i)
    if (back_[i].length > 0) live.push_back(i);
  std::make_heap(live.begin(), live.end());
  while (live.size() > 1) {
    std::pop_heap(live.begin(), live.end());
    size_t position = live.back();
    live.pop_back();
    position -= static_cast<size_t>(back_[position].length);
    if (std::find(live.begin(), live.end(), position) == live.end()) {
      live.push_back(position);
      std::push_heap(live.begin(), live.end());
    }
  }
  return live.empty() ? 0 : live[0];
}

// Gives the best path to `end` and makes `end` the start of what follows.
void SpmUnigram::Lattice::Emit(size_t end, std::vector<Step>* steps) {
  const size_t first = steps->size();
  for (size_t i = end; i > 0; i -= static_cast<size_t>(back_[i].length)) steps->push_back(back_[i]);
  std::reverse(steps->begin() + static_cast<int64_t>(first), steps->end());
  score_[0] = score_[end];
  const size_t rest = reach_ - end;
  for (size_t i = 1; i <= rest; ++i) {
    back_[i] = back_[end + i];
    score_[i] = score_[end + i];
  }
  for (size_t i = rest + 1; i <= reach_; ++i) back_[i] = {-1, 0};
  at_ -= end;
  reach_ = rest;
}

}  // namespace tern
