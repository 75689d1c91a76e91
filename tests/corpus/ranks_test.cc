// dedup over several ranks: the same files to the byte as one process alone. The ranks are threads here; tests/tools/ranks_test.py takes mpirun.
#include <doctest/doctest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "engine/base/json.h"
#include "tests/corpus/corpora.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/dedup.h"
#include "tools/corpus/ranks.h"

using namespace tern;
using namespace tern::corpus;

namespace {

// What the threads of one run share: everybody lays down a message, everybody reads, then the next may come.
struct Meeting {
  explicit Meeting(int n) : size(n), messages(static_cast<size_t>(n)) {}
  void Wait() {
    std::unique_lock lock(mu);
    const int64_t now = round;
    if (++arrived == size) arrived = 0, ++round, wake.notify_all();
    else wake.wait(lock, [&] { return round != now; });
  }
  const int size;
  std::vector<const Transport::Message*> messages;
  std::mutex mu;
  std::condition_variable wake;
  int arrived = 0;
  int64_t round = 0;
};

class ThreadTransport : public Transport {
 public:
  ThreadTransport(Meeting* meeting, int rank) : m_(*meeting), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return m_.size; }
  int local_size() const override { return m_.size; }
  void Swap(const Message& message, std::vector<std::string>* in, std::vector<std::string>* notes, bool* any_more) override {
    m_.messages[static_cast<size_t>(rank_)] = &message;
    m_.Wait();
    in->clear(), notes->clear();
    *any_more = false;
    for (const Message* other : m_.messages) {
      in->emplace_back(other->out[static_cast<size_t>(rank_)]);
      notes->emplace_back(other->note);
      *any_more = *any_more || other->more;
    }
    m_.Wait();
  }

 private:
  Meeting& m_;
  int rank_;
};

// The statuses of the ranks.
std::vector<Status> RunOver(int ranks, const DedupOptions& options, std::vector<Json>* reports) {
  Meeting meeting(ranks);
  std::vector<Status> statuses(static_cast<size_t>(ranks));
  reports->assign(static_cast<size_t>(ranks), {});
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      Ranks own(std::make_unique<ThreadTransport>(&meeting, r));
      DedupOptions o = options;
      o.common.ranks = &own;
      statuses[static_cast<size_t>(r)] = Dedup(o, &(*reports)[static_cast<size_t>(r)]);
    });
  for (std::thread& t : threads) t.join();
  return statuses;
}

std::map<std::string, std::string> Tree(const std::string& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) out[entry.path().string().substr(folder.size())] = *ReadFile(entry.path().string(), 1 << 28);
  return out;
}

void CheckRanks(const DedupOptions& options, const Folder& folder) {
  DedupOptions o = options;
  Json report;
  o.common.output = folder.path + "/one";
  o.common.report_html = folder.path + "/one.html";
  const Status alone = Dedup(o, &report);
  INFO(alone.message());
  REQUIRE((alone.ok() || alone.code() == Code::kGuard));
  const auto expected = Tree(o.common.output);
  for (int ranks : {2, 3, 5}) {
    CAPTURE(ranks);
    o.common.output = folder.path + "/many";
    o.common.report_html = folder.path + "/many.html";
    o.common.threads = 1 + ranks % 2;
    o.common.max_memory_bytes = ranks == 3 ? 1 << 10 : 1 << 28;
    std::vector<Json> reports;
    for (const Status& status : RunOver(ranks, o, &reports)) CHECK(status.code() == alone.code());
    const auto got = Tree(o.common.output);
    CHECK(got.size() == expected.size());
    for (const auto& [name, bytes] : expected) {
      CAPTURE(name);
      REQUIRE(got.count(name) == 1);
      CHECK(got.at(name) == bytes);
    }
    for (const Json& r : reports) CHECK(r.value("kept", -1) == report.value("kept", -2));
    if (alone.ok()) CHECK(*ReadFile(folder.path + "/one.html", 1 << 28) == *ReadFile(folder.path + "/many.html", 1 << 28));
    std::filesystem::remove_all(o.common.output);
  }
}

