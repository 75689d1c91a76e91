// Blocks and databases: what is written is read back, a stopped build goes on, every damage is noticed. Chunk tables as recorded.
#include "engine/retrieval/database.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "engine/base/hash.h"
#include "engine/base/rng.h"
#include "engine/retrieval/chunker.h"
#include "engine/retrieval/filter.h"
#include "engine/retrieval/foreign.h"
#include "engine/retrieval/manifest.h"
#include "engine/retrieval/recall.h"
#include "engine/retrieval/shares.h"
#include "tests/reference/golden.h"
#include "tests/reference/scratch.h"

using namespace tern;

namespace {

constexpr int64_t kDim = 7;

// A vector that follows from the text alone.
void FakeVector(const std::string& text, std::vector<float>* out) {
  Rng rng(Xxh3({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  for (int64_t i = 0; i < kDim; ++i) out->push_back(static_cast<float>(rng.Normal()));
}

struct Stop {
  int calls_left = 1 << 30;
};

DatabaseWriter::Embed Embedder(Stop* stop) {
  return [stop](const std::vector<std::string>& texts, std::vector<float>* out) -> Status {
    if (stop->calls_left-- <= 0) return {Code::kCancelled, "killed"};
    for (const std::string& t : texts) FakeVector(t, out);
    return {};
  };
}

DatabaseSettings Settings(VectorType type = VectorType::kQ8) {
  DatabaseSettings s;
  s.type = type, s.dim = kDim, s.block_chunks = 16, s.embedder = "fake", s.embedder_digest = "1";
  return s;
}

// Documents of 0, 1, 2, ... 9 chunks, then one of 50, which spans blocks.
Status Fill(DatabaseWriter* w, int from, int to) {
  for (int doc = from; doc < to; ++doc) {
    TERN_RETURN_IF_ERROR(w->BeginDocument("file.txt", doc % 2 ? Str("doc", doc) : "", doc + 1));
    for (int i = 0; i < (doc == 10 ? 50 : doc); ++i) TERN_RETURN_IF_ERROR(w->AddChunk(Str("text ", doc, "/", i, std::string(static_cast<size_t>(doc), 'x'))));
  }
  return {};
}

Status Build(const std::string& folder, DatabaseWriter::Mode mode, Stop* stop, int from = 0, int to = 11, DatabaseSettings settings = Settings(), int threads = 1) {
  Gang gang(threads);
  TERN_ASSIGN(DatabaseWriter w, DatabaseWriter::Create(folder, settings, mode, Embedder(stop), &gang));
  TERN_RETURN_IF_ERROR(Fill(&w, from, to));
  return w.Finish(Json::array({{{"path", "file.txt"}}}));
}

std::string Bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
std::string AllBytes(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(folder)) names.push_back(e.path().filename().string());
  std::sort(names.begin(), names.end());
  std::string all;
  for (const auto& n : names) all += n + Bytes(folder + "/" + n);
  return all;
}

}  // namespace

TEST_CASE("database: texts, documents and vectors come back; a chunk's own vector finds it first") {
  ScratchFolder scratch;
  for (VectorType type : {VectorType::kF32, VectorType::kQ8}) {
    const std::string folder = scratch.path() + (type == VectorType::kF32 ? "/f32" : "/q8");
    Stop stop;
    Status built = Build(folder, DatabaseWriter::Mode::kNew, &stop, 0, 11, Settings(type));
    REQUIRE_MESSAGE(built.ok(), built.message());
    auto opened = Database::Open(folder);
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    const Database& d = **opened;
    CHECK(d.chunks() == 95);
    CHECK(d.documents() == 10);  // the empty one is none
    CHECK(d.block_count() == 6);
    CHECK(d.Verify().ok());
    int64_t id = 0;
    Gang gang(1);
    for (int doc = 1; doc < 11; ++doc) {
      const DocumentRecord record = d.Document(doc - 1);
      CHECK(record.first_chunk == id);
      CHECK(record.position == doc + 1);
      CHECK(record.id == (doc % 2 ? Str("doc", doc) : ""));
      const int count = doc == 10 ? 50 : doc;
      for (int i = 0; i < count; ++i, ++id) {
        CHECK(d.DocumentOf(id) == doc - 1);
        CHECK(d.Payload(id) == Str("text ", doc, "/", i, std::string(static_cast<size_t>(doc), 'x')));
        CHECK(d.Next(id) == (i + 1 < count ? id + 1 : -1));
        SearchOptions options;
        options.k = 1;
        std::vector<float> query;
        FakeVector(std::string(d.Payload(id)), &query);
        auto hit = Search(d.vectors(), query, options, &gang);
        REQUIRE(hit.ok());
        CHECK((*hit)[0].id == id);
        CHECK((*hit)[0].score == doctest::Approx(1).epsilon(2e-3));
      }
    }
  }
}

TEST_CASE("database: a build stopped after any block goes on to the same bytes, for any number of threads") {
  ScratchFolder scratch;
  Stop none;
  REQUIRE(Build(scratch.path() + "/whole", DatabaseWriter::Mode::kNew, &none).ok());
  const std::string want = AllBytes(scratch.path() + "/whole");
  for (int calls = 0; calls < 6; ++calls) {
    const std::string folder = scratch.path() + Str("/stopped", calls);
    Stop stop{calls};
    CHECK(Build(folder, DatabaseWriter::Mode::kNew, &stop).code() == Code::kCancelled);
    CHECK(Database::Open(folder).status().code() == Code::kMalformed);  // no manifest yet
    Stop rest{6 - calls};  // no more than what was missing
    REQUIRE(Build(folder, DatabaseWriter::Mode::kNew, &rest, 0, 11, Settings(), 3).ok());
    CHECK(AllBytes(folder) == want);
  }
  // A block of other settings, or a damaged one, is made again.
  const std::string folder = scratch.path() + "/other";
  DatabaseSettings other = Settings();
  other.embedder_digest = "2";
  Stop two{2};
  CHECK_FALSE(Build(folder, DatabaseWriter::Mode::kNew, &two, 0, 11, other).ok());
  Stop all;
  REQUIRE(Build(folder, DatabaseWriter::Mode::kNew, &all).ok());
  CHECK(AllBytes(folder) == want);
}

TEST_CASE("database: append, replace, and what is refused") {
  ScratchFolder scratch;
  const std::string folder = scratch.path() + "/db";
  Stop stop;
  using Mode = DatabaseWriter::Mode;
  REQUIRE(Build(folder, Mode::kNew, &stop, 0, 6).ok());
  CHECK(Build(folder, Mode::kNew, &stop, 0, 6).code() == Code::kUsage);
  Stop killed{1};
  CHECK_FALSE(Build(folder, Mode::kAppend, &killed, 6, 11).ok());
  auto before = Database::Open(folder);
  REQUIRE(before.ok());
  CHECK((*before)->chunks() == 15);
  REQUIRE(Build(folder, Mode::kAppend, &stop, 6, 11).ok());
  auto after = Database::Open(folder);
  REQUIRE_MESSAGE(after.ok(), after.status().message());
  CHECK((*after)->chunks() == 95);
  CHECK((*after)->documents() == 10);
  CHECK((*after)->Payload(15) == "text 6/0xxxxxx");
  CHECK((*after)->Document((*after)->DocumentOf(94)).first_chunk == 45);
  CHECK((*after)->manifest()["sources"].size() == 2);
  DatabaseSettings other = Settings();
  other.embedder_digest = "2";
  CHECK(Build(folder, Mode::kAppend, &stop, 0, 3, other).code() == Code::kUsage);
  REQUIRE(Build(folder, Mode::kReplace, &stop, 0, 3).ok());
  auto smaller = Database::Open(folder);
  REQUIRE(smaller.ok());
  CHECK((*smaller)->chunks() == 3);
  CHECK_FALSE(FileExists(folder + "/block-000001.tblk"));
  CHECK(Build(scratch.path() + "/empty", Mode::kNew, &stop, 0, 1).code() == Code::kUsage);
  std::ofstream(scratch.path() + "/mine.txt") << "mine";
  CHECK(Build(scratch.path(), Mode::kNew, &stop).code() == Code::kUsage);
}

TEST_CASE("database: no cut and no flipped bit passes") {
  ScratchFolder scratch;
  const std::string folder = scratch.path() + "/db";
  Stop stop;
  REQUIRE(Build(folder, DatabaseWriter::Mode::kNew, &stop, 0, 6).ok());
  auto noticed = [&] {
    auto d = Database::Open(folder);
    return !d.ok() || !(*d)->Verify().ok();
  };
  CHECK_FALSE(noticed());
  for (const char* name : {"/block-000000.tblk", "/manifest.json"}) {
    const std::string path = folder + name, good = Bytes(path);
    auto write = [&](const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; };
    for (size_t keep = 0; keep < good.size(); keep += std::max<size_t>(1, good.size() / 97)) {
      write(good.substr(0, keep));
      CHECK_MESSAGE(noticed(), name << " cut at " << keep);
    }
    for (size_t at = 0; at < good.size(); at += std::max<size_t>(1, good.size() / 499)) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
      write(bad);
      // White space at the end of the manifest is no content.
      if (name[1] == 'm' && at + 1 == good.size()) continue;
      CHECK_MESSAGE(noticed(), name << " flipped at " << at);
    }
    write(good);
  }
  CHECK_FALSE(noticed());
  std::filesystem::remove(folder + "/block-000000.tblk");
  CHECK(Database::Open(folder).status().code() == Code::kIo);
}

TEST_CASE("chunk tables and retrieved tokens as recorded") {
  for (const char* name : {"chunks4_edges", "one_document"}) {
    CAPTURE(name);
    const std::string folder = std::string(TERN_SOURCE_DIR) + "/tests/golden/retro-index/" + name;
    auto in = Safetensors::Open(folder + "/inputs.safetensors"), out = Safetensors::Open(folder + "/outputs.safetensors");
    REQUIRE(in.ok());
    REQUIRE(out.ok());
    auto longs = [](const ConstTensor& t) {
      std::vector<int64_t> v;
      for (int64_t i = 0; i < t.shape.elements(); ++i) v.push_back(t.type == DType::i32 ? t.as<int32_t>()[i] : t.as<int64_t>()[i]);
      return v;
    };
    const int64_t chunk = 4;
    auto table = MakeChunkTable(longs(*in->Find("doc_offsets")), chunk);
    REQUIRE(table.ok());
    CHECK(table->start == longs(*out->Find("chunk.start")));
    CHECK(table->length == longs(*out->Find("chunk.length")));
    CHECK(table->document == longs(*out->Find("chunk.doc")));
    CHECK(table->next == longs(*out->Find("chunk.next")));
    const ConstTensor &ids = *out->Find("neighbors.ids"), &retrieved = *out->Find("retrieved"), &tokens = *in->Find("tokens");
    const auto of = longs(*out->Find("retrieved.of"));
    const int64_t k = ids.shape[1];
    const auto neighbor = longs(ids), want = longs(retrieved);
    std::vector<int32_t> got(static_cast<size_t>(2 * chunk));
    for (size_t j = 0; j < of.size(); ++j)
      for (int64_t i = 0; i < k; ++i) {
        REQUIRE(RetrievedTokens(*table, {tokens.as<int32_t>(), static_cast<size_t>(tokens.shape.elements())}, neighbor[static_cast<size_t>(of[j] * k + i)], chunk, 0, got).ok());
        for (size_t t = 0; t < got.size(); ++t) CHECK(got[t] == want[(j * static_cast<size_t>(k) + static_cast<size_t>(i)) * got.size() + t]);
      }
  }
  CHECK_FALSE(MakeChunkTable(std::vector<int64_t>{0, 5, 3}, 4).ok());
}

TEST_CASE("raw files of RETRO-pytorch: rows, documents and its own lookup of neighbours, as recorded") {
  const std::string folder = std::string(TERN_SOURCE_DIR) + "/tests/golden/retro-index/lucid_files";
  auto files = LucidFiles::Open(folder + "/train.chunks.dat", folder + "/train.doc_ids.dat", 8);
  REQUIRE_MESSAGE(files.ok(), files.status().message());
  auto in = Safetensors::Open(folder + "/inputs.safetensors"), out = Safetensors::Open(folder + "/outputs.safetensors");
  REQUIRE(in.ok());
  REQUIRE(out.ok());
  auto number = [](const ConstTensor& t, int64_t i) { return t.type == DType::i32 ? t.as<int32_t>()[i] : t.as<int64_t>()[i]; };
  const ConstTensor &chunks = *out->Find("chunks"), &documents = *out->Find("doc_ids"), &retrieved = *out->Find("retrieved"), &knn = *in->Find("knn");
  REQUIRE(files->rows() == chunks.shape[0]);
  std::vector<int32_t> got(16);
  for (int64_t i = 0; i < files->rows(); ++i) {
    CHECK(files->DocumentOf(i) == number(documents, i));
    for (int64_t t = 0; t < 8; ++t) CHECK(files->Row(i)[static_cast<size_t>(t)] == number(chunks, i * 9 + t));
    for (int64_t j = 0; j < knn.shape[1]; ++j) {
      files->Retrieved(number(knn, i * knn.shape[1] + j), got);
      for (int64_t t = 0; t < 16; ++t) CHECK(got[static_cast<size_t>(t)] == number(retrieved, (i * knn.shape[1] + j) * 16 + t));
    }
  }
  files->Retrieved(-1, got);
  CHECK(got == std::vector<int32_t>(16));
  files->Retrieved(1 << 30, got);
  CHECK(got == std::vector<int32_t>(16));
  CHECK(LucidFiles::Open(folder + "/train.chunks.dat", folder + "/train.doc_ids.dat", 7).status().code() == Code::kMalformed);
  CHECK(LucidFiles::Open(folder + "/train.chunks.dat", folder + "/train.seq.dat", 8).status().code() == Code::kMalformed);
}

TEST_CASE("Megatron's indexed dataset: documents of several sequences, types, damage") {
  auto write = [](std::string* out, auto v) { out->append(reinterpret_cast<const char*>(&v), sizeof v); };
  // Sequences of 3, 0, 2, 1 tokens in documents {0, 1}, {2, 3}.
  std::string idx("MMIDIDX\0\0", 9), bin;
  write(&idx, uint64_t{1}), write(&idx, uint8_t{8}), write(&idx, uint64_t{4}), write(&idx, uint64_t{3});
  for (int32_t n : {3, 0, 2, 1}) write(&idx, n);
  for (int64_t o : {0, 6, 6, 10}) write(&idx, o);
  for (int64_t b : {0, 2, 4}) write(&idx, b);
  for (uint16_t t : {7, 8, 65535, 10, 11, 12}) write(&bin, t);
  auto bytes = [](const std::string& s) { return std::span(reinterpret_cast<const uint8_t*>(s.data()), s.size()); };
  auto d = MegatronDataset::Parse(bytes(idx), bytes(bin));
  REQUIRE_MESSAGE(d.ok(), d.status().message());
  REQUIRE(d->documents() == 2);
  CHECK(*d->Document(0) == std::vector<int32_t>{7, 8, 65535});
  CHECK(*d->Document(1) == std::vector<int32_t>{10, 11, 12});
  for (size_t keep = 0; keep < idx.size(); ++keep) CHECK_FALSE(MegatronDataset::Parse(bytes(idx.substr(0, keep)), bytes(bin)).ok());
  CHECK_FALSE(MegatronDataset::Parse(bytes(idx), bytes(bin.substr(2))).ok());
  std::string wrong = idx;
  wrong[17] = 9;
  CHECK_FALSE(MegatronDataset::Parse(bytes(wrong), bytes(bin)).ok());
}

TEST_CASE("database: a replaced one stays until the first block of the new one is written") {
  ScratchFolder scratch;
  const std::string folder = scratch.path() + "/db";
  Stop stop;
  using Mode = DatabaseWriter::Mode;
  REQUIRE(Build(folder, Mode::kNew, &stop, 0, 6).ok());
  const std::string before = AllBytes(folder);
  Stop killed{0};  // at the first block
  CHECK_FALSE(Build(folder, Mode::kReplace, &killed, 6, 11).ok());
  CHECK(AllBytes(folder) == before);
  CHECK(Database::Open(folder).ok());
  Stop later{1};
  CHECK_FALSE(Build(folder, Mode::kReplace, &later, 6, 11).ok());
  CHECK(Database::Open(folder).status().code() == Code::kMalformed);
  REQUIRE(Build(folder, Mode::kReplace, &stop, 6, 11).ok());
  CHECK((*Database::Open(folder))->Payload(0) == "text 6/0xxxxxx");
}

TEST_CASE("database: a second writer is refused while the first one lives") {
  ScratchFolder scratch;
  const std::string folder = scratch.path() + "/db";
  Gang gang(1);
  Stop stop;
  using Mode = DatabaseWriter::Mode;
  {
    auto first = DatabaseWriter::Create(folder, Settings(), Mode::kNew, Embedder(&stop), &gang);
    REQUIRE(first.ok());
    auto second = DatabaseWriter::Create(folder, Settings(), Mode::kNew, Embedder(&stop), &gang);
    CHECK(second.status().code() == Code::kIo);
    REQUIRE(Fill(&*first, 0, 6).ok());
    REQUIRE(first->Finish(Json::array()).ok());
    CHECK(AmendManifest(folder, {{"note", 1}}).ok());  // Finish lets go
  }
  auto append = DatabaseWriter::Create(folder, Settings(), Mode::kAppend, Embedder(&stop), &gang);
  REQUIRE(append.ok());
  CHECK(DatabaseWriter::Create(folder, Settings(), Mode::kAppend, Embedder(&stop), &gang).status().code() == Code::kIo);
  CHECK(BuildLists(folder, {}, 0.9, &gang).status().code() == Code::kIo);
  CHECK(AmendManifest(folder, {{"note", 2}}).code() == Code::kIo);
  CHECK(Database::Open(folder).ok());  // reading goes on
}

TEST_CASE("database: shares in one folder or in several are merged into the bytes of one build") {
  ScratchFolder scratch;
  Stop stop;
  REQUIRE(Build(scratch.path() + "/whole", DatabaseWriter::Mode::kNew, &stop).ok());
  const std::string want = AllBytes(scratch.path() + "/whole");
  auto share = [&](const std::string& folder, int64_t part, int to = 11) {
    Gang gang(1);
    auto w = DatabaseWriter::Create(folder, Settings(), DatabaseWriter::Mode::kNew, Embedder(&stop), &gang, {part, 3});
    REQUIRE(w.ok());
    REQUIRE(Fill(&*w, 0, to).ok());
    REQUIRE(w->Finish(Json::array({{{"path", "file.txt"}}})).ok());
  };
  const std::string one = scratch.path() + "/one", a = scratch.path() + "/a", b = scratch.path() + "/b";
  share(one, 2), share(one, 0);
  CHECK(MergeShares(one, {}).status().code() == Code::kUsage);  // share 1 is missing
  share(one, 1);
  auto merged = MergeShares(one, {});
  REQUIRE_MESSAGE(merged.ok(), merged.status().message());
  CHECK(merged->blocks == 6);
  CHECK(merged->copied == 0);
  CHECK(AllBytes(one) == want);
  CHECK(MergeShares(one, {}).status().code() == Code::kUsage);  // there is a database
  CHECK(MergeShares(scratch.path() + "/nothing", {}).status().code() == Code::kUsage);
  CHECK_FALSE(FileExists(scratch.path() + "/nothing"));
  Gang gang(1);
  CHECK(DatabaseWriter::Create(one, Settings(), DatabaseWriter::Mode::kNew, Embedder(&stop), &gang, {0, (1 << 20) + 1}).status().code() == Code::kUsage);

  share(a, 0), share(a, 1), share(b, 2);
  const std::string mine = scratch.path() + "/mine";
  std::filesystem::create_directory(mine);
  std::ofstream(mine + "/mine.txt") << "mine";
  CHECK(MergeShares(mine, {a, b}).status().code() == Code::kUsage);
  merged = MergeShares(scratch.path() + "/new", {a, b});
  REQUIRE_MESSAGE(merged.ok(), merged.status().message());
  CHECK(merged->copied == 6);
  CHECK(AllBytes(scratch.path() + "/new") == want);
  merged = MergeShares(a, {b});
  REQUIRE(merged.ok());
  CHECK(merged->copied == 2);
  CHECK(AllBytes(a) == want);
  // Other texts, a damaged block, a damaged note.
  const std::string c = scratch.path() + "/c";
  share(c, 0), share(c, 1, 10), share(c, 2);
  CHECK(MergeShares(c, {}).status().code() == Code::kUsage);
  share(c, 1);
  const std::string block = c + "/block-000003.tblk", good = Bytes(block);
  std::ofstream(block, std::ios::binary) << good.substr(0, good.size() - 1) + "\x55";
  CHECK(MergeShares(c, {}).status().code() == Code::kDigest);
  std::ofstream(block, std::ios::binary) << good;
  const std::string note = c + "/share-1-of-3.json", text = Bytes(note);
  for (const char* bad : {"", "[]", "{\"part\":1}", "{"}) {
    std::ofstream(note, std::ios::binary) << bad;
    CHECK(MergeShares(c, {}).status().code() == Code::kMalformed);
  }
  std::ofstream(note, std::ios::binary) << text;
  CHECK(MergeShares(c, {}).ok());
  CHECK(AllBytes(c) == want);
}

TEST_CASE("database: shares of a build that was stopped before its lists stood are merged again, into the same bytes") {
  ScratchFolder scratch;
  Gang gang(1);
  const std::string folder = scratch.path() + "/db", apart = scratch.path() + "/apart";
  auto share = [&](const std::string& to, int64_t part, Stop stop, int until = 11) -> Status {
    TERN_ASSIGN(DatabaseWriter w, DatabaseWriter::Create(to, Settings(), DatabaseWriter::Mode::kNew, Embedder(&stop), &gang, {part, 2}));
    TERN_RETURN_IF_ERROR(Fill(&w, 0, until));
    return w.Finish(Json::array(), "pq");
  };
  for (int64_t part : {0, 1}) REQUIRE(share(folder, part, {}).ok());
  REQUIRE(MergeShares(folder, {}).ok());
  REQUIRE(UnfinishedLists(folder) == "pq");
  const std::string want = AllBytes(folder);
  for (int64_t part : {0, 1}) REQUIRE(share(folder, part, Stop{0}).ok());  // nothing to embed
  auto merged = MergeShares(folder, {});
  REQUIRE_MESSAGE(merged.ok(), merged.status().message());
  CHECK(AllBytes(folder) == want);
  for (int64_t part : {0, 1}) CHECK(share(folder, part, {}, 10).code() == Code::kUsage);
  for (int64_t part : {0, 1}) REQUIRE(share(apart, part, {}, 10).ok());
  CHECK(MergeShares(folder, {apart}).status().code() == Code::kUsage);
  CHECK(AllBytes(folder) == want);
}

TEST_CASE("database: a build goes on with a database that only lacks its lists, and replaces no other") {
  ScratchFolder scratch;
  Gang gang(1);
  const std::string folder = scratch.path() + "/db";
  auto build = [&](auto fill, Stop stop, DatabaseSettings settings = Settings()) -> Status {
    TERN_ASSIGN(DatabaseWriter w, DatabaseWriter::Create(folder, settings, DatabaseWriter::Mode::kNew, Embedder(&stop), &gang));
    TERN_RETURN_IF_ERROR(fill(&w));
    return w.Finish(Json::array(), "q8");
  };
  auto all = [](DatabaseWriter* w) { return Fill(w, 0, 11); };
  REQUIRE(build(all, {}).ok());
  const std::string want = AllBytes(folder);
  CHECK(build(all, Stop{0}).ok());
  CHECK(build([](DatabaseWriter* w) { return Fill(w, 5, 11); }, {}).code() == Code::kUsage);
  DatabaseSettings other = Settings();
  other.embedder_digest = "2";
  CHECK(build(all, {}, other).code() == Code::kUsage);
  auto first_block = [](DatabaseWriter* w) -> Status {  // the database's first block, and no more
    TERN_RETURN_IF_ERROR(Fill(w, 0, 6));
    TERN_RETURN_IF_ERROR(w->BeginDocument("file.txt", "", 7));
    return w->AddChunk("text 6/0xxxxxx");
  };
  CHECK(build(first_block, {}).code() == Code::kUsage);
  CHECK(build([&](DatabaseWriter* w) -> Status {
    TERN_RETURN_IF_ERROR(Fill(w, 0, 11));
    TERN_RETURN_IF_ERROR(w->BeginDocument("more.txt", "", 1));
    for (int i = 0; i < 40; ++i) TERN_RETURN_IF_ERROR(w->AddChunk("more"));
    return {};
  }, {}).code() == Code::kUsage);
  CHECK(AllBytes(folder) == want);
  CHECK(Database::Open(folder).ok());
}

TEST_CASE("database: lists and manifests that do not belong to each other, or to us") {
  ScratchFolder scratch;
  Gang gang(1);
  Stop stop;
  const std::string folder = scratch.path() + "/db";
  REQUIRE(Build(folder, DatabaseWriter::Mode::kNew, &stop).ok());
  IvfOptions options;
  options.lists = 4;
  REQUIRE(BuildLists(folder, options, 0.9, &gang).ok());
  auto manifest = ReadManifest(folder);
  REQUIRE(manifest.ok());
  // Fewer lists than were probed before: as after a kill between the lists and their manifest.
  Json more = *manifest;
  more["lists"]["nprobe"] = 64;
  REQUIRE(WriteManifest(folder, more).ok());
  auto d = Database::Open(folder);
  REQUIRE_MESSAGE(d.ok(), d.status().message());
  CHECK((*d)->nprobe() == 4);
  // Figures of lists that are gone go too.
  REQUIRE(CheckRecall(**d, 20, nullptr, &gang).ok());
  CHECK(ReadManifest(folder)->contains("check"));
  REQUIRE(BuildLists(folder, options, 0.9, &gang).ok());
  CHECK_FALSE(ReadManifest(folder)->contains("check"));
  for (auto change : {+[](Json* m) { (*m)["unfinished"] = "hnsw"; }, +[](Json* m) { (*m)["unfinished"] = 7; }, +[](Json* m) { (*m)["lists"]["type"] = "hnsw"; },
                      +[](Json* m) { (*m)["blocks"] = Json::array(); }}) {
    Json bad = *manifest;
    change(&bad);
    REQUIRE(WriteManifest(folder, bad).ok());
    CHECK(Database::Open(folder, Database::Lists::kIgnore).status().code() == Code::kMalformed);
  }
}

TEST_CASE("database: lists of vectors that are too long are refused, and leave nothing behind") {
  for (bool with_nan : {false, true}) {
    ScratchFolder scratch;
    Gang gang(2);
    const float big = with_nan ? NAN : 1e30f;
    IvfOptions options;
    options.lists = 2, options.metric = Metric::kL2, options.rows_per_list = 8;
    auto read = [&](int64_t id, float* out) {
      for (int64_t i = 0; i < kDim; ++i) out[i] = id == 77 ? big : static_cast<float>((id * 31 + i * 17) % 13);
    };
    Status built = IvfIndex::Build(scratch.path() + "/x", 200, kDim, read, options, &gang);
    CHECK(built.code() == Code::kNumeric);
    CHECK(built.where() == "chunk 77");
    CHECK_FALSE(FileExists(scratch.path() + "/x"));
  }
  // Lists that were made, but could not be measured: cancelled then.
  ScratchFolder scratch;
  Gang gang(1);
  Stop stop;
  CancelToken cancel;
  REQUIRE(Build(scratch.path() + "/db", DatabaseWriter::Mode::kNew, &stop).ok());
  IvfOptions options;
  options.lists = 4, options.cancel = &cancel;
  options.progress = [&](std::string_view stage, int64_t, int64_t) {
    if (stage == "measuring recall") cancel.Cancel();
  };
  const std::string before = AllBytes(scratch.path() + "/db");
  CHECK(BuildLists(scratch.path() + "/db", options, 0.9, &gang).status().code() == Code::kCancelled);
  CHECK(AllBytes(scratch.path() + "/db") == before);
}

TEST_CASE("database: lists that were not finished; the recall gate can fail") {
  ScratchFolder scratch;
  const std::string folder = scratch.path() + "/db";
  Gang gang(2);
  Stop stop;
  {
    auto w = DatabaseWriter::Create(folder, Settings(), DatabaseWriter::Mode::kNew, Embedder(&stop), &gang);
    REQUIRE(w.ok());
    REQUIRE(Fill(&*w, 0, 11).ok());
    REQUIRE(w->Finish(Json::array(), "q8").ok());
  }
  CHECK(UnfinishedLists(folder) == "q8");
  CHECK((*Database::Open(folder))->lists() == nullptr);
  Stop none{0};
  auto again = DatabaseWriter::Create(folder, Settings(), DatabaseWriter::Mode::kNew, Embedder(&none), &gang);  // goes on, with nothing to embed
  REQUIRE(again.ok());
  REQUIRE(Fill(&*again, 0, 11).ok());
  REQUIRE(again->Finish(Json::array(), "q8").ok());
  IvfOptions options;
  options.lists = 8;
  auto report = BuildLists(folder, options, 0.9, &gang);
  REQUIRE_MESSAGE(report.ok(), report.status().message());
  CHECK(UnfinishedLists(folder).empty());
  CHECK_FALSE(FileExists(folder + "/lists.tivf.new"));
  auto d = Database::Open(folder);
  REQUIRE(d.ok());
  REQUIRE((*d)->lists());
  CHECK((*d)->nprobe() == report->nprobe);
  auto figures = CheckRecall(**d, 50, nullptr, &gang);
  REQUIRE(figures.ok());
  CHECK(figures->recall >= 0.85);
  // Answers that miss the nearest lower the figure: with one list of eight it cannot be whole.
  auto sample = RecallSample::Draw(**d, 50, false, nullptr, &gang);
  REQUIRE(sample.ok());
  auto measure = [&](int64_t nprobe, int64_t hide) {
    auto r = sample->Measure([&](std::span<const float> queries, const SearchOptions& o) {
      SearchOptions narrow = o;
      if (hide >= 0) narrow.allowed = [&](int64_t q, int64_t id) { return id != hide && o.allowed(q, id); };
      return (*d)->lists()->Find((*d)->vectors(), queries, nprobe, narrow, &gang);
    });
    REQUIRE(r.ok());
    return r->recall;
  };
  CHECK(measure(8, -1) >= 0.99);
  CHECK(measure(1, -1) < 0.99);
  CHECK(measure(8, 20) < measure(8, -1));
  // Damaged lists: noticed, passed by, built again.
  const std::string path = folder + "/lists.tivf", good = Bytes(path);
  std::ofstream(path, std::ios::binary) << good.substr(0, good.size() - 1) + "\x01\x02";
  CHECK_FALSE(Database::Open(folder).ok());
  CHECK(Database::Open(folder, Database::Lists::kIgnore).ok());
  REQUIRE(BuildLists(folder, options, 0.9, &gang).ok());
  CHECK(Bytes(path) == good);
  std::ofstream(path, std::ios::binary) << good.substr(0, good.size() - 65) + "\x55" + good.substr(good.size() - 64);
  d = Database::Open(folder);
  CHECK((!d.ok() || (*d)->Verify().code() == Code::kDigest));
  // f32 without lists: the proven search against the plain loop.
  REQUIRE(Build(scratch.path() + "/f32", DatabaseWriter::Mode::kNew, &stop, 0, 11, Settings(VectorType::kF32)).ok());
  auto plain = Database::Open(scratch.path() + "/f32");
  figures = CheckRecall(**plain, 1000, nullptr, &gang);
  REQUIRE(figures.ok());
  CHECK(figures->sample == 95);
  CHECK(figures->recall == 1);
}

TEST_CASE("filters: documents, sources, one per document, overlap with the prompt, near-duplicates") {
  CHECK(LongestCommonRun(std::vector<int32_t>{1, 2, 3, 4}, std::vector<int32_t>{9, 2, 3, 4, 8}) == 3);
  CHECK(LongestCommonRun(std::vector<int32_t>{}, std::vector<int32_t>{1}) == 0);
  ScratchFolder scratch;
  const std::string folder = scratch.path() + "/db";
  Gang gang(2);
  Stop stop;
  {
    auto w = DatabaseWriter::Create(folder, Settings(), DatabaseWriter::Mode::kNew, Embedder(&stop), &gang);
    REQUIRE(w.ok());
    for (int doc = 0; doc < 10; ++doc) {
      REQUIRE(w->BeginDocument(doc < 5 ? "a.txt" : "b.txt", "", doc).ok());
      for (int i = 0; i < 4; ++i) REQUIRE(w->AddChunk(Str("text ", doc % 5, "/", i)).ok());  // documents 5 to 9 repeat 0 to 4
    }
    REQUIRE(w->Finish(Json::array()).ok());
  }
  auto d = Database::Open(folder);
  REQUIRE(d.ok());
  auto tokens = [&](int64_t chunk, std::vector<int32_t>* ids) -> Status {
    ids->clear();
    for (char c : (*d)->Payload(chunk)) ids->push_back(c);
    return {};
  };
  std::vector<float> query;
  FakeVector("text 2/1", &query);
  auto find = [&](SearchFilter filter, int64_t k, const std::string& prompt = "") {
    filter.tokens = tokens;
    const std::vector<int32_t> ids(prompt.begin(), prompt.end());
    SearchOptions options;
    options.k = k;
    auto hits = FilteredSearch(**d, filter).Find(query, ids, options, 0, false, &gang);
    REQUIRE(hits.ok());
    REQUIRE(static_cast<int64_t>(hits->size()) == k);
    std::vector<int64_t> out;
    for (const SearchHit& h : *hits) out.push_back(h.id);
    return out;
  };
  CHECK(find({}, 2) == std::vector<int64_t>{9, 29});  // equal rows: the lower id first
  SearchFilter no_document;
  no_document.documents = {2, 77, -1};  // others do not exist
  CHECK(find(no_document, 1) == std::vector<int64_t>{29});
  SearchFilter no_source;
  no_source.sources = {"b.txt"};
  for (int64_t id : find(no_source, 20)) CHECK(id < 20);
  CHECK(find(no_source, 25)[20] == -1);
  SearchFilter one;
  one.one_per_document = true;
  auto ids = find(one, 12);
  CHECK(std::count(ids.begin(), ids.end(), -1) == 2);
  SearchFilter apart;
  apart.max_repeat = 0.9;  // "text 2/1" of both documents; others differ by a letter of eight
  ids = find(apart, 21);
  CHECK(ids[0] == 9);
  CHECK(std::count(ids.begin(), ids.end(), -1) == 1);
  CHECK(std::count(ids.begin(), ids.end(), 29) == 0);
  SearchFilter leak;
  leak.max_overlap = 0.9;
  ids = find(leak, 3, "a prompt with text 2/1 in it");
  for (int64_t id : ids) CHECK(((*d)->Payload(id) != "text 2/1" && id >= 0));
  leak.max_overlap = 0;
  CHECK(find(leak, 2, "text") == std::vector<int64_t>{-1, -1});
}

TEST_CASE("Megatron's indexed dataset: sequences that lie upon each other cannot make a document larger than the file") {
  auto write = [](std::string* out, auto v) { out->append(reinterpret_cast<const char*>(&v), sizeof v); };
  std::string idx("MMIDIDX\0\0", 9), bin(8, 'x');
  const uint64_t sequences = 50;
  write(&idx, uint64_t{1}), write(&idx, uint8_t{1}), write(&idx, sequences), write(&idx, uint64_t{2});
  for (uint64_t i = 0; i < sequences; ++i) write(&idx, int32_t{8});
  for (uint64_t i = 0; i < sequences; ++i) write(&idx, int64_t{0});
  for (int64_t b : {int64_t{0}, static_cast<int64_t>(sequences)}) write(&idx, b);
  auto bytes = [](const std::string& s) { return std::span(reinterpret_cast<const uint8_t*>(s.data()), s.size()); };
  auto d = MegatronDataset::Parse(bytes(idx), bytes(bin));
  REQUIRE_MESSAGE(d.ok(), d.status().message());
  CHECK(d->Document(0).status().code() == Code::kMalformed);
}
