// Golden cases: recorded inputs and outputs of the public implementations (tests/golden/README.md).
#pragma once

#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "formats/safetensors.h"

namespace tern {

struct GoldenCase {
  std::string name, folder;  // "transformer-xl/clamp"
  Json meta;                 // case.json
  Safetensors inputs, outputs;

  double Tolerance(const std::string& output) const;
  std::vector<int64_t> Chunks() const;
  // What "args" say of --generate and --beams; left as it is without.
  void Generation(int64_t* new_tokens, std::vector<int64_t>* beams) const;
};

// All cases below tests/golden/<family>, by name.
Result<std::vector<GoldenCase>> LoadGoldenCases(const std::string& source_folder, const std::string& family);

// Where the case has a mask, positions outside of it do not count.
// "" if `got` [shape as recorded] is within the case's tolerance of the recorded output; else what differs and where.
std::string CompareGolden(const GoldenCase& golden, const std::string& output, const ConstTensor& got);

}  // namespace tern
