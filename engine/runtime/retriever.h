// Retriever: a RETRO model's neighbours, fetched live from a database. One query per finished chunk: its text is embedded, the nearest chunks are looked up,
// and each comes back with its continuation, in the model's own tokens. Embedder and model may have different tokenizers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/retrieval/filter.h"
#include "engine/runtime/embed.h"
#include "engine/runtime/neighbor_feed.h"

namespace tern {

// How much of what is scored stands in its neighbours already (Borgeaud et al. 2022, 2.6): the longest run of tokens that a chunk shares with one of its
// neighbours, divided by the chunk's length.
struct LeakageReport {
  int64_t chunks = 0;
  double sum = 0;             // of the ratios
  int64_t above_eighth = 0;   // chunks with more than 12.5 %
  int64_t longest = 0;        // tokens
  double mean() const { return chunks > 0 ? sum / static_cast<double>(chunks) : 0; }
};

// Used by one thread at a time.
class Retriever : public NeighborSource {
 public:
  struct Fetched {
    int64_t lane, chunk;
    std::vector<SearchHit> hits;
  };

  // kUsage if the embedder is not the database's; kMalformed if the model has no tokenizer.
  static Result<std::unique_ptr<Retriever>> Create(std::shared_ptr<const Model> model, std::shared_ptr<const Database> database,
                                                   std::shared_ptr<const Model> embedder, int threads, const CancelToken* cancel);
  const RetrievalOptions& options() const { return options_; }  // for the session: k and R of the model

  // What is not found: the text that is scored, say, or chunks that hold what is to be predicted (max_overlap, against the chunk that asks). Its `tokens`
  // are the model's, and need not be set.
  void Filter(SearchFilter filter);
  void OnFetch(std::function<void(const Fetched&)> listener) { listener_ = std::move(listener); }

  Status Fetch(int64_t lane, int64_t chunk, std::span<const int32_t> tokens, std::span<int32_t> neighbors) override;
  const LeakageReport& leakage() const { return leakage_; }
  const Database& database() const { return *database_; }
  double seconds() const { return seconds_; }  // spent in Fetch

 private:
  Retriever() = default;
  Status Tokens(int64_t chunk, std::vector<int32_t>* ids) const;
  // What the model reads of a neighbour: the chunk in the first half, what follows it in its document in the second, padding where they are shorter; of
  // chunk -1 padding alone. out [neighbor length].
  Status ReadNeighbor(int64_t chunk, std::span<int32_t> out) const;

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const Database> database_;
  std::unique_ptr<Embedder> embedder_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<Gang> gang_;
  RetrievalOptions options_;
  int32_t pad_ = 0;
  const CancelToken* cancel_ = nullptr;
  std::unique_ptr<FilteredSearch> search_;
  std::function<void(const Fetched&)> listener_;
  LeakageReport leakage_;
  double seconds_ = 0;
};

}  // namespace tern
