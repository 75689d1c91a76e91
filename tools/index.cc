// tern index KIND: a retrieval database of texts - built, appended to, searched, checked.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/base/checked.h"
#include "engine/base/hash.h"
#include "engine/base/memory.h"
#include "engine/base/rng.h"
#include "engine/retrieval/foreign.h"
#include "formats/safetensors.h"
#include "tools/corpus_flags.h"
#include "tools/index_input.h"
#include "tools/input.h"

namespace tern {
namespace {

constexpr int64_t kAutoLists = 1'000'000;  // chunks from which a build makes inverted lists
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

// build and add: the same way in.
class IndexWrite : public Command {
 public:
  explicit IndexWrite(bool append) : append_(append) {}

  void Declare(Arguments& args) override {
    if (append_) args.File("DB", &folder_, "the folder of a database");
    args.Files("TEXT", &options_.inputs, "files, folders or patterns (.txt, .jsonl, .csv, .tsv, also .gz, .zst), or - for standard input");
    if (!append_) args.Output(&folder_, "the folder of the new database").Required();
    args.Path("--embedder", &embedder_, "a sentence encoder (.tern) that makes the vectors").Required();
    if (!append_) {
      args.Integer("--chunk", &settings_.chunk, 8, 4096, "tokens of a chunk, counted by the embedder's tokenizer").ValueName("N");
      args.Choice("--type", &type_, {"f32", "q8"}, "how vectors are scanned; q8 keeps half floats beside, for the final order");
      args.Choice("--metric", &metric_, {"cos", "ip", "l2"}, "what near means");
      args.Integer("--block-chunks", &settings_.block_chunks, 16, 1 << 20, "chunks of one file: the unit in which a killed build goes on").ValueName("N");
      args.Flag("--overwrite", &overwrite_, "replace a database that is there");
    }
    args.Choice("--format", &format_, {"auto", "jsonl", "csv", "tsv", "lines", "paragraphs", "file"}, "auto: by name; a text file is one document");
    args.Text("--text-field", &options_.text_field, "where the text stands in JSON records and CSV");
    args.Text("--id-field", &options_.id_field, "where the id stands");
    args.Flag("--yes", &options_.yes, "go on although more than 1 % of the records are malformed");
    if (!append_) args.Text("--block", &share_, "I/N: make only the blocks of share I of N (counted from 0); then the same build without it joins them").ValueName("I/N");
    args.Path("--tokenizer", &tokenizer_, "of the ids in a Megatron dataset (TEXT ends in .idx)");
    args.Threads(&threads_);
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(options_.format, corpus::ParseFormat(format_));
    options_.verb = "index", options_.cancel = &console.cancel(), options_.log = console.Log(), options_.threads = static_cast<int>(threads_);
    TERN_ASSIGN(IndexEmbedder embedder, IndexEmbedder::Open(embedder_, threads_, console));
    TERN_ASSIGN(const Tokenizer* tokenizer, embedder.model->NeedTokenizer());
    if (append_) {
      TERN_ASSIGN(auto old, Database::Open(folder_, Database::Lists::kIgnore));  // lists go with an append
      if (DigestText(*embedder.model) != old->settings().embedder_digest)
        return UsageError("this is not the embedder that the database was made with").File(embedder_).Got(DigestText(*embedder.model), old->settings().embedder_digest);
      if (old->settings().payload != PayloadKind::kText) return UsageError("a database of token ids cannot be appended to from texts").File(folder_);
      settings_ = old->settings();
    } else {
      settings_.dim = embedder.embedder->width();
      settings_.type = type_ == "q8" ? VectorType::kQ8 : VectorType::kF32;
      settings_.metric = *MetricOf(metric_);
      settings_.embedder = embedder_.substr(embedder_.rfind('/') + 1);
      settings_.embedder_digest = DigestText(*embedder.model);
    }
    Gang gang(static_cast<int>(threads_));
    DatabaseWriter::Share share;
    char rest = 0;
    if (share_ && std::sscanf(share_->c_str(), "%ld/%ld%c", &share.part, &share.parts, &rest) != 2) return UsageError("--block is no share").Got(Str("'", Printable(*share_, 32), "'"), "I/N, for example 0/4");
    if (share.parts > 1 && overwrite_) return UsageError("--block and --overwrite do not go together");
    Progress progress(console, "embedding", 0, "chunks");
    const int64_t start = NowNs();
    DatabaseWriter* writing = nullptr;
    auto embed = [&](const std::vector<std::string>& texts, std::vector<float>* vectors) {
      const int64_t before = writing->chunks() - static_cast<int64_t>(texts.size());
      return embedder.Embed(texts, vectors, [&](int64_t done) { progress.Update(before + done); });
    };
    using Mode = DatabaseWriter::Mode;
    TERN_ASSIGN(DatabaseWriter writer, DatabaseWriter::Create(folder_, settings_, append_ ? Mode::kAppend : overwrite_ ? Mode::kReplace : Mode::kNew, embed, &gang, share));
    writing = &writer;
    const int64_t chunks_before = writer.chunks();
    std::unique_ptr<Tokenizer> generator;
    if (tokenizer_) {
      TERN_ASSIGN(generator, Tokenizer::Open(*tokenizer_));
    }
    TERN_ASSIGN(Json sources, IndexTexts(options_, *tokenizer, generator.get(), &writer));
    TERN_RETURN_IF_ERROR(writer.Finish(sources));
    if (share.parts > 1) {
      if (console.json) console.PrintJson({{"database", folder_}, {"share", *share_}, {"embedded", writer.embedded()}});
      else console.Note(Str(folder_, ": share ", *share_, ", ", WithCommas(writer.embedded()), " chunks embedded; when all shares are done, run the build without --block"));
      return {};
    }
    if (writer.chunks() >= kAutoLists) {
      IvfOptions lists;
      lists.cancel = &console.cancel();
      TERN_RETURN_IF_ERROR(BuildLists(folder_, lists, 0.95, &gang).status());
    }
    TERN_ASSIGN(auto database, Database::Open(folder_));
    const double seconds = static_cast<double>(NowNs() - start) * 1e-9;
    const int64_t chunks = database->chunks() - chunks_before;
    if (console.json)
      console.PrintJson({{"database", folder_}, {"chunks", database->chunks()}, {"new_chunks", chunks}, {"embedded", writer.embedded()}, {"documents", database->documents()}, {"bytes", database->file_bytes()}, {"seconds", seconds}});
    else
      console.Note(Str(folder_, ": ", WithCommas(chunks), " chunks", append_ ? " more" : Str(" of ", WithCommas(database->documents()), " documents"), " (", WithCommas(writer.embedded()), " embedded, ",
                       Fixed(seconds > 0 ? static_cast<double>(writer.embedded()) / seconds : 0, 0), "/s) in ", HumanSeconds(seconds), ", ", HumanBytes(database->file_bytes())));
    return {};
  }

