// tern index search: the passages nearest to a question; vectors without a database.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/retrieval/filter.h"
#include "formats/safetensors.h"
#include "tools/index_input.h"
#include "tools/index_kinds.h"
#include "tools/input.h"

namespace tern {
namespace {

constexpr size_t kShownBytes = 600;  // of a passage, without --full

Json HitJson(const Database& d, const SearchHit& hit) {
  const DocumentRecord doc = d.Document(d.DocumentOf(hit.id));
  Json j = {{"id", hit.id}, {"score", hit.score}, {"source", doc.source}, {"document", d.DocumentOf(hit.id)}, {"chunk", hit.id - doc.first_chunk}, {"line", doc.position}};
  if (!doc.id.empty()) j["doc_id"] = doc.id;
  const std::string_view payload = d.Payload(hit.id);
  if (d.settings().payload == PayloadKind::kText) {
    j["text"] = std::string(payload);
  } else {
    std::vector<int32_t> ids(payload.size() / 4);
    std::copy_n(payload.data(), ids.size() * 4, reinterpret_cast<char*>(ids.data()));
    j["tokens"] = ids;
  }
  return j;
}

class IndexSearch : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("DB", &folder_, "the folder of a database");
    args.Input("QUERY", &query_, "the question, a file of them (one a line), or - for standard input; a conversation on a terminal");
    args.Path("--embedder", &embedder_, "the encoder the database was made with");
    args.Integer("--neighbors", &k_, 1, 1 << 20, "how many passages").Letter('k').ValueName("K");
    args.Integer("--nprobe", &nprobe_, 1, 1 << 22, "inverted lists that are looked into, if the database has them").ValueName("N");
    args.Flag("--exact", &exact_, "look at every chunk although there are lists");
    args.Flag("--full", &full_, "print passages whole");
    args.Integers("--not-document", &filter_.documents, 0, int64_t{1} << 60, "leave these documents out");
    args.Texts("--not-source", &filter_.sources, "leave out what this file brought in").ValueName("SOURCE");
    args.Path("--deny", &deny_, "leave out what this file lists: a source a line, or #DOCUMENT");
    args.Flag("--one-per-document", &filter_.one_per_document, "at most one passage of each document");
    args.Real("--max-overlap", &filter_.max_overlap, 0, 1, "leave out passages of which a longer run of tokens stands in the question than this share");
    args.Real("--max-repeat", &filter_.max_repeat, 0, 1, "of near-duplicates one: leave out passages that share a longer run with one above than this share");
    args.Heading("Vectors without a database");
    args.Path("--vectors", &vectors_, "a .safetensors file with one tensor [rows, width] of f32 (or one named vectors)");
    args.Path("--queries", &queries_, "likewise, [queries, width]");
    args.Choice("--metric", &metric_, {"ip", "l2", "cos"}, "what near means");
    args.Path("--outputs", &outputs_, "write ids and scores here (.safetensors) instead of printing them");
    args.Threads(&threads_);
  }

  Status Run(Console& console) override {
    if (vectors_ || queries_) {
      if (!vectors_ || !queries_) return UsageError("--vectors and --queries go together");
      if (folder_ || query_) return UsageError("a database and --vectors do not go together");
      return SearchVectors(console);
    }
    if (!folder_) return UsageError("DB is missing").Hint("Name the folder of a database, or say --vectors and --queries");
    TERN_ASSIGN(database_, Database::Open(*folder_));
    TERN_ASSIGN(embedder_model_, EmbedderOf(*database_, embedder_, threads_, console));
    gang_ = std::make_unique<Gang>(static_cast<int>(threads_));
    if (deny_) TERN_RETURN_IF_ERROR(ReadDenied());
    if (filter_.needs_tokens()) {
      if (database_->settings().payload != PayloadKind::kText) return UsageError("--max-overlap and --max-repeat want a database of texts").File(*folder_);
      TERN_ASSIGN(tokenizer_, embedder_model_.model->NeedTokenizer());
      filter_.tokens = [this](int64_t chunk, std::vector<int32_t>* ids) {
        ids->clear();
        return tokenizer_->EncodeIds(database_->Payload(chunk), false, ids);
      };
    }
    search_ = std::make_unique<FilteredSearch>(*database_, filter_);
    TERN_ASSIGN(auto input, TextInput::Open(query_, console));
    std::string line;
    while (console.ok()) {
      if (input->is_terminal()) console.Print(console.Bold("> ")), console.Flush();
      TERN_ASSIGN(bool more, input->Line(&line));
      if (!more) break;
      if (!line.empty()) TERN_RETURN_IF_ERROR(Answer(line, console));
    }
    return {};
  }

