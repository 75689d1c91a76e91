// dedup's HTML page: what went and why, how alike the duplicates are, and some of them side by side with what was kept.
#include <algorithm>
#include <cmath>
#include <map>

#include "engine/base/utf8.h"
#include "tools/corpus/dedup_state.h"
#include "tools/corpus/html_report.h"

namespace tern::corpus {
namespace {

constexpr size_t kPairs = 24, kCutTexts = 12;
constexpr size_t kTextBytes = 16 << 10;

class Page {
 public:
  Page(DedupState* state, const Json& report) : s_(*state), report_(report), page_("tern dedup") {}

  Status Write() {
    TERN_RETURN_IF_ERROR(Gather());
    Choose();
    TERN_RETURN_IF_ERROR(Fetch());
    if (!s_.ranks.root()) return {};
    auto count = [&](const char* key) { return Str(report_.value(key, int64_t{0})); };
    page_.Table({{"documents", "malformed", "kept", "removed", "text bytes in", "text bytes kept"},
                 {count("documents"), count("bad"), count("kept"), count("removed"), count("text_bytes_in"), count("text_bytes_kept")}});
    page_.Heading("Why documents were removed");
    std::vector<HtmlReport::Bar> bars;
    for (const auto& [reason, n] : report_["reasons"].items()) bars.push_back({reason, n.get<int64_t>()});
    page_.Bars("documents by stage", {"documents"}, bars);
    page_.Heading("Length of the texts");
    LengthHistogram lengths;
    for (int64_t d = s_.corpus.reference_documents(); d < s_.documents(); ++d)
      if (s_.fate[static_cast<size_t>(d)] != Fate::kBad) lengths.Add(s_.length[static_cast<size_t>(d)], !s_.here(static_cast<uint32_t>(d)));
    page_.Bars("bytes", {"kept", "removed"}, lengths.Bars());
    if (s_.options.near) Near();
    if (!shown_.empty()) page_.Heading("Duplicates beside what was kept");
    for (const Removal& r : shown_)
      page_.Difference(Caption("kept", r.kept), texts_[r.kept], Caption("removed", r.doc) + Str(", ", FateName(s_.fate[r.doc]), ", similarity ", std::round(r.similarity * 1e4) / 1e4), texts_[r.doc]);
    if (!cut_.empty()) page_.Heading("What was cut from texts");
    for (uint32_t doc : cut_) CutText(doc);
    page_.Inputs("Inputs", s_.corpus);
    page_.Parameters(s_.options.common);
    return page_.Write(s_.options.common.report_html);
  }

 private:
  // From all ranks, to all: the removals, and the cuts of the first few documents that have any.
  Status Gather() {
    TERN_ASSIGN(removals_, s_.ranks.Concatenate(s_.removals));
    std::stable_sort(removals_.begin(), removals_.end(), [](const Removal& a, const Removal& b) { return a.doc < b.doc; });
    size_t docs = 0;
    if (!s_.layers.empty())
      for (const Cut& c : s_.layers[0].cuts) {
        docs += cuts_.empty() || cuts_.back().doc != c.doc;
        if (docs > kCutTexts) break;
        cuts_.push_back(c);
      }
    TERN_ASSIGN(cuts_, s_.ranks.Concatenate(std::move(cuts_)));
    return {};
  }

  // The largest clusters first, one pair of each.
  void Choose() {
    std::map<int64_t, int64_t> sizes;
    for (const Removal& r : removals_) ++sizes[r.cluster];
    std::vector<std::pair<int64_t, int64_t>> order;
    for (auto [cluster, size] : sizes) order.emplace_back(-size, cluster);
    std::sort(order.begin(), order.end());
    order.resize(std::min(order.size(), kPairs));
    for (auto [size, cluster] : order) {
      // The least alike of its members tells most.
      const Removal* least = nullptr;
      for (const Removal& r : removals_)
        if (r.cluster == cluster && (!least || r.similarity < least->similarity)) least = &r;
      shown_.push_back(*least);
      wanted_.push_back(least->doc), wanted_.push_back(least->kept);
    }
    for (const Cut& c : cuts_)
      if (cut_.size() < kCutTexts && (cut_.empty() || cut_.back() != c.doc)) cut_.push_back(c.doc);
    wanted_.insert(wanted_.end(), cut_.begin(), cut_.end());
    std::sort(wanted_.begin(), wanted_.end());
    wanted_.erase(std::unique(wanted_.begin(), wanted_.end()), wanted_.end());
  }

