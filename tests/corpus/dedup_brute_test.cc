// dedup against slow obvious programs, on random small corpora made to collide: few words, few letters, copies, edits, repeats, periodic texts.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/rng.h"
#include "tests/corpus/corpora.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/dedup.h"

using namespace tern;
using namespace tern::corpus;

namespace {

std::vector<Json> ReadLines(const std::string& path) {
  auto text = ReadFile(path, 1 << 28);
  REQUIRE(text.ok());
  std::vector<Json> out;
  for (size_t at = 0; at < text->size();) {
    size_t lf = text->find('\n', at);
    out.push_back(Json::parse(text->substr(at, lf - at)));
    at = lf + 1;
  }
  return out;
}

// Writes the texts as JSONL over two files, runs dedup, and keeps the outputs. Each run uses its own threads and memory: they must not matter.
struct Outcome {
  Status status;
  Json report;
  std::vector<Json> removed, clusters, spans, pairs;
  std::vector<std::string> kept;
};
Outcome RunDedup(const std::vector<std::string>& texts, DedupOptions o, int threads, int64_t memory) {
  Folder folder;
  std::string lines[2];
  for (size_t i = 0; i < texts.size(); ++i) {
    std::string& to = lines[i * 2 < texts.size() ? 0 : 1];
    to += "{\"text\":";
    AppendJsonString(texts[i], &to);
    to += ",\"score\":" + std::to_string(i * 7 % 5) + "}\n";
  }
  folder.Write("a.jsonl", lines[0]);
  folder.Write("b.jsonl", lines[1]);
  o.common.inputs = {folder.path + "/a.jsonl", folder.path + "/b.jsonl"};
  o.common.output = folder.path + "/out";
  o.common.threads = threads;
  o.common.max_memory_bytes = memory;
  Outcome out;
  out.status = Dedup(o, &out.report);
  INFO(out.status.message());
  REQUIRE(out.status.ok());
  out.removed = ReadLines(o.common.output + "/removed.jsonl");
  if (FileExists(o.common.output + "/clusters.jsonl")) out.clusters = ReadLines(o.common.output + "/clusters.jsonl");
  if (FileExists(o.common.output + "/spans.jsonl")) out.spans = ReadLines(o.common.output + "/spans.jsonl");
  if (FileExists(o.common.output + "/pairs.jsonl")) out.pairs = ReadLines(o.common.output + "/pairs.jsonl");
  for (const char* name : {"/kept/a.jsonl", "/kept/b.jsonl"})
    for (const Json& record : ReadLines(o.common.output + name)) out.kept.push_back(record["text"]);
  CHECK_FALSE(FileExists(o.common.output + "/.tern-work"));
  return out;
}

// ---- near, by definition

std::set<std::string> ShingleSet(const std::string& text) {  // ASCII only
  std::vector<std::string> words;
  std::string word;
  for (char c : text + " ") {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      word += static_cast<char>(std::tolower(c));
    } else if (!word.empty()) {
      words.push_back(word);
      word.clear();
    }
  }
  std::set<std::string> out;
  if (words.empty()) return out;
  size_t n = std::min<size_t>(5, words.size());
  for (size_t i = 0; i + n <= words.size(); ++i) {
    std::string joined;
    for (size_t j = i; j < i + n; ++j) joined += words[j] + " ";
    out.insert(joined);
  }
  return out;
}

double SlowJaccard(const std::set<std::string>& a, const std::set<std::string>& b) {
  if (a.empty() || b.empty()) return -1;
  size_t both = 0;
  for (const auto& s : a) both += b.count(s);
  return static_cast<double>(both) / static_cast<double>(a.size() + b.size() - both);
}