 private:
  const bool append_;
  corpus::CommonOptions options_;
  DatabaseSettings settings_;
  std::optional<std::string> tokenizer_, share_;
  std::string folder_, embedder_, type_ = "q8", metric_ = "cos", format_ = "auto";
  bool overwrite_ = false;
  int64_t threads_ = 0;
};

class IndexBuild : public IndexWrite {
 public:
  IndexBuild() : IndexWrite(false) {}
};
class IndexAdd : public IndexWrite {
 public:
  IndexAdd() : IndexWrite(true) {}
};

// What RETRO-pytorch left: chunks, document numbers and their vectors, into a database of token ids.
class IndexImport : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("CHUNKS", &chunks_, "train.chunks.dat: i32 [chunks, m + 1]");
    args.Path("--doc-ids", &doc_ids_, "train.doc_ids.dat").Required();
    args.Path("--embedded", &embedded_, "train.chunks.dat.embedded: f32 [chunks, width]").Required();
    args.Output(&folder_, "the folder of the new database").Required();
    args.Integer("--chunk", &settings_.chunk, 1, 65536, "m, the tokens of a chunk").ValueName("N");
    args.Integer("--width", &settings_.dim, 1, 65536, "numbers of a vector").ValueName("N");
    args.Choice("--type", &type_, {"f32", "q8"}, "how vectors are scanned");
    args.Choice("--metric", &metric_, {"l2", "cos", "ip"}, "what near means");
    args.Threads(&threads_);
  }
  Status Run(Console& console) override {
    TERN_ASSIGN(LucidFiles files, LucidFiles::Open(chunks_, doc_ids_, settings_.chunk));
    TERN_ASSIGN(auto vectors, MappedFile::Open(embedded_));
    if (static_cast<int64_t>(vectors->bytes().size()) != files.rows() * settings_.dim * 4)
      return Malformed("there are not as many vectors as chunks").File(embedded_).Got(Str(vectors->bytes().size(), " bytes"), files.rows() * settings_.dim * 4).Hint("Is --width right?");
    const float* rows = reinterpret_cast<const float*>(vectors->bytes().data());
    settings_.payload = PayloadKind::kTokens, settings_.type = type_ == "q8" ? VectorType::kQ8 : VectorType::kF32, settings_.metric = *MetricOf(metric_);
    settings_.embedder = "imported vectors";
    settings_.embedder_digest = DigestText(Xxh3(vectors->bytes()));  // blocks of a killed import of other vectors are not taken over
    Gang gang(static_cast<int>(threads_));
    int64_t next = 0;  // row of the block's first chunk
    auto embed = [&](const std::vector<std::string>& texts, std::vector<float>* out) -> Status {
      out->insert(out->end(), rows + next * settings_.dim, rows + (next + static_cast<int64_t>(texts.size())) * settings_.dim);
      return {};
    };
    TERN_ASSIGN(DatabaseWriter writer, DatabaseWriter::Create(folder_, settings_, DatabaseWriter::Mode::kNew, embed, &gang));
    for (int64_t i = 0; i < files.rows(); ++i) {
      if (console.cancel().cancelled()) return {Code::kCancelled, "cancelled"};
      if (i == 0 || files.DocumentOf(i) != files.DocumentOf(i - 1)) TERN_RETURN_IF_ERROR(writer.BeginDocument(chunks_, std::to_string(files.DocumentOf(i)), i));
      std::span<const int32_t> row = files.Row(i);
      while (!row.empty() && row.back() == 0) row = row.first(row.size() - 1);
      next = i + 1 - (i % settings_.block_chunks + 1);
      TERN_RETURN_IF_ERROR(writer.AddChunk(std::string(reinterpret_cast<const char*>(row.data()), row.size() * 4)));
    }
    next = (files.rows() - 1) / settings_.block_chunks * settings_.block_chunks;
    TERN_RETURN_IF_ERROR(writer.Finish(Json::array({{{"path", chunks_}, {"kind", "retro-pytorch"}}})));
    if (console.json) console.PrintJson({{"database", folder_}, {"chunks", writer.chunks()}, {"documents", writer.documents()}});
    else console.Note(Str(folder_, ": ", WithCommas(writer.chunks()), " chunks of ", WithCommas(writer.documents()), " documents"));
    return {};
  }

