// Readers: what a record is, for every format and every way the bytes may be cut into blocks; malformed records; compression.
#include <doctest/doctest.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/rng.h"
#include "engine/base/utf8.h"
#include "tests/corpus/corpora.h"
#include "tools/corpus/byte_stream.h"
#include "tools/corpus/chars.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/json_record.h"
#include "tools/corpus/words.h"

using namespace tern;
using namespace tern::corpus;

namespace {

struct Seen {
  std::vector<std::string> texts, ids, raws, bad;
  std::vector<int64_t> docs, lines, offsets;
  bool operator==(const Seen&) const = default;
};

Result<Seen> ReadAll(const CommonOptions& options, int passes = 1) {
  TERN_ASSIGN(auto corpus, Corpus::Open(options));
  Seen seen;
  for (int pass = 0; pass < passes; ++pass) {
    seen = Seen();
    TERN_RETURN_IF_ERROR(corpus->Pass({}, nullptr, [&](Block& block) -> Status {
      for (size_t i = 0; i < block.records.size(); ++i) {
        const Record& r = block.records[i];
        seen.docs.push_back(block.DocOf(i)), seen.lines.push_back(block.LineOf(i)), seen.offsets.push_back(r.offset);
        seen.texts.emplace_back(r.text), seen.ids.emplace_back(r.id_json), seen.raws.emplace_back(r.raw), seen.bad.emplace_back(r.bad ? r.bad : "");
      }
      return {};
    }));
  }
  return seen;
}

std::string Gzip(const std::string& bytes) {
  z_stream z{};
  REQUIRE(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&z, bytes.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data())), z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data()), z.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::string Zstd(const std::string& bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
  return out;
}

}  // namespace

TEST_CASE("JSON records: accepted and refused as the JSON library does, fields by path") {
  const char* good[] = {R"({})", R"({"text":"a"})", R"( {"a":[1,2,{"text":"no"}],"text":"\u00e9\n"} )", R"({"text":"x","text":"y"})", R"({"a":-0.5e+10,"b":true,"c":null})",
                        R"({"text":{"deep":"no"}})", R"({"t\u0065xt":"escaped key"})"};
  const char* bad[] = {"", "{", R"({"a":01})", R"({"a":1,})", R"({"a" 1})", R"({"a":"\x"})", R"({"a":"\u12g4"})", "{\"a\":\"\n\"}", R"({"a":1} x)", R"({"a":.5})", R"({"a":1.})", R"({"a":nul})", R"({'a':1})"};
  FieldPath path[1] = {SplitFieldPath("text")};
  JsonField field[1];
  for (const char* line : good) {
    CAPTURE(line);
    CHECK(ReadJsonRecord(line, path, 1, field) == nullptr);
    CHECK(nlohmann::json::accept(line));
  }
  for (const char* line : bad) {
    CAPTURE(line);
    CHECK(ReadJsonRecord(line, path, 1, field) != nullptr);
    CHECK_FALSE(nlohmann::json::accept(line));
  }
  CHECK(std::string(ReadJsonRecord("[1]", path, 1, field)) == "not a JSON object");
  CHECK(ReadJsonRecord(std::string(100000, '['), path, 1, field) != nullptr);
  REQUIRE(ReadJsonRecord(R"({"text":"x","text":"y\ud83d\ude00"})", path, 1, field) == nullptr);
  std::string text;
  CHECK(AppendUnescaped(field[0].literal, &text));
  CHECK(text == "y\xf0\x9f\x98\x80");
  CHECK_FALSE(AppendUnescaped(R"("\ud83d")", &text));
  REQUIRE(ReadJsonRecord(R"({"t\u0065xt":"k"})", path, 1, field) == nullptr);
  CHECK(field[0].kind == JsonKind::kString);
  FieldPath deep[2] = {SplitFieldPath("a.b"), SplitFieldPath("a.c")};
  JsonField two[2];
  REQUIRE(ReadJsonRecord(R"({"a":{"b":1,"c":2},"a":{"c":"z"}})", deep, 2, two) == nullptr);
  CHECK(two[0].kind == JsonKind::kMissing);  // the last of two equal keys counts
  CHECK(two[1].literal == "\"z\"");
}

