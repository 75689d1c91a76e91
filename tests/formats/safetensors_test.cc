#include "formats/safetensors.h"

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "formats/strided_view.h"
#include "tests/reference/scratch.h"

namespace tern {
namespace {

std::string File(const std::string& header, size_t data_bytes) {
  uint64_t n = header.size();
  std::string out(reinterpret_cast<const char*>(&n), 8);
  return out + header + std::string(data_bytes, '\1');
}
std::span<const uint8_t> Bytes(const std::string& s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}

std::string ErrorOf(const std::string& file) {
  auto parsed = Safetensors::Parse(Bytes(file));
  if (parsed.ok()) return "";
  CHECK(parsed.status().code() == Code::kMalformed);
  return parsed.status().message();
}
void CheckError(const std::string& header, size_t data_bytes, const std::string& fragment) {
  std::string message = ErrorOf(File(header, data_bytes));
  CAPTURE(header);
  CAPTURE(message);
  CHECK(message.find(fragment) != std::string::npos);
}

TEST_CASE("safetensors: what is written is read back") {
  ScratchFolder scratch;
  const std::string path = scratch / "a.safetensors";
  std::vector<float> w{1, -2, 3.5f, 4, 5, 6};
  std::vector<int64_t> ids{7, -8};
  uint8_t mask = 1;
  std::vector<Safetensors::Item> items{{"ids", {ids.data(), DType::i64, Shape{2}}},
                                       {"w", {w.data(), DType::f32, Shape{2, 3}}},
                                       {"scalar", {&mask, DType::boolean, Shape{}}},
                                       {"none", {nullptr, DType::f16, Shape{0, 4}}}};
  REQUIRE(WriteSafetensors(path, items, {{"format", "pt"}}).ok());
  auto read = Safetensors::Open(path);
  REQUIRE(read.ok());
  CHECK(read->items().size() == 4);
  CHECK(read->metadata().at("format") == "pt");
  for (const auto& item : items) {
    const ConstTensor* t = read->Find(item.name);
    REQUIRE(t != nullptr);
    CHECK(t->type == item.tensor.type);
    CHECK(t->shape == item.tensor.shape);
    if (t->bytes()) CHECK(std::memcmp(t->data, item.tensor.data, t->bytes()) == 0);
  }
  CHECK(read->Find("W") == nullptr);
  auto raw = ReadFile(path, 1 << 20);
  REQUIRE(raw.ok());
  uint64_t header_bytes;
  std::memcpy(&header_bytes, raw->data(), 8);
  CHECK(header_bytes % 8 == 0);
}

TEST_CASE("safetensors: an unaligned tensor is aligned by Open") {
  ScratchFolder scratch;
  uint8_t byte = 3;
  double value = 0.125;
  REQUIRE(WriteSafetensors(scratch / "u", {{"b", {&byte, DType::u8, Shape{1}}}, {"d", {&value, DType::f64, Shape{1}}}})
              .ok());
  auto read = Safetensors::Open(scratch / "u");
  REQUIRE(read.ok());
  const ConstTensor* d = read->Find("d");
  CHECK(reinterpret_cast<uintptr_t>(d->data) % 8 == 0);
  CHECK(*d->as<double>() == 0.125);
}

TEST_CASE("safetensors: the writer refuses names it could not read back") {
  ScratchFolder scratch;
  float f = 1;
  ConstTensor t{&f, DType::f32, Shape{1}};
  CHECK(WriteSafetensors(scratch / "x", {{"a", t}, {"a", t}}).code() == Code::kUsage);
  CHECK(WriteSafetensors(scratch / "x", {{"a\nb", t}}).code() == Code::kUsage);
  CHECK(WriteSafetensors(scratch / "x", {{"__metadata__", t}}).code() == Code::kUsage);
  CHECK_FALSE(FileExists(scratch / "x"));
}

TEST_CASE("safetensors: every layout rule has its own message") {
  const std::string w = R"("w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  CHECK(ErrorOf(File("{" + w + "}", 8)).empty());
  CHECK(ErrorOf(File("{" + w + "}    ", 8)).empty());  // padding
  CHECK(ErrorOf(File("{}", 0)).empty());
  CHECK(ErrorOf("").find("empty") != std::string::npos);
  CHECK(ErrorOf("1234567").find("too short") != std::string::npos);
  CHECK(ErrorOf(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)).find("header says 18446744073709551615") !=
        std::string::npos);
  CHECK(ErrorOf(File("{" + w + "}", 8).substr(0, 30)).find("remain") != std::string::npos);
  CheckError(" {" + w + "}", 8, "does not begin with '{'");
  CheckError("[]", 0, "does not begin with '{'");
  CheckError("{" + w + "," + w + "}", 8, "stands twice");
  CheckError("{" + w + "}", 9, "1 bytes lie behind the last tensor");
  CheckError("{" + w + "}", 7, "outside of the data");
  CheckError("{" + w + R"(,"v":{"dtype":"U8","shape":[1],"data_offsets":[7,8]}})", 8, "overlap those of tensor 'w'");
  CheckError("{" + w + R"(,"v":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}})", 10, "a hole of 1 bytes");
  CheckError(R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "do not fit type and shape");
  CheckError(R"({"w":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}})", 8, "unsupported dtype 'F8_E4M3'");
  CheckError(R"({"w":{"dtype":1,"shape":[8],"data_offsets":[0,8]}})", 8, "dtype must be a string");
  CheckError(R"({"w":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8, "shape must be a list");
  CheckError(R"({"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, "whole number");
  CheckError(R"({"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "negative");
  CheckError(R"({"w":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}})", 8, "too large");
  CheckError(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8, "overflows");
  CheckError(R"({"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}})", 8, "overflows");
  CheckError(R"({"w":{"dtype":"F32","shape":[1,1,1,1,1,1,2],"data_offsets":[0,8]}})", 8, "too many dimensions");
  CheckError(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", 8, "list of two");
  CheckError(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "outside of the data");
  CheckError(R"({"w":{"dtype":"F32","shape":[2]}})", 8, "lacks");
  CheckError(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", 8, "does not belong");
  CheckError(R"({"w":7})", 8, "must be an object");
  CheckError(R"({"a\u0000b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "control characters");
  CheckError(R"({"a\u202eb":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "control characters");
  CheckError(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "empty name");
  CheckError(R"({"__metadata__":{"a":1}})", 0, "must be a string");
  CheckError("{\"" + std::string(600, 'n') + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "too long");
  std::string deep = R"({"w":)" + std::string(100, '[');
  CheckError(deep, 0, "nesting deeper than 8");
}

TEST_CASE("strided view: rows of windows and transposed matrices, in every type") {
  std::vector<float> storage(40);
  for (int i = 0; i < 40; ++i) storage[i] = static_cast<float>(i);
  std::span<const uint8_t> bytes{reinterpret_cast<const uint8_t*>(storage.data()), 160};
  StridedView column_major{DType::f32, Shape{3, 4}, {1, 3}, 2, bytes};
  REQUIRE(column_major.Check().ok());
  CHECK_FALSE(column_major.dense());
  std::vector<float> out(12, -1);
  column_major.ReadF32(0, 3, out.data());
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 4; ++c) CHECK(out[r * 4 + c] == 2 + r + 3 * c);
  column_major.ReadF32(2, 1, out.data());
  CHECK(out[1] == 2 + 2 + 3);
  StridedView window{DType::f32, Shape{2, 2, 3}, {20, 6, 2}, 1, bytes};
  REQUIRE(window.Check().ok());
  window.ReadF32(1, 1, out.data());
  CHECK(out[5] == 1 + 20 + 6 + 4);

  auto reaches = StridedView{DType::f32, Shape{3, 4}, {1, 13}, 0, bytes}.Check();
  CHECK(reaches.message().find("behind its storage") != std::string::npos);
  CHECK_FALSE(StridedView{DType::f32, Shape{2}, {-1}, 5, bytes}.Check().ok());
  CHECK_FALSE(StridedView{DType::f32, Shape{2}, {INT64_MAX}, 5, bytes}.Check().ok());
  CHECK_FALSE(StridedView{DType::f32, Shape{INT64_MAX, 2}, {0, 0}, 0, bytes}.Check().ok());
  CHECK_FALSE(StridedView{DType::f32, Shape{int64_t{1} << 40}, {0}, 0, bytes}
                  .Check()
                  .ok());  // one number pretending to be a tensor
  CHECK_FALSE(StridedView{DType::f32, Shape{}, {}, 40, bytes}.Check().ok());
  CHECK(StridedView{DType::f32, Shape{0, 7}, {99, 99}, 99, bytes}.Check().ok());

  // Unaligned data of every type.
  std::vector<uint8_t> raw{9};
  auto add = [&raw](auto value) {
    raw.resize(raw.size() + sizeof(value));
    std::memcpy(raw.data() + raw.size() - sizeof(value), &value, sizeof(value));
  };
  auto read = [&raw](DType type) {
    float f = -99;
    StridedView::Dense(type, Shape{}, std::span<const uint8_t>(raw).subspan(1)).ReadF32(0, 1, &f);
    return f;
  };
  auto one = [&](auto value, DType type) {
    raw.resize(1);
    add(value);
    return read(type);
  };
  CHECK(one(1.5f, DType::f32) == 1.5f);
  CHECK(one(-0.1, DType::f64) == -0.1f);
  CHECK(one(F32ToF16(0.75f), DType::f16) == 0.75f);
  CHECK(one(F32ToBf16(-3.0f), DType::bf16) == -3.0f);
  CHECK(one(int8_t{-128}, DType::i8) == -128.0f);
  CHECK(one(uint8_t{255}, DType::u8) == 255.0f);
  CHECK(one(int16_t{-300}, DType::i16) == -300.0f);
  CHECK(one(int32_t{-70000}, DType::i32) == -70000.0f);
  CHECK(one(int64_t{1} << 40, DType::i64) == 1099511627776.0f);
  CHECK(one(uint8_t{2}, DType::boolean) == 1.0f);
  int64_t integer = 0;
  raw.resize(1);
  add(int16_t{-5});
  StridedView::Dense(DType::i16, Shape{1}, std::span<const uint8_t>(raw).subspan(1)).ReadI64(0, 1, &integer);
  CHECK(integer == -5);
}

}  // namespace
}  // namespace tern
