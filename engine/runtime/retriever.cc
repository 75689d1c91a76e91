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
  // A neighbour and what follows it, as far as the model reads.
  filter.tokens = [this](int64_t chunk, std::vector<int32_t>* ids) -> Status {
    ids->clear();
    std::vector<int32_t> some;
    for (int64_t id = chunk; id >= 0 && static_cast<int64_t>(ids->size()) < options_.length; id = database_->Next(id)) {
      TERN_RETURN_IF_ERROR(Tokens(id, &some));
      ids->insert(ids->end(), some.begin(), some.end());
    }
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

Status Retriever::Fetch(int64_t lane, int64_t chunk, std::span<const int32_t> tokens, std::span<int32_t> neighbors) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<float> query;
  TERN_RETURN_IF_ERROR(embedder_->Embed({tokenizer_->Decode(tokens)}, &query));
  SearchOptions options;
  options.k = options_.neighbors, options.cancel = cancel_;
  TERN_ASSIGN(auto hits, search_->Find(query, tokens, options, 0, false, gang_.get()));

  std::fill(neighbors.begin(), neighbors.end(), pad_);
  std::vector<int32_t> ids;
  int64_t longest = 0;
  const int64_t half = std::max<int64_t>(1, options_.length / 2);
  for (int64_t i = 0; i < options_.neighbors; ++i) {
    std::span<int32_t> out = neighbors.subspan(static_cast<size_t>(i * options_.length), static_cast<size_t>(options_.length));
    int64_t id = hits[static_cast<size_t>(i)].id;
    // The chunk in the first half, what follows it in its document in the second.
    for (int64_t at = 0; at < options_.length && id >= 0; at += half, id = database_->Next(id)) {
      TERN_RETURN_IF_ERROR(Tokens(id, &ids));
      const size_t count = std::min({ids.size(), static_cast<size_t>(half), static_cast<size_t>(options_.length - at)});
      std::copy_n(ids.begin(), count, out.begin() + at);
    }
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
