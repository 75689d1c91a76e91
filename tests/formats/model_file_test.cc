// The reader and the writer of `.tern` files: round trips, the rules of the specification, and what damaged files give.
#include "formats/model_file.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>

#include "engine/base/hash.h"
#include "tests/reference/scratch.h"

namespace tern {
namespace {

size_t Entries(const ScratchFolder& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder.path()), {}));
}

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void Spill(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

Json Metadata() {
  return {{"architecture", "test"}, {"config", {{"d_model", 8}, {"n_heads", 2}}}, {"license", "Apache-2.0"}};
}

float Value(size_t tensor, int64_t i) {
  return static_cast<float>(std::sin(0.37 * static_cast<double>(i) + static_cast<double>(tensor)));
}

std::vector<TensorSpec> Specs() {
  return {
      {"norm.weight", "", DType::f32, Layout::kRows, {24}},
      {"big.table", "", DType::bf16, Layout::kRows, {300, 130}},
      {"expert.1.wi", "layer.0.expert.1", DType::f32, Layout::kPanel16, {17, 5}},
      {"expert.0.wi", "layer.0.expert.0", DType::f32, Layout::kPanel16, {17, 5}},
      {"expert.1.wo", "layer.0.expert.1", DType::f16, Layout::kPanel16, {5, 17}},
      {"expert.0.wo", "layer.0.expert.0", DType::f16, Layout::kPanel16, {5, 17}},
      {"dense", "", DType::bf16, Layout::kPanel16, {33, 7}},
      {"scalar", "", DType::f32, Layout::kRows, {}},
      {"nothing", "", DType::f32, Layout::kPanel16, {0, 9}},
      {"ids", "", DType::i64, Layout::kRows, {3}},
      {"cube", "", DType::f16, Layout::kRows, {2, 3, 4}},
      {"eight", "", DType::i8, Layout::kPanel16, {33, 7}},
      {"eight.split", "", DType::i8, Layout::kPanel16, {32, 9}, {0, 3, 3, 8}},
      {"eight.table", "", DType::i8, Layout::kRowsQ8, {19, 5}},
  };
}

// Writes Specs() with Value(i, element), rows in steps of `step`.
void WriteSample(const std::string& path, int64_t step = 5) {
  auto writer =
      ModelFileWriter::Create(path, Metadata(), Specs(), {{"tokenizer", "bytes of a tokenizer"}, {"empty", ""}});
  REQUIRE_MESSAGE(writer.ok(), writer.status().message());
  for (size_t i = 0; i < writer->tensors().size(); ++i) {
    const TensorRecord& t = writer->tensors()[i];
    if (t.type == DType::i64) {
      int64_t ids[3] = {7, -1, 1LL << 40};
      REQUIRE(writer->WriteStored(i, {reinterpret_cast<const uint8_t*>(ids), sizeof ids}).ok());
      continue;
    }
    int64_t rows = t.shape.rank() == 0 ? 1 : t.shape[0], width = rows == 0 ? 0 : t.shape.elements() / rows;
    std::vector<float> values(static_cast<size_t>(t.shape.elements()));
    for (size_t k = 0; k < values.size(); ++k) values[k] = Value(t.name.size(), static_cast<int64_t>(k));
    for (int64_t r = 0; r < rows; r += step) {
      Status s = writer->WriteRows(i, values.data() + r * width, std::min(step, rows - r));
      REQUIRE_MESSAGE(s.ok(), s.message());
    }
  }
  Status s = writer->Finish();
  REQUIRE_MESSAGE(s.ok(), s.message());
}

// The number at [row, column] of a stored matrix, by the words of the specification.
float Stored(const ModelFile& file, const TensorRecord& t, int64_t n, int64_t k) {
  const auto* bytes = static_cast<const uint8_t*>(file.data(t));
  int64_t width = t.shape.rank() == 0 ? 1 : t.shape.elements() / t.shape[0];
  int64_t at = n * width + k;
  if (t.layout == Layout::kPanel16) {
    int64_t pair = t.type == DType::f32 ? 1 : t.type == DType::i8 ? 4 : 2;
    int64_t padded = (t.shape[1] + t.splits + pair - 1) / pair * pair;
    auto place = [&](int64_t column) { return n / 16 * padded * 16 + column / pair * 16 * pair + n % 16 * pair + column % pair; };
    at = place(k);
    if (t.type == DType::i8) {  // the mean of all copies, times the scale
      int64_t panels = (t.shape[0] + 15) / 16, numbers = panels * 16 * padded, sum = static_cast<int8_t>(bytes[at]), copies = 1;
      for (int64_t e = 0; e < t.splits; ++e) {
        int32_t source;
        std::memcpy(&source, bytes + numbers + panels * 16 * 8 + e * 4, 4);
        if (source == k) sum += static_cast<int8_t>(bytes[place(t.shape[1] + e)]), ++copies;
      }
      float scale;
      std::memcpy(&scale, bytes + numbers + n * 4, 4);
      return scale * static_cast<float>(sum) / static_cast<float>(copies);
    }
  }
  if (t.layout == Layout::kRowsQ8) {
    float scale;
    std::memcpy(&scale, bytes + n * (4 + width), 4);
    return scale * static_cast<float>(static_cast<int8_t>(bytes[n * (4 + width) + 4 + k]));
  }
  if (t.type == DType::f32) {
    float v;
    std::memcpy(&v, bytes + at * 4, 4);
    return v;
  }
  uint16_t v;
  std::memcpy(&v, bytes + at * 2, 2);
  return t.type == DType::bf16 ? Bf16ToF32(v) : F16ToF32(v);
}

// Digests of header and table brought up to date, so that a change inside is judged by the rule it breaks.
void Reseal(std::string* file) {
  auto put = [&](size_t at, uint64_t v) { std::memcpy(file->data() + at, &v, 8); };
  auto get = [&](size_t at) {
    uint64_t v;
    std::memcpy(&v, file->data() + at, 8);
    return v;
  };
  auto bytes = [&](size_t at, size_t n) { return std::span(reinterpret_cast<const uint8_t*>(file->data()) + at, n); };
  uint64_t table = get(32);
  if (table <= file->size() - 64) put(40, Xxh3(bytes(64, table)));
  put(56, Xxh3(bytes(0, 56)));
}

struct AlignedCopy {
  explicit AlignedCopy(std::string_view text) : size(text.size()) {
    data = static_cast<uint8_t*>(std::aligned_alloc(64, (size + 64) / 64 * 64));
    std::memcpy(data, text.data(), size);
  }
  ~AlignedCopy() { std::free(data); }
  uint8_t* data;
  size_t size;
};
Status OpenBytes(std::string_view text, bool verify = false) {
  AlignedCopy copy(text);
  auto file = ModelFile::FromBytes({copy.data, copy.size}, "bytes");
  if (!file.ok()) return file.status();
  return verify ? (*file)->Verify({}, nullptr) : Status();
}

size_t RecordAt(const std::string& file, size_t index) {
  uint64_t metadata;
  std::memcpy(&metadata, file.data() + 64 + 8, 8);
  return 64 + 32 + (metadata + 7) / 8 * 8 + index * 96;
}

TEST_CASE("a model file holds what was written") {
  ScratchFolder folder;
  WriteSample(folder / "m.tern");
  CHECK(Entries(folder) == 1);
  auto opened = ModelFile::Open(folder / "m.tern", {.verify = true});
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  const ModelFile& file = **opened;
  CHECK(file.architecture() == "test");
  CHECK(file.config().at("d_model") == 8);
  CHECK(file.tensors().size() == Specs().size());
  for (const TensorSpec& spec : Specs()) {
    const TensorRecord* t = file.Find(spec.name);
    REQUIRE(t != nullptr);
    CHECK(t->shape == spec.shape);
    CHECK(t->type == spec.type);
    CHECK(t->layout == spec.layout);
    CHECK(t->group == spec.group);
    CHECK(reinterpret_cast<uintptr_t>(file.data(*t)) % 64 == 0);
    if (t->type == DType::i64) continue;
    int64_t rows = t->shape.rank() == 0 ? 1 : t->shape[0], width = rows == 0 ? 0 : t->shape.elements() / rows;
    for (int64_t n = 0; n < rows; ++n)
      for (int64_t k = 0; k < width; ++k) {
        float want = Value(t->name.size(), n * width + k);
        if (t->type == DType::bf16) want = Bf16ToF32(F32ToBf16(want));
        if (t->type == DType::f16) want = F16ToF32(F32ToF16(want));
        if (t->type != DType::i8) {
          REQUIRE(Stored(file, *t, n, k) == want);
          continue;
        }
        float largest = 0;
        for (int64_t c = 0; c < width; ++c) largest = std::max(largest, std::fabs(Value(t->name.size(), n * width + c)));
        // Half a step; of m copies (column 3 stands three times) half of a step's m-th part, and the shift of their rounding.
        const float step = largest / 127, copies = t->splits == 0 ? 1 : k == 3 ? 3 : k == 0 || k == 8 ? 2 : 1;
        REQUIRE(std::fabs(Stored(file, *t, n, k) - want) <= 0.51f * step / copies + (copies > 1 ? 0.01f * step : 0));
      }
  }
  CHECK(file.Find("norm") == nullptr);
  CHECK(file.Find("zzz") == nullptr);
  auto blob = file.Blob("tokenizer");
  REQUIRE(blob.ok());
  CHECK(std::string(blob->begin(), blob->end()) == "bytes of a tokenizer");
  CHECK(file.Blob("empty")->empty());
  CHECK(file.Blob("none").status().code() == Code::kMalformed);
}

TEST_CASE("groups are contiguous, page-aligned ranges; large tensors begin at pages") {
  ScratchFolder folder;
  WriteSample(folder / "m.tern");
  auto file = ModelFile::Open(folder / "m.tern").value();
  for (const char* expert : {"0", "1"}) {
    ByteRange range = file->Group(std::string("layer.0.expert.") + expert);
    const TensorRecord* wi = file->Find(std::string("expert.") + expert + ".wi");
    const TensorRecord* wo = file->Find(std::string("expert.") + expert + ".wo");
    CHECK(range.offset % 4096 == 0);
    CHECK(range.offset == wi->offset);
    CHECK(range.bytes == wo->offset + wo->bytes - wi->offset);
  }
  CHECK(file->Group("layer.0.expert.2").bytes == 0);
  CHECK(file->Find("big.table")->offset % 4096 == 0);
}

TEST_CASE("the same input gives the same bytes, however the rows arrive") {
  ScratchFolder folder;
  WriteSample(folder / "a", 5);
  WriteSample(folder / "b", 16);
  WriteSample(folder / "c", 1000);
  CHECK(Slurp(folder / "a") == Slurp(folder / "b"));
  CHECK(Slurp(folder / "a") == Slurp(folder / "c"));
}

TEST_CASE("an unfinished file never appears, and leaves nothing behind") {
  ScratchFolder folder;
  Spill(folder / "m.tern", "old");
  {
    auto writer = ModelFileWriter::Create(folder / "m.tern", Metadata(), Specs(), {});
    REQUIRE(writer.ok());
    CHECK(writer->Finish().code() == Code::kInternal);
    auto second = ModelFileWriter::Create(folder / "m.tern", Metadata(), Specs(), {});
    CHECK(second.status().code() == Code::kIo);  // somebody is writing it
  }
  CHECK(Slurp(folder / "m.tern") == "old");
  CHECK(Entries(folder) == 1);
}

TEST_CASE("the writer refuses what the specification forbids") {
  ScratchFolder folder;
  auto create = [&](const Json& metadata, std::vector<TensorSpec> specs) {
    return ModelFileWriter::Create(folder / "x", metadata, std::move(specs), {}).status().code();
  };
  CHECK(create(Metadata(), {{"a", "", DType::f32, Layout::kRows, {1}}, {"a", "", DType::f32, Layout::kRows, {1}}}) ==
        Code::kUsage);
  CHECK(create(Metadata(), {{"", "", DType::f32, Layout::kRows, {1}}}) == Code::kUsage);
  CHECK(create(Metadata(), {{"a\n", "", DType::f32, Layout::kRows, {1}}}) == Code::kUsage);
  CHECK(create(Metadata(), {{"a", "", DType::f32, Layout::kPanel16, {1}}}) == Code::kUsage);
  CHECK(create(Metadata(), {{"a", "", DType::i16, Layout::kPanel16, {1, 1}}}) == Code::kUsage);
  CHECK(create(Metadata(), {{"a", "", DType::f32, Layout::kRowsQ8, {1, 1}}}) == Code::kUsage);
  CHECK(create(Metadata(), {{"a", "", DType::i8, Layout::kRowsQ8, {4}}}) == Code::kUsage);
  CHECK(create(Metadata(), {{"a", "", DType::bf16, Layout::kPanel16, {1, 4}, {2}}}) == Code::kUsage);
  CHECK(create(Metadata(), {{"a", "", DType::i8, Layout::kPanel16, {1, 1}, {0, 0}}}) == Code::kUsage);
  CHECK(create(Metadata(), {{"a", "", DType::f32, Layout::kRows, {1LL << 40, 1LL << 40}}}) == Code::kUsage);
  CHECK(create(Json::object(), {}) == Code::kUsage);
  CHECK(create({{"architecture", 3}, {"config", Json::object()}}, {}) == Code::kUsage);
  CHECK(Entries(folder) == 0);
}

// Writes one i8 tensor with a change to its stored bytes, past the writer's own rules.
Status VerifyChanged(const ScratchFolder& folder, const TensorSpec& spec, const std::function<void(std::string*)>& change) {
  const std::string path = folder / "good";
  auto writer = ModelFileWriter::Create(path, Metadata(), {spec}, {});
  REQUIRE(writer.ok());
  std::vector<float> values(static_cast<size_t>(spec.shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = Value(1, static_cast<int64_t>(i));
  REQUIRE(writer->WriteRows(0, values.data(), spec.shape[0]).ok());
  CHECK(writer->RelativeError(0) > 1e-4);
  CHECK(writer->RelativeError(0) < 1e-2);
  REQUIRE(writer->Finish().ok());
  auto file = ModelFile::Open(path, {.verify = true});
  REQUIRE(file.ok());
  const TensorRecord& t = (*file)->tensors()[0];
  std::string stored(static_cast<const char*>((*file)->data(t)), t.bytes);
  change(&stored);
  auto changed = ModelFileWriter::Create(folder / "bad", Metadata(), {spec}, {});
  REQUIRE(changed.ok());
  REQUIRE(changed->WriteStored(0, {reinterpret_cast<const uint8_t*>(stored.data()), stored.size()}).ok());
  return changed->Finish();  // verifies what it wrote
}

TEST_CASE("verify knows what int8 may hold") {
  ScratchFolder folder;
  const TensorSpec panels{"w", "", DType::i8, Layout::kPanel16, {33, 6}, {1, 4, 4}};
  const int64_t numbers = 48 * 12, scales = numbers, sums = scales + 48 * 4, sources = sums + 48 * 4;
  auto put = [](std::string* s, int64_t at, auto value) { std::memcpy(s->data() + at, &value, sizeof value); };
  CHECK(VerifyChanged(folder, panels, [](std::string*) {}).ok());
  struct {
    std::function<void(std::string*)> change;
    const char* says;
  } cases[] = {
      {[&](std::string* s) { put(s, 0, int8_t{-128}); }, "-128"},
      {[&](std::string* s) { (*s)[1] ^= 1; }, "column sum"},
      {[&](std::string* s) { put(s, sums + 4, int32_t{1 << 20}); }, "column sum"},
      {[&](std::string* s) { put(s, scales + 8, -1.0f); }, "scale"},
      {[&](std::string* s) { put(s, scales + 8, std::numeric_limits<float>::infinity()); }, "scale"},
      {[&](std::string* s) { put(s, scales + 33 * 4, 1.0f); }, "padding"},
      {[&](std::string* s) { put(s, sums + 47 * 4, int32_t{1}); }, "padding"},
      {[&](std::string* s) { put(s, sources, int32_t{5}); }, "sources"},
      {[&](std::string* s) { put(s, sources + 8, int32_t{6}); }, "sources"},
      {[&](std::string* s) { put(s, sources, int32_t{-1}); }, "sources"},
  };
  for (const auto& c : cases) {
    Status s = VerifyChanged(folder, panels, c.change);
    CHECK_MESSAGE(s.message().find(c.says) != std::string::npos, c.says << ": " << s.message());
  }
  const TensorSpec table{"t", "", DType::i8, Layout::kRowsQ8, {3, 5}};
  CHECK(VerifyChanged(folder, table, [](std::string*) {}).ok());
  CHECK(VerifyChanged(folder, table, [&](std::string* s) { put(s, 9 + 4, int8_t{-128}); }).message().find("-128") != std::string::npos);
  CHECK(VerifyChanged(folder, table, [&](std::string* s) { put(s, 9, -2.0f); }).message().find("scale") != std::string::npos);
}

TEST_CASE("numbers beyond f16 are refused, infinities and NaN pass") {
  ScratchFolder folder;
  auto writer = ModelFileWriter::Create(folder / "m", Metadata(), {{"a", "", DType::f16, Layout::kRows, {1, 3}}}, {});
  REQUIRE(writer.ok());
  float big[3] = {1, 65520, 2};
  Status s = writer->WriteRows(0, big, 1);
  CHECK(s.code() == Code::kNumeric);
  CHECK(s.message().find("tensor 'a'") != std::string::npos);
  auto again = ModelFileWriter::Create(folder / "n", Metadata(), {{"a", "", DType::f16, Layout::kPanel16, {1, 3}}}, {});
  float edge[3] = {std::numeric_limits<float>::infinity(), 65519, -65519};
  CHECK(again->WriteRows(0, edge, 1).ok());
  auto wide = ModelFileWriter::Create(folder / "w", Metadata(), {{"a", "", DType::bf16, Layout::kRows, {1, 2}}}, {});
  float most[2] = {std::nextafter(0x1.ffp127f, 0.0f), std::numeric_limits<float>::max()};
  CHECK(wide->WriteRows(0, most, 1).code() == Code::kNumeric);
  CHECK(std::isfinite(Bf16ToF32(F32ToBf16(most[0]))));
}

TEST_CASE("sizes that overflow are refused") {
  CHECK(!StoredBytes(DType::f32, Layout::kRows, {1LL << 62}).ok());
  CHECK(!StoredBytes(DType::f32, Layout::kRows, {1LL << 32, 1LL << 32}).ok());
  CHECK(!StoredBytes(DType::f32, Layout::kRows, {0, 1LL << 40, 1LL << 40}).ok());
  CHECK(!StoredBytes(DType::f32, Layout::kPanel16, {1, 1LL << 58}).ok());
  CHECK(StoredBytes(DType::f32, Layout::kPanel16, {17, 3}).value() == 32 * 3 * 4);
  CHECK(StoredBytes(DType::bf16, Layout::kPanel16, {17, 3}).value() == 32 * 4 * 2);
  CHECK(StoredBytes(DType::f64, Layout::kRows, {}).value() == 8);
  CHECK(StoredBytes(DType::i8, Layout::kPanel16, {17, 3}).value() == 32 * 4 + 32 * 8);
  CHECK(StoredBytes(DType::i8, Layout::kPanel16, {17, 3}, 2).value() == 32 * 8 + 32 * 8 + 2 * 4);
  CHECK(!StoredBytes(DType::i8, Layout::kPanel16, {17, 3}, 4).ok());
  CHECK(StoredBytes(DType::i8, Layout::kRowsQ8, {17, 3}).value() == 17 * 7);
  CHECK(!StoredBytes(DType::i8, Layout::kRowsQ8, {1LL << 31, 1LL << 31}).ok());
  CHECK(StoredBytes(DType::f32, Layout::kRows, {0, 7}).value() == 0);
}

TEST_CASE("a file cut anywhere, or with one changed bit before the data, does not open") {
  ScratchFolder folder;
  WriteSample(folder / "m");
  std::string good = Slurp(folder / "m");
  REQUIRE(OpenBytes(good, true).ok());
  uint64_t table;
  std::memcpy(&table, good.data() + 32, 8);
  for (size_t n = 0; n < good.size(); n += n < 64 + table ? 1 : 101) {
    Status s = OpenBytes(std::string_view(good).substr(0, n));
    REQUIRE((s.code() == Code::kMalformed || s.code() == Code::kDigest));
  }
  for (size_t at = 0; at < 64 + table; ++at)
    for (int bit : {0, 7}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 1 << bit);
      Status s = OpenBytes(bad);
      REQUIRE((s.code() == Code::kMalformed || s.code() == Code::kDigest));
    }
  CHECK(OpenBytes(good + "x").message().find("1 bytes after the end") != std::string::npos);
}

TEST_CASE("verify finds one changed bit anywhere in the data, padding included") {
  ScratchFolder folder;
  WriteSample(folder / "m");
  std::string good = Slurp(folder / "m");
  uint64_t table;
  std::memcpy(&table, good.data() + 32, 8);
  for (size_t at = 64 + table; at < good.size() - 16; at += 37) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1 << at % 8);
    Status s = OpenBytes(bad, true);
    REQUIRE_MESSAGE(s.code() == Code::kDigest, at);
  }
}