 private:
  Status ReadDenied() {
    TERN_ASSIGN(std::string text, ReadFile(*deny_, 1 << 30));
    int64_t line = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      std::string one = text.substr(at, end - at);
      at = end + 1, ++line;
      if (!one.empty() && one.back() == '\r') one.pop_back();
      if (one.empty()) continue;
      if (one[0] != '#') {
        filter_.sources.push_back(std::move(one));
        continue;
      }
      int64_t document = -1;
      const auto [rest, error] = std::from_chars(one.data() + 1, one.data() + one.size(), document);
      if (error != std::errc() || rest != one.data() + one.size() || document < 0) return Malformed("this is no number of a document").File(*deny_).Where(Str("line ", line)).Got(Str("'", Printable(one, 40), "'"), "a source, or # and a number");
      filter_.documents.push_back(document);
    }
    return {};
  }

  Status Answer(const std::string& query, Console& console) {
    const int64_t start = NowNs();
    std::vector<float> vector;
    TERN_RETURN_IF_ERROR(embedder_model_.Embed({query}, &vector));
    const int64_t embedded = NowNs();
    SearchOptions options;
    options.cancel = &console.cancel(), options.k = k_;
    std::vector<int32_t> prompt;
    if (filter_.needs_tokens()) TERN_RETURN_IF_ERROR(tokenizer_->EncodeIds(query, false, &prompt));
    TERN_ASSIGN(auto hits, search_->Find(vector, prompt, options, nprobe_.value_or(0), exact_, gang_.get()));
    std::erase_if(hits, [](const SearchHit& h) { return h.id < 0; });
    const double embed_seconds = static_cast<double>(embedded - start) * 1e-9, search_seconds = static_cast<double>(NowNs() - embedded) * 1e-9;
    if (console.json) {
      Json list = Json::array();
      for (const SearchHit& h : hits) list.push_back(HitJson(*database_, h));
      console.PrintJson({{"query", query}, {"hits", list}, {"embed_seconds", embed_seconds}, {"search_seconds", search_seconds}});
      return {};
    }
    int64_t rank = 0;
    for (const SearchHit& h : hits) {
      const DocumentRecord doc = database_->Document(database_->DocumentOf(h.id));
      console.Print(Str(console.Bold(Str(++rank, ". ", Fixed(h.score, 3))), "  ", Printable(doc.source, 200), doc.id.empty() ? "" : " " + Printable(doc.id, 80), ", document ", database_->DocumentOf(h.id), ", chunk ", h.id - doc.first_chunk, " (id ", h.id, ")\n"));
      if (database_->settings().payload == PayloadKind::kText) {
        std::string text(database_->Payload(h.id));
        std::replace(text.begin(), text.end(), '\n', ' ');
        console.Print(Str("   ", Printable(text, full_ ? text.size() * 4 + 4 : kShownBytes), "\n"));
      }
    }
    console.Detail(Str("embedded in ", HumanSeconds(embed_seconds), ", searched ", WithCommas(database_->chunks()), " chunks in ", HumanSeconds(search_seconds)));
    return {};
  }

  static Result<ConstTensor> Matrix(const Safetensors& file, const std::string& path, const char* name) {
    const ConstTensor* t = file.Find(name);
    if (!t && file.items().size() == 1) t = &file.items()[0].tensor;
    if (!t) return Malformed(Str("there is no tensor '", name, "', and more than one other")).File(path);
    if (t->shape.rank() != 2 || t->type != DType::f32) return Malformed("the tensor is no matrix of f32").File(path).Got(Str(DTypeName(t->type), " ", t->shape), "f32 [rows, width]");
    return *t;
  }

  Status SearchVectors(Console& console) {
    TERN_ASSIGN(Safetensors vectors_file, Safetensors::Open(*vectors_));
    TERN_ASSIGN(Safetensors queries_file, Safetensors::Open(*queries_));
    TERN_ASSIGN(ConstTensor rows, Matrix(vectors_file, *vectors_, "vectors"));
    TERN_ASSIGN(ConstTensor queries, Matrix(queries_file, *queries_, "queries"));
    const int64_t n = rows.shape[0], d = rows.shape[1], q = queries.shape[0];
    if (d < 1) return Malformed("the vectors have no width").File(*vectors_).Got(rows.shape, "[rows, width]");
    if (queries.shape[1] != d) return UsageError("queries and vectors have different widths").File(*queries_).Got(queries.shape[1], d);
    Gang gang(static_cast<int>(threads_));
    std::vector<float> squares(static_cast<size_t>(n));
    if (Status s = RowSquares(rows.as<float>(), n, d, &gang, squares.data()); !s.ok()) return std::move(s).File(*vectors_);
    VectorSet set;
    set.dim = d;
    if (n > 0) {
      VectorBlock block;
      block.rows = n, block.f32 = rows.as<float>(), block.squares = squares.data();
      set.blocks.push_back(block);
      set.longest = std::sqrt(static_cast<double>(*std::max_element(squares.begin(), squares.end()))) * (1 + 0x1p-20);
    }
    SearchOptions options;
    options.metric = *MetricOf(metric_), options.k = k_, options.cancel = &console.cancel();
    TERN_ASSIGN(auto hits, Search(set, {queries.as<float>(), static_cast<size_t>(q * d)}, options, &gang));
    if (outputs_) {
      std::vector<int64_t> ids;
      std::vector<float> scores;
      for (const SearchHit& h : hits) ids.push_back(h.id), scores.push_back(h.score);
      return WriteSafetensors(*outputs_, {{"ids", {reinterpret_cast<const uint8_t*>(ids.data()), DType::i64, {q, k_}}}, {"scores", {reinterpret_cast<const uint8_t*>(scores.data()), DType::f32, {q, k_}}}});
    }
    Json ids = Json::array(), scores = Json::array();
    for (int64_t i = 0; i < q; ++i) {
      Json id_row = Json::array(), score_row = Json::array();
      for (int64_t j = 0; j < k_; ++j) id_row.push_back(hits[static_cast<size_t>(i * k_ + j)].id), score_row.push_back(hits[static_cast<size_t>(i * k_ + j)].score);
      if (!console.json)
        for (int64_t j = 0; j < k_; ++j) console.Print(Str(i, "\t", j + 1, "\t", hits[static_cast<size_t>(i * k_ + j)].id, "\t", hits[static_cast<size_t>(i * k_ + j)].score, "\n"));
      ids.push_back(std::move(id_row)), scores.push_back(std::move(score_row));
    }
    if (console.json) console.PrintJson({{"ids", ids}, {"scores", scores}});
    return {};
  }

  std::optional<std::string> folder_, query_, vectors_, queries_, outputs_, deny_;
  std::string embedder_, metric_ = "ip";
  int64_t k_ = 10, threads_ = 0;
  std::optional<int64_t> nprobe_;
  bool exact_ = false, full_ = false;
  SearchFilter filter_;
  const Tokenizer* tokenizer_ = nullptr;
  std::shared_ptr<const Database> database_;
  IndexEmbedder embedder_model_;
  std::unique_ptr<Gang> gang_;
  std::unique_ptr<FilteredSearch> search_;
};

}  // namespace

std::unique_ptr<Command> MakeIndexSearch() { return std::make_unique<IndexSearch>(); }

}  // namespace tern
