// Repeated stretches of text: windows of bytes or words that stand elsewhere too are cut (specification 12.3; Lee et al. 2021).
#include <algorithm>
#include <cstring>
#include <memory>

#include "engine/base/utf8.h"
#include "tools/corpus/chars.h"
#include "tools/corpus/dedup_state.h"
#include "tools/corpus/pipeline.h"
#include "tools/corpus/shared_text.h"
#include "tools/corpus/spill_file.h"
#include "tools/corpus/windows.h"
#include "tools/corpus/words.h"

namespace tern::corpus {
namespace {

// A growing list of symbols: in memory, or in an unnamed file that is mapped when it is complete.
template <class T>
class SymbolList {
 public:
  SymbolList(bool spill, std::string folder) : spill_(spill), folder_(std::move(folder)) {}
  void Reserve(size_t n) {
    if (!spill_) memory_.reserve(n);
  }
  Status Append(const T* data, size_t n) {
    size_ += n;
    if (!spill_) {
      memory_.insert(memory_.end(), data, data + n);
      return {};
    }
    auto at = file_.Append(folder_, data, static_cast<int64_t>(n * sizeof(T)));
    return at.ok() ? Status() : at.status();
  }
  Status Finish() {
    data_ = memory_.data();
    if (!spill_) return {};
    TERN_ASSIGN(const void* map, file_.Map());
    data_ = static_cast<const T*>(map);
    return {};
  }
  const T* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  bool spill_;
  std::string folder_;
  std::vector<T> memory_;
  SpillFile file_;
  const T* data_ = nullptr;
  size_t size_ = 0;
};

// Where the symbols of a document stand in its text.
struct Span {
  size_t first, last;  // symbols [first, last)
};

// What one thread makes of a few documents: spans and cuts, and what is left of them for another pass, as symbols with separators.
template <class T>
struct Piece {
  size_t begin = 0, end = 0;  // the documents
  std::string lines;          // of spans.jsonl
  std::vector<Cut> cuts;
  std::vector<uint32_t> cut_docs;
  int64_t spans = 0, span_bytes = 0;
  std::vector<T> symbols;
  std::vector<uint64_t> places, ends, joints;  // ends: behind each separator
  std::vector<uint32_t> docs, groups;

  void Clear() {
    lines.clear(), cuts.clear(), cut_docs.clear(), symbols.clear(), places.clear(), ends.clear(), joints.clear(), docs.clear(), groups.clear();
    spans = span_bytes = 0;
    if (symbols.capacity() > (1 << 22)) symbols = {}, places = {};  // a giant document's memory is given back
  }
};

// The texts of all documents that are there as symbols: bytes, or hashes of words with their places in the text.
template <class T>
struct Texts {
  static constexpr bool kWords = sizeof(T) == 8;
  Texts(bool spill, const std::string& folder) : symbols(spill, folder), places(spill, folder) {}
  SymbolList<T> symbols;
  SymbolList<uint64_t> places;  // words only: begin << 32 | end
  std::vector<uint32_t> docs;
  SymbolText<T> text;           // over symbols
  std::vector<uint64_t> joints; // where a former pass cut

  static constexpr T kSeparator = kWords ? T{0} : T(0xff);  // no byte of UTF-8; no hash of a word
  Status Add(uint32_t doc, const T* data, size_t n, const uint64_t* where) {
    if (text.starts.empty()) text.starts.push_back(0);
    docs.push_back(doc);
    TERN_RETURN_IF_ERROR(symbols.Append(data, n));
    TERN_RETURN_IF_ERROR(symbols.Append(&kSeparator, 1));
    if constexpr (kWords) {
      const uint64_t none = 0;
      TERN_RETURN_IF_ERROR(places.Append(where, n));
      TERN_RETURN_IF_ERROR(places.Append(&none, 1));
    }
    text.starts.push_back(symbols.size());
    return {};
  }
  Status AddPiece(const Piece<T>& piece) {
    if (text.starts.empty()) text.starts.push_back(0);
    const uint64_t base = symbols.size();
    TERN_RETURN_IF_ERROR(symbols.Append(piece.symbols.data(), piece.symbols.size()));
    if (kWords) TERN_RETURN_IF_ERROR(places.Append(piece.places.data(), piece.places.size()));
    for (uint64_t end : piece.ends) text.starts.push_back(base + end);
    for (uint64_t joint : piece.joints) joints.push_back(base + joint);
    docs.insert(docs.end(), piece.docs.begin(), piece.docs.end());
    text.groups.insert(text.groups.end(), piece.groups.begin(), piece.groups.end());
    return {};
  }
  Status Finish() {
    TERN_RETURN_IF_ERROR(symbols.Finish());
    TERN_RETURN_IF_ERROR(places.Finish());
    text.data = symbols.data();
    return {};
  }
};

template <class T>
struct BlockSymbols : BlockResult {
  std::vector<uint32_t> docs;
  std::vector<size_t> ends;
  std::vector<T> symbols;
  std::vector<uint64_t> places;
};

template <class T>
class SubstrStage {
 public:
  static constexpr bool kWords = Texts<T>::kWords;
  explicit SubstrStage(DedupState* state) : s_(*state), o_(state->options), length_(kWords ? o_.min_words : o_.min_bytes) {}
  // Over several ranks each holds the texts of its own documents, and all map the texts of all (SharedText): each compares the windows whose hash is its own,
  // and tells the others which of theirs are to be cut.