TEST_CASE("NaN and infinity are listed with their tensors") {
  ScratchFolder folder;
  auto writer = ModelFileWriter::Create(
      folder / "m", Metadata(),
      {{"good", "", DType::f32, Layout::kRows, {2}}, {"bad", "", DType::bf16, Layout::kPanel16, {1, 4}}}, {});
  REQUIRE(writer.ok());
  float fine[2] = {1, 2}, nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  float bad[4] = {nan, 1, inf, nan};
  REQUIRE(writer->WriteRows(0, fine, 2).ok());
  REQUIRE(writer->WriteRows(1, bad, 1).ok());
  REQUIRE(writer->Finish().ok());
  auto file = ModelFile::Open(folder / "m").value();
  std::vector<ModelFile::NonFinite> found;
  REQUIRE(file->Verify({}, &found).ok());
  REQUIRE(found.size() == 1);
  CHECK(found[0].tensor == "bad");
  CHECK(found[0].nan == 2);
  CHECK(found[0].infinite == 1);
}

// One rule broken, digests correct.
struct Breach {
  const char* what;
  std::function<void(std::string&)> change;
  Code code;
  const char* message;
};

TEST_CASE("each broken rule has its message") {
  ScratchFolder folder;
  WriteSample(folder / "m");
  const std::string good = Slurp(folder / "m");
  auto u64 = [](size_t at, uint64_t v) { return [=](std::string& f) { std::memcpy(f.data() + at, &v, 8); }; };
  auto u32 = [](size_t at, uint32_t v) { return [=](std::string& f) { std::memcpy(f.data() + at, &v, 4); }; };
  auto byte = [](size_t at, int v) { return [=](std::string& f) { f[at] = static_cast<char>(v); }; };
  auto record = [&](size_t i) { return RecordAt(good, i); };
  auto at_offset = [&](size_t i) {
    uint64_t v;
    std::memcpy(&v, good.data() + record(i) + 64, 8);
    return v;
  };
  const size_t last = Specs().size() - 1;
  const Breach breaches[] = {
      {"future version", u32(8, 9), Code::kMalformed, "newer release (got version 9"},
      {"version 0", u32(8, 0), Code::kMalformed, "version 0"},
      {"big-endian", u32(12, 0x04030201), Code::kMalformed, "big-endian"},
      {"byte order", u32(12, 5), Code::kMalformed, "byte-order mark"},
      {"text mode", byte(5, '\n'), Code::kMalformed, "binary mode"},
      {"file size above", u64(16, good.size() + 1), Code::kMalformed, "truncated"},
      {"file size huge", u64(16, ~0ull), Code::kMalformed, "truncated"},
      {"file size below", u64(16, good.size() - 1), Code::kMalformed, "1 bytes after"},
      {"table offset", u64(24, 128), Code::kMalformed, "wrong place"},
      {"table huge", u64(32, ~0ull), Code::kMalformed, "too large"},
      {"table beyond the file", u64(32, good.size()), Code::kMalformed, "remain"},
      {"reserved", u64(48, 1), Code::kMalformed, "reserved"},
      {"tensor count 2^32-1", u32(64, ~0u), Code::kMalformed, "too many tensors"},
      {"tensor count 60000", u32(64, 60000), Code::kMalformed, "a count of 60000"},
      {"blob count", u32(68, 1000), Code::kMalformed, "too many blobs"},
      {"metadata 2^63", u64(72, 1ull << 63), Code::kMalformed, "metadata are too long"},
      {"strings length", u64(80, 3), Code::kMalformed, "strings do not fill"},
      {"metadata not JSON", byte(96, '['), Code::kMalformed, "JSON"},
      {"name of no bytes", u32(record(0), 0), Code::kMalformed, "empty"},
      {"name of 2^32-1 bytes", u32(record(0), ~0u), Code::kMalformed, "too early"},
      {"type 10", byte(record(0) + 8, 10), Code::kMalformed, "element type"},
      {"layout 2", byte(record(0) + 9, 2), Code::kMalformed, "layout is not known"},
      {"rank 7", byte(record(0) + 10, 7), Code::kMalformed, "rank is too high"},
      {"record reserved", byte(record(0) + 11, 1), Code::kMalformed, "reserved"},
      {"dimension 2^63", u64(record(0) + 16, 1ull << 63), Code::kMalformed, "dimension is too large"},
      {"dimension beyond rank", u64(record(0) + 56, 1), Code::kMalformed, "beyond its rank"},
      {"shape overflows", u64(record(0) + 16, 1ull << 61), Code::kMalformed, "overflows"},
      {"shape and bytes differ", u64(record(0) + 16, 9), Code::kMalformed, "does not follow from type and shape"},
      {"offset past the end", u64(record(last) + 64, good.size()), Code::kMalformed, "outside the file"},
      {"offset 2^64-64", u64(record(last) + 64, ~0ull - 63), Code::kMalformed, "outside the file"},
      {"overlap", u64(record(last) + 64, at_offset(last - 1)), Code::kMalformed, "overlaps tensor"},
      {"unaligned", u64(record(1) + 64, at_offset(1) + 1), Code::kMalformed, "not aligned"},
      {"hole", u64(record(1) + 64, at_offset(1) + 64), Code::kMalformed, "does not follow"},
  };
  for (const Breach& b : breaches) {
    std::string bad = good;
    b.change(bad);
    Reseal(&bad);
    Status s = OpenBytes(bad);
    CAPTURE(b.what);
    CHECK(s.code() == b.code);
    CHECK_MESSAGE(s.message().find(b.message) != std::string::npos, s.message());
  }
}

