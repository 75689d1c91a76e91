// Single components of tokenizer.json against recorded results of the library: normalizers, pre-tokenizers, decoders,
// post-processors.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/utf8.h"
#include "formats/tokenizer.h"
#include "formats/tokenizer_decoders.h"
#include "formats/tokenizer_normalizers.h"
#include "formats/tokenizer_pretokenizers.h"

namespace tern {
namespace {

int64_t CharactersBefore(const std::string& text, size_t bytes) {
  int64_t count = 0;
  for (size_t i = 0; i < bytes && i < text.size(); ++i) count += (static_cast<uint8_t>(text[i]) & 0xC0) != 0x80;
  return count;
}

void CheckNormalizer(const Json& config, const Json& cases) {
  auto made = MakeNormalizer(config);
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  for (const Json& c : cases) {
    const std::string text = c[0], want = c[1];
    CAPTURE(text);
    for (bool track : {false, true}) {
      NormalizedText got;
      got.Assign(text, track);
      REQUIRE((*made)->Run(&got).ok());
      CHECK(got.text == want);
      if (track) CHECK(got.align.size() == got.text.size());
    }
  }
}

void CheckPreTokenizer(const Json& config, const Json& cases) {
  auto made = MakePreTokenizer(config);
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  for (const Json& c : cases) {
    const std::string text = c[0];
    CAPTURE(text);
    std::vector<NormalizedText> parts(1);
    parts[0].Assign(text, true);
    if (text.empty()) parts.clear();
    REQUIRE((*made)->Run(&parts).ok());
    Json got = Json::array();
    for (const NormalizedText& part : parts)
      got.push_back(
          {part.text, CharactersBefore(text, part.align.front().begin), CharactersBefore(text, part.align.back().end)});
    CHECK_MESSAGE(got == c[1], got.dump(), " ", c[1].dump());
  }
}

void CheckDecoder(const Json& config, const Json& cases) {
  auto made = MakeTextDecoder(config);
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  for (const Json& c : cases) {
    auto stream = (*made)->NewStream();
    std::string got;
    const auto emit = [&](std::string_view token) { got += token; };
    for (const Json& token : c[0]) stream->Push(token.get_ref<const std::string&>(), emit);
    stream->Finish(emit);
    CHECK_MESSAGE(got == c[1].get<std::string>(), config.dump(), " ", c.dump());
  }
}

// Through a whole tokenizer of words, as a file would hold it.
void CheckPostProcessor(const Json& config, const Json& vocab, const Json& cases) {
  const Json file = {{"model", {{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", "<unk>"}}},
                     {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
                     {"post_processor", config}};
  TokenizerFiles files;
  files.kind = "json";
  files.files.emplace_back("tokenizer.json", file.dump());
  auto made = MakeTokenizer(std::move(files));
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  for (const Json& c : cases) {
    const std::string a = c[0][0];
    auto e = c[0][1].is_null() ? (*made)->Encode(a) : (*made)->EncodePair(a, c[0][1].get<std::string>());
    REQUIRE(e.ok());
    CHECK_MESSAGE(Json(e->ids) == c[1][0], c.dump());
    CHECK_MESSAGE(Json(e->type_ids) == c[1][1], c.dump());
  }
}

TEST_CASE("components of tokenizer.json") {
  const char* other = std::getenv("TERN_TOKENIZER_COMPONENTS");  // the full recorded set, where it is at hand
  std::ifstream lines(other ? std::string(other)
                            : std::string(TERN_SOURCE_DIR) + "/tests/golden/tokenizers/components.jsonl");
  std::string line;
  int64_t count = 0;
  while (std::getline(lines, line)) {
    const Json entry = Json::parse(line);
    const std::string component = entry["component"], config = entry["config"].dump();
    CAPTURE(config);
    if (component == "normalizer") CheckNormalizer(entry["config"], entry["cases"]);
    if (component == "pre_tokenizer") CheckPreTokenizer(entry["config"], entry["cases"]);
    if (component == "decoder") CheckDecoder(entry["config"], entry["cases"]);
    if (component == "post_processor") CheckPostProcessor(entry["config"], entry["vocab"], entry["cases"]);
    ++count;
  }
  CHECK(count == 75);
}

}  // namespace
}  // namespace tern
