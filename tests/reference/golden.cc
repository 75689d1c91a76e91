#include "tests/reference/golden.h"

#include <dirent.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "engine/base/dtype.h"
#include "engine/base/file.h"

namespace tern {
namespace {

double At(const ConstTensor& t, int64_t i) {
  switch (t.type) {
    case DType::f32: return t.as<float>()[i];
    case DType::f64: return t.as<double>()[i];
    case DType::f16: return F16ToF32(t.as<uint16_t>()[i]);
    case DType::bf16: return Bf16ToF32(t.as<uint16_t>()[i]);
    case DType::i64: return static_cast<double>(t.as<int64_t>()[i]);
    case DType::i32: return t.as<int32_t>()[i];
    case DType::i16: return t.as<int16_t>()[i];
    case DType::i8: return t.as<int8_t>()[i];
    case DType::u8:
    case DType::boolean: return t.as<uint8_t>()[i];
  }
  return 0;
}

}  // namespace

double GoldenCase::Tolerance(const std::string& output) const {
  const Json& t = meta["tolerance"];
  if (t.is_number()) return t.get<double>();
  return (t.contains(output) ? t[output] : t["*"]).get<double>();
}

void GoldenCase::Generation(int64_t* new_tokens, std::vector<int64_t>* beams) const {
  if (!meta.contains("args")) return;
  const auto args = meta["args"].get<std::vector<std::string>>();
  for (size_t i = 0; i + 1 < args.size(); ++i) {
    if (args[i] == "--generate") *new_tokens = std::stoll(args[i + 1]);
    if (args[i] != "--beams") continue;
    std::stringstream list(args[i + 1]);
    for (std::string k; std::getline(list, k, ',');) beams->push_back(std::stoll(k));
  }
}

std::vector<int64_t> GoldenCase::Chunks() const { return meta.contains("chunks") ? meta["chunks"].get<std::vector<int64_t>>() : std::vector<int64_t>(); }

Result<std::vector<GoldenCase>> LoadGoldenCases(const std::string& source_folder, const std::string& family) {
  const std::string root = source_folder + "/tests/golden/" + family;
  std::vector<std::string> names;
  if (DIR* dir = ::opendir(root.c_str())) {
    while (struct dirent* e = ::readdir(dir))
      if (e->d_name[0] != '.' && IsRegularFile(root + "/" + e->d_name + "/case.json")) names.push_back(e->d_name);
    ::closedir(dir);
  }
  std::sort(names.begin(), names.end());
  std::vector<GoldenCase> cases;
  for (const std::string& name : names) {
    GoldenCase c;
    c.name = family + "/" + name;
    c.folder = root + "/" + name;
    TERN_ASSIGN(std::string text, ReadFile(c.folder + "/case.json", 1 << 20));
    TERN_ASSIGN(c.meta, ParseJson(text));
    TERN_ASSIGN(c.inputs, Safetensors::Open(c.folder + "/inputs.safetensors"));
    TERN_ASSIGN(c.outputs, Safetensors::Open(c.folder + "/outputs.safetensors"));
    cases.push_back(std::move(c));
  }
  if (cases.empty()) return IoError("no golden cases").File(root);
  return cases;
}

std::string CompareGolden(const GoldenCase& golden, const std::string& output, const ConstTensor& whole) {
  ConstTensor got = whole;
  // "compare_last": only the last positions (axis 1) of a batch of one were recorded.
  if (golden.meta.contains("compare_last") && got.shape.rank() == 3 && got.shape[0] == 1) {
    const int64_t last = golden.meta["compare_last"].get<int64_t>();
    if (got.shape[1] > last) {
      got.data = static_cast<const uint8_t*>(got.data) + (got.shape[1] - last) * got.shape[2] * DTypeBytes(got.type);
      got.shape[1] = last;
    }
  }
  const ConstTensor* want = golden.outputs.Find(output);
  if (!want) return Str("nothing was recorded for ", output);
  if (!(got.shape == want->shape)) return Str(output, ": shape ", got.shape, ", expected ", want->shape);
  // "mask": an input whose shape (or its leading axes merged into one) is that of the output's leading axes.
  // An object names the outputs that it holds for.
  const Json rule = golden.meta.value("mask", Json());
  const Json named = rule.is_object() ? rule.value(output, Json()) : rule;
  const ConstTensor* mask = named.is_string() ? golden.inputs.Find(named.get<std::string>()) : nullptr;
  int64_t per_place = 0;  // numbers of the output behind one number of the mask; 0: no mask
  if (mask) {
    const int64_t places = mask->shape.elements();
    auto starts_with = [&](const Shape& m) {
      if (want->shape.rank() < m.rank()) return false;
      for (int i = 0; i < m.rank(); ++i)
        if (want->shape[i] != m[i]) return false;
      return true;
    };
    if (places > 0 && (starts_with(mask->shape) || starts_with({places / mask->shape[-1], mask->shape[-1]}))) per_place = want->shape.elements() / places;
  }
  auto counts = [&](int64_t i) { return per_place == 0 || At(*mask, i / per_place) != 0; };
  double scale = 1, worst = 0;
  int64_t where = 0;
  if (!golden.meta.contains("tolerance_rule"))
    for (int64_t i = 0; i < want->shape.elements(); ++i)
      if (counts(i) && std::isfinite(At(*want, i))) scale = std::max(scale, std::abs(At(*want, i)));
  for (int64_t i = 0; i < want->shape.elements(); ++i) {
    if (!counts(i)) continue;
    const double a = At(got, i), b = At(*want, i);
    double d = a == b ? 0 : std::abs(a - b);
    if (std::isnan(d)) d = HUGE_VAL;
    if (d > worst) worst = d, where = i;
  }
  const double allowed = golden.Tolerance(output) * scale;
  return worst <= allowed ? "" : Str(output, ": max |a-b| ", worst, ", allowed ", allowed, " at element ", where, ": got ", At(got, where), ", expected ", At(*want, where));
}

}  // namespace tern
