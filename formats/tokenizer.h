// Tokenizer: text <-> ids, token-exact with the public libraries that trained models were made with.
//
// A tokenizer comes from the files users have: SentencePiece models, vocab.txt, vocab.json + merges.txt,
// tokenizer.json, Transformer-XL vocabularies (vocab.pkl, vocab.bin, cache.pt, vocab.txt), or none at all (bytes).
// Every file is hostile until checked; nothing in it is executed. A Tokenizer is immutable after construction; all
// const methods may be called from any number of threads at once. Text is UTF-8; invalid sequences become U+FFFD as the
// library in question does it. Ids are int32_t >= 0.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"
#include "formats/tokenizer_files.h"
#include "formats/tokenizer_scratch.h"

namespace tern {

// Half-open range of the original text: code points, except kind "spm", where it is bytes (as the SentencePiece library
// counts). {0, 0} for special tokens that stand for no text.
struct TextSpan {
  int64_t begin = 0, end = 0;
  bool operator==(const TextSpan&) const = default;
};

enum class Truncation { kNone, kLongestFirst, kOnlyFirst, kOnlySecond };

struct EncodeOptions {
  bool special_tokens = true;  // what the template of the tokenizer adds around a text or pair
  bool pieces = false;         // fill Encoding::pieces
  bool offsets = false;        // fill Encoding::offsets (empty where the kind has none: words of Transformer-XL, bytes)
  int64_t max_length =
      0;  // 0: what the file says (tokenizer.json may truncate), else no longer than this, special tokens included
  Truncation truncation = Truncation::kLongestFirst;  // which side is cut when max_length > 0
};

// All vectors have ids.size() elements, or none where not asked for.
struct Encoding {
  std::vector<int32_t> ids;
  std::vector<int32_t> type_ids;        // 0 first text, 1 second; always filled
  std::vector<uint8_t> attention_mask;  // 0 = padding that the file asked for; empty: all ones
  std::vector<TextSpan> offsets;
  std::vector<uint8_t> sequence;  // with offsets: 0 first text, 1 second, 255 special or padding
  std::vector<std::string> pieces;
};

// One window over a long context, as extractive question answering cuts it.
struct TextWindow {
  Encoding encoding;
  int64_t first_context_token = 0,
          last_context_token = -1;  // inclusive, indices into encoding; offsets there are code points of the context
};

struct DecodeOptions {
  bool skip_special_tokens = true;
  // English clean-up (" ." -> "." ...) as Hugging Face does it; unset: what the folder's tokenizer_config.json or the
  // kind says.
  std::optional<bool> clean_up;
};

// Ids of the special tokens; -1 where there is none.
struct SpecialIds {
  int32_t bos = -1, eos = -1, unk = -1, pad = -1, cls = -1, sep = -1, mask = -1;
};

class EncodeStream;
class TokenDecoder;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // `path`: a .tern file that holds a tokenizer, a folder, or one file (.model, vocab.txt, tokenizer.json, vocab.pkl,
  // vocab.bin, cache.pt, vocab.json beside its merges.txt). `kind`: one of
  //   spm albert t5 reformer      a SentencePiece model: as the library does it; as the Hugging Face classes do
  //   bert gpt2 roberta json      vocab.txt; vocab.json + merges.txt; tokenizer.json
  //   transfo-xl                  word vocabulary with Moses rules
  //   xl-pretok xl-lm1b xl-text8 xl-bytes-decimal   vocabularies of the original Transformer-XL code
  //   bytes                       id = byte + 2, no files
  // or empty: decided from the files and the folder's tokenizer_config.json / config.json. Errors: kIo, kMalformed,
  // kUsage (unknown kind).
  static Result<std::unique_ptr<Tokenizer>> Open(const std::string& path, std::string_view kind = "");
  // True if the folder (or file) holds what Open can use; never reads large files.
  static bool Recognizes(const std::string& path);

  // All that Deserialize needs, as bytes of our own bounded layout (for a .tern file): tables and text, never code.
  // Deserialize(Serialize()) behaves alike.
  std::string Serialize() const { return files_.Serialize(); }
  static Result<std::unique_ptr<Tokenizer>> Deserialize(std::span<const uint8_t> bytes);

