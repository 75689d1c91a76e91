// Documents into chunks: nothing is lost, no chunk is longer than it may be, whatever the tokenizer's file asks for besides.
#include "engine/retrieval/chunker.h"

#include <doctest/doctest.h>

#include <fstream>

#include "engine/base/json.h"
#include "tests/reference/scratch.h"

using namespace tern;

namespace {

// A WordPiece tokenizer.json over a few words; `more` is merged into it.
std::unique_ptr<Tokenizer> WriteTokenizer(const std::string& folder, const Json& more) {
  Json vocab = Json::object();
  int id = 0;
  for (const char* word : {"[PAD]", "[UNK]", "the", "red", "fox", "jump", "##s", "over", "lazy", "dog", "."}) vocab[word] = id++;
  Json file = {{"version", "1.0"},
               {"normalizer", nullptr},
               {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
               {"post_processor", nullptr},
               {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
               {"model", {{"type", "WordPiece"}, {"unk_token", "[UNK]"}, {"continuing_subword_prefix", "##"}, {"max_input_chars_per_word", 100}, {"vocab", vocab}}}};
  file.update(more);
  const std::string path = folder + "/tokenizer.json";
  std::ofstream(path) << DumpJson(file);
  auto t = Tokenizer::Open(path);
  REQUIRE_MESSAGE(t.ok(), t.status().message());
  return std::move(*t);
}

std::vector<std::string> Chunks(const Tokenizer& t, int64_t tokens, const std::vector<std::string>& stretches) {
  std::vector<std::string> out;
  auto chunker = Chunker::Create(t, tokens, [&](std::string c) -> Status {
    out.push_back(std::move(c));
    return {};
  });
  REQUIRE_MESSAGE(chunker.ok(), chunker.status().message());
  for (const std::string& s : stretches) REQUIRE(chunker->Add(s).ok());
  REQUIRE(chunker->EndDocument().ok());
  return out;
}

}  // namespace

TEST_CASE("chunker: a tokenizer.json that pads and truncates gives the chunks of one that does not") {
  ScratchFolder scratch;
  const std::vector<std::string> text{"the red fox jumps over the lazy dog.\n", "", "h\xC3\xA9 jumps ", "over.", "  \n", "the dog jumps over the lazy red fox. the fox"};
  std::string whole;
  for (const std::string& s : text) whole += s;
  auto plain = WriteTokenizer(scratch.path(), Json::object());
  const Json padding = {{"direction", "Right"}, {"pad_to_multiple_of", nullptr}, {"pad_id", 0}, {"pad_type_id", 0}, {"pad_token", "[PAD]"}};
  Json fixed = padding, left = padding;
  fixed["strategy"] = {{"Fixed", 16}}, left["strategy"] = {{"Fixed", 64}}, left["direction"] = "Left";
  const Json truncation = {{"direction", "Right"}, {"max_length", 3}, {"strategy", "LongestFirst"}, {"stride", 0}};
  auto padded = WriteTokenizer(scratch.path(), {{"padding", fixed}}), padded_left = WriteTokenizer(scratch.path(), {{"padding", left}, {"truncation", truncation}});
  for (int64_t tokens : {1, 2, 3, 5, 8, 100}) {
    CAPTURE(tokens);
    const auto want = Chunks(*plain, tokens, text);
    std::string joined;
    for (const std::string& c : want) {
      joined += c;
      std::vector<int32_t> ids;
      REQUIRE(plain->EncodeIds(c, false, &ids).ok());
      CHECK(static_cast<int64_t>(ids.size()) <= tokens);
      CHECK_FALSE(ids.empty());
    }
    CHECK(joined == whole);
    CHECK(Chunks(*padded, tokens, text) == want);
    CHECK(Chunks(*padded_left, tokens, text) == want);
  }
  CHECK(Chunks(*padded, 4, {"", " ", "\n"}).empty());  // no token, no chunk
}

TEST_CASE("chunk tables: ids of -1 and past the end give pads, chunks outside of the tokens are refused") {
  auto table = MakeChunkTable(std::vector<int64_t>{0, 3, 3, 5}, 2);
  REQUIRE(table.ok());
  REQUIRE(table->start.size() == 3);
  const std::vector<int32_t> tokens{1, 2, 3, 4, 5};
  std::vector<int32_t> out(4);
  auto get = [&](int64_t id) {
    REQUIRE(RetrievedTokens(*table, tokens, id, 2, 9, out).ok());
    return out;
  };
  CHECK(get(0) == std::vector<int32_t>{1, 2, 3, 9});
  CHECK(get(2) == std::vector<int32_t>{4, 5, 9, 9});
  for (int64_t id : {int64_t{-1}, int64_t{3}, INT64_MIN, INT64_MAX}) CHECK(get(id) == std::vector<int32_t>{9, 9, 9, 9});
  CHECK(RetrievedTokens(*table, {tokens.data(), 4}, 2, 2, 9, out).code() == Code::kMalformed);
}
