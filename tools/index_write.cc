// tern index build, add, merge, import, lists: what makes a database.
#include <algorithm>
#include <atomic>
#include <cstdio>

#include "engine/base/hash.h"
#include "engine/retrieval/foreign.h"
#include "engine/retrieval/recall.h"
#include "engine/retrieval/shares.h"
#include "tools/corpus/ranks.h"
#include "tools/index_input.h"
#include "tools/index_kinds.h"

namespace tern {
namespace {

constexpr int64_t kAutoLists = 1'000'000;  // chunks from which a build makes inverted lists

// Chunks by the second and the time that is left, from the share of the input's bytes that was read.
class EmbeddingProgress {
 public:
  explicit EmbeddingProgress(Console& console) : progress_(console, "embedding", 0, "chunks"), start_ns_(NowNs()) {}
  void Read(const corpus::PassProgress& p) { done_ = p.done_bytes, total_ = p.total_bytes; }
  void Embedded(int64_t chunk, int64_t of_this_run) {
    const double seconds = static_cast<double>(NowNs() - start_ns_) * 1e-9, rate = static_cast<double>(of_this_run) / std::max(seconds, 1e-9);
    const int64_t done = done_, total = total_;
    std::string extra = Str(WithCommas(static_cast<int64_t>(rate)), " chunks/s");
    if (total > 0 && done > 0 && done <= total) {
      const double share = static_cast<double>(done) / static_cast<double>(total);
      extra += Str(", ", Fixed(100 * share, 0), "% read, ", HumanSeconds(seconds * (1 - share) / share), " left");
    }
    progress_.Update(chunk, extra);
  }

 private:
  Progress progress_;
  const int64_t start_ns_;
  std::atomic<int64_t> done_{0}, total_{0};
};

// A line for every stage of building lists.
Result<ListsReport> BuildListsShown(const std::string& folder, IvfOptions options, double recall, Gang* gang, Console& console) {
  std::unique_ptr<Progress> progress;
  std::string shown;
  options.cancel = &console.cancel();
  options.progress = [&](std::string_view stage, int64_t done, int64_t total) {
    if (shown != stage) progress.reset(), progress = std::make_unique<Progress>(console, stage, total, "chunks");
    shown = stage;
    progress->Update(done);
  };
  return BuildLists(folder, options, recall, gang);
}

// The lists that a build or an append comes to last. If they fail, nothing of the texts is lost: running an append again would add them twice.
Status BuildMissingLists(const std::string& folder, const std::string& type, int64_t max_bytes, Gang* gang, Console& console) {
  const auto known = ListTypeOf(type);
  if (!known) return Malformed("the lists are of an unknown kind").File(folder + "/manifest.json").Got(Printable(type, 40), "f32, q8 or pq");
  IvfOptions options;
  options.type = *known, options.max_bytes = max_bytes;
  Status built = BuildListsShown(folder, options, 0.95, gang, console).status();
  if (built.ok()) return built;
  return std::move(built).File(folder).Where("the texts are in the database, the lists are not").Hint(Str("index lists ", folder, " --type ", type, " builds what is missing"));
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
      args.Choice("--type", &type_, {"f32", "q8", "pq"}, "how vectors are scanned; q8 keeps half floats beside, for the final order; pq: q8, and inverted lists of product codes");
      args.Choice("--metric", &metric_, {"cos", "ip", "l2"}, "what near means");
      args.Integer("--block-chunks", &settings_.block_chunks, 16, 1 << 20, "chunks of one file: the unit in which a killed build goes on").ValueName("N");
      args.Flag("--overwrite", &overwrite_, "replace a database that is there");
    }
    args.Choice("--format", &format_, {"auto", "jsonl", "csv", "tsv", "lines", "paragraphs", "file"}, "auto: by name; a text file is one document");
    args.Text("--text-field", &options_.text_field, "where the text stands in JSON records and CSV");
    args.Text("--id-field", &options_.id_field, "where the id stands");
    args.Flag("--yes", &options_.yes, "go on although more than 1 % of the records are malformed");
    if (!append_) args.Text("--block", &share_, "I/N: make only the blocks of share I of N (counted from 0); index merge joins the shares").ValueName("I/N");
    args.Path("--tokenizer", &tokenizer_, "of the ids in a Megatron dataset (TEXT ends in .idx)");
    args.Bytes("--max-memory", &max_memory_, "what blocks and lists may take beside the encoder (default: no limit)");
    args.Threads(&threads_);
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(std::unique_ptr<corpus::Ranks> ranks, corpus::Ranks::Open());
    if (ranks->alone()) return Write(console, *ranks);
    if (!ranks->root()) corpus::SilenceThisProcess();
    Status done = Write(console, *ranks);
    ranks->Fail(done);
    // The root has the failures of all: only its exit code counts, and mpirun must not end it before it has spoken.
    return ranks->root() ? done : Status();
  }

