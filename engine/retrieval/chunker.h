// Chunker: documents of any length into chunks of at most so many tokens, without holding a document whole. A chunk is the text between two token borders;
// the chunks of a document, one behind the other, are its text.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "formats/tokenizer.h"

namespace tern {

class Chunker {
 public:
  // kUsage if the tokenizer cannot say where its tokens stand. `emit` gets each chunk in order.
  static Result<Chunker> Create(const Tokenizer& tokenizer, int64_t tokens, std::function<Status(std::string chunk)> emit);

  static constexpr size_t kMostBytes = size_t{64} << 20;

  // The next stretch of the document (a line, a record), UTF-8: tokenized on its own. kUsage above kMostBytes. A chunk that has grown beyond kMostBytes ends
  // with its stretch although it is not full, so that none is longer than two of them; kMalformed if so much text has no token.
  Status Add(std::string_view text);
  // The document ends: what is left becomes a shorter chunk. A document without tokens has no chunk.
  Status EndDocument();

 private:
  Chunker(const Tokenizer& tokenizer, int64_t tokens, std::function<Status(std::string)> emit)
      : tokenizer_(&tokenizer), tokens_(tokens), emit_(std::move(emit)) {}

  const Tokenizer* tokenizer_;
  int64_t tokens_, count_ = 0;  // of the chunk that is not full
  std::function<Status(std::string)> emit_;
  std::string pending_;
};

// Chunks of token documents: starts, lengths, documents, and the chunk that continues each (-1 at the end of a document). doc_offsets [docs + 1] ascending.
struct ChunkTable {
  std::vector<int64_t> start, length, document, next;
};
Result<ChunkTable> MakeChunkTable(std::span<const int64_t> doc_offsets, int64_t chunk);

// [chunk | continuation], 2 * chunk ids, of one chunk of a table; id -1, past the end, or nothing to continue with: pads.
Status RetrievedTokens(const ChunkTable& table, std::span<const int32_t> tokens, int64_t id, int64_t chunk, int32_t pad, std::span<int32_t> out);

}  // namespace tern