TEST_CASE("random damage to JSON is judged as the JSON library judges it") {
  FieldPath path[1] = {SplitFieldPath("a.b")};
  JsonField field[1];
  const std::string base = R"({"a":{"b":"text \" \\ \u0041 end","c":[1,-2.5e3,true,null,{"d":{}}]},"e":"","f":[]})";
  Rng rng(5);
  for (int i = 0; i < 20000; ++i) {
    std::string line = base;
    for (uint64_t edits = 1 + rng.Below(2); edits > 0; --edits) {
      size_t at = rng.Below(line.size());
      switch (rng.Below(3)) {
        case 0: line[at] = "{}[]\",:\\ 01eu-+.tn"[rng.Below(18)]; break;
        case 1: line.erase(at, 1); break;
        default: line.insert(at, 1, line[rng.Below(line.size())]); break;
      }
    }
    auto parsed = nlohmann::json::parse(line, nullptr, false);
    // That library also refuses lone surrogates; they matter to us only in a text.
    if (line.find("\\ud") != std::string::npos || line.find("\\uD") != std::string::npos) continue;
    CAPTURE(line);
    CHECK((ReadJsonRecord(line, path, 1, field) == nullptr) == (!parsed.is_discarded() && parsed.is_object()));
  }
}

TEST_CASE("records do not depend on threads, passes or compression") {
  Folder folder;
  Rng rng(1);
  std::string bytes = "\xef\xbb\xbf";
  for (int i = 0; i < 3000; ++i) {
    if (rng.Below(20) == 0) bytes += rng.Below(2) ? "\n" : " \r\n";
    if (rng.Below(50) == 0) bytes += "{broken\n";
    std::string text;
    for (uint64_t n = rng.Below(2000); n > 0; --n) text += rng.Below(9) ? static_cast<char>('a' + rng.Below(26)) : rng.Below(2) ? '\n' : '"';
    bytes += "{\"id\":" + std::to_string(i) + ",\"text\":";
    AppendJsonString(text, &bytes);
    bytes += i % 3 ? "}\n" : "}\r\n";
  }
  CommonOptions o;
  o.output = folder.path;
  o.threads = 1;
  o.inputs = {folder.Write("a.jsonl", bytes)};
  auto one = ReadAll(o);
  REQUIRE(one.ok());
  CHECK(one->ids[1] != "");
  for (size_t i = 0; i < one->docs.size(); ++i) {
    CHECK(one->docs[i] == static_cast<int64_t>(i));
    CHECK(bytes.substr(static_cast<size_t>(one->offsets[i]), one->raws[i].size()) == one->raws[i]);
    CHECK(std::count(bytes.begin(), bytes.begin() + one->offsets[i], '\n') + 1 == one->lines[i]);
  }
  o.threads = 3;
  CHECK(*ReadAll(o, 2) == *one);
  o.inputs = {folder.Write("b.jsonl.gz", Gzip(bytes.substr(0, 1000)) + Gzip(bytes.substr(1000)))};  // members one after another
  CHECK(*ReadAll(o, 2) == *one);
  o.inputs = {folder.Write("c.jsonl.zst", Zstd(bytes.substr(0, 1000)) + Zstd(bytes.substr(1000)))};
  CHECK(*ReadAll(o, 2) == *one);
  std::string packed = Gzip(bytes);
  o.inputs = {folder.Write("d.jsonl.gz", packed.substr(0, packed.size() / 2))};
  CHECK(ReadAll(o).status().code() == Code::kMalformed);
  packed = Zstd(bytes);
  o.inputs = {folder.Write("e.jsonl.zst", packed.substr(0, packed.size() / 2))};
  CHECK(ReadAll(o).status().code() == Code::kMalformed);
}

TEST_CASE("CSV after RFC 4180, and what is wrong with a record") {
  Folder folder;
  CommonOptions o;
  o.output = folder.path;
  o.inputs = {folder.Write("a.csv", "n,text,id\r\n1,plain,a\r\n2,\"two\r\nlines, \"\"q\"\"\",b\r\n3,short\r\n4,\"x\"y,c\r\n\r\n5,\"\",d\r\n6,\"open,e\n7,more,f\n")};
  auto seen = ReadAll(o);
  REQUIRE(seen.ok());
  CHECK(seen->texts == std::vector<std::string>{"plain", "two\r\nlines, \"q\"", "", "", "", ""});
  CHECK(seen->ids == std::vector<std::string>{"\"a\"", "\"b\"", "null", "null", "\"d\"", "null"});
  CHECK(seen->lines == std::vector<int64_t>{2, 3, 5, 6, 8, 9});
  CHECK(seen->bad[2] == "wrong number of cells");
  CHECK(seen->bad[3] == "text behind a closing quote");
  CHECK(seen->bad[5] == "a quoted cell does not end");
  o.text_field = "body";
  CHECK(ReadAll(o).status().code() == Code::kMalformed);
}