 private:
  using Share = DatabaseWriter::Share;

  Result<Share> ShareOf(const corpus::Ranks& ranks) const {
    Share share;
    char rest = 0;
    if (share_ && std::sscanf(share_->c_str(), "%ld/%ld%c", &share.part, &share.parts, &rest) != 2) return UsageError("--block is no share").Got(Str("'", Printable(*share_, 32), "'"), "I/N, for example 0/4");
    if (!ranks.alone()) {
      if (share_) return UsageError("--block and mpirun do not go together: each rank takes a share");
      if (append_) return UsageError("index add does not run under mpirun");
      share = {ranks.rank(), ranks.size()};
    }
    if (share.parts > 1 && overwrite_) return UsageError("a build that is shared out cannot replace a database").Hint("Remove it, or name a new folder");
    if (share.parts > 1 && std::find(options_.inputs.begin(), options_.inputs.end(), "-") != options_.inputs.end()) return UsageError("standard input cannot be shared out");
    return share;
  }

  Status CheckMemory() const {
    // Texts and vectors of a block, and the block's bytes.
    const auto bytes_of = [&](int64_t chunks) { return chunks * (settings_.dim * 8 + settings_.chunk * 20 + 256); };
    if (max_memory_ == 0 || bytes_of(settings_.block_chunks) <= max_memory_) return {};
    const int64_t fits = max_memory_ / std::max<int64_t>(1, bytes_of(1));
    return MemoryError("one block needs more memory than is allowed").Got(HumanBytes(max_memory_), Str("at least ", HumanBytes(bytes_of(settings_.block_chunks)))).Hint(fits >= 16 && !append_ ? Str("Say --block-chunks ", fits, ", or raise --max-memory") : "Raise --max-memory");
  }

