// Every folder of tests/golden/tokenizers: one vocabulary as users have it, and recorded answers of the public
// libraries. Each request is answered as `tern tokenize --jsonl` does it - by the tokenizer as opened, and by the one
// read back from its own serialization - and compared field by field.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/utf8.h"
#include "formats/tokenizer.h"
#include "formats/tokenizer_jsonl.h"

namespace tern {
namespace {

namespace fs = std::filesystem;

const std::set<std::string> kInputs = {"text",       "bytes_hex",          "op",       "text_a",  "text_b",
                                       "strategy",   "max_length",         "texts",    "padding", "padding_side",
                                       "truncation", "pad_to_multiple_of", "question", "context", "stride"};
const std::set<std::string> kIgnored = {"first_unknown"};

Json RequestOf(const Json& line) {
  Json request = Json::object();
  const std::string op = line.value("op", "plain");
  for (const auto& [key, value] : line.items())
    if (kInputs.count(key)) request[key] = value;
  if (op == "decode") {
    request["ids"] = line["ids"];
    request.erase("bytes_hex");
  }
  if (op == "detokenize") request["pieces"] = line["pieces"];
  return request;
}

// Every field of `want` must be in `got` with the same value; lists of objects are compared so, element by element.
bool Same(const Json& want, const Json& got) {
  if (want.is_array() && !want.empty() && want[0].is_object()) {
    if (!got.is_array() || got.size() != want.size()) return false;
    for (size_t i = 0; i < want.size(); ++i)
      for (const auto& [key, value] : want[i].items())
        if (!got[i].contains(key) || got[i][key] != value) return false;
    return true;
  }
  return want == got;
}

// Whether the tokenizer's own file cuts and pads every call.
enum class Limits { kNone, kInFile };

void CheckLine(const Tokenizer& tokenizer, const Json& line, Limits limits) {
  const Json request = RequestOf(line);
  const std::string asked = request.dump(-1, ' ', true);
  CAPTURE(asked);
  const std::string answer = AnswerTokenizerRequest(tokenizer, asked);
  const Json got = Json::parse(answer);
  if (line.value("op", "plain") == "plain" && line.contains("ids") && line["ids"].is_null()) {
    CHECK(got.contains("error"));
    return;
  }
  for (const auto& field : line.items()) {
    const std::string key = field.key();
    const Json& want = field.value();
    if (request.contains(key) || kIgnored.count(key)) continue;
    CAPTURE(key);
    REQUIRE_MESSAGE(got.contains(key), answer);
    CHECK_MESSAGE(Same(want, got[key]), "want ", want.dump(-1, ' ', true), " got ", got[key].dump(-1, ' ', true));
  }
  // Streams: a text in small portions gives the same ids, ids one by one the same text.
  if (!request.contains("text") || request.contains("op")) return;
  const std::string text = request["text"];
  if (tokenizer.kind() == "xl-pretok" || tokenizer.kind() == "xl-lm1b") return;  // there a stream is a file of lines
  std::vector<int32_t> whole, streamed;
  if (!tokenizer.EncodeIds(text, false, &whole).ok()) return;
  if (limits != Limits::kInFile) {  // word by word from memory, and as a whole with offsets: the same ids
    EncodeOptions slow;
    slow.special_tokens = false;
    slow.offsets = true;
    auto encoding = tokenizer.Encode(text, slow);
    REQUIRE(encoding.ok());
    CHECK(encoding->ids == whole);
  }
  auto stream = tokenizer.NewEncodeStream();
  for (size_t i = 0; i < text.size(); i += 3)
    REQUIRE(stream->Push(std::string_view(text).substr(i, 3), &streamed).ok());
  REQUIRE(stream->Finish(&streamed).ok());
  CHECK(streamed == whole);
  auto decoder = tokenizer.NewTokenDecoder();
  std::string decoded;
  for (int32_t id : whole) {
    const std::string part = decoder->Push(id);
    CHECK(FirstInvalidUtf8(part) == part.size());
    decoded += part;
  }
  decoded += decoder->Finish();
  CHECK(decoded == tokenizer.Decode(whole));
}

TEST_CASE("recorded answers of the public tokenizers") {
  const fs::path root = fs::path(TERN_SOURCE_DIR) / "tests/golden/tokenizers";
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root))
    if (fs::exists(entry.path() / "cases.jsonl")) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  REQUIRE(!folders.empty());
  for (const fs::path& folder : folders) {
    const std::string name = folder.filename();
    CAPTURE(name);
    std::ifstream info(folder / "case.json");
    const std::string kind = Json::parse(info)["kind"];
    auto opened = Tokenizer::Open(folder, kind);
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    const std::string bytes = (*opened)->Serialize();
    auto again = Tokenizer::Deserialize({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    REQUIRE_MESSAGE(again.ok(), again.status().message());
    std::ifstream lines(folder / "cases.jsonl");
    std::string text;
    int64_t count = 0;
    while (std::getline(lines, text)) {
      CheckLine(count % 2 == 0 ? **opened : **again, Json::parse(text),
                name == "json-wordpiece" ? Limits::kInFile : Limits::kNone);
      ++count;
    }
    CHECK(count > 0);
    // The same model as the SentencePiece library itself uses it.
    if (!fs::exists(folder / "spm.jsonl")) continue;
    auto plain = Tokenizer::Open(folder, "spm");
    REQUIRE_MESSAGE(plain.ok(), plain.status().message());
    std::ifstream more(folder / "spm.jsonl");
    while (std::getline(more, text)) CheckLine(**plain, Json::parse(text), Limits::kNone);
  }
}

}  // namespace
}  // namespace tern
