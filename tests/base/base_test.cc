#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/dtype.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/memory.h"
#include "engine/base/parallel.h"
#include "engine/base/shape.h"
#include "engine/base/utf8.h"
#include "tests/reference/scratch.h"

using namespace tern;

TEST_CASE("f16 and bf16 conversions are exact both ways and round to nearest even") {
  for (int i = 0; i < 65536; ++i) {
    uint16_t bits = static_cast<uint16_t>(i);
    if (float f = F16ToF32(bits); !std::isnan(f)) CHECK_EQ(F32ToF16(f), bits);
    else CHECK(std::isnan(F16ToF32(F32ToF16(f))));
    if (float f = Bf16ToF32(bits); !std::isnan(f)) CHECK_EQ(F32ToBf16(f), bits);
  }
  CHECK(F16ToF32(0x3c00) == 1.0f);
  CHECK(F16ToF32(1) == std::ldexp(1.0f, -24));
  CHECK(F32ToF16(1.0f + 0x1p-11f) == 0x3c00);             // a tie goes to even
  CHECK(F32ToF16(1.0f + 0x3p-11f) == 0x3c02);
  CHECK(F32ToF16(65520.0f) == 0x7c00);
  CHECK(F32ToF16(std::ldexp(1.0f, -25)) == 0);            // a tie below the smallest subnormal
  CHECK(F32ToBf16(1.0f + 0x1p-8f) == 0x3f80);
}

TEST_CASE("shapes refuse what overflows") {
  CHECK(*Shape({2, 3, 4}).CheckedElements() == 24);
  CHECK(!Shape({int64_t{1} << 40, int64_t{1} << 40}).CheckedElements());
  CHECK(!Shape({2, -1}).CheckedElements());
  CHECK(*Shape({0, int64_t{1} << 40}).CheckedElements() == 0);
  CHECK(!CheckedCast<int32_t>(int64_t{1} << 40));
  CHECK(!CheckedCast<uint64_t>(int64_t{-1}));
}

TEST_CASE("the byte reader never goes past the end") {
  ByteReader r(std::string_view("\x01\x02\x03\x04\x05", 5));
  CHECK(*r.Read<uint32_t>() == 0x04030201);
  CHECK(!r.Read<uint16_t>().ok());
  CHECK(r.remaining() == 1);
  CHECK(!r.CheckCount(uint64_t{1} << 63, 8).ok());
  CHECK(!r.Bytes(std::numeric_limits<uint64_t>::max()).ok());
}