  Status Write(Console& console, corpus::Ranks& ranks) {
    TERN_ASSIGN(Share share, ShareOf(ranks));
    if (threads_ == 0 && !ranks.alone()) threads_ = std::max(1, AvailableThreads() / ranks.local_size());
    TERN_ASSIGN(options_.format, corpus::ParseFormat(format_));
    options_.verb = "index", options_.cancel = &console.cancel(), options_.log = console.Log(), options_.threads = static_cast<int>(threads_);
    TERN_ASSIGN(IndexEmbedder embedder, IndexEmbedder::Open(embedder_, threads_, console));
    TERN_ASSIGN(const Tokenizer* tokenizer, embedder.model->NeedTokenizer());
    std::string lists_before;  // what an append takes away, or what was still to be built
    if (append_) {
      TERN_ASSIGN(auto old, Database::Open(folder_, Database::Lists::kIgnore));
      if (DigestText(*embedder.model) != old->settings().embedder_digest)
        return UsageError("this is not the embedder that the database was made with").File(embedder_).Got(DigestText(*embedder.model), old->settings().embedder_digest);
      if (old->settings().payload != PayloadKind::kText) return UsageError("a database of token ids cannot be appended to from texts").File(folder_);
      settings_ = old->settings();
      if (const Json& m = old->manifest(); m.contains("lists") && m["lists"].contains("type") && m["lists"]["type"].is_string()) lists_before = m["lists"]["type"].get<std::string>();
      if (lists_before.empty()) lists_before = UnfinishedLists(folder_);
    } else {
      settings_.dim = embedder.embedder->width();
      settings_.type = type_ == "f32" ? VectorType::kF32 : VectorType::kQ8;
      settings_.metric = *MetricOf(metric_);
      settings_.embedder = embedder_.substr(embedder_.rfind('/') + 1);
      settings_.embedder_digest = DigestText(*embedder.model);
    }
    TERN_RETURN_IF_ERROR(CheckMemory());
    Gang gang(static_cast<int>(threads_));
    auto progress = std::make_unique<EmbeddingProgress>(console);
    options_.progress = [&](const corpus::PassProgress& p) {
      if (progress) progress->Read(p);
    };
    const int64_t start = NowNs();
    DatabaseWriter* writing = nullptr;
    auto embed = [&](const std::vector<std::string>& texts, std::vector<float>* vectors) {
      const int64_t before = writing->chunks() - static_cast<int64_t>(texts.size());
      return embedder.Embed(texts, vectors, [&](int64_t done) { progress->Embedded(before + done, writing->embedded() + done); });
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
    const std::string lists = type_ == "pq" ? "pq" : !lists_before.empty() ? lists_before : writer.chunks() >= kAutoLists ? "q8" : "";
    TERN_RETURN_IF_ERROR(writer.Finish(sources, lists));
    progress.reset();
    TERN_ASSIGN(int64_t embedded, ranks.Sum(writer.embedded()));  // when all have finished
    if (ranks.root()) TERN_RETURN_IF_ERROR(Complete(console, ranks, share, lists, {chunks_before, embedded, start}, &gang));
    return ranks.Barrier();
  }

  struct Done {
    int64_t chunks_before, embedded, start_ns;
  };
  // What one process does when all shares are there.
  Status Complete(Console& console, const corpus::Ranks& ranks, const Share& share, const std::string& lists, const Done& done, Gang* gang) {
    if (!ranks.alone()) {
      TERN_RETURN_IF_ERROR(MergeShares(folder_, {}).status());
    } else if (share.parts > 1) {
      if (console.json) console.PrintJson({{"database", folder_}, {"share", *share_}, {"embedded", done.embedded}});
      else console.Note(Str(folder_, ": share ", *share_, ", ", WithCommas(done.embedded), " chunks embedded; when all shares are done, index merge joins them"));
      return {};
    }
    if (!lists.empty()) TERN_RETURN_IF_ERROR(BuildMissingLists(folder_, lists, max_memory_, gang, console));
    TERN_ASSIGN(auto database, Database::Open(folder_));
    const double seconds = static_cast<double>(NowNs() - done.start_ns) * 1e-9;
    const int64_t chunks = database->chunks() - done.chunks_before;
    if (console.json)
      console.PrintJson({{"database", folder_}, {"chunks", database->chunks()}, {"new_chunks", chunks}, {"embedded", done.embedded}, {"documents", database->documents()}, {"bytes", database->file_bytes()}, {"seconds", seconds}});
    else
      console.Note(Str(folder_, ": ", WithCommas(chunks), " chunks", append_ ? " more" : Str(" of ", WithCommas(database->documents()), " documents"), " (", WithCommas(done.embedded), " embedded, ",
                       Fixed(seconds > 0 ? static_cast<double>(done.embedded) / seconds : 0, 0), "/s) in ", HumanSeconds(seconds), ", ", HumanBytes(database->file_bytes())));
    return {};
  }

  const bool append_;
  corpus::CommonOptions options_;
  DatabaseSettings settings_;
  std::optional<std::string> tokenizer_, share_;
  std::string folder_, embedder_, type_ = "q8", metric_ = "cos", format_ = "auto";
  bool overwrite_ = false;
  int64_t threads_ = 0, max_memory_ = 0;
};

// The shares of a build into one database.
class IndexMerge : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("DB", &folder_, "the folder of the database: that of the shares, or a new one");
    args.Files("SHARE", &shares_, "folders that index build --block I/N wrote to, if they are others", 0);
    args.Threads(&threads_);
  }
  Status Run(Console& console) override {
    MergeReport report;
    if (UnfinishedLists(folder_).empty() || !shares_.empty()) {
      TERN_ASSIGN(report, MergeShares(folder_, shares_));
    }
    if (const std::string lists = UnfinishedLists(folder_); !lists.empty()) {
      Gang gang(static_cast<int>(threads_));
      TERN_RETURN_IF_ERROR(BuildMissingLists(folder_, lists, 0, &gang, console));
    }
    TERN_ASSIGN(auto d, Database::Open(folder_));
    if (console.json) console.PrintJson({{"database", folder_}, {"shares", report.shares}, {"blocks", d->block_count()}, {"copied", report.copied}, {"chunks", d->chunks()}, {"documents", d->documents()}, {"bytes", d->file_bytes()}});
    else console.Note(Str(folder_, ": ", WithCommas(d->chunks()), " chunks of ", WithCommas(d->documents()), " documents from ", report.shares, " shares, ", HumanBytes(d->file_bytes())));
    return {};
  }

 private:
  std::string folder_;
  std::vector<std::string> shares_;
  int64_t threads_ = 0;
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

