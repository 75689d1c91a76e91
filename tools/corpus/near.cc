#include "tools/corpus/near.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "tools/corpus/pipeline.h"
#include "tools/corpus/prefix_join.h"
#include "tools/corpus/shingle_sets.h"
#include "tools/corpus/shingles.h"
#include "tools/corpus/union_find.h"

namespace tern::corpus {
namespace {

void SortUnique(std::vector<uint32_t>* v) {
  std::sort(v->begin(), v->end());
  v->erase(std::unique(v->begin(), v->end()), v->end());
}

// From meetings to clusters. Documents with equal sets are one entry; similarities are between entries. Over several ranks a pair is verified where the set
// of its first entry lies, a family or a component by one rank for all; the other sets come there. All ranks then know what was joined.
class NearStage {
 public:
  NearStage(DedupState* state, BandKeys::Meetings meetings)
      : s_(*state), o_(state->options), meetings_(std::move(meetings)), buffers_(static_cast<size_t>(state->corpus.threads())) {}

  Status Run(int64_t* too_large) {
    TERN_ASSIGN(std::vector<uint32_t> docs, Candidates());
    TERN_RETURN_IF_ERROR(sets_.Read(&s_, std::move(docs)));
    entries_ = UnionFind(sets_.entries());
    TERN_RETURN_IF_ERROR(Verify());
    if (o_.pairs) TERN_RETURN_IF_ERROR(WritePairs());
    Clusters clusters;
    TERN_RETURN_IF_ERROR(FormClusters(&clusters));
    TERN_RETURN_IF_ERROR(GatherClusters(s_.ranks, &clusters));
    int64_t limit = o_.max_cluster > 0 ? o_.max_cluster : static_cast<int64_t>(std::floor(static_cast<double>(s_.documents() - s_.corpus.reference_documents()) * o_.max_cluster_percent / 100));
    if (o_.max_cluster < 0) limit = std::max<int64_t>(limit, 100);
    for (Clusters::One c : clusters.list) {
      while (c.size > 0 && s_.reference(clusters.members[c.begin])) ++c.begin, --c.size;
      s_.largest_near_cluster = std::max(s_.largest_near_cluster, static_cast<int64_t>(c.size));
    }
    if (s_.largest_near_cluster > limit) *too_large = s_.largest_near_cluster;
    return s_.Take(&clusters, Fate::kNear);
  }

 private:
  struct Buffers {
    std::vector<uint64_t> a, b;
  };

  // All documents that met another, ascending.
  Result<std::vector<uint32_t>> Candidates() {
    std::vector<uint32_t> docs;
    std::vector<bool> met(static_cast<size_t>(s_.documents()));
    for (uint64_t p : meetings_.pairs) met[p >> 32] = met[static_cast<uint32_t>(p)] = true;
    for (const auto& group : meetings_.groups)
      for (uint32_t doc : group) met[doc] = true;
    for (int64_t doc = 0; doc < s_.documents(); ++doc)
      if (met[static_cast<size_t>(doc)]) docs.push_back(static_cast<uint32_t>(doc));
    if (s_.ranks.alone()) return docs;
    TERN_ASSIGN(docs, s_.ranks.Route(std::move(docs), [this](uint32_t doc) { return s_.corpus.RankOf(doc); }));
    SortUnique(&docs);
    return s_.ranks.Concatenate(std::move(docs));
  }

  bool Mine(size_t number) const { return static_cast<int>(number % static_cast<size_t>(s_.ranks.size())) == s_.ranks.rank(); }

  Result<double> Similarity(uint32_t a, uint32_t b, double least, int worker) {
    if (a == b) return 1.0;
    int64_t n = sets_.SizeOf(a), m = sets_.SizeOf(b);
    if (static_cast<double>(std::min(n, m)) / static_cast<double>(std::max(n, m)) < least) return -1.0;
    Buffers& buffers = buffers_[static_cast<size_t>(worker)];
    TERN_ASSIGN(const uint64_t* x, sets_.Get(a, &buffers.a));
    TERN_ASSIGN(const uint64_t* y, sets_.Get(b, &buffers.b));
    return Jaccard(x, n, y, m, least);
  }

