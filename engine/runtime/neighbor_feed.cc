#include "engine/runtime/neighbor_feed.h"

#include <algorithm>

#include "engine/base/checked.h"

namespace tern {

Result<std::unique_ptr<NeighborFeed>> NeighborFeed::Create(const Network& network, const RetrievalOptions& options, int64_t batch, int64_t max_tokens) {
  const auto* retro = dynamic_cast<const RetroNetwork*>(&network);
  if (!retro) {
    if (options.neighbors > 0) return UsageError("the model reads no neighbours").Got(network.architecture(), "retro");
    return std::unique_ptr<NeighborFeed>();
  }
  const RetroConfig& c = retro->retro();
  if (options.neighbors < 0 || options.neighbors > 1024) return UsageError("the number of neighbours is out of range").Got(options.neighbors, "0 to 1024");
  if (options.neighbors > 0 && (options.length < 1 || options.length > (1 << 20)))
    return UsageError("the length of a neighbour is out of range").Got(options.length, Str("1 to ", 1 << 20));
  if (options.neighbors > 0 && c.neighbor_positions && options.length > c.max_positions)
    return UsageError("neighbours are longer than the model's positions").Got(options.length, Str("at most ", c.max_positions));
  if (options.neighbors > 0 && !options.source) return InternalError("retrieval without a source");
  return std::unique_ptr<NeighborFeed>(new NeighborFeed(c, options, batch, max_tokens));
}

NeighborFeed::NeighborFeed(const RetroConfig& config, const RetrievalOptions& options, int64_t batch, int64_t max_tokens)
    : c_(config), options_(options), batch_(batch) {
  const size_t rows = static_cast<size_t>(batch * max_tokens);
  position_ids_.reserve(rows);
  if (options.neighbors == 0) return;
  const size_t chunks = static_cast<size_t>(batch * CeilDiv(max_tokens, c_.chunk));
  const size_t neighbors = chunks * static_cast<size_t>(options.neighbors), packed = neighbors * static_cast<size_t>(options.length);
  cross_positions_.reserve(rows), active_.reserve(rows);
  neighbor_ids_.reserve(packed), neighbor_positions_.reserve(packed);
  starts_.reserve(neighbors + 1);
  context_positions_.reserve(chunks * static_cast<size_t>(c_.chunk));
  tokens_of_chunk_.resize(static_cast<size_t>(c_.chunk));
  fetched_.resize(static_cast<size_t>(options.neighbors * options.length));
}

void NeighborFeed::Positions(int64_t seen) {
  position_ids_.clear(), cross_positions_.clear(), active_.clear();
  for (int64_t lane = 0; lane < batch_; ++lane)
    for (int64_t t = 0; t < tokens_; ++t) {
      const int64_t position = seen + t;
      position_ids_.push_back(static_cast<int32_t>(position));
      if (options_.neighbors == 0) continue;
      const bool active = position >= border_ - 1;
      const int64_t row = active ? (position - (border_ - 1)) % c_.chunk : 0;
      // The paper's distance is row - i' + m - 1. Upstream's table of these positions is shifted by mistake: only the first row has one.
      const int64_t cross = c_.cross_positions == RetroCrossPositions::kLucid ? (row == 0 ? 2 * c_.chunk - 2 : 0) : c_.chunk - 1 + row;
      active_.push_back(active ? 1.0f : 0.0f);
      cross_positions_.push_back(static_cast<int32_t>(cross));
    }
}

Status NeighborFeed::Fetch(std::span<const int32_t> ids, const int32_t* kept) {
  neighbor_ids_.clear(), neighbor_positions_.clear(), starts_.clear(), context_positions_.clear();
  starts_.push_back(0);
  for (int64_t lane = 0; lane < batch_; ++lane)
    for (int64_t e = 0; e < completed_; ++e) {
      // The chunk's tokens: those of this run behind those that were kept.
      const int64_t last = first_ + e * c_.chunk, count = e == 0 ? chunks_[2] + 1 : c_.chunk;
      for (int64_t j = 0; j < count; ++j) {
        const int64_t t = last - (count - 1) + j;
        const int32_t id = t >= 0 ? ids[static_cast<size_t>(lane * tokens_ + t)] : kept[lane * (c_.chunk + 1) + 1 + j];
        if (id < 0 || id >= c_.vocab_size) return Malformed("the saved state holds a token outside of the vocabulary").Got(id, Str("0 to ", c_.vocab_size - 1));
        tokens_of_chunk_[static_cast<size_t>(j)] = id;
      }
      TERN_RETURN_IF_ERROR(options_.source->Fetch(lane, chunk_ + e, {tokens_of_chunk_.data(), static_cast<size_t>(count)}, fetched_));
      for (int64_t i = 0; i < options_.neighbors; ++i) {
        for (int64_t p = 0; p < options_.length; ++p) {
          const int32_t id = fetched_[static_cast<size_t>(i * options_.length + p)];
          if (id < 0 || id >= c_.vocab_size)
            return UsageError("a neighbour's token lies outside the vocabulary").Where(Str("chunk ", chunk_ + e, ", neighbour ", i)).Got(id, Str("0 to ", c_.vocab_size - 1));
          if (c_.masked_pads && id == c_.pad_token_id) continue;
          neighbor_ids_.push_back(id);
          neighbor_positions_.push_back(static_cast<int32_t>(p));
        }
        starts_.push_back(static_cast<int32_t>(neighbor_ids_.size()));
      }
      for (int64_t j = 0; j < c_.chunk; ++j) context_positions_.push_back(static_cast<int32_t>(j));
    }
  return {};
}

Status NeighborFeed::Begin(std::span<const int32_t> ids, int64_t seen, const int32_t* kept) {
  tokens_ = static_cast<int64_t>(ids.size()) / batch_;
  if (seen + tokens_ > c_.max_positions)
    return UsageError("the text is longer than the model's positions").Got(Str(seen + tokens_, " tokens"), Str("at most ", c_.max_positions));
  completed_ = 0;
  if (options_.neighbors > 0) {
    const int64_t m = c_.chunk;
    const int64_t total = options_.total > 0 ? options_.total : tokens_;
    border_ = kept[0] > 0 ? std::min<int64_t>(kept[0], m) : c_.partial_first && total % m != 0 ? total % m : m;
    chunk_ = seen < border_ ? 0 : 1 + (seen - border_) / m;
    row_ = chunk_ == 0 ? seen : (seen - border_) % m;
    first_ = border_ - 1 + chunk_ * m - seen;
    completed_ = first_ < tokens_ ? 1 + (tokens_ - 1 - first_) / m : 0;
    if (completed_ == 0) first_ = tokens_;
    chunks_ = {static_cast<int32_t>(row_), static_cast<int32_t>(first_), static_cast<int32_t>(chunk_ == 0 ? border_ - 1 : m - 1), 0};
    TERN_RETURN_IF_ERROR(Fetch(ids, kept));
  }
  Positions(seen);
  return {};
}

void NeighborFeed::End(std::span<const int32_t> ids, int32_t* kept) const {
  if (options_.neighbors == 0) return;
  for (int64_t lane = 0; lane < batch_; ++lane) {
    int32_t* own = kept + lane * (c_.chunk + 1);
    own[0] = static_cast<int32_t>(border_);
    for (int64_t t = 0; t < tokens_; ++t)
      own[1 + (t <= first_ ? row_ + t : (t - first_ - 1) % c_.chunk)] = ids[static_cast<size_t>(lane * tokens_ + t)];
  }
}

void NeighborFeed::SetLengths(std::array<int64_t, 4>* lengths) const {
  *lengths = {tokens_, completed_, static_cast<int64_t>(neighbor_ids_.size()), static_cast<int64_t>(starts_.size())};
}

const void* NeighborFeed::Input(std::string_view name) const {
  if (name == "position_ids") return position_ids_.data();
  if (name == "chunks") return chunks_.data();
  if (name == "active") return active_.data();
  if (name == "cross_positions") return cross_positions_.data();
  if (name == "neighbor_ids") return neighbor_ids_.data();
  if (name == "neighbor_positions") return neighbor_positions_.data();
  if (name == "starts") return starts_.data();
  if (name == "context_positions") return context_positions_.data();
  return nullptr;
}

}  // namespace tern
