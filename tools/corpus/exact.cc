#include "tools/corpus/exact.h"

#include <algorithm>
#include <mutex>
#include <tuple>

#include "tools/corpus/chars.h"
#include "tools/corpus/pipeline.h"

namespace tern::corpus {

std::string_view NormalizedKey(std::string_view text, Normalize how, WordReader& words, std::string* scratch) {
  if (how == Normalize::kNone) return text;
  scratch->clear();
  switch (how) {
    case Normalize::kSpace: AppendSpaced(text, scratch); break;
    case Normalize::kFold: AppendFolded(text, scratch); break;
    default: AppendJoined(text, words, scratch); break;
  }
  return *scratch;
}

Status ExactKeys::Run(DedupState* state) {
  const uint32_t before = static_cast<uint32_t>(state->corpus.own_begin_doc());
  TERN_RETURN_IF_ERROR(ShareOut(state->ranks, &store_, budget_bytes_, state->temporary, [before](ExactKey* key) { key->doc += before; }));
  Clusters clusters;
  std::mutex mu;
  TERN_RETURN_IF_ERROR(ForChunks(state->corpus.threads(), store_->partitions(), state->options.common.cancel, [&](int64_t p, int) -> Status {
    TERN_ASSIGN(std::vector<ExactKey> keys, store_->Take(p));
    std::sort(keys.begin(), keys.end(), [](const ExactKey& a, const ExactKey& b) { return std::tie(a.high, a.low, a.doc) < std::tie(b.high, b.low, b.doc); });
    Clusters found;
    for (size_t i = 0; i < keys.size();) {
      size_t j = i + 1;
      while (j < keys.size() && keys[j].high == keys[i].high && keys[j].low == keys[i].low) ++j;
      if (j - i > 1) {
        uint32_t keeper = keys[i].doc;
        for (size_t k = i + 1; k < j; ++k)
          if (state->Better(keys[k].doc, keeper)) keeper = keys[k].doc;
        found.list.push_back({keeper, found.members.size(), j - i});
        for (size_t k = i; k < j; ++k) found.members.push_back(keys[k].doc);
      }
      i = j;
    }
    std::lock_guard lock(mu);
    clusters.Add(found);
    return {};
  }));
  TERN_RETURN_IF_ERROR(GatherClusters(state->ranks, &clusters));
  return state->Take(&clusters, Fate::kExact);
}

}  // namespace tern::corpus
