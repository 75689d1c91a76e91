#include "engine/retrieval/filter.h"

#include <algorithm>
#include <unordered_set>

namespace tern {
namespace {

bool Overlap(std::span<const int32_t> a, std::span<const int32_t> b, double most) {
  const double shorter = static_cast<double>(std::min(a.size(), b.size()));
  return most < 1 && static_cast<double>(LongestCommonRun(a, b)) > most * shorter;
}

}  // namespace

int64_t LongestCommonRun(std::span<const int32_t> a, std::span<const int32_t> b) {
  // Runs that end at (i, j) from those at (i-1, j-1): one row, from the back.
  std::vector<int64_t> run(b.size() + 1);
  int64_t longest = 0;
  for (int32_t x : a)
    for (size_t j = b.size(); j > 0; --j) {
      run[j] = b[j - 1] == x ? run[j - 1] + 1 : 0;
      longest = std::max(longest, run[j]);
    }
  return longest;
}

FilteredSearch::FilteredSearch(const Database& database, SearchFilter filter) : database_(database), filter_(std::move(filter)) {
  if (filter_.documents.empty() && filter_.sources.empty()) return;
  denied_.resize(static_cast<size_t>(database.documents()));
  for (int64_t d : filter_.documents)
    if (d >= 0 && d < database.documents()) denied_[static_cast<size_t>(d)] = true;
  if (filter_.sources.empty()) return;
  const std::unordered_set<std::string> sources(filter_.sources.begin(), filter_.sources.end());
  for (int64_t d = 0; d < database.documents(); ++d)
    if (sources.contains(database.Document(d).source)) denied_[static_cast<size_t>(d)] = true;
}

// Leaves the first k that may stand beside each other.
Status FilteredSearch::Sift(std::span<const int32_t> prompt, int64_t k, std::vector<SearchHit>* hits) const {
  std::vector<SearchHit> kept;
  std::vector<int64_t> documents;
  std::vector<std::vector<int32_t>> texts;
  for (const SearchHit& h : *hits) {
    if (h.id < 0 || static_cast<int64_t>(kept.size()) == k) break;
    const int64_t document = database_.DocumentOf(h.id);
    if (filter_.one_per_document && std::find(documents.begin(), documents.end(), document) != documents.end()) continue;
    if (filter_.needs_tokens()) {
      std::vector<int32_t> ids;
      TERN_RETURN_IF_ERROR(filter_.tokens(h.id, &ids));
      if (Overlap(ids, prompt, filter_.max_overlap)) continue;
      if (std::any_of(texts.begin(), texts.end(), [&](const auto& t) { return Overlap(ids, t, filter_.max_repeat); })) continue;
      if (filter_.max_repeat < 1) texts.push_back(std::move(ids));
    }
    documents.push_back(document);
    kept.push_back(h);
  }
  *hits = std::move(kept);
  return {};
}

Result<std::vector<SearchHit>> FilteredSearch::Find(std::span<const float> query, std::span<const int32_t> prompt, SearchOptions options, int64_t nprobe, bool exhaustive, Gang* gang) const {
  if (!denied_.empty())
    options.allowed = [&, before = options.allowed](int64_t q, int64_t id) { return !denied_[static_cast<size_t>(database_.DocumentOf(id))] && (!before || before(q, id)); };
  const int64_t k = options.k, most = std::min<int64_t>(database_.chunks(), 1 << 20);
  const bool sifts = filter_.one_per_document || filter_.needs_tokens();
  std::vector<SearchHit> hits;
  for (int64_t fetch = sifts ? k + std::min<int64_t>(k, 16) : k;; fetch *= 4) {
    options.k = sifts ? std::clamp(fetch, k, std::max(k, most)) : k;
    TERN_ASSIGN(hits, database_.Find(query, options, nprobe, exhaustive, gang));
    const bool all = options.k >= most || hits.back().id < 0;
    if (sifts) TERN_RETURN_IF_ERROR(Sift(prompt, k, &hits));
    if (!sifts || all || static_cast<int64_t>(hits.size()) >= k) break;
  }
  hits.resize(static_cast<size_t>(k));
  return hits;
}

}  // namespace tern
