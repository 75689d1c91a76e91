// Every container against expected.json, which an independent reader wrote (make_expected.py). TERN_FORMAT_CASES may
// name another folder of the same layout.
#include "formats/checkpoint.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>

#include "formats/safetensors.h"
#include "tests/reference/scratch.h"

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
        if (!c->ReadF32(first, 0, c->Find(first)->shape.rank() ? c->Find(first)->shape[0] : 1, out.data()).ok())
          out.clear();
      });
    for (auto& thread : threads) thread.join();
    for (const auto& out : read) CHECK(out == Values(*c, first, 1));
  }
}

std::string Golden(const std::string& name) {
  return TERN_SOURCE_DIR "/tests/golden/formats/" + name;
}
std::string ErrorOf(const std::string& path, Code code) {
  auto c = Checkpoint::Open(path);
  if (c.ok()) return "";
  CAPTURE(c.status().message());
  CHECK(c.status().code() == code);
  return c.status().message();
}
void CheckError(const std::string& path, Code code, const std::string& fragment) {
  std::string message = ErrorOf(path, code);
  CAPTURE(message);
  CHECK(message.find(fragment) != std::string::npos);
}
void WriteText(const std::string& path, const std::string& text) {
  auto file = FileWriter::Create(path);
  REQUIRE(file.ok());
  REQUIRE(file->Write(text).ok());
  REQUIRE(file->Commit().ok());
}
std::string Contents(const std::string& path) {
  auto text = ReadFile(path, 1 << 24);
  REQUIRE(text.ok());
  return *text;
}

TEST_CASE("checkpoint: the container is told by content, the configuration stands beside") {
  CHECK(Open(Golden("bin_legacy"))->container() == "torch legacy");
  CHECK(Open(Golden("bin_zip_bf16"))->container() == "torch zip");
  CHECK(Open(Golden("safetensors_f16"))->container() == "safetensors");
  CHECK(Open(Golden("safetensors_f16"))->config()["model_type"] == "albert");
  CHECK(Open(Golden("safetensors_f16/model.safetensors"))->config()["model_type"] == "albert");
  CHECK(Open(Golden("tiny_tied_zip"))->config().is_null());
  ScratchFolder scratch;
  WriteText(scratch / "weights.dat", Contents(Golden("tiny_tied_legacy/pytorch_model.bin")));
  CHECK(Open(scratch / "weights.dat")->Has("embed.weight"));
}

TEST_CASE("checkpoint: names come in file order, tied weights are recognised") {
  for (const char* name : {"tiny_tied_zip", "tiny_tied_legacy"}) {
    auto c = Open(Golden(name));
    CHECK(c->names() == std::vector<std::string>{"embed.weight", "blocks.0.kept", "blocks.0.linear.weight",
                                                 "blocks.1.kept", "blocks.1.linear.weight", "head.weight",
                                                 "head.bias"});
    CHECK(c->SharedWith("embed.weight") == std::vector<std::string>{"head.weight"});
    CHECK(c->SharedWith("head.weight") == std::vector<std::string>{"embed.weight"});
    CHECK(c->SharedWith("head.bias").empty());
    CHECK(c->SharedWith("nothing").empty());
  }
}

TEST_CASE("checkpoint: rows, raw bytes and integers; what cannot be given is an error") {
  auto c = Open(Golden("tiny_types_zip"));
  int64_t ids[6];
  for (const char* type : {"int64", "int32", "int16", "int8", "uint8"}) {
    CAPTURE(type);
    REQUIRE(c->ReadI64(type, 0, 2, ids).ok());
    CHECK(ids[2] == 3);
    CHECK(ids[3] == 120);
    REQUIRE(c->ReadI64(type, 1, 1, ids).ok());
    CHECK(ids[0] == 120);
  }
  REQUIRE(c->ReadI64("bool", 0, 2, ids).ok());
  CHECK(ids[1] == 0);
  CHECK(ids[3] == 1);
  float values[6];
  for (const char* type : {"float32", "float64", "float16", "bfloat16", "int8"}) {
    REQUIRE(c->ReadF32(type, 0, 2, values).ok());
    CHECK(values[3] == 120.0f);
  }
  REQUIRE(c->ReadF32("scalar", 0, 1, values).ok());
  CHECK(values[0] == 2.5f);
  CHECK(c->ReadF32("none", 0, 0, values).ok());
  uint16_t halves[6];
  REQUIRE(c->ReadBytes("bfloat16", 0, 2, halves).ok());
  CHECK(Bf16ToF32(halves[4]) == 5.0f);
  CHECK(c->Mapped("float64").size() == 48);
  CHECK(c->Mapped("none").empty());
  CHECK(c->ReadF32("missing", 0, 1, values).code() == Code::kUsage);
  CHECK(c->ReadF32("float32", 1, 2, values).code() == Code::kUsage);
  CHECK(c->ReadF32("float32", -1, 1, values).code() == Code::kUsage);
  CHECK(c->ReadF32("float32", INT64_MAX, INT64_MAX, values).code() == Code::kUsage);
  CHECK(c->ReadI64("float32", 0, 1, ids).code() == Code::kUsage);
}

