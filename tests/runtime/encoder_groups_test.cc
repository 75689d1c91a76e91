// A large batch goes through an encoder in groups of sequences: every output has the bits it has when its sequence runs alone, whatever its rows count
// (tokens, sequences, selected tokens).
#include <doctest/doctest.h>

#include <cstring>

#include "engine/runtime/convert.h"
#include "engine/runtime/encoder_session.h"
#include "tests/reference/scratch.h"

using namespace tern;

namespace {

std::unique_ptr<EncoderSession> Open(const ScratchFolder& scratch, const std::string& golden, const EncoderOptions& options, const std::string& type = "f32") {
  ConvertOptions convert;
  convert.source = TERN_SOURCE_DIR "/tests/golden/" + golden + "/model", convert.output = scratch.path() + "/" + type + ".tern", convert.type = type;
  Status converted = Convert(convert, nullptr, {}, nullptr);
  REQUIRE_MESSAGE(converted.ok(), converted.message());
  auto model = Model::Open(convert.output);
  REQUIRE(model.ok());
  auto session = EncoderSession::Create(*model, options);
  REQUIRE(session.ok());
  return std::move(*session);
}

// 60 sequences of 1 to 12 tokens, one of which fills a group alone; some tokens masked out.
struct Batch {
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::vector<uint8_t>> masks;
  std::vector<EncoderInput> inputs;
  Batch(int64_t longest, int64_t vocabulary) {
    for (size_t s = 0; s < 60; ++s) {
      const size_t tokens = s == 20 ? static_cast<size_t>(longest) : 1 + s * 7 % 12;
      ids.emplace_back(), masks.emplace_back(tokens, uint8_t{1});
      for (size_t t = 0; t < tokens; ++t) ids[s].push_back(static_cast<int32_t>((s * 31 + t * 7) % static_cast<size_t>(vocabulary)));
      if (s % 5 == 0 && tokens > 2) masks[s][1] = 0;
      if (s == 33) masks[s][0] = 0;
    }
    for (size_t s = 0; s < ids.size(); ++s) inputs.push_back({ids[s], {}, masks[s]});
  }
};

std::vector<float> Row(const Operand& o, int64_t row) { return {o.f32() + row * o.stride, o.f32() + row * o.stride + o.cols}; }

}  // namespace

TEST_CASE("encoders: a batch in groups has the bits of its sequences alone, per token and per sequence") {
  for (const char* golden : {"albert/groups2_inner2_layers5", "albert/qa", "bert/distilbert_seqcls"}) {
    CAPTURE(golden);
    ScratchFolder scratch;
    EncoderOptions options;
    options.threads = 2;
    auto session = Open(scratch, golden, options);
    const Batch batch(session->longest(), session->network().vocab_size());
    REQUIRE(session->Run(batch.inputs).ok());
    REQUIRE(session->rows() > 256);  // more than one group
    const auto names = session->output_names();
    REQUIRE(!names.empty());
    struct Seen {
      std::string name;
      size_t sequence;
      int64_t position;
      std::vector<float> row;
    };
    std::vector<Seen> seen;
    for (const std::string& name : names) {
      const Operand& o = session->output(name);
      REQUIRE(o.rows == (session->per_token(name) ? session->rows() : static_cast<int64_t>(batch.ids.size())));
      for (size_t s = 0; s < batch.ids.size(); ++s) {
        if (!session->per_token(name)) seen.push_back({name, s, -1, Row(o, static_cast<int64_t>(s))});
        else
          for (size_t t = 0; t < batch.ids[s].size(); ++t)
            if (const int64_t row = session->RowOf(static_cast<int64_t>(s), static_cast<int64_t>(t)); row >= 0) seen.push_back({name, s, static_cast<int64_t>(t), Row(o, row)});
      }
    }
    for (size_t s = 0; s < batch.ids.size(); ++s) {
      REQUIRE(session->Run({&batch.inputs[s], 1}).ok());
      CHECK(session->output_names() == names);
      for (const Seen& one : seen) {
        if (one.sequence != s) continue;
        const std::vector<float> alone = Row(session->output(one.name), one.position < 0 ? 0 : session->RowOf(0, one.position));
        CHECK_MESSAGE(std::memcmp(alone.data(), one.row.data(), alone.size() * 4) == 0, one.name << " of sequence " << s << ", position " << one.position);
      }
    }
  }
}

TEST_CASE("encoders: selected tokens of a batch in groups come in the order asked for") {
  const char* type = "f32";
  SUBCASE("f32") {}
  SUBCASE("q8") { type = "q8"; }
  ScratchFolder scratch;
  EncoderOptions options;
  options.threads = 1, options.logits = LogitsMode::kLast;
  auto session = Open(scratch, "albert/masked_lm", options, type);
  const Batch batch(session->longest(), session->network().vocab_size());
  // Not in the order of the sequences, one twice, most groups with none.
  const std::vector<EncoderSession::Place> places = {{59, 0}, {2, 2}, {20, 3}, {2, 0}, {59, 0}};
  REQUIRE(session->Run(batch.inputs, places).ok());
  const Operand& together = session->output("logits");
  REQUIRE(together.rows == static_cast<int64_t>(places.size()));
  std::vector<std::vector<float>> rows;
  for (int64_t r = 0; r < together.rows; ++r) rows.push_back(Row(together, r));
  for (size_t i = 0; i < places.size(); ++i) {
    const EncoderSession::Place alone{0, places[i].position};
    REQUIRE(session->Run({&batch.inputs[static_cast<size_t>(places[i].sequence)], 1}, {&alone, 1}).ok());
    CHECK(Row(session->output("logits"), 0) == rows[i]);
  }
}

TEST_CASE("encoders: outputs of a batch that exceed the memory are refused before it runs") {
  ScratchFolder scratch;
  EncoderOptions options;
  options.threads = 1;
  options.memory_limit = 700'000;
  auto session = Open(scratch, "albert/groups2_inner2_layers5", options);
  const Batch batch(session->longest(), session->network().vocab_size());
  REQUIRE(session->Run({batch.inputs.data(), 2}).ok());
  std::vector<EncoderInput> many;
  for (int i = 0; i < 200; ++i) many.insert(many.end(), batch.inputs.begin(), batch.inputs.end());
  const Status refused = session->Run(many);
  CHECK(refused.code() == Code::kMemory);
  CHECK(refused.message().find("smaller batches") != std::string::npos);
}