  Status Run() {
    TERN_RETURN_IF_ERROR(s_.out.Touch("spans.jsonl"));
    int64_t bytes = 0;
    for (int64_t d = s_.corpus.own_begin_doc(); d < s_.corpus.own_end_doc(); ++d)
      if (s_.here(static_cast<uint32_t>(d))) bytes += s_.length[static_cast<size_t>(d)] + 1;
    spill_ = bytes * (kWords ? 3 : 1) > s_.memory_bytes / 3;
    auto texts = std::make_unique<Texts<T>>(spill_, s_.temporary);
    if (!kWords) texts->symbols.Reserve(static_cast<size_t>(bytes));
    TERN_RETURN_IF_ERROR(ReadTexts(texts.get()));
    for (int64_t pass = 1; pass <= o_.passes; ++pass) {
      bool found = false;
      std::unique_ptr<Texts<T>> next;
      TERN_RETURN_IF_ERROR(RunPass(*texts, pass, &found, pass < o_.passes ? &next : nullptr));
      TERN_RETURN_IF_ERROR(s_.out.GatherList("spans.jsonl"));
      TERN_ASSIGN(int64_t ranks_that_found, s_.ranks.Sum(found));
      if (ranks_that_found == 0) break;
      texts = std::move(next);
    }
    return Share();
  }

 private:
  Status ReadTexts(Texts<T>* texts) {
    struct Space {
      WordReader words;
      std::string text;
    };
    std::vector<std::unique_ptr<Space>> spaces;
    for (int i = 0; i < s_.corpus.threads(); ++i) spaces.push_back(std::make_unique<Space>());
    PassOptions pass{.stage = "reading texts"};
    pass.want = [this](int64_t block) { return s_.BlockHasAny(block); };
    TERN_RETURN_IF_ERROR(s_.corpus.Pass(
        pass,
        [&](Block& block, int worker) -> Status {
          auto result = std::make_unique<BlockSymbols<T>>();
          Space& space = *spaces[static_cast<size_t>(worker)];
          for (size_t i = 0; i < block.records.size(); ++i) {
            const uint32_t doc = static_cast<uint32_t>(block.DocOf(i));
            if (!s_.here(doc)) continue;
            std::string_view text = s_.TextNow(doc, block.records[i].text, &space.text);
            if constexpr (kWords) {
              Word word;
              for (space.words.Reset(text); space.words.Next(&word);) {
                uint64_t h = HashWord(word.text, s_.seed);
                result->symbols.push_back(h + (h == 0));
                result->places.push_back(uint64_t{word.begin} << 32 | word.end);
              }
            } else {
              if (result->symbols.capacity() == 0) result->symbols.reserve(static_cast<size_t>(block.bytes));
              result->symbols.insert(result->symbols.end(), text.begin(), text.end());
            }
            result->docs.push_back(doc);
            result->ends.push_back(result->symbols.size());
          }
          block.result = std::move(result);
          return {};
        },
        [&](Block& block) -> Status {
          const BlockSymbols<T>& r = static_cast<const BlockSymbols<T>&>(*block.result);
          for (size_t i = 0, begin = 0; i < r.docs.size(); begin = r.ends[i++]) {
            TERN_RETURN_IF_ERROR(texts->Add(r.docs[i], r.symbols.data() + begin, r.ends[i] - begin, kWords ? r.places.data() + begin : nullptr));
            if (o_.per_source) texts->text.groups.push_back(static_cast<uint32_t>(block.file));
          }
          return {};
        }));
    return texts->Finish();
  }