  Status Fetch() {
    auto first_in = [this](int64_t doc) { return std::lower_bound(wanted_.begin(), wanted_.end(), doc, [](uint32_t d, int64_t e) { return d < e; }); };
    PassOptions pass;
    pass.stage = "reporting";
    pass.want = [&](int64_t block) { return first_in(s_.corpus.FirstDocOf(block)) != first_in(s_.corpus.EndDocOf(block)); };
    TERN_RETURN_IF_ERROR(s_.corpus.Pass(pass, nullptr, [&](Block& block) -> Status {
      for (auto it = first_in(block.first_doc), end = first_in(block.DocOf(block.records.size())); it != end; ++it) {
        const size_t i = static_cast<size_t>(*it - block.first_doc);
        std::string_view text = block.records[i].text;
        size_t bytes = std::min(text.size(), kTextBytes);
        while (bytes < text.size() && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
        texts_[*it] = text.substr(0, bytes);
        places_[*it] = Str("line ", block.LineOf(i), " of ", ReplaceInvalidUtf8(s_.corpus.sources()[static_cast<size_t>(block.file)].path));
      }
      return {};
    }));
    if (s_.ranks.alone()) return {};
    Json own = Json::array();
    for (const auto& [doc, text] : texts_) own.push_back(Json{doc, text, places_[doc]});
    TERN_ASSIGN(std::vector<std::string> all, s_.ranks.Gather(DumpJson(own)));
    for (const std::string& part : all) {
      TERN_ASSIGN(Json texts, ParseJson(part));
      for (const Json& t : texts) texts_[t[0].get<uint32_t>()] = t[1], places_[t[0].get<uint32_t>()] = t[2];
    }
    return {};
  }

  std::string Caption(const char* what, uint32_t doc) {
    return Str(what, s_.reference(doc) ? std::string(" (reference)") : Str(" document ", s_.corpus.ShownDoc(doc)), ", ", places_[doc]);
  }

  void Near() {
    page_.Heading("Near-duplicates");
    const double knee = std::pow(1.0 / s_.options.bands, 1.0 / s_.options.rows);
    page_.Paragraph(Str("Pairs with a similarity of at least ", s_.options.threshold, ", verified exactly. ", s_.options.bands, " bands of ", s_.options.rows,
                        " rows find half of the pairs near ", std::round(knee * 1000) / 1000, " and ",
                        std::round(1e5 * (1 - std::pow(1 - std::pow(s_.options.threshold, s_.options.rows), s_.options.bands))) / 1e3, " % of those at the threshold."));
    std::vector<HtmlReport::Bar> bars(20);
    for (int i = 0; i < 20; ++i) bars[static_cast<size_t>(i)].label = Str(i * 0.05);
    std::map<int64_t, int64_t> sizes, size_counts;
    for (const Removal& r : removals_) {
      if (s_.fate[r.doc] != Fate::kNear) continue;
      ++bars[static_cast<size_t>(std::clamp(r.similarity * 20, 0.0, 19.0))].first;
      ++sizes[r.cluster];
    }
    bars.erase(bars.begin(), std::find_if(bars.begin(), bars.end(), [](const HtmlReport::Bar& b) { return b.first > 0; }));
    page_.Bars("removed documents by their similarity to what was kept", {"documents"}, bars);
    for (auto [cluster, removed] : sizes) {
      int64_t bin = 1;
      while (bin < removed) bin *= 2;
      ++size_counts[bin];
    }
    std::vector<HtmlReport::Bar> size_bars;
    for (auto [bin, n] : size_counts) size_bars.push_back({Str("up to ", bin), n});
    page_.Bars("clusters by the number of documents removed", {"clusters"}, size_bars);
  }

  void CutText(uint32_t doc) {
    std::vector<std::pair<size_t, size_t>> marks;
    const std::string& text = texts_[doc];
    for (const Cut& c : cuts_)
      if (c.doc == doc && c.end <= text.size()) marks.emplace_back(c.begin, c.end);
    page_.Text(Caption("cut from", doc), text, marks);
  }

  DedupState& s_;
  const Json& report_;
  HtmlReport page_;
  std::vector<Removal> removals_, shown_;
  std::vector<Cut> cuts_;
  std::vector<uint32_t> cut_, wanted_;
  std::map<uint32_t, std::string> texts_, places_;
};

}  // namespace

Status WriteDedupPage(DedupState* state, const Json& report) { return Page(state, report).Write(); }

}  // namespace tern::corpus