// `files` files of JSON lines, some of them empty; with damage a few lines are malformed.
std::vector<std::string> WriteFiles(Rng* rng, const std::vector<std::string>& texts, int files, bool damage, Folder* folder) {
  std::vector<std::string> lines(static_cast<size_t>(files)), paths;
  for (size_t i = 0; i < texts.size(); ++i) {
    std::string& to = lines[i * lines.size() / texts.size()];
    to += "{\"id\":" + std::to_string(i * 3) + ",\"score\":" + std::to_string(rng->Below(4)) + ",\"text\":";
    AppendJsonString(texts[i], &to);
    to += "}\n";
    if (damage && rng->Below(40) == 0) to += "no json\n";
  }
  if (rng->Below(3) == 0) lines[rng->Below(lines.size())].clear();
  for (size_t f = 0; f < lines.size(); ++f) paths.push_back(folder->Write("in" + std::to_string(f) + ".jsonl", lines[f]));
  return paths;
}

}  // namespace

TEST_CASE("any number of ranks writes the same files") {
  for (uint64_t seed = 0; seed < 24; ++seed) {
    CAPTURE(seed);
    Rng rng(900 + seed);
    Folder folder;
    std::vector<std::string> texts;
    for (int i = 0; i < 4; ++i) {
      std::vector<std::string> more = FamilyCorpus(&rng);
      texts.insert(texts.end(), more.begin(), more.end());
      if (i > 0) texts.insert(texts.end(), texts.begin(), texts.begin() + 5);
    }
    for (auto& t : texts)
      for (size_t i = 20; i < t.size(); i += 30)
        if (t[i] == ' ') t[i] = '\n';
    DedupOptions o;
    o.common.yes = true;
    o.common.inputs = WriteFiles(&rng, texts, 1 + static_cast<int>(rng.Below(7)), true, &folder);
    if (o.common.inputs.size() > 2 && seed % 3 == 0) {
      o.common.references = {o.common.inputs[1]};
      o.common.inputs.erase(o.common.inputs.begin() + 1);
    } else if (seed % 3 == 1) {
      o.per_source = true;
    }
    o.exact = seed % 2 == 0, o.near = seed % 4 != 3, o.lines = seed % 3 == 0, o.substr = seed % 2 == 1;
    o.pairs = seed % 5 == 0, o.star = seed % 7 != 0;
    o.threshold = 0.5, o.bands = 32, o.rows = 2;
    if (seed % 4 == 1) o.min_words = 6;
    else o.min_bytes = 30;
    o.cut_all = seed % 8 == 5;
    if (seed % 6 == 2) REQUIRE(ParseKeep("score:score", &o).ok());
    CheckRanks(o, folder);
  }
}

TEST_CASE("a large family that many bands find, and the guard that stops it, are the same over ranks") {
  Rng rng(5);
  Folder folder;
  std::vector<std::string> texts;
  const std::string boilerplate = Words(&rng, 40, 500);
  for (int i = 0; i < 150; ++i) texts.push_back(boilerplate + " " + Words(&rng, static_cast<int64_t>(rng.Below(30)), 900));
  DedupOptions o;
  o.common.yes = true;
  o.common.inputs = WriteFiles(&rng, texts, 6, false, &folder);
  o.near = true, o.threshold = 0.6, o.bands = 64, o.rows = 2, o.pairs = true;
  CheckRanks(o, folder);
  o.pairs = false, o.common.yes = false, o.max_cluster = 20;
  for (const char* name : {"/one", "/many"}) std::filesystem::remove_all(folder.path + name);
  CheckRanks(o, folder);
}

TEST_CASE("the failure of one rank ends all, with its message, and leaves nothing") {
  Folder folder;
  DedupOptions o;
  o.common.inputs = {folder.Write("a.jsonl", "{\"text\":\"one\"}\n"), folder.Write("b.jsonl", "{\"text\":\"two\"}\n"), folder.Write("c.csv", "id,x\n1,2\n")};
  o.common.output = folder.path + "/out";
  std::vector<Json> reports;
  for (const Status& status : RunOver(3, o, &reports)) {
    CHECK(status.code() == Code::kMalformed);
    CHECK(status.message().find("c.csv: line 1: the header has no column 'text'") != std::string::npos);
  }
  CHECK_FALSE(FileExists(o.common.output));
}
