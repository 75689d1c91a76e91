#include "tools/corpus/corpus.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "engine/base/parallel.h"
#include "engine/base/utf8.h"
#include "tools/corpus/block_source.h"
#include "tools/corpus/inputs.h"
#include "tools/corpus/pipeline.h"
#include "tools/corpus/ranks.h"

namespace tern::corpus {

struct Corpus::State {
  explicit State(const CommonOptions& o) : options(o), reader(o) {}

  const CommonOptions options;
  RecordReader reader;
  std::vector<Source> sources;
  std::unique_ptr<BlockSource> source;
  std::vector<BlockPlace> places;
  int threads = 1;
  int64_t documents = 0, reference_documents = 0, bad = 0, line = 0;
  int line_file = -1;
  Ranks alone;
  Ranks* ranks = &alone;
  size_t own_begin = 0, own_end = 0;          // sources of this rank
  std::vector<int64_t> doc_starts{0, 0};      // of the ranks; after the first pass
  bool first_done = false;
  std::chrono::steady_clock::time_point told{};

  // In order, after the first parse of a block: its numbers, and what is remembered of it.
  void Number(Block* block, BlockPlace place) {
    Source& s = sources[static_cast<size_t>(block->file)];
    if (line_file != block->file) {
      line_file = block->file;
      line = 1 + std::count(s.csv_header.begin(), s.csv_header.end(), '\n');
    }
    block->number = static_cast<int64_t>(places.size());
    block->first_doc = place.first_doc = documents;
    block->first_line = place.first_line = line;
    documents += static_cast<int64_t>(block->records.size());
    if (s.reference) reference_documents = documents;
    s.documents += static_cast<int64_t>(block->records.size());
    line += block->lines;
    for (const Record& r : block->records)
      if (r.bad) ++s.bad, bad += !s.reference;
    places.push_back(place);
  }

  // At the end of the first pass: what every rank found out about its sources, and the numbers of this rank's documents among all.
  Status JoinRanks() {
    TERN_RETURN_IF_ERROR(TellSources(*ranks, &sources, own_begin, own_end));
    TERN_ASSIGN(std::vector<int64_t> counts, ranks->Concatenate(std::vector<int64_t>{documents}));
    doc_starts.assign(1, 0);
    for (int64_t n : counts) doc_starts.push_back(doc_starts.back() + n);
    for (BlockPlace& p : places) p.first_doc += doc_starts[static_cast<size_t>(ranks->rank())];
    documents = doc_starts.back();
    reference_documents = bad = 0;
    for (const Source& source : sources) (source.reference ? reference_documents : bad) += source.reference ? source.documents : source.bad;
    return {};
  }

  void Tell(std::string_view stage, int64_t done, int64_t total, int64_t docs) {
    if (!options.progress) return;
    auto now = std::chrono::steady_clock::now();
    if (now - told < std::chrono::milliseconds(100)) return;
    told = now;
    options.progress({stage, done, total, docs});
  }