  // Marks, spans, cuts; with `next` also the texts that are left, for another pass.
  Status RunPass(const Texts<T>& texts, int64_t pass, bool* found, std::unique_ptr<Texts<T>>* next) {
    WindowOptions windows{.length = length_, .cut_all = o_.cut_all, .threads = s_.corpus.threads(), .seed = s_.seed, .memory_bytes = s_.memory_bytes / 3, .temporary = s_.temporary, .cancel = o_.common.cancel};
    SharedText<T> shared;
    const bool alone = s_.ranks.alone();
    if (!alone) {
      TERN_RETURN_IF_ERROR(shared.Join(s_.ranks, s_.out.work_path(), texts.text));
      windows.ranks = &s_.ranks, windows.first_doc = shared.first(), windows.end_doc = shared.end();
    }
    const SymbolText<T>& all = alone ? texts.text : shared.text();
    RepeatedWindows<T> repeated(all, windows);
    // Windows that no joint lies in were there in the former pass: two of them cannot have become duplicates now. So only windows that are equal to one over
    // a joint matter. (Below eight bytes a cut that shrinks to whole characters may leave a window it meant.)
    std::vector<uint64_t> fresh;
    if (pass > 1 && length_ >= 8) {
      std::vector<uint64_t> joints = texts.joints;
      for (uint64_t& joint : joints) joint += shared.base();
      TERN_ASSIGN(fresh, repeated.HashesOver(joints));
      TERN_ASSIGN(fresh, s_.ranks.Concatenate(std::move(fresh)));
      if (fresh.empty()) return {};
      if (!alone) {
        std::sort(fresh.begin(), fresh.end());
        fresh.erase(std::unique(fresh.begin(), fresh.end()), fresh.end());
      }
      repeated.Restrict(&fresh);
    }
    PositionBits marks(all.size());
    TERN_RETURN_IF_ERROR(repeated.Mark(&marks));
    if (!alone) TERN_RETURN_IF_ERROR(ShareMarks(shared, &marks));

    if (next) {
      *next = std::make_unique<Texts<T>>(spill_, s_.temporary);
      if (!spill_) (*next)->symbols.Reserve(texts.text.size());
      (*next)->text.groups.reserve(texts.text.groups.size());
    }
    CutLayer layer;
    std::vector<uint32_t> cut_docs;
    std::vector<Piece<T>> pieces(static_cast<size_t>(Pipeline::ItemsFor(windows.threads)));
    size_t taken = 0;
    Pipeline line;
    line.threads = windows.threads;
    line.cancel = o_.common.cancel;
    line.take = [&](int item) -> Result<bool> {
      constexpr uint64_t kSymbols = 1 << 18;
      Piece<T>& piece = pieces[static_cast<size_t>(item)];
      piece.begin = taken;
      while (taken < texts.docs.size() && (taken == piece.begin || texts.text.starts[taken + 1] - texts.text.starts[piece.begin] <= kSymbols)) ++taken;
      piece.end = taken;
      return piece.begin < piece.end;
    };
    line.work = [&](int item, int) -> Status {
      Piece<T>& piece = pieces[static_cast<size_t>(item)];
      piece.Clear();
      for (size_t i = piece.begin; i < piece.end; ++i) CutDocument(texts, i, marks, shared.base(), pass, next != nullptr, &piece);
      return {};
    };
    line.hand_on = [&](int item) -> Status {
      const Piece<T>& piece = pieces[static_cast<size_t>(item)];
      s_.substr_spans += piece.spans, s_.substr_bytes += piece.span_bytes;
      *found = *found || piece.spans > 0;
      layer.cuts.insert(layer.cuts.end(), piece.cuts.begin(), piece.cuts.end());
      cut_docs.insert(cut_docs.end(), piece.cut_docs.begin(), piece.cut_docs.end());
      if (!piece.lines.empty()) TERN_RETURN_IF_ERROR(s_.out.Append("spans.jsonl", piece.lines));
      return next ? (*next)->AddPiece(piece) : Status();
    };
    TERN_RETURN_IF_ERROR(line.Run());
    s_.layers.push_back(std::move(layer));
    if (kWords && !cut_docs.empty()) TERN_RETURN_IF_ERROR(MeasureWhatIsLeft(cut_docs));
    if (next) return (*next)->Finish();
    return {};
  }

