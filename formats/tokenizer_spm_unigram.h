// SpmUnigram: the best path through all pieces of a normalized text, as SentencePiece's optimized Viterbi computes it,
// to the last tie: scores are added in float32 from left to right, from zero again behind +-100,000, and the first of
// equal candidates wins (version 0.2.3).
//
// The lattice takes text in any portions and gives pieces as soon as every path must pass through their ends, so a text
// of any length needs bounded memory; the score is carried on, so the pieces are those of one call on the whole.
// Immutable; a Lattice belongs to one thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/tokenizer_spm_model.h"
#include "formats/tokenizer_trie.h"

namespace tern {

class SpmUnigram {
 public:
  // `model` must outlive it. Errors: kMalformed.
  static Result<SpmUnigram> Build(const SpmModel& model);

  struct Step {
    int32_t id;      // the unknown piece's id for one character that no piece covers
    int32_t length;  // bytes of normalized text
  };

  class Lattice {
   public:
    explicit Lattice(const SpmUnigram& unigram) { Reset(unigram); }
    void Reset(const SpmUnigram& unigram);  // keeps memory
    // `text` begins where the text of the last call ended; of it only what all pieces that begin there need is taken
    // unless `last`. Appends the steps that became certain. Returns how many bytes were taken; the rest must be passed
    // again.
    size_t Push(std::string_view text, bool last, std::vector<Step>* steps);

    // Bytes taken whose pieces are not certain yet.
    size_t pending_bytes() const { return at_; }

   private:
    void Emit(size_t end, std::vector<Step>* steps);
    size_t CommonEnd(size_t at) const;
    const SpmUnigram* u_ = nullptr;
    // Node i ends at byte i behind the last certain position. back_: id and length of the best piece that ends there,
    // length 0 = none.
    std::vector<Step> back_;
    std::vector<float> score_;
    size_t at_ = 0;     // where the next piece begins
    size_t reach_ = 0;  // the furthest end of a piece so far
    size_t check_at_ = 0;
    float base_score_ = 0;
  };

 private:
  friend class Lattice;
  Trie trie_;                 // value = id
  std::vector<float> score_;  // by id
  int32_t unk_id_ = 0;
  float unk_score_ = 0;
};

}  // namespace tern