TEST_CASE("paragraphs, lines, whole files") {
  Folder folder;
  CommonOptions o;
  o.output = folder.path;
  o.inputs = {folder.Write("a.txt", "\n\none\ntwo\n \nthree\r\n\r\n\r\nfour")};
  o.format = Format::kParagraphs;
  auto seen = ReadAll(o);
  REQUIRE(seen.ok());
  CHECK(seen->texts == std::vector<std::string>{"one\ntwo", "three", "four"});
  CHECK(seen->lines == std::vector<int64_t>{3, 6, 9});
  o.format = Format::kLines;
  CHECK(ReadAll(o)->texts == std::vector<std::string>{"one", "two", "three", "four"});
  o.format = Format::kFile;
  CHECK(ReadAll(o)->texts.size() == 1);
  o.inputs = {folder.Write("empty.txt", "")};
  CHECK(ReadAll(o)->texts == std::vector<std::string>{""});
  o.format = Format::kAuto;
  CHECK(ReadAll(o)->texts.empty());
  o.inputs = {folder.Write("x.parquet", "PAR1....")};
  CHECK(ReadAll(o).status().code() == Code::kMalformed);
}

TEST_CASE("a record above the limit is set aside, the next one is read") {
  Folder folder;
  CommonOptions o;
  o.output = folder.path;
  o.max_record_bytes = 1000;
  for (size_t giant : {1001u, 5000u, 3000000u}) {
    CAPTURE(giant);
    o.inputs = {folder.Write("a.txt", "first\n" + std::string(giant, 'x') + "\nlast\n")};
    auto seen = ReadAll(o, 2);
    REQUIRE(seen.ok());
    CHECK(seen->texts == std::vector<std::string>{"first", "", "last"});
    CHECK(seen->bad[1] == "longer than --max-record");
    CHECK(seen->lines == std::vector<int64_t>{1, 2, 3});
    CHECK(seen->offsets[2] == static_cast<int64_t>(giant + 7));
  }
  o.inputs = {folder.Write("b.csv", "text\nok\n\"open" + std::string(3000000, 'x') + "\nnext\n")};
  auto seen = ReadAll(o, 2);
  REQUIRE(seen.ok());
  CHECK(seen->texts == std::vector<std::string>{"ok", "", "next"});
}

TEST_CASE("a file that changes between passes is noticed") {
  Folder folder;
  CommonOptions o;
  o.output = folder.path;
  o.inputs = {folder.Write("a.txt", "one\ntwo\n")};
  auto corpus = Corpus::Open(o);
  REQUIRE(corpus.ok());
  REQUIRE((*corpus)->Pass({}, nullptr, nullptr).ok());
  folder.Write("a.txt", "one\nTWO\n");
  CHECK((*corpus)->Pass({}, nullptr, nullptr).code() == Code::kIo);
}

TEST_CASE("words are those of the definition") {
  // One code point at a time, as the specification says it.
  auto slow = [](std::string_view text) {
    std::vector<std::pair<std::string, std::pair<size_t, size_t>>> out;
    for (size_t i = 0; i < text.size();) {
      size_t begin = i;
      bool any = false;
      while (i < text.size()) {
        Utf8Char c = DecodeUtf8(text, i);
        if (!(CharBits(c.code) & kWordBits)) break;
        any = any || (CharBits(c.code) & (kLetter | kNumber));
        i += c.bytes;
      }
      if (i == begin) {
        i += DecodeUtf8(text, i).bytes;
        continue;
      }
      if (!any) continue;
      std::string nfc, lower;
      AppendNfc(text.substr(begin, i - begin), &nfc);
      for (size_t j = 0; j < nfc.size();) {
        Utf8Char c = DecodeUtf8(nfc, j);
        AppendUtf8(LowerOf(CharBits(c.code)), &lower);
        j += c.bytes;
      }
      out.push_back({lower, {begin, i}});
    }
    return out;
  };
  const char32_t alphabet[] = {'a', 'Z', '0', ' ', '-', '_', '\'', 0xe9, 0x130, 0x301, 0x2019, 0x201c, 0x4e2d, 0xe01, 0x1f600, 0xac00, 0x11a8, 0xfb01, 0x3a3, 0x200b, 0x300, 0x16a0, 0x2167};
  Rng rng(3);
  WordReader words;
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    uint64_t only = rng.Below(3);
    for (uint64_t n = rng.Below(200); n > 0; --n) AppendUtf8(only == 0 ? alphabet[rng.Below(7)] : only == 1 ? (rng.Below(20) ? alphabet[rng.Below(4)] : alphabet[rng.Below(23)]) : alphabet[rng.Below(23)], &text);
    auto expected = slow(text);
    size_t i = 0;
    Word word;
    for (words.Reset(text); words.Next(&word); ++i) {
      REQUIRE(i < expected.size());
      CHECK(std::string(word.text) == expected[i].first);
      CHECK(word.begin == expected[i].second.first);
      CHECK(word.end == expected[i].second.second);
    }
    CHECK(i == expected.size());
  }
}