TEST_CASE("a duplicate name is found among many") {
  ScratchFolder folder;
  std::vector<TensorSpec> specs;
  for (int i = 0; i < 60000; ++i)
    specs.push_back({Str("layer.with.a.long.common.prefix.", 100000 + i), "", DType::f32, Layout::kRows, {0}});
  auto writer = ModelFileWriter::Create(folder / "m", Metadata(), specs, {});
  REQUIRE(writer.ok());
  REQUIRE(writer->Finish().ok());
  std::string file = Slurp(folder / "m");
  CHECK(OpenBytes(file).ok());
  size_t at = file.find("prefix.100007");
  REQUIRE(at != std::string::npos);
  file[at + 12] = '8';
  Reseal(&file);
  CHECK(OpenBytes(file).message().find("two tensors are named 'layer.with.a.long.common.prefix.100008'") !=
        std::string::npos);
}

TEST_CASE("a wrong file is named by its kind") {
  auto message = [](std::string_view bytes) { return OpenBytes(bytes).message(); };
  CHECK(message("").find("empty") != std::string::npos);
  CHECK(message(std::string("\x89PNG\r\n\x1a\n", 8) + std::string(100, 'x')).find("PNG picture") != std::string::npos);
  CHECK(message("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").find("git lfs pull") !=
        std::string::npos);
  CHECK(message("<!DOCTYPE html><html>").find("HTML page") != std::string::npos);
  CHECK(message(std::string("\x7f"
                            "ELF") +
                std::string(100, '\1'))
            .find("ELF program") != std::string::npos);
  CHECK(message("GGUF\3").find("GGUF model") != std::string::npos);
  CHECK(message(std::string("PK\3\4") + std::string(100, 'x')).find("zip archive") != std::string::npos);
  CHECK(message(std::string("\x40\0\0\0\0\0\0\0{", 9)).find("safetensors") != std::string::npos);
  CHECK(message("short").find("too short for a header (got 5 bytes") != std::string::npos);
  for (size_t n = 1; n < 64; ++n) CHECK(message(std::string(n, '\1')).find("too short") != std::string::npos);
}

