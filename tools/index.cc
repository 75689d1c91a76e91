// tern index KIND: a retrieval database of texts - built, appended to, searched, checked.
#include <algorithm>

#include "engine/retrieval/recall.h"
#include "tools/index_kinds.h"

namespace tern {
namespace {

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
    const std::string missing = UnfinishedLists(folder_);
    console.Print(Table({{"field", "value"},
                         {"chunks", WithCommas(d->chunks())},
                         {"documents", WithCommas(d->documents())},
                         {"tokens of a chunk", Str(s.chunk)},
                         {"vectors", Str(s.type == VectorType::kQ8 ? "q8" : "f32", " x ", s.dim, ", ", MetricName(s.metric))},
                         {"embedder", Printable(s.embedder)},
                         {"lists", d->lists() ? Str(d->lists()->lists(), " of ", ListTypeName(d->lists()->type()), ", ", d->nprobe(), " probed")
                                            : !missing.empty() ? Str("not finished: index lists --type ", missing, " builds them") : "none: every chunk is looked at"},
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

// The recall gate: sampled chunks ask for their neighbours, the database's search beside the exact order of its stored vectors.
class IndexCheck : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("DB", &folder_, "the folder of a database");
    args.Integer("--sample", &sample_, 1, 1 << 20, "chunks that ask").ValueName("N");
    args.Real("--least", &least_, 0, 1, "fail below this recall@10; default: 1 for f32, 0.99 for q8, with lists 0.02 below the recall they were set by, 0.93 at most");
    args.Threads(&threads_);
  }
  Status Run(Console& console) override {
    TERN_ASSIGN(auto d, Database::Open(folder_));
    Gang gang(static_cast<int>(threads_));
    TERN_ASSIGN(RecallFigures r, CheckRecall(*d, sample_, &console.cancel(), &gang));
    if (console.json) console.PrintJson({{"database", folder_}, {"sample", r.sample}, {"recall_at_10", r.recall}, {"queries_per_second", r.queries_per_second}});
    else console.Print(Str("recall@", r.k, " ", Fixed(r.recall, 4), " over ", WithCommas(r.sample), " chunks, ", Fixed(r.queries_per_second, 1), " queries/s\n"));
    // Over f32 rows the search is proven: anything missing is a mistake.
    const double least = least_.value_or(d->lists() ? GateOfLists(d->manifest()) : d->settings().type == VectorType::kF32 ? 1 : 0.99);
    if (r.recall < least) return Status(Code::kGuard, "recall is below the gate").File(folder_).Got(Fixed(r.recall, 4), Fixed(least, 4));
    return {};
  }

 private:
  // Lists are set by a sample of their own; another one may come out a little lower.
  static double GateOfLists(const Json& manifest) {
    const Json& lists = manifest["lists"];
    const double set_by = lists.contains("recall_at_10") && lists["recall_at_10"].is_number() ? lists["recall_at_10"].get<double>() : 0.95;
    return std::clamp(set_by - 0.02, 0.0, 0.93);
  }

  std::string folder_;
  int64_t sample_ = 1000, threads_ = 0;
  std::optional<double> least_;
};

const Verb kBuild = {"build", "Data", "turn texts into a database", "tern index build books/ -o books.db --embedder minilm.tern\ntern index build train.jsonl.zst -o web.db --embedder minilm.tern --type f32\nmpirun -n 8 tern index build crawl/ -o crawl.db --embedder minilm.tern", MakeIndexBuild};
const Verb kAdd = {"add", "Data", "append texts to a database", "tern index add books.db more.txt --embedder minilm.tern", MakeIndexAdd};
const Verb kMerge = {"merge", "Data", "join the shares of a build", "tern index build crawl/ -o crawl.db --embedder minilm.tern --block 0/2\ntern index build crawl/ -o crawl.db --embedder minilm.tern --block 1/2\ntern index merge crawl.db", MakeIndexMerge};
const Verb kImport = {"import", "Data", "a database from the files of RETRO-pytorch", "tern index import train.chunks.dat --doc-ids train.doc_ids.dat --embedded train.chunks.dat.embedded -o old.db", MakeIndexImport};
const Verb kSearch = {"search", "Data", "the passages nearest to a question", "tern index search books.db 'Who stole the letter?' --embedder minilm.tern\ntern index search --vectors v.safetensors --queries q.safetensors --metric l2 -k 5 --json", MakeIndexSearch};
const Verb kInfo = {"info", "Data", "what a database holds", "tern index info books.db", Make<IndexInfo>};
const Verb kVerifyDb = {"verify", "Data", "check every digest of a database", "tern index verify books.db", Make<IndexVerify>};
const Verb kCheck = {"check", "Data", "recall of the fast scan against the exact one", "tern index check books.db --sample 1000", Make<IndexCheck>};
const Verb kLists = {"lists", "Data", "inverted lists, for databases too large to look at every chunk", "tern index lists web.db --recall 0.97\ntern index lists web.db --type pq", MakeIndexLists};
const Verb* const kKinds[] = {&kBuild, &kAdd, &kMerge, &kImport, &kLists, &kSearch, &kInfo, &kVerifyDb, &kCheck};

}  // namespace

extern const Verb kIndex = {"index", "Data", "a retrieval database of texts: build it, ask it", "tern index build books/ -o books.db --embedder minilm.tern\ntern index search books.db 'Who stole the letter?' --embedder minilm.tern", nullptr, kKinds};

}  // namespace tern