  // Each rank gets the marks in its own part of the text.
  Status ShareMarks(const SharedText<T>& shared, PositionBits* marks) {
    using Word = PositionBits::Word;
    std::vector<uint64_t> next;
    for (uint64_t start : shared.symbol_starts()) next.push_back(start / 64);
    auto fill = [&](int to, size_t piece, std::string* out) -> Status {
      const size_t r = static_cast<size_t>(to);
      if (to == s_.ranks.rank()) return {};
      std::vector<Word> words;
      marks->AppendWords(&next[r], (shared.symbol_starts()[r + 1] + 63) / 64, piece / sizeof(Word) + 1, &words);
      out->assign(reinterpret_cast<const char*>(words.data()), words.size() * sizeof(Word));
      return {};
    };
    auto drain = [&](int, std::string_view bytes) -> Status {
      for (Word word; !bytes.empty(); bytes.remove_prefix(sizeof word)) {
        std::memcpy(&word, bytes.data(), sizeof word);
        marks->Add(word);
      }
      return {};
    };
    return s_.ranks.Exchange(fill, drain);
  }

  // What became of the documents, to all ranks.
  Status Share() {
    if (s_.ranks.alone()) return {};
    const auto begin = static_cast<std::ptrdiff_t>(s_.corpus.own_begin_doc()), end = static_cast<std::ptrdiff_t>(s_.corpus.own_end_doc());
    TERN_ASSIGN(s_.length, s_.ranks.Concatenate(std::vector<uint32_t>(s_.length.begin() + begin, s_.length.begin() + end)));
    TERN_ASSIGN(s_.fate, s_.ranks.Concatenate(std::vector<Fate>(s_.fate.begin() + begin, s_.fate.begin() + end)));
    TERN_ASSIGN(s_.substr_spans, s_.ranks.Sum(s_.substr_spans));
    TERN_ASSIGN(s_.substr_bytes, s_.ranks.Sum(s_.substr_bytes));
    return {};
  }

  // The marks of document i become spans and cuts.
  void CutDocument(const Texts<T>& texts, size_t i, const PositionBits& marks, uint64_t base, int64_t pass, bool next, Piece<T>* piece) {
    const uint64_t start = base + texts.text.starts[i];
    const size_t before = piece->cuts.size();
    Span span{0, 0};  // the newest: a window that begins in it, or touches it, makes it longer
    if (!s_.reference(texts.docs[i])) {
      marks.ForEach(start, start + texts.text.LengthOf(i), [&](uint64_t at) {
        const size_t first = static_cast<size_t>(at - start), last = first + static_cast<size_t>(length_);
        if (span.last > 0 && first <= span.last) {
          span.last = last;
          return;
        }
        if (span.last > 0) TellSpan(texts, i, span, pass, piece);
        span = {first, last};
      });
      if (span.last > 0) TellSpan(texts, i, span, pass, piece);
    }
    if (piece->cuts.size() > before) piece->cut_docs.push_back(texts.docs[i]);
    Leave(texts, i, piece->cuts.data() + before, piece->cuts.data() + piece->cuts.size(), next, piece);
  }

  void TellSpan(const Texts<T>& texts, size_t i, const Span& span, int64_t pass, Piece<T>* piece) const {
    const uint64_t start = texts.text.starts[i];
    size_t begin = span.first, end = span.last;
    if constexpr (kWords) begin = texts.places.data()[start + span.first] >> 32, end = static_cast<uint32_t>(texts.places.data()[start + span.last - 1]);
    size_t cut_begin = begin, cut_end = end;
    if constexpr (!kWords) {
      auto inside = [&](size_t at) { return at < texts.text.LengthOf(i) && (texts.text.data[start + at] & 0xc0) == 0x80; };  // not the first byte of a character
      while (cut_begin < end && inside(cut_begin)) ++cut_begin;
      while (cut_end > cut_begin && inside(cut_end)) --cut_end;
    }
    AppendParts(&piece->lines, "{\"doc\":", s_.corpus.ShownDoc(texts.docs[i]), ",\"stage\":\"substr\",\"pass\":", pass, ",\"begin\":", begin, ",\"end\":", end, ",\"cut_begin\":", cut_begin, ",\"cut_end\":", cut_end, "}\n");
    ++piece->spans, piece->span_bytes += static_cast<int64_t>(end - begin);
    if (cut_begin < cut_end) piece->cuts.push_back({texts.docs[i], static_cast<uint32_t>(cut_begin), static_cast<uint32_t>(cut_end)});
  }