  void SplitOrRestore(Block* block, const BlockPlace& place, bool parse) {
    if (!place.too_long) {
      reader.Split(block, source->columns(place.file), parse);
      return;
    }
    block->records.clear();
    Record& record = block->records.emplace_back();
    record.offset = place.offset;
    record.id_json = "null";
    record.bad = "longer than --max-record";
  }
};

Corpus::Corpus(std::unique_ptr<State> state) : state_(std::move(state)) {}
Corpus::~Corpus() = default;
const std::vector<Source>& Corpus::sources() const { return state_->sources; }
int Corpus::threads() const { return state_->threads; }
int64_t Corpus::documents() const { return state_->documents; }
int64_t Corpus::reference_documents() const { return state_->reference_documents; }
int64_t Corpus::bad() const { return state_->bad; }
int64_t Corpus::blocks() const { return static_cast<int64_t>(state_->places.size()); }
int64_t Corpus::FirstDocOf(int64_t block) const { return state_->places[static_cast<size_t>(block)].first_doc; }
int64_t Corpus::EndDocOf(int64_t block) const { return block + 1 < blocks() ? FirstDocOf(block + 1) : own_end_doc(); }
Ranks& Corpus::ranks() const { return *state_->ranks; }
size_t Corpus::own_begin_source() const { return state_->own_begin; }
size_t Corpus::own_end_source() const { return state_->own_end; }
int64_t Corpus::own_begin_doc() const { return state_->doc_starts[static_cast<size_t>(state_->ranks->rank())]; }
int64_t Corpus::own_end_doc() const { return state_->doc_starts[static_cast<size_t>(state_->ranks->rank()) + 1]; }
int Corpus::RankOf(int64_t doc) const {
  const auto& starts = state_->doc_starts;
  return static_cast<int>(std::upper_bound(starts.begin(), starts.end(), doc) - starts.begin()) - 1;
}
int64_t Corpus::BlockOf(int64_t doc) const {
  const auto& places = state_->places;
  auto it = std::upper_bound(places.begin(), places.end(), doc, [](int64_t d, const BlockPlace& p) { return d < p.first_doc; });
  return it - places.begin() - 1;
}

Result<std::unique_ptr<Corpus>> Corpus::Open(const CommonOptions& options) {
  auto state = std::make_unique<State>(options);
  TERN_ASSIGN(state->sources, FindSources(options));
  if (options.max_record_bytes < 1 || options.max_record_bytes > (int64_t{1} << 31)) return UsageError("--max-record must lie between 1 byte and 2 GiB");
  if (options.ranks) state->ranks = options.ranks;
  state->threads = options.threads > 0 ? options.threads : std::max(1, AvailableThreads() / state->ranks->local_size());
  TERN_RETURN_IF_ERROR(ShareSources(*state->ranks, state->sources, &state->own_begin, &state->own_end));
  return std::unique_ptr<Corpus>(new Corpus(std::move(state)));
}

Status Corpus::Pass(const PassOptions& pass, const Work& work, const InOrder& in_order) {
  State& s = *state_;
  const bool first = !s.first_done;
  if (first) s.source = std::make_unique<BlockSource>(s.options, &s.sources, s.own_begin, s.own_end, !pass.only_pass);
  const int items = Pipeline::ItemsFor(s.threads);
  std::vector<Block> blocks(static_cast<size_t>(items));
  std::vector<BlockPlace> places(static_cast<size_t>(items));
  std::vector<int64_t> positions(static_cast<size_t>(items));
  int64_t next = 0;  // the next block of a later pass
  auto block_of = [&](int item) -> Block& { return blocks[static_cast<size_t>(item)]; };
  auto place_of = [&](int item) -> BlockPlace& { return places[static_cast<size_t>(item)]; };

  Pipeline line;
  line.threads = s.threads;
  line.cancel = s.options.cancel;
  line.take = [&](int item) -> Result<bool> {
    Block& block = block_of(item);
    if (static_cast<int64_t>(block.storage.size()) > 8 * BlockSource::kBlockBytes) block = Block();  // a giant record's memory is given back
    block.result = nullptr;
    if (first) {
      TERN_ASSIGN(bool more, s.source->Next(&block, &place_of(item)));
      block.first_doc = block.first_line = -1;
      positions[static_cast<size_t>(item)] = s.source->position();
      return more;
    }
    while (next < static_cast<int64_t>(s.places.size()) && pass.want && !pass.want(next)) ++next;
    if (next >= static_cast<int64_t>(s.places.size())) return false;
    block.number = next;
    place_of(item) = s.places[static_cast<size_t>(next++)];
    return true;
  };
  line.work = [&](int item, int worker) -> Status {
    Block& block = block_of(item);
    const BlockPlace& place = place_of(item);
    if (!first) {
      if (!place.too_long) TERN_RETURN_IF_ERROR(s.source->Load(place, &block));
      block.file = place.file;
      block.format = s.sources[static_cast<size_t>(place.file)].format;
      block.first_doc = place.first_doc, block.first_line = place.first_line;
    }
    if (!first || !place.too_long) s.SplitOrRestore(&block, place, first || !pass.parse_block || pass.parse_block(block.number));
    return work ? work(block, worker) : Status();
  };
  line.hand_on = [&](int item) -> Status {
    Block& block = block_of(item);
    if (first) s.Number(&block, place_of(item));
    if (in_order) TERN_RETURN_IF_ERROR(in_order(block));
    if (first) s.Tell(pass.stage, positions[static_cast<size_t>(item)], s.source->total_bytes(), block.first_doc);
    else s.Tell(pass.stage, block.number * BlockSource::kBlockBytes, static_cast<int64_t>(s.places.size()) * BlockSource::kBlockBytes, block.first_doc);
    return {};
  };
  TERN_RETURN_IF_ERROR(line.Run());
  if (first) TERN_RETURN_IF_ERROR(s.JoinRanks());
  s.first_done = true;
  return {};
}

Status Corpus::CheckBadShare() const {
  const State& s = *state_;
  const int64_t documents = s.documents - s.reference_documents;
  if (s.options.yes || s.bad * 100 <= documents) return {};
  return Malformed(Str(s.bad, " of ", documents, " records are malformed, more than 1 %"))
      .File(s.options.output + "/bad.jsonl")
      .Hint("The list says why; --yes sets them aside and goes on");
}

void AppendJsonString(std::string_view text, std::string* out) {
  static const char kHex[] = "0123456789abcdef";
  *out += '"';
  size_t from = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out->append(text.substr(from, i - from));
    from = i + 1;
    *out += '\\';
    switch (c) {
      case '"': *out += '"'; break;
      case '\\': *out += '\\'; break;
      case '\n': *out += 'n'; break;
      case '\r': *out += 'r'; break;
      case '\t': *out += 't'; break;
      case '\b': *out += 'b'; break;
      case '\f': *out += 'f'; break;
      default: *out += "u00", *out += kHex[c >> 4], *out += kHex[c & 15]; break;
    }
  }
  out->append(text.substr(from));
  *out += '"';
}

