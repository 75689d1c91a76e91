// Every container against expected.json, which an independent reader wrote (make_expected.py). TERN_FORMAT_CASES may name another folder of the same layout.
#include "formats/checkpoint.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>

#include "formats/safetensors.h"
#include "tests/formats/scratch_folder.h"

namespace tern {
namespace {

std::string CasesFolder() {
  const char* other = std::getenv("TERN_FORMAT_CASES");
  return other ? other : TERN_SOURCE_DIR "/tests/golden/formats";
}

uint32_t Crc32(const void* data, size_t bytes) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < bytes; ++i) {
    crc ^= static_cast<const uint8_t*>(data)[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
  }
  return ~crc;
}

Json ReadJson(const std::string& path) {
  auto text = ReadFile(path, 64 << 20);
  REQUIRE_MESSAGE(text.ok(), text.status().message());
  auto json = ParseJson(*text);
  REQUIRE_MESSAGE(json.ok(), json.status().message());
  return std::move(*json);
}

std::unique_ptr<Checkpoint> Open(const std::string& path) {
  auto checkpoint = Checkpoint::Open(path);
  REQUIRE_MESSAGE(checkpoint.ok(), checkpoint.status().message());
  return std::move(*checkpoint);
}

// All values as f32, read in pieces of `piece` rows.
std::vector<float> Values(const Checkpoint& c, const std::string& name, int64_t piece) {
  const CheckpointTensor* t = c.Find(name);
  REQUIRE(t != nullptr);
  const int64_t rows = t->shape.rank() == 0 ? 1 : t->shape[0];
  const int64_t width = rows == 0 ? 0 : t->shape.elements() / rows;
  std::vector<float> out(static_cast<size_t>(t->shape.elements()), -7);
  for (int64_t r = 0; r < rows; r += piece) {
    Status s = c.ReadF32(name, r, std::min(piece, rows - r), out.data() + r * width);
    REQUIRE_MESSAGE(s.ok(), s.message());
  }
  return out;
}

void CheckTensors(const Checkpoint& c, std::vector<std::string> names, const Json& expected) {
  std::sort(names.begin(), names.end());
  std::vector<std::string> wanted;
  for (const auto& [name, row] : expected.items()) wanted.push_back(name);
  std::sort(wanted.begin(), wanted.end());
  CHECK(names == wanted);
  for (const auto& [name, row] : expected.items()) {
    CAPTURE(name);
    const CheckpointTensor* t = c.Find(name);
    REQUIRE(t != nullptr);
    CHECK(DTypeName(t->type) == row[0].get<std::string>());
    Shape shape;
    for (const Json& d : row[1]) shape.Push(d.get<int64_t>());
    CHECK(t->shape == shape);
    for (int64_t piece : {int64_t{1} << 40, int64_t{3}}) {
      auto values = Values(c, name, piece);
      CHECK(Crc32(values.data(), values.size() * 4) == row[2].get<uint32_t>());
    }
  }
}

TEST_CASE("checkpoint: every container gives the names, types, shapes and values of the independent reader") {
  const std::string folder = CasesFolder();
  const Json expected = ReadJson(folder + "/expected.json");
  CHECK(expected.size() >= 10);
  for (const auto& [name, groups] : expected.items()) {
    CAPTURE(name);
    auto c = Open(folder + "/" + name);
    CheckTensors(*c, c->names(), groups["tensors"]);
    CheckTensors(*c, c->attribute_names(), groups.contains("attributes") ? groups["attributes"] : Json::object());
    CHECK(c->CheckUnchanged().ok());
    // Any number of threads may read.
    std::vector<std::thread> threads;
    std::vector<std::vector<float>> read(4);
    const std::string first = c->names().front();
    for (auto& out : read)
      threads.emplace_back([&c, &out, first] {
        out.resize(static_cast<size_t>(c->Find(first)->shape.elements()));
        if (!c->ReadF32(first, 0, c->Find(first)->shape.rank() ? c->Find(first)->shape[0] : 1, out.data()).ok()) out.clear();
      });
    for (auto& thread : threads) thread.join();
    for (const auto& out : read) CHECK(out == Values(*c, first, 1));
  }
}

}  // namespace
}  // namespace tern