 private:
  DatabaseSettings settings_{PayloadKind::kTokens, VectorType::kQ8, Metric::kL2, 768};
  std::string chunks_, doc_ids_, embedded_, folder_, type_ = "q8", metric_ = "l2";
  int64_t threads_ = 0;
};

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
    args.Integers("--not-document", &denied_, 0, int64_t{1} << 60, "leave these documents out");
    args.Flag("--one-per-document", &one_per_document_, "at most one passage of each document");
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
  Status Answer(const std::string& query, Console& console) {
    const int64_t start = NowNs();
    std::vector<float> vector;
    TERN_RETURN_IF_ERROR(embedder_model_.Embed({query}, &vector));
    const int64_t embedded = NowNs();
    SearchOptions options;
    options.cancel = &console.cancel();
    options.allowed = denied_.empty() ? std::function<bool(int64_t, int64_t)>() : [&](int64_t, int64_t id) { return std::find(denied_.begin(), denied_.end(), database_->DocumentOf(id)) == denied_.end(); };
    std::vector<SearchHit> hits;
    // With one per document: as many more as it takes, up to all.
    for (int64_t fetch = k_;; fetch = std::min(database_->chunks(), fetch * 4)) {
      options.k = std::min(fetch, int64_t{1} << 20);
      TERN_ASSIGN(hits, database_->Find(vector, options, nprobe_.value_or(0), exact_, gang_.get()));
      std::erase_if(hits, [](const SearchHit& h) { return h.id < 0; });
      const bool all = static_cast<int64_t>(hits.size()) < options.k || options.k >= database_->chunks() || options.k == (int64_t{1} << 20);
      if (!one_per_document_) break;
      std::vector<int64_t> seen;
      std::erase_if(hits, [&](const SearchHit& h) {
        const int64_t document = database_->DocumentOf(h.id);
        if (std::find(seen.begin(), seen.end(), document) != seen.end()) return true;
        seen.push_back(document);
        return false;
      });
      if (all || static_cast<int64_t>(hits.size()) >= k_) break;
    }
    if (static_cast<int64_t>(hits.size()) > k_) hits.resize(static_cast<size_t>(k_));
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

  std::optional<std::string> folder_, query_, vectors_, queries_, outputs_;
  std::string embedder_, metric_ = "ip";
  int64_t k_ = 10, threads_ = 0;
  std::optional<int64_t> nprobe_;
  bool exact_ = false, full_ = false, one_per_document_ = false;
  std::vector<int64_t> denied_;
  std::shared_ptr<const Database> database_;
  IndexEmbedder embedder_model_;
  std::unique_ptr<Gang> gang_;
};