  // Which entries reach the threshold. Without --pairs a pair that is already connected is not looked at: it cannot change the components.
  Status Verify() {
    std::vector<uint64_t> pairs = std::move(meetings_.pairs);  // of documents; from here on of entries, in the same memory
    TERN_RETURN_IF_ERROR(ForMany(pairs.size(), kAnyWorker, [&](size_t i, int) -> Status {
      uint64_t& p = pairs[i];
      p = PairOf(sets_.EntryOf(static_cast<uint32_t>(p >> 32)), sets_.EntryOf(static_cast<uint32_t>(p)));
      return {};
    }));
    std::erase_if(pairs, [](uint64_t p) { return p >> 32 == static_cast<uint32_t>(p); });
    TERN_ASSIGN(pairs, s_.ranks.Route(std::move(pairs), [this](uint64_t p) { return sets_.RankOf(static_cast<uint32_t>(p >> 32)); }));
    std::vector<std::vector<uint32_t>> families;  // of entries
    for (size_t g = 0; g < meetings_.groups.size(); ++g) {
      if (!Mine(g)) continue;
      std::vector<uint32_t>& entries = families.emplace_back();
      for (uint32_t doc : meetings_.groups[g]) entries.push_back(sets_.EntryOf(doc));
      SortUnique(&entries);
      meetings_.groups[g] = {};
    }
    if (!s_.ranks.alone()) {
      std::vector<uint32_t> wanted;
      for (uint64_t p : pairs) wanted.push_back(static_cast<uint32_t>(p));
      for (const auto& entries : families)
        if (entries.size() > 1) wanted.insert(wanted.end(), entries.begin(), entries.end());
      TERN_RETURN_IF_ERROR(sets_.Bring(s_.ranks, std::move(wanted)));
    }
    for (const auto& entries : families) TERN_RETURN_IF_ERROR(AddFamily(entries, &pairs));
    std::sort(pairs.begin(), pairs.end());
    pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
    TERN_RETURN_IF_ERROR(VerifyPairs(pairs));
    return ShareJoins();
  }

  // What this rank joined, to all.
  Status ShareJoins() {
    if (!s_.ranks.alone()) {
      TERN_ASSIGN(joined_, s_.ranks.Concatenate(std::move(joined_)));
      for (const Joined& j : joined_) {
        entries_.Join(static_cast<uint32_t>(j.pair >> 32), static_cast<uint32_t>(j.pair));
        if (o_.pairs && s_.ranks.root()) verified_[j.pair] = j.similarity;
      }
    }
    std::sort(joined_.begin(), joined_.end(), [](const Joined& a, const Joined& b) { return a.pair < b.pair; });
    return {};
  }

  Status AddFamily(const std::vector<uint32_t>& entries, std::vector<uint64_t>* pairs) {
    if (entries.size() <= kSmallMeeting) {
      for (size_t i = 0; i < entries.size(); ++i)
        for (size_t j = i + 1; j < entries.size(); ++j) pairs->push_back(PairOf(entries[i], entries[j]));
      return {};
    }
    if (!o_.pairs && Outsiders(entries) == 0) return {};
    TERN_ASSIGN(PrefixJoin join, PrefixJoin::Build(&sets_, entries, o_.threshold));
    std::vector<uint32_t> found;
    auto query = [&](size_t place, bool only_later) -> Status {
      join.Candidates(place, &found);
      std::vector<uint64_t> some;
      for (uint32_t other : found)
        if (!only_later || other > place) some.push_back(PairOf(entries[place], entries[other]));
      return VerifyPairs(some);
    };
    if (o_.pairs) {  // all of them are to be listed
      for (size_t place = 0; place < entries.size(); ++place) TERN_RETURN_IF_ERROR(query(place, true));
      return {};
    }
    // A few members join most of a family. When several in a row joined nobody, only pairs with a member outside the largest component still matter.
    constexpr int kMisses = 8;
    int misses = 0;
    for (size_t place = 0; place < entries.size() && misses < kMisses; ++place) {
      if (place % 64 == 32 && Outsiders(entries) == 0) return {};
      const int64_t before = joins_;
      TERN_RETURN_IF_ERROR(query(place, false));
      misses = joins_ == before ? misses + 1 : 0;
    }
    const uint32_t largest = LargestRoot(entries).first;
    for (size_t place = 0; place < entries.size(); ++place)
      if (entries_.Root(entries[place]) != entries_.Root(largest)) TERN_RETURN_IF_ERROR(query(place, false));
    return {};
  }

