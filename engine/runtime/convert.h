// Convert: a foreign checkpoint (or a `.tern` file) into a `.tern` file, streaming, without Python and without
// executing anything from the source.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/base/cancel.h"
#include "engine/base/log.h"
#include "engine/base/status.h"
#include "engine/runtime/convert_plan.h"
#include "formats/model_file.h"

namespace tern {

struct ConvertOptions {
  std::string source;  // folder, weight file, index.json or .tern
  std::string output;  // may be the source itself; replaced in one step at the end
  // Of matrices and tables: "f32", "bf16", "f16", "q8" (eight bits; README.md says what keeps more); empty: as the
  // source has them (f32 if they differ).
  std::string type;
  std::vector<std::string> allow_extra;  // globs of foreign tensors to leave out
  std::string tokenizer;                 // folder or file; empty: what stands beside the weights; "none": leave it out
  std::string license;                   // SPDX name; empty: unknown, or as in the .tern source
  LogSink log;                           // notes: no tokenizer, tensors left out, NaN in the source
};

struct ConvertReport {
  std::string architecture, container, type, tokenizer;  // tokenizer: its kind, empty if there is none
  int64_t tensors = 0, parameters = 0;
  uint64_t file_bytes = 0;
  uint64_t digest = 0;                   // ModelFile::digest()
  struct Error {
    std::string tensor;
    double relative;                     // |W - W'| / |W|
  };
  std::vector<Error> errors;             // of what became eight bits, the worst first
  std::vector<std::string> unused;       // foreign tensors left out
  std::vector<std::string> non_finite;   // tensors of ours that hold NaN or infinity
  std::vector<ConvertProblem> problems;  // with kIncomplete: all that is missing, misshapen, extra
};

// Peak memory is below twice the largest tensor + 64 MiB. An encoder becomes q8 in two steps, the first a file in f32
// beside the output, over which the network runs once. The output is verified before it takes its name; on any
// failure what was there stays. Errors: kUsage (unknown type, a lossy type to a wider one), kIo, kMalformed (source,
// config, unknown architecture: the known ones are listed), kDigest (a damaged .tern source), kIncomplete
// (report->problems), kNumeric (beyond the range of f16), kCancelled. `report` may be null.
Status Convert(const ConvertOptions& options, const CancelToken* cancel, const ProgressFn& progress,
               ConvertReport* report);

// How a weight is kept: vectors as rows of f32; all else in `type` (i8: or more where eight bits do not do), in panels if it is multiplied, in rows if it is
// only looked up. Experts [E, out, in] become E matrices "NAME.e" in the group "SCOPE.e", SCOPE being NAME without its
// last part: what one expert needs is one range of the file.
std::vector<TensorSpec> StoredAs(const WeightSpec& weight, DType type);

}  // namespace tern
