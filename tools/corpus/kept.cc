// The last pass of dedup: what is kept goes to kept/, what went is told in removed.jsonl.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tools/corpus/dedup_state.h"

namespace tern::corpus {
namespace {

// What the parallel part prepares: the removed lines, and all that is kept.
struct Written : BlockResult {
  std::string removed;
  std::string_view kept;  // in `anew`, or where nothing changed in the block's storage
  std::string anew;
};

void AppendDouble(double value, std::string* out) {
  char text[32];
  int n = std::snprintf(text, sizeof text, "%.9f", value);
  while (n > 3 && text[n - 1] == '0' && text[n - 2] != '.') --n;
  out->append(text, static_cast<size_t>(n));
}

class Writer {
 public:
  explicit Writer(DedupState* state) : s_(*state) {}

  Status Run() {
    std::sort(s_.removals.begin(), s_.removals.end(), [](const Removal& a, const Removal& b) { return a.doc < b.doc; });
    std::vector<uint32_t> keepers;
    for (const Removal& r : s_.removals) keepers.push_back(r.kept);
    TERN_RETURN_IF_ERROR(s_.BringIds(std::move(keepers)));
    s_.out.OpenKept(s_.corpus);
    TERN_RETURN_IF_ERROR(s_.out.Touch("removed.jsonl"));
    PassOptions pass{.stage = "writing"};
    pass.want = [this](int64_t block) { return s_.corpus.FirstDocOf(block) >= s_.corpus.reference_documents(); };
    pass.parse_block = [this](int64_t block) { return HasCut(block); };
    TERN_RETURN_IF_ERROR(s_.corpus.Pass(
        pass, [this](Block& block, int) { return Prepare(block); }, [this](Block& block) { return Write(block); }));
    return s_.out.GatherList("removed.jsonl");
  }

 private:
  bool HasCut(int64_t block) const {
    if (s_.layers.empty()) return false;
    const int64_t end = s_.corpus.EndDocOf(block);
    for (const CutLayer& layer : s_.layers) {
      auto it = std::lower_bound(layer.cuts.begin(), layer.cuts.end(), s_.corpus.FirstDocOf(block), [](const Cut& c, int64_t doc) { return c.doc < doc; });
      if (it != layer.cuts.end() && it->doc < end) return true;
    }
    return false;
  }

  Status Prepare(Block& block) {
    auto written = std::make_unique<Written>();
    const bool parsed = HasCut(block.number);
    const bool anew = parsed || block.format == Format::kParagraphs;
    std::string scratch, id;
    for (size_t i = 0; i < block.records.size(); ++i) {
      const uint32_t doc = static_cast<uint32_t>(block.DocOf(i));
      const Fate fate = s_.fate[doc];
      if (fate == Fate::kBad) continue;
      if (fate == Fate::kHere) {
        if (!anew) continue;
        if (parsed && s_.WasCut(doc)) AppendRewritten(block, block.records[i], s_.TextNow(doc, block.records[i].text, &scratch), &written->anew);
        else AppendKept(block, block.records[i], &written->anew);
        continue;
      }
      TERN_RETURN_IF_ERROR(s_.ids.Find(doc, &id));
      block.records[i].id_json = id;
      AppendPlace(s_.corpus, block, i, &written->removed);
      AppendParts(&written->removed, ",\"reason\":\"", FateName(fate), "\"");
      if (fate == Fate::kExact || fate == Fate::kNear) {
        auto it = std::lower_bound(s_.removals.begin(), s_.removals.end(), doc, [](const Removal& r, uint32_t d) { return r.doc < d; });
        TERN_RETURN_IF_ERROR(s_.ids.Find(it->kept, &id));
        if (s_.reference(it->kept)) {
          written->removed += ",\"kept\":null,\"kept_id\":null";
          TERN_RETURN_IF_ERROR(s_.AppendAgainst(it->kept, &written->removed));
        } else {
          AppendParts(&written->removed, ",\"kept\":", s_.corpus.ShownDoc(it->kept), ",\"kept_id\":", id);
        }
        written->removed += ",\"similarity\":";
        AppendDouble(it->similarity, &written->removed);
        AppendParts(&written->removed, ",\"cluster\":", it->cluster);
      }
      written->removed += "}\n";
      block.records[i].id_json = {};
    }
    written->kept = anew ? std::string_view(written->anew) : MoveTogether(block);
    block.result = std::move(written);
    return {};
  }

  // The bytes of the kept records, moved to the front of the block's. The records no longer hold.
  std::string_view MoveTogether(Block& block) const {
    char* const begin = block.storage.data();
    char* to = begin;
    for (size_t i = 0; i < block.records.size(); ++i) {
      if (!s_.here(static_cast<uint32_t>(block.DocOf(i)))) continue;
      std::string_view raw = block.records[i].raw;
      if (to != raw.data()) std::memmove(to, raw.data(), raw.size());
      to += raw.size();
    }
    return {begin, static_cast<size_t>(to - begin)};
  }

  Status Write(Block& block) {
    const Written& written = static_cast<const Written&>(*block.result);
    s_.out.KeepBytes(written.kept);
    TERN_RETURN_IF_ERROR(s_.out.EndBlock(block));
    return s_.out.Append("removed.jsonl", written.removed);
  }

  DedupState& s_;
};

}  // namespace

Status WriteKept(DedupState* state) { return Writer(state).Run(); }

}  // namespace tern::corpus
