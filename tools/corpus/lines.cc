// Line duplicates: a line seen before is cut (specification 12.3). 20 bytes a line, sorted by key in partitions; no false positives to speak of.
#include <algorithm>
#include <memory>
#include <mutex>
#include <tuple>

#include "engine/base/hash.h"
#include "tools/corpus/chars.h"
#include "tools/corpus/dedup_state.h"
#include "tools/corpus/exact.h"
#include "tools/corpus/partitioned.h"
#include "tools/corpus/pipeline.h"

namespace tern::corpus {
namespace {

constexpr int kPartitionBits = 8;

// A line, by its key and its place.
#pragma pack(push, 4)
struct LineKey {
  uint64_t high;
  uint32_t low, doc, line;
};
#pragma pack(pop)

struct Repeated {
  uint32_t doc, line, first_doc;
};

// What the cuts left of a document.
struct Left {
  uint32_t doc, length;
  bool emptied;  // said in a record of its own
};

struct BlockLines : BlockResult {
  std::vector<std::pair<Hash128, LineKey>> keys;
};

struct BlockCuts : BlockResult {
  std::string spans;
  std::vector<Cut> cuts;
  int64_t count = 0, bytes = 0;
  std::vector<std::pair<uint32_t, uint32_t>> lengths;  // document, what is left of it
  std::vector<uint32_t> emptied;
};

// f(number, begin, line) for every line of the text, split at LF.
template <class F>
void ForLines(std::string_view text, F&& f) {
  uint32_t number = 0;
  for (size_t at = 0; at <= text.size(); ++number) {
    size_t lf = std::min(text.find('\n', at), text.size());
    f(number, at, text.substr(at, lf - at));
    at = lf + 1;
  }
}

class LineStage {
 public:
  explicit LineStage(DedupState* state) : s_(*state), store_(std::make_unique<Partitioned<LineKey>>(1 << kPartitionBits, state->memory_bytes / 2, state->temporary)) {}

  Status Run() {
    TERN_RETURN_IF_ERROR(s_.out.Touch("spans.jsonl"));
    TERN_RETURN_IF_ERROR(Collect());
    TERN_RETURN_IF_ERROR(ShareOut(s_.ranks, &store_, s_.memory_bytes / 2, s_.temporary, [](LineKey*) {}));
    TERN_RETURN_IF_ERROR(FindRepeated());
    TERN_RETURN_IF_ERROR(CutThem());
    return Share();
  }

 private:
  Status Collect() {
    struct Space {
      WordReader words;
      std::string key;
    };
    std::vector<std::unique_ptr<Space>> spaces;
    for (int i = 0; i < s_.corpus.threads(); ++i) spaces.push_back(std::make_unique<Space>());
    PassOptions pass{.stage = "reading lines"};
    pass.want = [this](int64_t block) { return s_.BlockHasAny(block); };
    return s_.corpus.Pass(
        pass,
        [&](Block& block, int worker) -> Status {
          auto result = std::make_unique<BlockLines>();
          Space& space = *spaces[static_cast<size_t>(worker)];
          const uint64_t seed = s_.seed + (s_.options.per_source ? static_cast<uint64_t>(block.file) + 1 : 0);
          for (size_t i = 0; i < block.records.size(); ++i) {
            const uint32_t doc = static_cast<uint32_t>(block.DocOf(i));
            if (!s_.here(doc)) continue;
            ForLines(block.records[i].text, [&](uint32_t number, size_t, std::string_view line) {
              if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
              std::string_view key = NormalizedKey(line, s_.options.line_normalize, space.words, &space.key);
              if (key.empty() || (s_.options.min_line > 1 && CountCodePoints(key) < s_.options.min_line)) return;
              Hash128 h = Xxh3Wide({reinterpret_cast<const uint8_t*>(key.data()), key.size()}, seed);
              result->keys.push_back({h, {h.high, static_cast<uint32_t>(h.low), doc, number}});
            });
          }
          block.result = std::move(result);
          return {};
        },
        [&](Block& block) -> Status {
          for (const auto& [h, key] : static_cast<const BlockLines&>(*block.result).keys)
            TERN_RETURN_IF_ERROR(store_->Append(static_cast<int64_t>(h.low >> (64 - kPartitionBits)), key));
          return {};
        });
  }