TEST_CASE("checkpoint: strided views are read whole, and not given as mapped bytes") {
  auto c = Open(Golden("bin_zip_strided_views"));
  int64_t strided = 0;
  for (const std::string& name : c->names()) strided += c->Mapped(name).empty();
  CHECK(strided > 10);
}

TEST_CASE("checkpoint: pickled modules carry their hyper-parameters and attribute tensors") {
  for (const char* name : {"tiny_module_zip", "tiny_module_legacy"}) {
    auto c = Open(Golden(name));
    const Json& a = c->attributes();
    CHECK(a["_class"] == "__main__.Net");
    CHECK(a["d_model"] == 4);
    CHECK(a["options"]["flag"] == true);
    CHECK(a["options"]["rate"] == 0.5);
    CHECK(a["blocks"]["1"]["cutoffs"] == Json::array({20, 40}));
    CHECK(a["blocks"]["0"]["eps"] == 1e-5);
    CHECK(a["blocks"]["0"]["kind"] == "block");
    CHECK(c->Has("blocks.0.kept"));
    CHECK_FALSE(c->Has("blocks.0.absent"));
    const auto& tables = c->attribute_names();
    CHECK(std::set<std::string>(tables.begin(), tables.end()) ==
          std::set<std::string>{"blocks.0.not_saved", "blocks.0.table", "blocks.0.tables.1", "blocks.1.not_saved",
                                "blocks.1.table", "blocks.1.tables.1"});
    CHECK(std::count(c->names().begin(), c->names().end(), "blocks.0.not_saved") == 0);
    CHECK(c->SharedWith("head.weight") == std::vector<std::string>{"embed.weight"});
  }
  auto sort = Open(Golden("sort_module_zip"));
  CHECK(sort->attributes()["_class"] == "mem_transformer.MemTransformerLM");
  CHECK(sort->attributes()["n_layer"] == 1);
  CHECK(sort->attributes()["clamp_len"] == -1);
  CHECK(sort->attributes()["layers"]["0"]["dec_attn"]["long_term_attention"]["tau"] == 0.75);
  CHECK(sort->attributes()["word_emb"]["cutoffs"] == Json::array({22}));
}

TEST_CASE("checkpoint: what surrounds a state dict is taken off and kept as attributes") {
  auto c = Open(Golden("tiny_training_zip"));
  CHECK(c->Has("embed.weight"));
  CHECK_FALSE(c->Has("state_dict.embed.weight"));
  CHECK(c->attributes()["epoch"] == 3);
  CHECK(c->attributes()["args"]["d_model"] == 4);
  CHECK(c->attribute_names().empty());
  auto nested = Open(Golden("tiny_nested_zip"));
  CHECK(nested->names() == std::vector<std::string>{"encoder.w", "encoder.inner.b", "layers.0"});
}