  const std::string& kind() const { return files_.kind; }
  virtual int64_t vocab_size() const = 0;  // ids are in [0, vocab_size)
  virtual SpecialIds special_ids() const = 0;
  virtual int32_t IdOf(std::string_view piece) const = 0;  // -1 if there is none
  virtual std::string PieceOf(int32_t id) const = 0;       // "" for an id without text
  virtual bool IsSpecial(int32_t id) const = 0;            // dropped by DecodeOptions::skip_special_tokens

  // Text (or a pair) to ids. Fails (kMalformed) only where the kind has no id for a part of the text and no unknown
  // token: the message names it.
  Result<Encoding> Encode(std::string_view text, const EncodeOptions& options = {}) const;
  Result<Encoding> EncodePair(std::string_view a, std::string_view b, const EncodeOptions& options = {}) const;
  // Appends the ids of one text, nothing else computed: the fast path. With special tokens only if asked.
  virtual Status EncodeIds(std::string_view text, bool special_tokens, std::vector<int32_t>* ids) const = 0;
  // How many ids EncodeIds would append.
  Result<int64_t> Count(std::string_view text, bool special_tokens = false) const;
  // [question][context windows]: only the context is cut; consecutive windows share `stride` context tokens. Errors:
  // kUsage if question and special tokens leave no room for the stride and one token more.
  Result<std::vector<TextWindow>> EncodeWindows(std::string_view question, std::string_view context, int64_t max_length,
                                                int64_t stride) const;
  // Feeds a text of any length in bounded memory; the ids are those of one EncodeIds call on the whole. Only xl-pretok
  // and xl-lm1b differ: there a text is one line, and a stream a file, each line of which is encoded on its own, as the
  // original code does it.
  virtual std::unique_ptr<EncodeStream> NewEncodeStream() const = 0;

  // Ids outside the vocabulary, or without text, decode to nothing.
  std::string Decode(std::span<const int32_t> ids, const DecodeOptions& options = {}) const;
  // Words to text: Moses detokenizer for transfo-xl; the kind's decoder for others.
  virtual std::string DecodePieces(std::span<const std::string> pieces) const = 0;
  virtual std::unique_ptr<TokenDecoder> NewTokenDecoder(const DecodeOptions& options = {}) const = 0;

 protected:
  // What the tokenizer's own file says about every call (tokenizer.json).
  struct FileLimits {
    int64_t max_length = 0;  // 0: none
    Truncation truncation = Truncation::kLongestFirst;
    bool truncate_left = false;
  };

  explicit Tokenizer(TokenizerFiles files) : files_(std::move(files)) {}
  const TokenizerFiles& files() const { return files_; }

  // One text without special tokens, nothing cut; type_ids may be left empty.
  virtual Result<Encoding> EncodeAlone(std::string_view text, const EncodeOptions& options) const = 0;
  // How many special tokens Join adds to one text, to a pair.
  virtual int64_t SpecialCount(bool /*pair*/) const { return 0; }
  // Puts one text or a pair together, with special tokens if asked. The default: one behind the other.
  virtual Encoding Join(Encoding first, const Encoding* second, const EncodeOptions& options) const;
  virtual FileLimits file_limits() const { return {}; }
  // False if an empty second text is no second text.
  virtual bool empty_second_counts() const { return true; }

 private:
  Result<Encoding> EncodeBoth(std::string_view a, const std::string_view* b, const EncodeOptions& options) const;
  TokenizerFiles files_;
  mutable ScratchPool<std::vector<int32_t>> count_buffers_;
};

// Not thread-safe. The Tokenizer must outlive it.
class EncodeStream {
 public:
  virtual ~EncodeStream() = default;
  // Appends the ids that are certain after `text` (any split of the bytes will do, inside a character too). Without
  // special tokens.
  virtual Status Push(std::string_view text, std::vector<int32_t>* ids) = 0;
  virtual Status Finish(std::vector<int32_t>* ids) = 0;
};

// Text of generated ids as it becomes certain: always whole UTF-8 characters; all Push results and Finish()
// concatenated equal Decode() of all ids. Not thread-safe. The Tokenizer must outlive it.
class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  virtual std::string Push(int32_t id) = 0;
  virtual std::string Finish() = 0;
};

}  // namespace tern
