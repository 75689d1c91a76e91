// Inputs made to hurt: equal, empty, endless, periodic, all of one family, all in one band. What comes out is known beforehand, and it comes soon.
#include <doctest/doctest.h>

#include "engine/base/json.h"
#include "tests/corpus/corpora.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/dedup.h"
#include "tools/corpus/filter.h"
#include "tools/corpus/leak.h"

using namespace tern;
using namespace tern::corpus;

namespace {

std::string Jsonl(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) {
    out += "{\"text\":";
    AppendJsonString(text, &out);
    out += "}\n";
  }
  return out;
}

Json Run(const Folder& folder, DedupOptions o) {
  o.common.inputs = {folder.path + "/a.jsonl"};
  o.common.output = folder.path + "/out";
  o.common.force = o.common.yes = true;
  o.common.threads = 2;
  o.common.max_memory_bytes = 8 << 20;
  Json report;
  const Status status = Dedup(o, &report);
  INFO(status.message());
  REQUIRE(status.ok());
  return report;
}

int64_t Removed(const Json& report, const char* reason) { return report["reasons"].value(reason, int64_t{0}); }

DedupOptions Only(bool DedupOptions::*stage) {
  DedupOptions o;
  o.*stage = true;
  return o;
}

}  // namespace

TEST_CASE("documents that are all equal leave one") {
  Folder folder;
  Rng rng(1);
  constexpr int kCopies = 20000;
  const std::string text = Words(&rng, 40, 500);
  folder.Write("a.jsonl", Jsonl(std::vector<std::string>(kCopies, text)));
  CHECK(Removed(Run(folder, Only(&DedupOptions::exact)), "exact") == kCopies - 1);
  CHECK(Removed(Run(folder, Only(&DedupOptions::near)), "near") == kCopies - 1);
  CHECK(Removed(Run(folder, Only(&DedupOptions::lines)), "lines") == kCopies - 1);
  const Json report = Run(folder, Only(&DedupOptions::substr));
  CHECK(Removed(report, "substr") == kCopies - 1);
  CHECK(report["substr"]["bytes"] == static_cast<int64_t>(text.size()) * (kCopies - 1));
}

TEST_CASE("empty documents are nobody's duplicates") {
  Folder folder;
  constexpr int kDocs = 100000;
  const std::string path = folder.Write("a.jsonl", Jsonl(std::vector<std::string>(kDocs)));
  DedupOptions o;
  o.exact = o.near = o.lines = o.substr = true;
  CHECK(Run(folder, o)["kept"] == kDocs);
  FilterOptions filter;
  filter.common.inputs = {path};
  filter.common.output = folder.path + "/filtered";
  auto rules = ParseRules("gopher");
  REQUIRE(rules.ok());
  filter.rules = std::move(*rules);
  auto report = Filter(filter);
  REQUIRE(report.ok());
  CHECK((*report)["removed"] == kDocs);
  CHECK(Removed(*report, "gopher_short_doc") == kDocs);
}

TEST_CASE("one giant periodic document: each window but the first few is cut, at once") {
  Folder folder;
  for (size_t period : {1u, 2u, 7u, 99u, 100u, 101u, 4096u}) {
    CAPTURE(period);
    Rng rng(period);
    std::string unit, text;
    while (unit.size() < period) unit += static_cast<char>('a' + rng.Below(26));
    while (text.size() < 2'000'000) text += unit;
    folder.Write("a.jsonl", Jsonl({text}));
    DedupOptions o = Only(&DedupOptions::substr);
    o.passes = 1;
    const Json report = Run(folder, o);
    // A window is cut if its first occurrence begins at least 100 before it, that is from the first multiple of the (least) period that is 100 or more.
    size_t least = period;
    for (size_t p = 1; p < period; ++p)
      if (period % p == 0 && text.compare(0, period, unit.substr(0, p) + text.substr(0, period - p)) == 0) {
        least = p;
        break;
      }
    const size_t first = (100 + least - 1) / least * least;
    CHECK(report["substr"]["spans"] == 1);
    CHECK(report["substr"]["bytes"] == static_cast<int64_t>(text.size() - first));
  }
}

TEST_CASE("a thousand documents of one family, and a thousand strangers that all meet in one band") {
  Folder folder;
  Rng rng(3);
  std::vector<std::string> family, strangers;
  const std::string base = Words(&rng, 100, 2000), shared = "one two three four five six seven eight ";
  for (int i = 0; i < 1000; ++i) {
    family.push_back(base + " end" + std::to_string(i));
    strangers.push_back(shared + Words(&rng, 30, 1'000'000));
  }
  folder.Write("a.jsonl", Jsonl(family));
  Json report = Run(folder, Only(&DedupOptions::near));
  CHECK(Removed(report, "near") == 999);
  CHECK(report["clusters"] == 1);
  // One row a band: a shingle that all of them have brings all together in most bands.
  folder.Write("a.jsonl", Jsonl(strangers));
  DedupOptions o = Only(&DedupOptions::near);
  o.bands = 64, o.rows = 1;
  report = Run(folder, o);
  CHECK(report["kept"] == 1000);
}

TEST_CASE("a record of many megabytes above the limit is set aside by every verb, within little memory") {
  Folder folder;
  std::string line = "{\"text\":\"";
  line.append(24 << 20, 'x');
  const std::string path = folder.Write("a.jsonl", Jsonl({"the first"}) + line + "\"}\n" + Jsonl({"the last"}));
  CommonOptions common;
  common.inputs = {path};
  common.max_record_bytes = 1 << 20;
  common.yes = true;
  auto check_bad = [&](const Json& report) {
    CHECK(report["bad"] == 1);
    auto bad = ReadFile(folder.path + "/out/bad.jsonl", 1 << 20);
    REQUIRE(bad.ok());
    CHECK(bad->find("\"line\":2,\"offset\":21,\"error\":\"longer than --max-record\"") != std::string::npos);
  };
  DedupOptions dedup = Only(&DedupOptions::exact);
  dedup.common.max_record_bytes = 1 << 20;
  check_bad(Run(folder, dedup));
  common.output = folder.path + "/out", common.force = true;
  FilterOptions filter;
  filter.common = common;
  auto rules = ParseRules("encoding");
  REQUIRE(rules.ok());
  filter.rules = std::move(*rules);
  auto report = Filter(filter);
  REQUIRE(report.ok());
  check_bad(*report);
  CHECK((*report)["documents"] == 3);
  auto kept = ReadFile(folder.path + "/out/kept/a.jsonl", 1 << 20);
  REQUIRE(kept.ok());
  CHECK(*kept == Jsonl({"the first", "the last"}));
}
