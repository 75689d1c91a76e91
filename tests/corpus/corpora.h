// What the tests of this room share: a folder that goes away, and random texts made to collide.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/rng.h"

namespace tern::corpus {

struct Folder {
  Folder() {
    const char* base = std::getenv("TMPDIR");
    std::string name = std::string(base ? base : "/tmp") + "/tern-corpus-XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string Write(const std::string& name, const std::string& bytes) {
    std::string file = path + "/" + name;
    auto w = FileWriter::Create(file);
    REQUIRE(w.ok());
    REQUIRE(w->Write(bytes).ok());
    REQUIRE(w->Commit().ok());
    return file;
  }
  std::string path;
};

inline std::string Words(Rng* rng, int64_t count, uint64_t vocabulary) {
  std::string out;
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0) out += rng->Below(12) == 0 ? ", " : " ";
    uint64_t w = rng->Below(vocabulary);
    out += rng->Below(5) == 0 ? "W" : "w";
    out += std::to_string(w);
  }
  return out;
}

// Families of copies with a few edits, shuffled.
inline std::vector<std::string> FamilyCorpus(Rng* rng) {
  std::vector<std::string> texts;
  for (int family = 0; family < 5; ++family) {
    std::string base = Words(rng, static_cast<int64_t>(rng->Below(60)), 1 + rng->Below(200));
    for (uint64_t copies = 1 + rng->Below(6); copies > 0; --copies) {
      std::string copy = base;
      for (uint64_t edits = rng->Below(4); edits > 0 && !copy.empty(); --edits) {
        size_t at = rng->Below(copy.size());
        if (rng->Below(2)) copy.insert(at, " x ");
        else copy.erase(at, 1 + rng->Below(8));
      }
      texts.push_back(copy);
    }
  }
  for (size_t i = texts.size(); i > 1; --i) std::swap(texts[i - 1], texts[rng->Below(i)]);
  return texts;
}

}  // namespace tern::corpus
