#include "tools/corpus/dedup_state.h"

#include <algorithm>
#include <random>

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
}

DedupState::DedupState(const DedupOptions& o, Corpus& c, OutputFolder& f)
    : options(o), corpus(c), out(f), temporary(o.common.temporary_folder.empty() ? f.work_path() : o.common.temporary_folder), ids(temporary) {
  memory_bytes = o.common.max_memory_bytes;
  if (memory_bytes <= 0) memory_bytes = std::min<int64_t>(AvailableMemory(), int64_t{1} << 46) / 2;
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

Status DedupState::Take(Clusters* clusters, Fate fate_of_removed, const std::function<double(uint32_t, uint32_t)>& similarity) {
  std::sort(clusters->list.begin(), clusters->list.end(), [&](const Clusters::One& a, const Clusters::One& b) { return clusters->members[a.begin] < clusters->members[b.begin]; });
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
      removals.push_back({*member, c.keeper, number, similarity ? similarity(c.keeper, *member) : 1.0});
    }
    lines += "]";
    if (reference(c.keeper)) TERN_RETURN_IF_ERROR(AppendAgainst(c.keeper, &lines));
    lines += "}\n";
    if (lines.size() > (1 << 20)) {
      TERN_RETURN_IF_ERROR(out.Append("clusters.jsonl", lines));
      lines.clear();
    }
  }
  return out.Append("clusters.jsonl", lines);
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
  int64_t end = block + 1 < corpus.blocks() ? corpus.FirstDocOf(block + 1) : documents();
  for (int64_t d = corpus.FirstDocOf(block); d < end; ++d)
    if (fate[static_cast<size_t>(d)] == Fate::kHere) return true;
  return false;
}

}  // namespace tern::corpus