// Inverted lists for a database that is there.
class IndexLists : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("DB", &folder_, "the folder of a database");
    args.Integer("--lists", &options_.lists, 0, 1 << 22, "how many; 0: about 4 sqrt(chunks)").ValueName("N");
    args.Real("--recall", &recall_, 0, 1, "probe as many lists as this recall@10 takes");
    args.Choice("--type", &type_, {"q8", "pq", "f32"}, "how rows are kept in the lists: int8, product codes (the smallest), or as they are");
    args.Integer("--code-bytes", &options_.parts, 0, 1024, "bytes of a product code, a multiple of 4; 0: a quarter of the width, at most 96").ValueName("N");
    args.Bytes("--max-memory", &options_.max_bytes, "what building may take (default: no limit)");
    args.Threads(&threads_);
  }
  Status Run(Console& console) override {
    Gang gang(static_cast<int>(threads_));
    options_.type = *ListTypeOf(type_);
    const int64_t start = NowNs();
    TERN_ASSIGN(ListsReport r, BuildListsShown(folder_, options_, recall_, &gang, console));
    const double seconds = static_cast<double>(NowNs() - start) * 1e-9;
    if (console.json) console.PrintJson({{"database", folder_}, {"lists", r.lists}, {"type", type_}, {"nprobe", r.nprobe}, {"recall_at_10", r.recall}, {"bytes", r.bytes}, {"seconds", seconds}});
    else console.Print(Str(r.lists, " lists, ", r.nprobe, " probed for recall@10 ", Fixed(r.recall, 4), ", ", HumanBytes(r.bytes), ", in ", HumanSeconds(seconds), "\n"));
    return {};
  }

 private:
  std::string folder_, type_ = "q8";
  IvfOptions options_;
  double recall_ = 0.95;
  int64_t threads_ = 0;
};

}  // namespace

std::unique_ptr<Command> MakeIndexBuild() { return std::make_unique<IndexWrite>(false); }
std::unique_ptr<Command> MakeIndexAdd() { return std::make_unique<IndexWrite>(true); }
std::unique_ptr<Command> MakeIndexMerge() { return std::make_unique<IndexMerge>(); }
std::unique_ptr<Command> MakeIndexImport() { return std::make_unique<IndexImport>(); }
std::unique_ptr<Command> MakeIndexLists() { return std::make_unique<IndexLists>(); }

}  // namespace tern
