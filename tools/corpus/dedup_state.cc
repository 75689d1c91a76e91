#include "tools/corpus/dedup_state.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>

#include "engine/base/memory.h"
#include "engine/base/utf8.h"

namespace tern::corpus {

const char* FateName(Fate fate) {
  switch (fate) {
    case Fate::kExact: return "exact";
    case Fate::kNear: return "near";
    case Fate::kLines: return "lines";
    case Fate::kSubstr: return "substr";
    default: return "";
  }
}

void Clusters::Add(const Clusters& more) {
  for (const One& c : more.list) list.push_back({c.keeper, members.size() + c.begin, c.size});
  members.insert(members.end(), more.members.begin(), more.members.end());
  similarity.insert(similarity.end(), more.similarity.begin(), more.similarity.end());
}

DedupState::DedupState(const DedupOptions& o, Corpus& c, OutputFolder& f)
    : options(o), corpus(c), out(f), ranks(c.ranks()), temporary(o.common.temporary_folder.empty() ? f.work_path() : o.common.temporary_folder), ids(temporary) {
  memory_bytes = o.common.max_memory_bytes;
  if (memory_bytes <= 0) memory_bytes = std::min<int64_t>(AvailableMemory(), int64_t{1} << 46) / 2 / ranks.local_size();
  std::random_device device;
  seed = static_cast<uint64_t>(device()) << 32 | device();
}

bool DedupState::Better(uint32_t a, uint32_t b) const {
  if (reference(a) != reference(b)) return reference(a);
  switch (options.keep) {
    case KeepRule::kLongest:
      if (length[a] != length[b]) return length[a] > length[b];
      break;
    case KeepRule::kScore:
      if (score[a] != score[b]) return score[a] > score[b];
      break;
    case KeepRule::kFirst: break;
  }
  return a < b;
}

Status DedupState::AgreeOnSeed() {
  TERN_ASSIGN(std::vector<uint64_t> seeds, ranks.Concatenate(std::vector<uint64_t>{seed}));
  seed = seeds[0];
  return {};
}

Status DedupState::ShareDocuments() {
  ids.StartAt(corpus.own_begin_doc());
  if (ranks.alone()) return {};
  TERN_ASSIGN(length, ranks.Concatenate(std::move(length)));
  TERN_ASSIGN(score, ranks.Concatenate(std::move(score)));
  TERN_ASSIGN(fate, ranks.Concatenate(std::move(fate)));
  return {};
}

Status DedupState::BringIds(std::vector<uint32_t> docs) {
  if (ranks.alone()) return {};
  std::erase_if(docs, [this](uint32_t doc) { return corpus.Owns(doc); });
  std::sort(docs.begin(), docs.end());
  docs.erase(std::unique(docs.begin(), docs.end()), docs.end());
  std::vector<std::string> out(static_cast<size_t>(ranks.size()));
  for (uint32_t doc : docs) out[static_cast<size_t>(corpus.RankOf(doc))].append(reinterpret_cast<const char*>(&doc), sizeof doc);
  TERN_ASSIGN(std::vector<std::string> asked, ranks.Swap(out));
  std::string id;
  for (size_t r = 0; r < asked.size(); ++r) {
    out[r].clear();
    for (size_t at = 0; at < asked[r].size(); at += 4) {
      uint32_t doc;
      std::memcpy(&doc, asked[r].data() + at, sizeof doc);
      TERN_RETURN_IF_ERROR(ids.Find(doc, &id));
      out[r] += id;
      out[r] += '\n';
    }
  }
  TERN_ASSIGN(std::vector<std::string> answers, ranks.Swap(out));
  size_t next = 0;  // docs ascend, and so do the ranks they belong to
  for (const std::string& answer : answers)
    for (size_t at = 0, end; at < answer.size(); at = end + 1) {
      end = answer.find('\n', at);
      ids.Know(docs[next++], answer.substr(at, end - at));
    }
  return {};
}

Status GatherClusters(Ranks& ranks, Clusters* clusters) {
  if (ranks.alone()) return {};
  TERN_ASSIGN(clusters->list, ranks.Concatenate(clusters->list));
  TERN_ASSIGN(clusters->members, ranks.Concatenate(std::move(clusters->members)));
  TERN_ASSIGN(clusters->similarity, ranks.Concatenate(std::move(clusters->similarity)));
  size_t begin = 0;
  for (Clusters::One& c : clusters->list) c.begin = std::exchange(begin, begin + c.size);
  return {};
}

Status DedupState::Take(Clusters* clusters, Fate fate_of_removed) {
  // A reference may stand in two clusters: in one as a member, in one as the keeper.
  std::sort(clusters->list.begin(), clusters->list.end(), [&](const Clusters::One& a, const Clusters::One& b) {
    const uint32_t x = clusters->members[a.begin], y = clusters->members[b.begin];
    return x != y ? x < y : a.keeper < b.keeper;
  });
  if (corpus.reference_documents() > 0) {
    std::vector<uint32_t> keepers;
    if (ranks.root())
      for (const Clusters::One& c : clusters->list)
        if (reference(c.keeper)) keepers.push_back(c.keeper);
    TERN_RETURN_IF_ERROR(BringIds(std::move(keepers)));
  }
  std::string lines;
  for (const Clusters::One& c : clusters->list) {
    const uint32_t* first = clusters->members.data() + c.begin;
    const uint32_t* last = first + c.size;
    while (first != last && reference(*first)) ++first;  // references come first; they are not removed and not listed
    if (first == last) continue;
    const int64_t number = clusters_written++;
    AppendParts(&lines, "{\"cluster\":", number, ",\"stage\":\"", FateName(fate_of_removed), "\",\"keeper\":");
    if (reference(c.keeper)) lines += "null";
    else AppendPart(&lines, corpus.ShownDoc(c.keeper));
    AppendParts(&lines, ",\"size\":", last - first, ",\"members\":[");
    for (const uint32_t* member = first; member != last; ++member) {
      if (member != first) lines += ',';
      AppendPart(&lines, corpus.ShownDoc(*member));
      if (*member == c.keeper) continue;
      fate[*member] = fate_of_removed;
      const double similarity = clusters->similarity.empty() ? 1.0 : clusters->similarity[static_cast<size_t>(member - clusters->members.data())];
      if (corpus.Owns(*member)) removals.push_back({*member, c.keeper, number, similarity});
    }
    lines += "]";
    if (reference(c.keeper) && ranks.root()) TERN_RETURN_IF_ERROR(AppendAgainst(c.keeper, &lines));
    lines += "}\n";
    if (lines.size() > (1 << 20)) {
      if (ranks.root()) TERN_RETURN_IF_ERROR(out.Append("clusters.jsonl", lines));
      lines.clear();
    }
  }
  return ranks.root() ? out.Append("clusters.jsonl", lines) : Status();
}

Status DedupState::AppendAgainst(uint32_t doc, std::string* out) {
  std::string id;
  TERN_RETURN_IF_ERROR(ids.Find(doc, &id));
  int64_t before = 0;
  size_t file = 0;
  while (before + corpus.sources()[file].documents <= doc) before += corpus.sources()[file++].documents;
  *out += ",\"against\":{\"file\":";
  AppendJsonString(ReplaceInvalidUtf8(corpus.sources()[file].path), out);
  AppendParts(out, ",\"doc\":", doc - before, ",\"id\":", id, "}");
  return {};
}

namespace {

// The cuts of `doc`.
std::pair<const Cut*, const Cut*> CutsOf(const CutLayer& layer, uint32_t doc) {
  auto [first, last] = std::equal_range(layer.cuts.begin(), layer.cuts.end(), Cut{doc, 0, 0}, [](const Cut& a, const Cut& b) { return a.doc < b.doc; });
  return {layer.cuts.data() + (first - layer.cuts.begin()), layer.cuts.data() + (last - layer.cuts.begin())};
}

void AppendWithout(std::string_view text, const Cut* first, const Cut* last, bool lines, std::string* out) {
  if (!lines) {
    size_t at = 0;
    for (const Cut* c = first; c != last; ++c) {
      out->append(text.substr(at, c->begin - at));
      at = c->end;
    }
    out->append(text.substr(at));
    return;
  }
  // Whole lines: what stays is joined by line feeds.
  bool any = false;
  for (size_t at = 0; at <= text.size();) {
    size_t lf = std::min(text.find('\n', at), text.size());
    if (first != last && first->begin == at) {
      ++first;
    } else {
      if (any) *out += '\n';
      out->append(text.substr(at, lf - at));
      any = true;
    }
    at = lf + 1;
  }
}

}  // namespace

std::string_view DedupState::TextNow(uint32_t doc, std::string_view text, std::string* scratch) const {
  for (const CutLayer& layer : layers) {
    auto [first, last] = CutsOf(layer, doc);
    if (first == last) continue;
    std::string next;
    next.reserve(text.size());
    AppendWithout(text, first, last, layer.lines, &next);
    scratch->swap(next);
    text = *scratch;
  }
  return text;
}

bool DedupState::WasCut(uint32_t doc) const {
  for (const CutLayer& layer : layers) {
    auto [first, last] = CutsOf(layer, doc);
    if (first != last) return true;
  }
  return false;
}

bool DedupState::BlockHasAny(int64_t block) const {
  for (int64_t d = corpus.FirstDocOf(block), end = corpus.EndDocOf(block); d < end; ++d)
    if (fate[static_cast<size_t>(d)] == Fate::kHere) return true;
  return false;
}

}  // namespace tern::corpus
