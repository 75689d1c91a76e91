// WeightSource: what a conversion reads from, a foreign checkpoint or a `.tern` file of ours, behind one face.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/base/json.h"
#include "engine/base/shape.h"
#include "engine/base/status.h"

namespace tern {

struct SourceTensor {
  std::string name;
  DType type = DType::f32;
  Shape shape;
  bool q8 = false;  // eight-bit weights of ours, not integers
  bool attribute = false;  // of a pickled module: no parameter, taken only where a rule names it
};

// Immutable after Open; safe to share between threads.
class WeightSource {
 public:
  // A folder, a weight file, an index.json or a `.tern` file. Errors: those of Checkpoint::Open and ModelFile::Open.
  static Result<std::unique_ptr<WeightSource>> Open(const std::string& path);
  virtual ~WeightSource() = default;

  // A foreign config (config.json, or the attributes of a pickled module), or our canonical one with its
  // "architecture".
  virtual const Json& config() const = 0;
  virtual std::string container() const = 0;  // "safetensors", "torch zip", "tern", ...
  virtual const std::vector<SourceTensor>& tensors() const = 0;
  // Metadata and blobs of a `.tern` file, or null.
  virtual const class ModelFile* model_file() const { return nullptr; }
  virtual std::string folder() const = 0;  // where a tokenizer may stand beside the weights; empty: nowhere

  // Rows [first, first + rows) of the first dimension as f32, row-major; a scalar is one row. REQUIRES: a tensor of
  // this source, a range within.
  virtual Status ReadF32(const SourceTensor& tensor, int64_t first, int64_t rows, float* out) const = 0;
  // Gives the pages that were read back to the system: the process stays small however large the source.
  virtual void ReleasePages() const = 0;
  // kIo if a file was changed in place since Open.
  virtual Status CheckUnchanged() const = 0;
};

}  // namespace tern