  // The root of the component most of the entries belong to, and how many do.
  std::pair<uint32_t, size_t> LargestRoot(const std::vector<uint32_t>& entries) {
    std::map<uint32_t, size_t> sizes;
    for (uint32_t e : entries) ++sizes[entries_.Root(e)];
    return *std::max_element(sizes.begin(), sizes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  }
  size_t Outsiders(const std::vector<uint32_t>& entries) { return entries.size() - LargestRoot(entries).second; }

  Status VerifyPairs(const std::vector<uint64_t>& pairs) {
    // Batches grow: the first few of a family already join most of it, and pairs that are joined are skipped in the next batch.
    constexpr size_t kLargest = 1 << 14, kChunk = 64;
    std::vector<double> similarity;
    for (size_t from = 0, batch = 64, n; from < pairs.size(); from += n, batch = std::min(2 * batch, kLargest)) {
      n = std::min(batch, pairs.size() - from);
      similarity.assign(n, -1);
      auto verify = [&](int64_t chunk, int worker) -> Status {
        for (size_t i = static_cast<size_t>(chunk) * kChunk; i < std::min(n, static_cast<size_t>(chunk + 1) * kChunk); ++i) {
          uint32_t a = static_cast<uint32_t>(pairs[from + i] >> 32), b = static_cast<uint32_t>(pairs[from + i]);
          if (!o_.pairs && entries_.RootOnly(a) == entries_.RootOnly(b)) continue;
          TERN_ASSIGN(similarity[i], Similarity(a, b, o_.threshold, worker));
        }
        return {};
      };
      TERN_RETURN_IF_ERROR(ForChunks(s_.corpus.threads(), static_cast<int64_t>((n + kChunk - 1) / kChunk), o_.common.cancel, verify));
      for (size_t i = 0; i < n; ++i) {
        if (!(similarity[i] >= o_.threshold)) continue;
        const bool joined = entries_.Join(static_cast<uint32_t>(pairs[from + i] >> 32), static_cast<uint32_t>(pairs[from + i]));
        ++joins_;
        if (joined || (o_.pairs && !s_.ranks.alone())) joined_.push_back({pairs[from + i], similarity[i]});
        if (o_.pairs) verified_[pairs[from + i]] = similarity[i];
      }
    }
    return {};
  }

  // pairs.jsonl: of documents, so entries are unfolded.
  Status WritePairs() {
    if (!s_.ranks.root()) return {};
    std::vector<std::vector<uint32_t>> docs_of(sets_.entries());
    for (uint32_t doc : sets_.docs()) docs_of[sets_.EntryOf(doc)].push_back(doc);
    std::vector<std::pair<uint64_t, double>> all;
    for (const auto& docs : docs_of)
      for (size_t i = 0; i < docs.size(); ++i)
        for (size_t j = i + 1; j < docs.size(); ++j) all.emplace_back(PairOf(docs[i], docs[j]), 1.0);
    for (const auto& [pair, similarity] : verified_)
      for (uint32_t a : docs_of[pair >> 32])
        for (uint32_t b : docs_of[static_cast<uint32_t>(pair)]) all.emplace_back(PairOf(a, b), similarity);
    std::sort(all.begin(), all.end());
    std::string lines;
    for (const auto& [pair, similarity] : all) {
      char number[32];
      std::snprintf(number, sizeof number, "%.17g", similarity);
      AppendParts(&lines, "{\"a\":", s_.corpus.ShownDoc(static_cast<int64_t>(pair >> 32)), ",\"b\":", s_.corpus.ShownDoc(static_cast<uint32_t>(pair)), ",\"similarity\":", number, "}\n");
    }
    return s_.out.Append("pairs.jsonl", lines);
  }

  // Of the components that are this rank's.
  Status FormClusters(Clusters* clusters) {
    // Documents by component; a stable sort keeps them ascending.
    std::vector<std::pair<uint32_t, uint32_t>> by_root;
    for (size_t i = 0; i < sets_.docs().size(); ++i) by_root.emplace_back(entries_.Root(sets_.EntryAt(i)), sets_.docs()[i]);
    std::stable_sort(by_root.begin(), by_root.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<std::pair<size_t, size_t>> components;
    size_t number = 0;
    std::vector<uint32_t> wanted;
    for (size_t i = 0, j; i < by_root.size(); i = j) {
      for (j = i + 1; j < by_root.size() && by_root[j].first == by_root[i].first;) ++j;
      if (j - i < 2 || !Mine(number++)) continue;
      components.emplace_back(i, j);
      if (!s_.ranks.alone())
        for (size_t k = i; k < j; ++k) wanted.push_back(sets_.EntryOf(by_root[k].second));
    }
    TERN_RETURN_IF_ERROR(sets_.Bring(s_.ranks, std::move(wanted)));
    // Small components side by side, a few at a time; then the large ones, one after another and each on all threads.
    constexpr size_t kAtOnce = 64;
    auto form = [&](std::pair<size_t, size_t> c, int worker, Clusters* to) {
      std::vector<uint32_t> docs;
      for (size_t k = c.first; k < c.second; ++k) docs.push_back(by_root[k].second);
      return o_.star ? Stars(docs, worker, to) : Whole(docs, worker, to);
    };
    const auto large = std::stable_partition(components.begin(), components.end(), [](auto c) { return c.second - c.first <= 256; });
    const size_t small = static_cast<size_t>(large - components.begin());
    std::vector<Clusters> found((small + kAtOnce - 1) / kAtOnce);
    TERN_RETURN_IF_ERROR(ForChunks(s_.corpus.threads(), static_cast<int64_t>(found.size()), o_.common.cancel, [&](int64_t chunk, int worker) -> Status {
      const size_t from = static_cast<size_t>(chunk) * kAtOnce;
      for (size_t i = from; i < std::min(small, from + kAtOnce); ++i) TERN_RETURN_IF_ERROR(form(components[i], worker, &found[static_cast<size_t>(chunk)]));
      return {};
    }));
    for (const Clusters& some : found) clusters->Add(some);
    for (auto it = large; it != components.end(); ++it) TERN_RETURN_IF_ERROR(form(*it, kAnyWorker, clusters));
    return {};
  }

  // One cluster; the first in keep order stays.
  Status Whole(const std::vector<uint32_t>& docs, int worker, Clusters* clusters) {
    const uint32_t keeper = *std::min_element(docs.begin(), docs.end(), [&](uint32_t a, uint32_t b) { return s_.Better(a, b); });
    std::vector<std::pair<uint32_t, double>> members;
    for (uint32_t doc : docs) members.emplace_back(doc, 0.0);
    TERN_RETURN_IF_ERROR(ForMany(members.size(), worker, [&](size_t i, int w) -> Status {
      TERN_ASSIGN(members[i].second, KnownOrSimilarity(sets_.EntryOf(keeper), sets_.EntryOf(members[i].first), 0, w));
      return {};
    }));
    Add(members, keeper, clusters);
    return {};
  }

  static void Add(const std::vector<std::pair<uint32_t, double>>& members, uint32_t keeper, Clusters* clusters) {
    clusters->list.push_back({keeper, clusters->members.size(), members.size()});
    for (auto [doc, similarity] : members) clusters->members.push_back(doc), clusters->similarity.push_back(similarity);
  }

  // f(i, worker) for i = 0..n-1: on one thread as `worker`, or with kAnyWorker on several if there are many.
  static constexpr int kAnyWorker = -1;
  template <class F>
  Status ForMany(size_t n, int worker, F&& f) {
    constexpr size_t kChunk = 64;
    if (worker != kAnyWorker) {
      for (size_t i = 0; i < n; ++i) TERN_RETURN_IF_ERROR(f(i, worker));
      return {};
    }
    return ForChunks(n > 4 * kChunk ? s_.corpus.threads() : 1, static_cast<int64_t>((n + kChunk - 1) / kChunk), o_.common.cancel, [&](int64_t chunk, int w) -> Status {
      for (size_t i = static_cast<size_t>(chunk) * kChunk; i < std::min(n, static_cast<size_t>(chunk + 1) * kChunk); ++i) TERN_RETURN_IF_ERROR(f(i, w));
      return {};
    });
  }

  // Most components are a pair that Verify joined, and then it knows how alike they are.
  Result<double> KnownOrSimilarity(uint32_t a, uint32_t b, double least, int worker) {
    const uint64_t pair = PairOf(a, b);
    const auto it = std::lower_bound(joined_.begin(), joined_.end(), pair, [](const Joined& j, uint64_t p) { return j.pair < p; });
    if (it != joined_.end() && it->pair == pair) return it->similarity;
    return Similarity(a, b, least, worker);
  }

  // In keep order the first document that is free takes every free document that is alike enough to it, whether or not they met.
  Status Stars(const std::vector<uint32_t>& docs, int worker, Clusters* clusters) {
    std::vector<uint32_t> entries;
    for (uint32_t doc : docs) entries.push_back(sets_.EntryOf(doc));
    SortUnique(&entries);
    std::vector<std::vector<uint32_t>> docs_of(entries.size());
    auto place_of = [&](uint32_t doc) { return static_cast<size_t>(std::lower_bound(entries.begin(), entries.end(), sets_.EntryOf(doc)) - entries.begin()); };
    for (uint32_t doc : docs) docs_of[place_of(doc)].push_back(doc);
    // An entry is free or taken as a whole: equal sets are alike to the same keepers.
    constexpr size_t kJoinFrom = 512;
    std::optional<PrefixJoin> join;
    if (entries.size() > kJoinFrom) {
      TERN_ASSIGN(PrefixJoin made, PrefixJoin::Build(&sets_, entries, o_.threshold));
      join.emplace(std::move(made));
    }
    std::vector<uint32_t> order = docs, candidates;
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return s_.Better(a, b); });
    std::vector<bool> taken(entries.size(), false), led(entries.size(), false);
    for (uint32_t keeper : order) {
      const size_t at = place_of(keeper);
      // A reference leads even if an earlier one was alike to it: it is not removed.
      if (s_.reference(keeper) ? led[at] : taken[at]) continue;
      std::vector<std::pair<uint32_t, double>> members;
      if (taken[at]) members.emplace_back(keeper, 1.0);
      else for (uint32_t doc : docs_of[at]) members.emplace_back(doc, 1.0);
      taken[at] = led[at] = true;
      candidates.clear();
      if (join) join->Candidates(at, &candidates);
      else for (size_t p = 0; p < entries.size(); ++p) candidates.push_back(static_cast<uint32_t>(p));
      std::erase_if(candidates, [&](uint32_t p) { return taken[p]; });
      std::vector<double> similarity(candidates.size());
      TERN_RETURN_IF_ERROR(ForMany(candidates.size(), worker, [&](size_t i, int w) -> Status {
        TERN_ASSIGN(similarity[i], KnownOrSimilarity(entries[at], entries[candidates[i]], o_.threshold, w));
        return {};
      }));
      for (size_t i = 0; i < candidates.size(); ++i) {
        if (!(similarity[i] >= o_.threshold)) continue;
        taken[candidates[i]] = true;
        for (uint32_t doc : docs_of[candidates[i]]) members.emplace_back(doc, similarity[i]);
      }
      if (members.size() < 2) continue;
      std::sort(members.begin(), members.end());
      Add(members, keeper, clusters);
    }
    return {};
  }

  DedupState& s_;
  const DedupOptions& o_;
  BandKeys::Meetings meetings_;
  ShingleSets sets_;
  UnionFind entries_{0};
  int64_t joins_ = 0;
  std::map<uint64_t, double> verified_;  // with --pairs
  struct Joined {
    uint64_t pair;
    double similarity;
  };
  std::vector<Joined> joined_;           // the pairs that joined components; over several ranks with --pairs all; in the end sorted, of all ranks
  std::vector<Buffers> buffers_;
};

}  // namespace

Status RunNear(DedupState* state, BandKeys* keys, int64_t* too_large) {
  TERN_ASSIGN(BandKeys::Meetings meetings, keys->Run(state));
  return NearStage(state, std::move(meetings)).Run(too_large);
}

}  // namespace tern::corpus