TEST_CASE("checkpoint: shards") {
  ScratchFolder scratch;
  for (int i = 1; i <= 3; ++i) {
    std::string name = Str("model-0000", i, "-of-00003.safetensors");
    WriteText(scratch / name, Contents(Golden("tiny_safetensors_sharded/" + name)));
  }
  const std::string index_path = scratch / "model.safetensors.index.json";
  Json index = ReadJson(Golden("tiny_safetensors_sharded/model.safetensors.index.json"));
  WriteText(index_path, DumpJson(index));
  CHECK(Open(scratch.path())->names().size() == 14);
  CHECK(Open(index_path)->names().size() == 14);

  Json changed = index;
  changed["weight_map"]["extra.one"] = "model-00001-of-00003.safetensors";
  changed["weight_map"]["extra.two"] = "model-00002-of-00003.safetensors";
  WriteText(index_path, DumpJson(changed));
  CheckError(scratch.path(), Code::kIncomplete, "'extra.one', 'extra.two'");
  changed = index;
  changed["weight_map"]["extra.one"] = "model-00004-of-00003.safetensors";
  changed["weight_map"]["extra.two"] = "model-00005-of-00003.safetensors";
  WriteText(index_path, DumpJson(changed));
  CheckError(scratch.path(), Code::kIncomplete,
             "'model-00004-of-00003.safetensors', 'model-00005-of-00003.safetensors'");
  for (const char* name : {"../../etc/passwd", "/etc/passwd", "", ".", "..", "sub/model.safetensors", "model\n.bin"}) {
    changed = index;
    changed["weight_map"]["scalar"] = name;
    WriteText(index_path, DumpJson(changed));
    if (std::string(name) != "model\n.bin")
      CheckError(scratch.path(), Code::kMalformed, "must be a plain file in this folder");
    else
      CheckError(scratch.path(), Code::kIncomplete, "model\\x0a.bin");
  }
  changed = index;
  changed["weight_map"]["scalar"] = 3;
  WriteText(index_path, DumpJson(changed));
  CheckError(scratch.path(), Code::kMalformed, "must be a string");
  WriteText(index_path, "{\"weights\": {}}");
  CheckError(scratch.path(), Code::kMalformed, "no object 'weight_map'");

  WriteText(index_path, DumpJson(index));
  WriteText(scratch / "model-00002-of-00003.safetensors", Contents(scratch / "model-00001-of-00003.safetensors"));
  CheckError(scratch.path(), Code::kIncomplete, "stand in two shards");
  std::filesystem::remove(scratch / "model-00002-of-00003.safetensors");
  std::filesystem::create_symlink("/dev/zero", scratch / "model-00002-of-00003.safetensors");
  CheckError(scratch.path(), Code::kMalformed, "is not a regular file");
}

TEST_CASE("checkpoint: files of other kinds are named") {
  ScratchFolder scratch;
  auto says = [&](const std::string& name, std::string contents, const std::string& fragment) {
    if (contents.size() < 300 && contents.size() > 5) contents.resize(300, ' ');
    WriteText(scratch / name, contents);
    CheckError(scratch / name, Code::kMalformed, fragment);
  };
  says("a.bin", "", "the file is empty");
  says("b.safetensors", "1234", "too short");
  says("c.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer");
  says("d.bin", "<!DOCTYPE html><html>", "HTML page");
  says("e.bin", "GGUF\3", "GGUF");
  says("f.bin", "\x89PNG\r\n\x1a\n", "PNG");
  says("g.bin",
       "\x7f"
       "ELF\2\1\1",
       "ELF");
  says("h.bin", "\x80\x02}q\x01.", "plain Python pickle");
  says("i.bin", std::string(257, 'x') + "ustar" + std::string(300, '\0'), "tar");
  says("j.json", "{\"a\": 1}", "no object 'weight_map'");
  CheckError(scratch / "none.bin", Code::kIo, "cannot open");
  ScratchFolder empty;
  CheckError(empty.path(), Code::kMalformed, "holds no weights");
  WriteText(empty / "tf_model.h5", "x");
  CheckError(empty.path(), Code::kMalformed, "weights of other kinds: 'tf_model.h5'");
  WriteText(empty / "a.pt", "x");
  WriteText(empty / "b.pt", "x");
  CheckError(empty.path(), Code::kMalformed, "several weight files: 'a.pt', 'b.pt'");
  WriteText(empty / "config.json", "[1]");
  WriteText(empty / "pytorch_model.bin", Contents(Golden("tiny_tied_zip/pytorch_model.bin")));
  CheckError(empty.path(), Code::kMalformed, "configuration must be an object");
}

TEST_CASE("checkpoint: truncated anywhere, every container is refused") {
  for (const char* name : {"tiny_types_zip/pytorch_model.bin", "tiny_types_legacy/pytorch_model.bin",
                           "tiny_types_safetensors/model.safetensors"}) {
    const std::string whole = Contents(Golden(name));
    auto open = [&whole](size_t n) {
      return Checkpoint::OpenBytes({reinterpret_cast<const uint8_t*>(whole.data()), n});
    };
    REQUIRE(open(whole.size()).ok());
    for (size_t n = 0; n < whole.size(); n += 1 + (n > 600) * 6) {
      auto cut = open(n);
      CAPTURE(n);
      REQUIRE_FALSE(cut.ok());
      CHECK(cut.status().code() == Code::kMalformed);
    }
  }
}

}  // namespace
}  // namespace tern