TEST_CASE("a file of version 1 loads, whatever version we write") {
  auto opened = ModelFile::Open(TERN_SOURCE_DIR "/tests/fixtures/container-v1.tern", {.verify = true});
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  const ModelFile& file = **opened;
  CHECK(file.version() == 1);
  CHECK(file.architecture() == "fixture");
  CHECK(file.config().at("answer") == 42);
  CHECK(file.config().at("list")[3] == "\u00e9");
  CHECK(file.metadata().at("unknown").at("kept") == true);
  for (const char* name : {"panel.f32", "panel.f16", "panel.bf16", "wi.0", "wo.1"}) {
    const TensorRecord* t = file.Find(name);
    REQUIRE(t != nullptr);
    for (int64_t n = 0; n < t->shape[0]; ++n)
      for (int64_t k = 0; k < t->shape[1]; ++k) CHECK(Stored(file, *t, n, k) == static_cast<float>(n * 8 + k));
  }
  for (const char* name : {"rows.f32", "rows.f16", "rows.bf16"}) {
    CHECK(Stored(file, *file.Find(name), 1, 0) == -2);
    CHECK(Stored(file, *file.Find(name), 2, 0) == 3);
  }
  CHECK(static_cast<const int64_t*>(file.data(*file.Find("rows.i64")))[1] == -2);
  CHECK(static_cast<const double*>(file.data(*file.Find("rows.f64")))[2] == 3.0);
  CHECK(static_cast<const float*>(file.data(*file.Find("large")))[16384] == 16384.0f);
  CHECK(*static_cast<const float*>(file.data(*file.Find("scalar"))) == 2.5f);
  CHECK(file.Find("none")->bytes == 0);
  CHECK(file.Find("six")->shape == Shape{1, 2, 1, 2, 1, 1});
  CHECK(file.Group("expert.1").offset == file.Find("wi.1")->offset);
  CHECK(file.Blob("notes")->size() == 5);
}

}  // namespace
}  // namespace tern
