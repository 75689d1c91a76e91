// leak against brute force: all windows as strings in sets.
#include "tools/corpus/leak.h"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/rng.h"
#include "tools/corpus/chars.h"
#include "tools/corpus/near_index.h"
#include "tools/corpus/text_units.h"
#include "tools/corpus/words.h"

namespace tern::corpus {
namespace {

namespace fs = std::filesystem;

struct Scratch {
  Scratch() {
    std::string name = (fs::temp_directory_path() / "tern-leak-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~Scratch() { fs::remove_all(path); }
  std::string Write(const char* name, const std::vector<std::string>& texts) const {
    std::ofstream out(path + "/" + name, std::ios::binary);
    for (const std::string& text : texts) out << DumpJson(Json{{"text", text}}) << "\n";
    return path + "/" + name;
  }
  std::string path;
};

std::vector<std::string> WordsOf(const std::string& text) {
  WordReader reader;
  Word word;
  std::vector<std::string> words;
  for (reader.Reset(text); reader.Next(&word);) words.emplace_back(word.text);
  return words;
}

// All windows: of n words, joined by spaces; of n characters.
std::vector<std::string> WordWindows(const std::vector<std::string>& words, size_t n) {
  std::vector<std::string> windows;
  for (size_t i = 0; i + n <= words.size(); ++i) {
    std::string window;
    for (size_t j = i; j < i + n; ++j) window += words[j] + " ";
    windows.push_back(window);
  }
  return windows;
}
std::vector<std::string> CharWindows(const std::vector<std::string>& words, size_t n) {
  std::vector<std::string> chars, windows;
  for (const std::string& word : words)
    for (size_t at = 0; at < word.size();) {
      size_t begin = at;
      NextChar(word, &at);
      chars.push_back(word.substr(begin, at - begin));
    }
  for (size_t i = 0; i + n <= chars.size(); ++i) {
    std::string window;
    for (size_t j = i; j < i + n; ++j) window += chars[j];
    windows.push_back(window);
  }
  return windows;
}

std::vector<std::string> RandomTexts(Rng& rng, int n) {
  static const std::vector<std::string> kWords = {"a", "ab", "B", "ba", "e\xcc\x81", "\xc3\xa9", "\xe4\xb8\xad", "x1", "--", "\xf0\x9d\x90\x80", "Ab", "a.b"};
  std::vector<std::string> texts;
  for (int i = 0; i < n; ++i) {
    std::string text;
    uint64_t kinds = 2 + rng.Below(kWords.size() - 1);
    for (uint64_t j = 0, size = rng.Below(30); j < size; ++j) text += kWords[rng.Below(kinds)] + (rng.Below(5) ? " " : "");
    if (!texts.empty() && rng.Below(6) == 0) text = texts[rng.Below(texts.size())];
    texts.push_back(text);
  }
  return texts;
}

std::vector<Json> Rows(const std::string& path) {
  std::vector<Json> rows;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) rows.push_back(std::move(ParseJson(line)).value());
  return rows;
}

}  // namespace

TEST_CASE("leak finds what brute force finds, for any number of threads, and --clean removes just the leaking documents") {
  Rng rng(3);
  for (int round = 0; round < 25; ++round) {
    Scratch scratch;
    auto train = RandomTexts(rng, 60), test = RandomTexts(rng, 25);
    size_t ngram = 1 + rng.Below(6), min_chars = 1 + rng.Below(12);
    std::set<std::string> grams, chars, wholes;
    std::map<std::string, std::set<std::string>> parts;
    for (const std::string& text : train) {
      auto words = WordsOf(text);
      for (auto& w : WordWindows(words, ngram)) grams.insert(w);
      for (auto& w : CharWindows(words, min_chars)) chars.insert(w);
      if (!words.empty()) wholes.insert(WordWindows(words, words.size())[0]);
    }
    LeakOptions options;
    options.common.verb = "leak";
    options.common.inputs = {scratch.Write("train.jsonl", train)};
    options.tests = {scratch.Write("test.jsonl", test)};
    options.common.output = scratch.path + "/out";
    options.ngram = static_cast<int64_t>(ngram);
    options.min_chars = static_cast<int64_t>(min_chars);
    options.clean = true;
    options.common.threads = 1;
    auto report = Leak(options);
    REQUIRE_MESSAGE(report.ok(), report.status().message());
    auto rows = Rows(options.common.output + "/leak.jsonl");
    REQUIRE(rows.size() == test.size());
    std::set<std::string> test_grams, test_chars, test_wholes;
    for (size_t i = 0; i < test.size(); ++i) {
      auto words = WordsOf(test[i]);
      int64_t gram_hits = 0, char_hits = 0;
      auto word_windows = WordWindows(words, ngram), char_windows = CharWindows(words, min_chars);
      for (auto& w : word_windows) gram_hits += grams.count(w), test_grams.insert(w);
      for (auto& w : char_windows) char_hits += chars.count(w), test_chars.insert(w);
      bool exact = !words.empty() && wholes.count(WordWindows(words, words.size())[0]);
      if (!words.empty()) test_wholes.insert(WordWindows(words, words.size())[0]);
      CHECK(rows[i]["ngram_hits"] == gram_hits);
      CHECK(rows[i]["char_hits"] == char_hits);
      CHECK(rows[i]["ngram_total"] == static_cast<int64_t>(word_windows.size()));
      CHECK(rows[i]["char_total"] == static_cast<int64_t>(char_windows.size()));
      CHECK(rows[i]["exact"] == exact);
      CHECK(rows[i]["leaked"] == (exact || gram_hits > 0 || char_hits > 0));
    }
    std::map<int64_t, std::string> removed;
    for (const Json& row : Rows(options.common.output + "/removed.jsonl")) removed[row["doc"].get<int64_t>()] = row["reason"].get<std::string>();
    for (size_t i = 0; i < train.size(); ++i) {
      auto words = WordsOf(train[i]);
      auto any = [](const std::vector<std::string>& windows, const std::set<std::string>& of) {
        for (auto& w : windows)
          if (of.count(w)) return true;
        return false;
      };
      std::string reason;
      if (!words.empty() && test_wholes.count(WordWindows(words, words.size())[0])) reason = "exact";
      else if (any(WordWindows(words, ngram), test_grams)) reason = "ngram";
      else if (any(CharWindows(words, min_chars), test_chars)) reason = "char";
      std::string got = removed.count(static_cast<int64_t>(i)) ? removed[static_cast<int64_t>(i)] : "";
      if (got != "near") CHECK(got == reason);
      else CHECK(reason == "");
    }
    std::string first = std::move(ReadFile(options.common.output + "/leak.jsonl", 1 << 24)).value();
    options.common.threads = 3;
    options.common.force = true;
    REQUIRE(Leak(options).ok());
    CHECK(std::move(ReadFile(options.common.output + "/leak.jsonl", 1 << 24)).value() == first);
  }
}

TEST_CASE("the near index misses no pair at or above the threshold") {
  Rng rng(11);
  for (double threshold : {0.1, 0.5, 0.8, 1.0}) {
    NearIndex index(threshold);
    std::vector<std::vector<uint64_t>> sets;
    for (int i = 0; i < 200; ++i) {
      std::set<uint64_t> set;
      for (uint64_t j = 0, n = rng.Below(12); j < n; ++j) set.insert(rng.Below(14));
      sets.emplace_back(set.begin(), set.end());
      index.Add(sets.back());
    }
    index.Finish();
    NearIndex::Scratch scratch;
    std::vector<NearIndex::Match> matches;
    for (const auto& a : sets) {
      index.Find(a, &scratch, &matches);
      std::map<int64_t, double> found;
      for (const auto& m : matches) found[m.document] = m.similarity;
      for (size_t d = 0; d < sets.size(); ++d) {
        std::set<uint64_t> both(a.begin(), a.end());
        both.insert(sets[d].begin(), sets[d].end());
        double shared = static_cast<double>(a.size() + sets[d].size() - both.size());
        double similarity = both.empty() ? 0 : shared / static_cast<double>(both.size());
        bool near = similarity >= threshold && !a.empty() && !sets[d].empty();
        CHECK(found.count(static_cast<int64_t>(d)) == (near ? 1u : 0u));
        if (near) CHECK(found[static_cast<int64_t>(d)] == similarity);
      }
    }
  }
}

}  // namespace tern::corpus
