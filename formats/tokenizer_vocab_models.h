// The models of tokenizer.json: one pre-tokenized word to ids. Immutable; a Scratch belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "formats/tokenizer_spm_bpe.h"
#include "formats/tokenizer_trie.h"

namespace tern {

// Strings and their ids, both ways. Ids may have gaps; of equal strings the last wins.
class Vocabulary {
 public:
  static constexpr int64_t kMaxEntries = 4 << 20;
  static constexpr size_t kMaxTokenBytes = 4096;

  // Errors: kMalformed (too many, too long, an id out of range).
  static Result<Vocabulary> Build(std::vector<std::pair<std::string, int32_t>> entries);
  // {"token": id, ...}
  static Result<Vocabulary> FromJson(const Json& object);

  int32_t IdOf(std::string_view token) const { return trie_.Find(token); }
  // "" for an id without a token.
  const std::string& TokenOf(int32_t id) const {
    return id >= 0 && id < end_id() ? tokens_[static_cast<size_t>(id)] : kNone;
  }
  int64_t count() const { return count_; }                                 // of strings
  int32_t end_id() const { return static_cast<int32_t>(tokens_.size()); }  // one above the largest id
  const Trie& trie() const { return trie_; }

 private:
  static const std::string kNone;
  std::vector<std::string> tokens_;
  Trie trie_;
  int64_t count_ = 0;
};

struct ModelToken {
  int32_t id;
  uint32_t begin, end;  // bytes of the word
};

class VocabModel {
 public:
  struct Scratch {
    std::vector<double> score;
    std::vector<std::pair<int32_t, int32_t>> back;  // id, bytes
    std::vector<BpeMerger::Symbol> symbols;
    BpeMerger merger;
  };
  virtual ~VocabModel() = default;
  // Appends the tokens of one word (never empty). kMalformed if there is no token for it and no unknown token.
  virtual Status Tokenize(std::string_view word, Scratch* scratch, std::vector<ModelToken>* out) const = 0;
  const Vocabulary& vocabulary() const { return vocabulary_; }
  int32_t unk_id() const { return unk_id_; }
  // True if an unknown token is shown as the text it stands for.
  virtual bool unknown_keeps_text() const { return false; }

 protected:
  VocabModel(Vocabulary vocabulary, int32_t unk_id) : vocabulary_(std::move(vocabulary)), unk_id_(unk_id) {}
  Vocabulary vocabulary_;
  int32_t unk_id_;  // -1: none
};

// The "model" object of a tokenizer.json. Errors: kMalformed.
Result<std::unique_ptr<VocabModel>> MakeVocabModel(const Json& config);

struct UnigramPiece {
  std::string text;
  double score;
};
Result<std::unique_ptr<VocabModel>> MakeUnigram(std::vector<UnigramPiece> pieces, int32_t unk_id, bool byte_fallback);
Result<std::unique_ptr<VocabModel>> MakeWordPiece(Vocabulary vocabulary, const std::string& unk_token,
                                                  const std::string& prefix, int64_t max_characters);

struct BpeOptions {
  std::string unk_token, prefix, suffix;  // empty: none
  bool fuse_unk = false, byte_fallback = false, ignore_merges = false;
};
Result<std::unique_ptr<VocabModel>> MakeBpe(Vocabulary vocabulary,
                                            const std::vector<std::pair<std::string, std::string>>& merges,
                                            const BpeOptions& options);

}  // namespace tern