  // What the cuts leave of document i: whether it goes, and with `next` its symbols for the next pass.
  void Leave(const Texts<T>& texts, size_t i, const Cut* first, const Cut* last, bool next, Piece<T>* piece) {
    if (!next && (kWords || first == last)) return;
    const uint64_t start = texts.text.starts[i];
    const size_t size = static_cast<size_t>(texts.text.LengthOf(i)), at = piece->symbols.size(), joints = piece->joints.size();
    const uint32_t doc = texts.docs[i];
    if (first == last) {
      piece->symbols.insert(piece->symbols.end(), texts.text.data + start, texts.text.data + start + size);
      if constexpr (kWords) piece->places.insert(piece->places.end(), texts.places.data() + start, texts.places.data() + start + size);
    } else {
      if constexpr (kWords) LeaveWords(texts, start, size, first, last, piece);
      else LeaveBytes(texts.text.data + start, size, first, last, piece);
      bool gone = !next;
      if constexpr (!kWords) {
        const std::string_view left(reinterpret_cast<const char*>(piece->symbols.data()) + at, piece->symbols.size() - at);
        s_.length[doc] = static_cast<uint32_t>(left.size());
        if (IsBlank(left)) s_.fate[doc] = Fate::kSubstr, gone = true;
      }
      if (gone) {
        piece->symbols.resize(at), piece->joints.resize(joints);
        return;
      }
      while (piece->joints.size() > joints && piece->joints.back() == piece->symbols.size()) piece->joints.pop_back();  // at the end nothing is joined
    }
    piece->symbols.push_back(Texts<T>::kSeparator);
    if (kWords) piece->places.push_back(0);
    piece->ends.push_back(piece->symbols.size());
    piece->docs.push_back(doc);
    if (!texts.text.groups.empty()) piece->groups.push_back(texts.text.groups[i]);
  }

  static void LeaveBytes(const T* data, size_t size, const Cut* first, const Cut* last, Piece<T>* piece) {
    const size_t start = piece->symbols.size();
    size_t at = 0;
    for (const Cut* c = first; c != last; ++c) {
      piece->symbols.insert(piece->symbols.end(), data + at, data + c->begin);
      if (piece->symbols.size() > start) piece->joints.push_back(piece->symbols.size());
      at = c->end;
    }
    piece->symbols.insert(piece->symbols.end(), data + at, data + size);
  }

  // Words inside a cut go; what stands behind it moves to the front.
  static void LeaveWords(const Texts<T>& texts, uint64_t start, size_t size, const Cut* first, const Cut* last, Piece<T>* piece) {
    const size_t begin_symbols = piece->symbols.size(), begin_joints = piece->joints.size();
    uint64_t gone = 0;
    const uint64_t* places = texts.places.data() + start;
    for (size_t at = 0; at < size; ++at) {
      const uint64_t begin = places[at] >> 32;
      while (first != last && begin >= first->end) gone += first->end - first->begin, ++first;
      if (first != last && begin >= first->begin) {
        const size_t here = piece->symbols.size();
        if (here > begin_symbols && (piece->joints.size() == begin_joints || piece->joints.back() != here)) piece->joints.push_back(here);
        continue;
      }
      piece->symbols.push_back(texts.text.data[start + at]);
      piece->places.push_back(places[at] - (gone << 32 | gone));
    }
  }

  // Words do not hold what stands between them: the texts are read again.
  Status MeasureWhatIsLeft(const std::vector<uint32_t>& docs) {
    struct Left : BlockResult {
      std::vector<std::pair<uint32_t, uint32_t>> lengths;
      std::vector<uint32_t> blank;
    };
    auto from = [&](int64_t doc) { return std::lower_bound(docs.begin(), docs.end(), doc, [](uint32_t d, int64_t e) { return d < e; }); };
    PassOptions pass{.stage = "cutting"};
    pass.want = [&](int64_t block) { return from(s_.corpus.FirstDocOf(block)) != from(s_.corpus.EndDocOf(block)); };
    return s_.corpus.Pass(
        pass,
        [&](Block& block, int) -> Status {
          auto left = std::make_unique<Left>();
          std::string scratch;
          for (auto it = from(block.first_doc), end = from(block.DocOf(block.records.size())); it != end; ++it) {
            std::string_view text = s_.TextNow(*it, block.records[static_cast<size_t>(*it - block.first_doc)].text, &scratch);
            left->lengths.emplace_back(*it, static_cast<uint32_t>(text.size()));
            if (IsBlank(text)) left->blank.push_back(*it);
          }
          block.result = std::move(left);
          return {};
        },
        [&](Block& block) -> Status {
          for (auto [doc, length] : static_cast<const Left&>(*block.result).lengths) s_.length[doc] = length;
          for (uint32_t doc : static_cast<const Left&>(*block.result).blank) s_.fate[doc] = Fate::kSubstr;
          return {};
        });
  }

  DedupState& s_;
  const DedupOptions& o_;
  int64_t length_;
  bool spill_ = false;
};

}  // namespace

Status RunSubstr(DedupState* state) {
  if (state->options.min_words > 0) return SubstrStage<uint64_t>(state).Run();
  return SubstrStage<uint8_t>(state).Run();
}

}  // namespace tern::corpus