  Status FindRepeated() {
    std::mutex mu;
    TERN_RETURN_IF_ERROR(ForChunks(s_.corpus.threads(), store_->partitions(), s_.options.common.cancel, [&](int64_t p, int) -> Status {
      TERN_ASSIGN(std::vector<LineKey> keys, store_->Take(p));
      auto order = [](const LineKey& k) {
        const uint64_t high = k.high;  // by value: in the packed key it is aligned to 4 only, and a tuple would bind to it
        return std::tuple(high, k.low, k.doc, k.line);
      };
      std::sort(keys.begin(), keys.end(), [&](const LineKey& a, const LineKey& b) { return order(a) < order(b); });
      std::vector<Repeated> found;
      size_t first = 0;
      for (size_t i = 1; i < keys.size(); ++i) {
        if (keys[i].high != keys[first].high || keys[i].low != keys[first].low) first = i;
        else if (!s_.reference(keys[i].doc)) found.push_back({keys[i].doc, keys[i].line, keys[first].doc});
      }
      std::lock_guard lock(mu);
      repeated_.insert(repeated_.end(), found.begin(), found.end());
      return {};
    }));
    TERN_ASSIGN(repeated_, s_.ranks.Route(std::move(repeated_), [this](const Repeated& r) { return s_.corpus.RankOf(r.doc); }));
    std::sort(repeated_.begin(), repeated_.end(), [](const Repeated& a, const Repeated& b) { return std::tie(a.doc, a.line) < std::tie(b.doc, b.line); });
    return {};
  }

  std::pair<const Repeated*, const Repeated*> RepeatedIn(int64_t first_doc, int64_t end_doc) const {
    auto below = [](const Repeated& r, int64_t doc) { return r.doc < doc; };
    const Repeated* begin = repeated_.data();
    const Repeated* end = begin + repeated_.size();
    return {std::lower_bound(begin, end, first_doc, below), std::lower_bound(begin, end, end_doc, below)};
  }

  Status CutThem() {
    CutLayer layer;
    layer.lines = true;
    PassOptions pass{.stage = "cutting lines"};
    pass.want = [this](int64_t block) {
      auto [from, to] = RepeatedIn(s_.corpus.FirstDocOf(block), s_.corpus.EndDocOf(block));
      return from != to;
    };
    TERN_RETURN_IF_ERROR(s_.corpus.Pass(
        pass,
        [&](Block& block, int) -> Status {
          auto result = std::make_unique<BlockCuts>();
          auto [next, end] = RepeatedIn(block.first_doc, block.DocOf(block.records.size()));
          while (next != end) {
            const uint32_t doc = next->doc;
            size_t left = 0, kept = 0;
            bool any = false;
            ForLines(block.records[static_cast<size_t>(doc - block.first_doc)].text, [&](uint32_t number, size_t begin, std::string_view line) {
              if (next != end && next->doc == doc && next->line == number) {
                AppendParts(&result->spans, "{\"doc\":", s_.corpus.ShownDoc(doc), ",\"stage\":\"lines\",\"pass\":1,\"begin\":", begin, ",\"end\":", begin + line.size(),
                            ",\"first_doc\":", s_.reference(next->first_doc) ? std::string("null") : std::to_string(s_.corpus.ShownDoc(next->first_doc)), "}\n");
                result->cuts.push_back({doc, static_cast<uint32_t>(begin), static_cast<uint32_t>(begin + line.size())});
                ++result->count, result->bytes += static_cast<int64_t>(line.size());
                ++next;
                return;
              }
              left += line.size() + (kept++ > 0);
              any = any || !IsBlank(line);
            });
            result->lengths.emplace_back(doc, static_cast<uint32_t>(left));
            if (!any) result->emptied.push_back(doc);
          }
          block.result = std::move(result);
          return {};
        },
        [&](Block& block) -> Status {
          const BlockCuts& result = static_cast<const BlockCuts&>(*block.result);
          layer.cuts.insert(layer.cuts.end(), result.cuts.begin(), result.cuts.end());
          s_.line_spans += result.count, s_.line_bytes += result.bytes;
          for (auto [doc, length] : result.lengths) left_.push_back({doc, length, false});
          for (uint32_t doc : result.emptied) left_.push_back({doc, 0, true});
          return s_.out.Append("spans.jsonl", result.spans);
        }));
    s_.layers.push_back(std::move(layer));
    return {};
  }

  // What is left of each document that lost lines, to all ranks.
  Status Share() {
    TERN_ASSIGN(left_, s_.ranks.Concatenate(std::move(left_)));
    for (const Left& l : left_) {
      if (l.emptied) s_.fate[l.doc] = Fate::kLines;
      else s_.length[l.doc] = l.length;
    }
    TERN_ASSIGN(s_.line_spans, s_.ranks.Sum(s_.line_spans));
    TERN_ASSIGN(s_.line_bytes, s_.ranks.Sum(s_.line_bytes));
    return s_.out.GatherList("spans.jsonl");
  }

  DedupState& s_;
  std::unique_ptr<Partitioned<LineKey>> store_;
  std::vector<Repeated> repeated_;
  std::vector<Left> left_;
};

}  // namespace

Status RunLines(DedupState* state) { return LineStage(state).Run(); }

}  // namespace tern::corpus