class IndexInfo : public Command {
 public:
  void Declare(Arguments& args) override { args.File("DB", &folder_, "the folder of a database"); }
  Status Run(Console& console) override {
    TERN_ASSIGN(auto d, Database::Open(folder_));
    const DatabaseSettings& s = d->settings();
    if (console.json) {
      Json j = d->manifest();
      j.erase("blocks");
      j["block_count"] = d->block_count(), j["bytes"] = d->file_bytes();
      console.PrintJson(j);
      return {};
    }
    console.Print(Table({{"field", "value"},
                         {"chunks", WithCommas(d->chunks())},
                         {"documents", WithCommas(d->documents())},
                         {"tokens of a chunk", Str(s.chunk)},
                         {"vectors", Str(s.type == VectorType::kQ8 ? "q8" : "f32", " x ", s.dim, ", ", MetricName(s.metric))},
                         {"embedder", Printable(s.embedder)},
                         {"lists", d->lists() ? Str(d->lists()->lists(), ", ", d->nprobe(), " probed") : "none: every chunk is looked at"},
                         {"payload", s.payload == PayloadKind::kText ? "text" : "tokens"},
                         {"files", Str(d->block_count(), " blocks, ", HumanBytes(d->file_bytes()))}},
                        console));
    for (const Json& source : d->manifest()["sources"]) console.Detail(DumpJson(source));
    return {};
  }

 private:
  std::string folder_;
};