void CheckNear(const std::vector<std::string>& texts, bool star, int threads, int64_t memory) {
  const double threshold = 0.6;
  std::vector<std::set<std::string>> sets;
  for (const auto& t : texts) sets.push_back(ShingleSet(t));
  const size_t n = texts.size();
  // Components of all pairs, then stars in order of length.
  std::vector<size_t> root(n);
  for (size_t i = 0; i < n; ++i) root[i] = i;
  auto find = [&](size_t x) {
    while (root[x] != x) x = root[x];
    return x;
  };
  size_t pairs = 0;
  for (size_t a = 0; a < n; ++a)
    for (size_t b = a + 1; b < n; ++b)
      if (SlowJaccard(sets[a], sets[b]) >= threshold) root[std::max(find(a), find(b))] = std::min(find(a), find(b)), ++pairs;
  std::vector<size_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return texts[a].size() > texts[b].size(); });
  std::vector<bool> taken(n, false);
  std::map<size_t, std::pair<size_t, std::vector<size_t>>> expected;  // by least member
  for (size_t keeper : order) {
    if (taken[keeper]) continue;
    std::vector<size_t> members;
    for (size_t m = 0; m < n; ++m)
      if (!taken[m] && find(m) == find(keeper) && (m == keeper || !star || SlowJaccard(sets[keeper], sets[m]) >= threshold)) members.push_back(m), taken[m] = true;
    if (members.size() > 1) expected[members[0]] = {keeper, members};
  }
  DedupOptions o;
  o.near = true, o.star = star, o.threshold = threshold, o.bands = 128, o.rows = 1, o.pairs = true;
  Outcome out = RunDedup(texts, o, threads, memory);
  CHECK(out.pairs.size() == pairs);
  for (const Json& p : out.pairs) CHECK(p["similarity"].get<double>() == SlowJaccard(sets[p["a"]], sets[p["b"]]));
  REQUIRE(out.clusters.size() == expected.size());
  size_t i = 0;
  for (const auto& [least, cluster] : expected) {
    CHECK(out.clusters[i]["keeper"] == cluster.first);
    CHECK(out.clusters[i]["members"].get<std::vector<size_t>>() == cluster.second);
    ++i;
  }
  o.pairs = false;  // fewer pairs are looked at; nothing else may change
  Outcome quiet = RunDedup(texts, o, 1, 1 << 30);
  CHECK(quiet.clusters == out.clusters);
  CHECK(quiet.removed.size() == out.removed.size());
}

// ---- repeated windows, by definition

using SlowSpans = std::vector<std::vector<size_t>>;  // doc, pass, begin, end

SlowSpans SlowSubstr(std::vector<std::string> texts, size_t length, bool cut_all, int passes) {
  SlowSpans all;
  for (int pass = 1; pass <= passes; ++pass) {
    std::map<std::string, std::vector<std::pair<size_t, size_t>>> places;
    for (size_t d = 0; d < texts.size(); ++d)
      for (size_t p = 0; p + length <= texts[d].size(); ++p) places[texts[d].substr(p, length)].push_back({d, p});
    bool found = false;
    std::vector<std::string> left;
    for (size_t d = 0; d < texts.size(); ++d) {
      std::vector<std::pair<size_t, size_t>> ranges;
      for (size_t p = 0; p + length <= texts[d].size(); ++p) {
        const auto& where = places[texts[d].substr(p, length)];
        auto [fd, fp] = where[0];
        if (!(cut_all ? where.size() > 1 : fd < d || p - fp >= length)) continue;
        if (!ranges.empty() && p <= ranges.back().second) ranges.back().second = p + length;
        else ranges.push_back({p, p + length});
      }
      std::string rest;
      size_t at = 0;
      for (auto [b, e] : ranges) {
        all.push_back({d, static_cast<size_t>(pass), b, e});
        rest += texts[d].substr(at, b - at);
        at = e, found = true;
      }
      left.push_back(rest + texts[d].substr(at));
    }
    for (size_t d = 0; d < texts.size(); ++d)
      if (left[d] != texts[d] && left[d].find_first_not_of(' ') == std::string::npos) left[d].clear();  // removed
    texts = left;
    if (!found) break;
  }
  return all;
}

std::string Letters(Rng* rng, uint64_t size, uint64_t alphabet) {
  std::string out;
  if (rng->Below(4) == 0) {  // periodic
    std::string period = Letters(rng, 1 + rng->Below(9), alphabet);
    while (out.size() < size) out += period;
  }
  while (out.size() < size) out += static_cast<char>(rng->Below(20) == 0 ? ' ' : 'a' + static_cast<char>(rng->Below(alphabet)));
  return out;
}

}  // namespace

TEST_CASE("near duplicates are those of the definition, for any threads and memory") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Rng rng(seed);
    CAPTURE(seed);
    CheckNear(FamilyCorpus(&rng), seed % 2 == 0, 1 + static_cast<int>(seed % 3), seed % 4 == 0 ? 1 << 12 : 1 << 28);
  }
}

TEST_CASE("a large family with common boilerplate goes through the prefix join and comes out the same") {
  Rng rng(7);
  std::vector<std::string> texts;
  std::string boilerplate = Words(&rng, 40, 500);
  for (int i = 0; i < 120; ++i) texts.push_back(boilerplate + " " + Words(&rng, static_cast<int64_t>(rng.Below(60)), 900));
  CheckNear(texts, true, 2, 1 << 28);
  CheckNear(texts, false, 2, 1 << 13);
}