void AppendPlace(const Corpus& corpus, const Block& block, size_t index, std::string* out) {
  const Record& record = block.records[index];
  *out += "{\"doc\":";
  AppendPart(out, corpus.ShownDoc(block.DocOf(index)));
  *out += ",\"id\":";
  *out += record.id_json.empty() ? std::string_view("null") : record.id_json;
  *out += ",\"file\":";
  AppendJsonString(ReplaceInvalidUtf8(corpus.sources()[static_cast<size_t>(block.file)].path), out);
  *out += ",\"line\":";
  *out += std::to_string(block.LineOf(index));
  *out += ",\"offset\":";
  *out += std::to_string(record.offset);
}

void AppendKept(const Block& block, const Record& record, std::string* out) {
  std::string_view bytes = record.raw;
  if (block.format == Format::kParagraphs) {
    if (!bytes.empty() && bytes.back() == '\n') bytes.remove_suffix(1);
    if (!bytes.empty() && bytes.back() == '\r') bytes.remove_suffix(1);
  }
  out->append(bytes);
  if (block.format == Format::kParagraphs) *out += "\n\n";
}

void AppendRewritten(const Block& block, const Record& record, std::string_view text, std::string* out) {
  size_t before = static_cast<size_t>(record.text_raw.data() - record.raw.data());
  std::string_view after = record.raw.substr(before + record.text_raw.size());
  switch (block.format) {
    case Format::kJsonl:
      out->append(record.raw.substr(0, before));
      AppendJsonString(text, out);
      out->append(after);
      return;
    case Format::kCsv:
    case Format::kTsv:
      out->append(record.raw.substr(0, before));
      *out += '"';
      for (char c : text) {
        if (c == '"') *out += '"';
        *out += c;
      }
      *out += '"';
      out->append(after);
      return;
    case Format::kParagraphs:
      out->append(text);
      *out += "\n\n";
      return;
    default:
      out->append(text);
      out->append(after);
      return;
  }
}

}  // namespace tern::corpus