class IndexVerify : public Command {
 public:
  void Declare(Arguments& args) override { args.File("DB", &folder_, "the folder of a database"); }
  Status Run(Console& console) override {
    TERN_ASSIGN(auto d, Database::Open(folder_));
    Progress progress(console, "verifying", d->block_count(), "blocks");
    TERN_RETURN_IF_ERROR(d->Verify([&](int64_t done, int64_t) { progress.Update(done); }));
    if (console.json) console.PrintJson({{"database", folder_}, {"blocks", d->block_count()}, {"chunks", d->chunks()}, {"ok", true}});
    else console.Print(Str(folder_, ": all ", d->block_count(), " blocks and the manifest are as they were written\n"));
    return {};
  }

 private:
  std::string folder_;
};

// The recall gate: sampled rows ask for their neighbours, the database's scan beside the exact order of its stored vectors.
class IndexCheck : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("DB", &folder_, "the folder of a database");
    args.Integer("--sample", &sample_, 1, 1 << 20, "rows that are asked for").ValueName("N");
    args.Real("--least", &least_, 0, 1, "fail below this recall@10; default: 0.99, with lists 0.95");
    args.Threads(&threads_);
  }
  Status Run(Console& console) override {
    TERN_ASSIGN(auto d, Database::Open(folder_));
    Gang gang(static_cast<int>(threads_));
    const int64_t n = d->chunks(), k = std::min<int64_t>(10, n), dim = d->settings().dim, count = std::min(sample_, n);
    std::vector<float> queries;
    Rng rng(9);
    for (int64_t i = 0; i < count; ++i) {
      const std::vector<float> v = d->Vector(count == n ? i : static_cast<int64_t>(rng.Below(static_cast<uint64_t>(n))));
      queries.insert(queries.end(), v.begin(), v.end());
    }
    SearchOptions options;
    options.metric = d->settings().metric, options.k = k, options.cancel = &console.cancel();
    const int64_t start = NowNs();
    TERN_ASSIGN(auto found, d->Find(queries, options, 0, false, &gang));
    const double seconds = static_cast<double>(NowNs() - start) * 1e-9;
    // Exact: every stored row in f32, in blocks of the database.
    std::vector<SearchHit> truth = found;
    if (d->settings().type == VectorType::kF32) {
      TERN_ASSIGN(truth, Search(d->vectors(), queries, options, &gang));
    } else {
      std::vector<float> rows;
      std::vector<float> squares(static_cast<size_t>(n));
      if (n * dim * 4 > AvailableMemory() / 2) return MemoryError("the exact comparison needs all vectors in memory").Got(Str(n * dim * 4, " bytes"), "fewer");
      rows.reserve(static_cast<size_t>(n * dim));
      for (int64_t i = 0; i < n; ++i) {
        const std::vector<float> v = d->Vector(i);
        rows.insert(rows.end(), v.begin(), v.end());
      }
      TERN_RETURN_IF_ERROR(RowSquares(rows.data(), n, dim, &gang, squares.data()));
      VectorSet exact;
      exact.dim = dim, exact.longest = d->vectors().longest * 1.01;
      VectorBlock block;
      block.rows = n, block.f32 = rows.data(), block.squares = squares.data();
      exact.blocks.push_back(block);
      TERN_ASSIGN(truth, Search(exact, queries, options, &gang));
    }
    int64_t hit = 0;
    for (int64_t q = 0; q < count; ++q)
      for (int64_t i = 0; i < k; ++i)
        for (int64_t j = 0; j < k; ++j) hit += truth[static_cast<size_t>(q * k + i)].id == found[static_cast<size_t>(q * k + j)].id;
    const double recall = static_cast<double>(hit) / static_cast<double>(count * k), rate = static_cast<double>(count) / seconds;
    if (console.json) console.PrintJson({{"database", folder_}, {"sample", count}, {"recall_at_10", recall}, {"queries_per_second", rate}});
    else console.Print(Str("recall@", k, " ", Fixed(recall, 4), " over ", WithCommas(count), " rows, ", Fixed(rate, 1), " queries/s\n"));
    TERN_RETURN_IF_ERROR(AmendManifest(folder_, {{"check", {{"sample", count}, {"recall_at_10", recall}, {"queries_per_second", rate}}}}));
    const double least = least_.value_or(d->lists() ? 0.95 : 0.99);
    if (recall < least) return Status(Code::kGuard, "recall is below the gate").File(folder_).Got(Fixed(recall, 4), Fixed(least, 4));
    return {};
  }

 private:
  std::string folder_;
  int64_t sample_ = 1000, threads_ = 0;
  std::optional<double> least_;
};