TEST_CASE("UTF-8 follows the standard") {
  CHECK(IsUtf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
  CHECK(!IsUtf8("\xc0\x80"));          // overlong
  CHECK(!IsUtf8("\xed\xa0\x80"));      // surrogate
  CHECK(!IsUtf8("\xf4\x90\x80\x80"));  // beyond U+10FFFF
  CHECK(ReplaceInvalidUtf8("a\xe2\x82z") == "a\xef\xbf\xbdz");
}

TEST_CASE("JSON within limits, or a clear refusal") {
  CHECK((*ParseJson(R"({"a":[1,2.5,"x"],"b":{}})"))["a"][1] == 2.5);
  CHECK(ParseJson(R"({"a":1,"a":2})").status().what().find("stands twice") != std::string::npos);
  CHECK(!ParseJson(std::string(10000, '[')).ok());
  CHECK(!ParseJson("{} x").ok());
  CHECK(!ParseJson("").ok());
  CHECK(!ParseJson("\"\xff\"").ok());
}

TEST_CASE("a gang runs every chunk once, whatever the number of threads") {
  for (int threads : {1, 2, 3, 8}) {
    Gang gang(threads);
    for (int round = 0; round < 20; ++round) {
      std::vector<std::atomic<int>> hits(1000);
      std::atomic<int> wrong_worker{0};
      gang.Run([&] {
        for (int chunks : {1, 2, 7, 1000, 0, 3}) {
          for (auto& h : hits) h = 0;
          gang.For(chunks, [&](int64_t c, int worker) {
            hits[static_cast<size_t>(c)]++;
            if (worker < 0 || worker >= threads) wrong_worker++;
          });
          for (int c = 0; c < 1000; ++c) CHECK_EQ(hits[static_cast<size_t>(c)].load(), c < chunks ? 1 : 0);
        }
      });
      CHECK(wrong_worker == 0);
    }
  }
}

TEST_CASE("many small jobs in one gang lose nothing") {
  Gang gang(4);
  int64_t total = 0;
  std::vector<int64_t> sums(64);
  gang.Run([&] {
    for (int job = 0; job < 20000; ++job) {
      int chunks = 1 + job % 64;
      gang.For(chunks, [&](int64_t c, int) { sums[static_cast<size_t>(c)] += 1; });
      total += chunks;
    }
  });
  CHECK(std::accumulate(sums.begin(), sums.end(), int64_t{0}) == total);
}

TEST_CASE("jobs of different functions and arguments in a row: no worker mixes two of them up") {
  Gang gang(3);
  int64_t wrong = 0;
  gang.Run([&] {
    for (int job = 0; job < 50000; ++job) {
      // Two kinds of work whose arguments live and die on the stack; a worker that ran one kind with the other's argument would write far outside.
      if (job % 2) {
        int64_t values[3] = {-1, -1, -1};
        gang.For(3, [&](int64_t c, int) { values[c] = c + job; });
        for (int64_t c = 0; c < 3; ++c) wrong += values[c] != c + job;
      } else {
        std::array<std::array<int, 8>, 5> rows{};
        std::array<int, 8>* first = rows.data();
        gang.For(5, [first, job](int64_t c, int) {
          for (int& x : first[c]) x = job;
        });
        for (const auto& row : rows)
          for (int x : row) wrong += x != job;
      }
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("a file exists under its name only when it is complete") {
  const ScratchFolder scratch;
  const std::string folder = scratch / "files";
  REQUIRE(::mkdir(folder.c_str(), 0700) == 0);
  std::string path = folder + "/out";
  {
    auto w = FileWriter::Create(path, 100);
    REQUIRE(w.ok());
    CHECK(w->Write("hello").ok());
    CHECK(!FileExists(path));
    CHECK(FileWriter::Create(path).status().code() == Code::kIo);  // a second writer of the same file
  }
  CHECK(!FileExists(path));  // no commit: nothing
  {
    auto w = FileWriter::Create(path, 100);
    REQUIRE(w.ok());
    CHECK(w->Write("hello").ok());
    CHECK(w->WriteAt(0, "J", 1).ok());
    CHECK(w->PadTo(8).ok());
    CHECK(w->Commit().ok());
  }
  CHECK(*ReadFile(path, 100) == std::string("Jello\0\0\0", 8));
  auto m = MappedFile::Open(path);
  REQUIRE(m.ok());
  CHECK((*m)->text().substr(0, 5) == "Jello");
  CHECK((*m)->CheckUnchanged().ok());
  CHECK(!MappedFile::Open(folder).ok());
  CHECK(MappedFile::Open(folder + "/none").status().code() == Code::kIo);
  CHECK(PlainNameIn(folder, "out").ok());
  for (const char* bad : {"", ".", "..", "a/b", "../out", "/etc/passwd", "none"}) CHECK(!PlainNameIn(folder, bad).ok());
  REQUIRE(::symlink("out", (folder + "/link").c_str()) == 0);
  CHECK(PlainNameIn(folder, "link").ok());  // model caches link their files into place
  REQUIRE(::symlink("/dev/zero", (folder + "/device").c_str()) == 0);
  CHECK(PlainNameIn(folder, "device").status().code() == Code::kMalformed);
  ::unlink((folder + "/device").c_str());
  ::unlink((folder + "/link").c_str());
  ::unlink(path.c_str());
  CHECK(::rmdir(folder.c_str()) == 0);  // no temporary was left
}

TEST_CASE("a region is zeroed and writable") {
  auto r = Region::Create(3 << 20);
  REQUIRE(r.ok());
  CHECK(r->data()[0] == 0);
  r->data()[(3 << 20) - 1] = 7;
  CHECK(Region::Create(0).ok());
  CHECK(PeakResidentBytes() > 0);
}
