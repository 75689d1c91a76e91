#include "engine/runtime/retriever.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace tern {

Result<std::unique_ptr<Retriever>> Retriever::Create(std::shared_ptr<const Model> model, std::shared_ptr<const Database> database,
                                                     std::shared_ptr<const Model> embedder, int threads, const CancelToken* cancel) {
  const auto* retro = dynamic_cast<const RetroNetwork*>(&model->network());
  if (!retro) return UsageError("the model reads no neighbours").File(model->file().path()).Got(model->network().architecture(), "retro");
  std::unique_ptr<Retriever> r(new Retriever());
  TERN_ASSIGN(r->tokenizer_, model->NeedTokenizer());
  if (database->settings().payload == PayloadKind::kText) {
    char digest[17];
    std::snprintf(digest, sizeof digest, "%016llx", static_cast<unsigned long long>(embedder->file().digest()));
    if (database->settings().embedder_digest != digest)
      return UsageError("this is not the embedder that the database was made with").File(embedder->file().path()).Got(digest, database->settings().embedder_digest);
  }
  TERN_ASSIGN(r->embedder_, Embedder::Create(embedder, threads, cancel));
  if (r->embedder_->width() != database->settings().dim)
    return UsageError("the embedder's vectors have another width than the database's").File(embedder->file().path()).Got(r->embedder_->width(), database->settings().dim);
  const RetroConfig& c = retro->retro();
  r->gang_ = std::make_unique<Gang>(threads);
  r->options_ = {c.neighbors, c.neighbor_length, r.get()};
  r->pad_ = static_cast<int32_t>(c.pad_token_id);
  r->model_ = std::move(model), r->database_ = std::move(database), r->cancel_ = cancel;
  r->Filter({});
  return r;
}

void Retriever::Filter(SearchFilter filter) {
  filter.tokens = [this](int64_t chunk, std::vector<int32_t>* ids) -> Status {
    ids->resize(static_cast<size_t>(options_.length));
    TERN_RETURN_IF_ERROR(ReadNeighbor(chunk, *ids));
    while (!ids->empty() && ids->back() == pad_) ids->pop_back();
    return {};
  };
  search_ = std::make_unique<FilteredSearch>(*database_, std::move(filter));
}

// A stored chunk in the model's ids.
Status Retriever::Tokens(int64_t chunk, std::vector<int32_t>* ids) const {
  ids->clear();
  const std::string_view payload = database_->Payload(chunk);
  if (database_->settings().payload == PayloadKind::kText) return tokenizer_->EncodeIds(payload, false, ids);
  ids->resize(payload.size() / 4);
  std::memcpy(ids->data(), payload.data(), ids->size() * 4);
  return {};
}

Status Retriever::ReadNeighbor(int64_t chunk, std::span<int32_t> out) const {
  std::fill(out.begin(), out.end(), pad_);
  std::vector<int32_t> ids;
  const size_t half = std::max<size_t>(1, out.size() / 2);
  for (size_t at = 0; at < out.size() && chunk >= 0; at += half, chunk = database_->Next(chunk)) {
    TERN_RETURN_IF_ERROR(Tokens(chunk, &ids));
    std::copy_n(ids.begin(), std::min({ids.size(), half, out.size() - at}), out.begin() + static_cast<int64_t>(at));
  }
  return {};
}

Status Retriever::Fetch(int64_t lane, int64_t chunk, std::span<const int32_t> tokens, std::span<int32_t> neighbors) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<float> query;
  TERN_RETURN_IF_ERROR(embedder_->Embed({tokenizer_->Decode(tokens)}, &query));
  SearchOptions options;
  options.k = options_.neighbors, options.cancel = cancel_;
  TERN_ASSIGN(auto hits, search_->Find(query, tokens, options, 0, false, gang_.get()));

  int64_t longest = 0;
  for (int64_t i = 0; i < options_.neighbors; ++i) {
    std::span<int32_t> out = neighbors.subspan(static_cast<size_t>(i * options_.length), static_cast<size_t>(options_.length));
    TERN_RETURN_IF_ERROR(ReadNeighbor(hits[static_cast<size_t>(i)].id, out));
    longest = std::max(longest, LongestCommonRun(tokens, out));
  }
  ++leakage_.chunks;
  const double ratio = static_cast<double>(longest) / static_cast<double>(std::max<size_t>(1, tokens.size()));
  leakage_.sum += ratio;
  leakage_.above_eighth += ratio > 0.125;
  leakage_.longest = std::max(leakage_.longest, longest);
  if (listener_) listener_({lane, chunk, hits});
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return {};
}

}  // namespace tern