TEST_CASE("repeated windows are those of the definition") {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    Rng rng(1000 + seed);
    CAPTURE(seed);
    std::vector<std::string> texts;
    for (uint64_t i = 0; i < 12; ++i) {
      std::string t = Letters(&rng, rng.Below(120), 1 + rng.Below(3));
      if (!texts.empty() && rng.Below(2)) {
        const std::string& other = texts[rng.Below(texts.size())];
        if (!other.empty()) t += other.substr(rng.Below(other.size()), rng.Below(60));
      }
      texts.push_back(t);
    }
    DedupOptions o;
    o.substr = true;
    o.min_bytes = static_cast<int64_t>(1 + rng.Below(24));
    o.cut_all = rng.Below(2) == 0;
    o.passes = static_cast<int64_t>(1 + rng.Below(3));
    Outcome out = RunDedup(texts, o, 1 + static_cast<int>(seed % 3), seed % 3 == 0 ? 1 << 10 : 1 << 28);
    SlowSpans got;
    for (const Json& s : out.spans) got.push_back({s["doc"], s["pass"], s["begin"], s["end"]});
    CHECK(got == SlowSubstr(texts, static_cast<size_t>(o.min_bytes), o.cut_all, static_cast<int>(o.passes)));
  }
}

TEST_CASE("repeated windows of words, and the stages in sequence, do not depend on threads or memory") {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    Rng rng(50 + seed);
    CAPTURE(seed);
    std::vector<std::string> texts = FamilyCorpus(&rng);
    for (auto& t : texts)
      for (size_t i = 20; i < t.size(); i += 30)
        if (t[i] == ' ') t[i] = '\n';
    DedupOptions o;
    o.exact = o.near = o.lines = o.substr = true;
    if (seed % 2) o.min_words = 6;
    else o.min_bytes = 40;
    if (seed % 3 == 0) o.per_source = true;
    if (seed % 4 == 0) REQUIRE(ParseKeep("score:score", &o).ok());
    Outcome a = RunDedup(texts, o, 1, 1 << 28), b = RunDedup(texts, o, 4, 1 << 10);
    CHECK(a.kept == b.kept);
    CHECK(a.spans == b.spans);
    CHECK(a.clusters == b.clusters);
    CHECK(a.report == b.report);
  }
}

TEST_CASE("lines and exact copies are those of the definition") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Rng rng(300 + seed);
    CAPTURE(seed);
    std::vector<std::string> texts;
    for (int i = 0; i < 14; ++i) {
      std::string t;
      for (uint64_t lines = rng.Below(6); lines > 0; --lines) t += Letters(&rng, rng.Below(3), 2) + (rng.Below(6) == 0 ? "\r\n" : "\n");
      texts.push_back(t);
    }
    std::map<std::string, size_t> first;
    std::vector<std::vector<size_t>> expected;
    std::set<size_t> removed_exactly;
    std::map<std::string, size_t> whole;
    for (size_t d = 0; d < texts.size(); ++d)
      if (!texts[d].empty() && !whole.emplace(texts[d], d).second) removed_exactly.insert(d);
    for (size_t d = 0; d < texts.size(); ++d) {
      if (removed_exactly.count(d)) continue;
      for (size_t at = 0; at <= texts[d].size();) {
        size_t lf = std::min(texts[d].find('\n', at), texts[d].size());
        std::string key, line = texts[d].substr(at, lf - at);
        for (char c : line) {  // white space runs to one space, trimmed
          if (c == ' ' || c == '\r') { if (!key.empty() && key.back() != ' ') key += ' '; }
          else key += c;
        }
        if (!key.empty() && key.back() == ' ') key.pop_back();
        if (!key.empty() && !first.emplace(key, d).second) expected.push_back({d, at, lf, first[key]});
        at = lf + 1;
      }
    }
    DedupOptions o;
    o.exact = o.lines = true;
    Outcome out = RunDedup(texts, o, 1 + static_cast<int>(seed % 2), 1 << 28);
    std::vector<std::vector<size_t>> got;
    for (const Json& s : out.spans) got.push_back({s["doc"], s["begin"], s["end"], s["first_doc"]});
    CHECK(got == expected);
    CHECK(out.report["reasons"].value("exact", size_t{0}) == removed_exactly.size());
  }
}