// Inverted lists for a database that is there.
class IndexLists : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("DB", &folder_, "the folder of a database");
    args.Integer("--lists", &options_.lists, 0, 1 << 22, "how many; 0: about 4 sqrt(chunks)").ValueName("N");
    args.Real("--recall", &recall_, 0, 1, "probe as many lists as this recall@10 takes");
    args.Choice("--type", &type_, {"q8", "f32"}, "how rows are kept in the lists");
    args.Threads(&threads_);
  }
  Status Run(Console& console) override {
    Gang gang(static_cast<int>(threads_));
    options_.type = type_ == "q8" ? VectorType::kQ8 : VectorType::kF32, options_.cancel = &console.cancel();
    const int64_t start = NowNs();
    TERN_ASSIGN(ListsReport r, BuildLists(folder_, options_, recall_, &gang));
    const double seconds = static_cast<double>(NowNs() - start) * 1e-9;
    if (console.json) console.PrintJson({{"database", folder_}, {"lists", r.lists}, {"nprobe", r.nprobe}, {"recall_at_10", r.recall}, {"seconds", seconds}});
    else console.Print(Str(r.lists, " lists, ", r.nprobe, " probed for recall@10 ", Fixed(r.recall, 4), ", in ", HumanSeconds(seconds), "\n"));
    return {};
  }

 private:
  std::string folder_, type_ = "q8";
  IvfOptions options_;
  double recall_ = 0.95;
  int64_t threads_ = 0;
};

const Verb kBuild = {"build", "Data", "turn texts into a database", "tern index build books/ -o books.db --embedder minilm.tern\ntern index build train.jsonl.zst -o web.db --embedder minilm.tern --type f32", Make<IndexBuild>};
const Verb kAdd = {"add", "Data", "append texts to a database", "tern index add books.db more.txt --embedder minilm.tern", Make<IndexAdd>};
const Verb kImport = {"import", "Data", "a database from the files of RETRO-pytorch", "tern index import train.chunks.dat --doc-ids train.doc_ids.dat --embedded train.chunks.dat.embedded -o old.db", Make<IndexImport>};
const Verb kSearch = {"search", "Data", "the passages nearest to a question", "tern index search books.db 'Who stole the letter?' --embedder minilm.tern\ntern index search --vectors v.safetensors --queries q.safetensors --metric l2 -k 5 --json", Make<IndexSearch>};
const Verb kInfo = {"info", "Data", "what a database holds", "tern index info books.db", Make<IndexInfo>};
const Verb kVerifyDb = {"verify", "Data", "check every digest of a database", "tern index verify books.db", Make<IndexVerify>};
const Verb kCheck = {"check", "Data", "recall of the fast scan against the exact one", "tern index check books.db --sample 1000", Make<IndexCheck>};
const Verb kLists = {"lists", "Data", "inverted lists, for databases too large to look at every chunk", "tern index lists web.db --recall 0.97", Make<IndexLists>};
const Verb* const kKinds[] = {&kBuild, &kAdd, &kImport, &kLists, &kSearch, &kInfo, &kVerifyDb, &kCheck};

}  // namespace

extern const Verb kIndex = {"index", "Data", "a retrieval database of texts: build it, ask it", "tern index build books/ -o books.db --embedder minilm.tern\ntern index search books.db 'Who stole the letter?' --embedder minilm.tern", nullptr, kKinds};

}  // namespace tern
