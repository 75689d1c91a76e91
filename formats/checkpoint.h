// Checkpoint: a foreign model as its users have it, opened without executing anything.
//
// Reads a Hugging Face folder, one weight file, or the index of a sharded one. The container is told by content, never
// by extension: safetensors, torch.save since 1.6 (zip) and before (legacy), each also sharded behind an index.json,
// state dicts and pickled modules alike. Files are mapped; a tensor is converted piece by piece, so that memory does
// not grow with the checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/shape.h"
#include "engine/base/status.h"
#include "formats/strided_view.h"

namespace tern {

// What a tensor looks like from outside.
struct CheckpointTensor {
  DType type = DType::f32;
  Shape shape;  // [] is a scalar; zero dimensions are allowed
};

// Immutable after Open: every member may be called from many threads at once.
class Checkpoint {
 public:
  // path: a folder, a weight file, or an index.json. Errors: kIo (cannot read), kMalformed (damaged, or a kind that is
  // not read; the message names the kind), kIncomplete (shards or tensors that the index names are missing: all of them
  // are listed).
  static Result<std::unique_ptr<Checkpoint>> Open(const std::string& path);
  // One weight file in memory (safetensors, torch zip or torch legacy); `bytes` must outlive the checkpoint.
  static Result<std::unique_ptr<Checkpoint>> OpenBytes(std::span<const uint8_t> bytes);

  // Where in a folder weights are looked for, in this order, before any other single weight file: what transformers,
  // the original Transformer-XL trainer and Megatron write.
  static const std::vector<std::string>& WeightNames();

  // The folder's config.json (also that beside a single weight file), or null.
  const Json& config() const { return config_; }
  const std::string& path() const { return path_; }      // as given to Open
  const std::string& folder() const { return folder_; }  // where its side files (config, vocabularies) stand
  // "safetensors", "torch zip" or "torch legacy".
  std::string_view container() const { return container_; }

  // Parameters and buffers in file order, named as in the state dict. An outer {'state_dict': ...} is taken off.
  const std::vector<std::string>& names() const { return names_; }
  // Tensors of a pickled module that are plain attributes (tables, caches): "layers.0.attn.table", list items
  // "....table.3". Not part of names().
  const std::vector<std::string>& attribute_names() const { return attribute_names_; }
  // nullptr if there is no tensor of that name, in either list.
  const CheckpointTensor* Find(std::string_view name) const;
  bool Has(std::string_view name) const { return Find(name) != nullptr; }

  // Rows [first_row, first_row + rows) of the first dimension (a scalar is one row), dense and row-major, converted to
  // the type asked for. ReadF32 takes every type; f64 and large integers are rounded to nearest. ReadI64 takes integers
  // and bool (as 0 or 1). ReadBytes keeps the stored type (little-endian). Errors: kUsage for an unknown name, a range
  // outside or a type that cannot be given.
  Status ReadF32(std::string_view name, int64_t first_row, int64_t rows, float* out) const;
  Status ReadI64(std::string_view name, int64_t first_row, int64_t rows, int64_t* out) const;
  Status ReadBytes(std::string_view name, int64_t first_row, int64_t rows, void* out) const;
  // The stored bytes themselves where the tensor lies dense in the file, else an empty span (also for a tensor without
  // elements). Unaligned.
  std::span<const uint8_t> Mapped(std::string_view name) const;

  // What else a pickle holds, by module path: {"n_layer": 4, "layers": {"0": {"pre_lnorm": false, "_class":
  // "torch.nn..."}}}. Numbers, booleans, strings and lists of them only. An empty object for safetensors.
  const Json& attributes() const { return attributes_; }
  // The other names that are the same view of the same storage (tied weights), in file order.
  std::vector<std::string> SharedWith(std::string_view name) const;
  // kIo if a file was changed in place since Open.
  Status CheckUnchanged() const;
  // Gives the pages that were read back to the system; they are read again when needed.
  void ReleasePages() const;

 private:
  friend class CheckpointBuilder;
  Checkpoint() = default;
  struct Entry {
    CheckpointTensor outside;
    StridedView view;
  };
  Result<const Entry*> Rows(std::string_view name, int64_t first_row, int64_t rows) const;

  std::string path_, folder_;
  std::string_view container_;
  Json config_, attributes_ = Json::object();
  std::vector<std::string> names_, attribute_names_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::multimap<const uint8_t*, std::string> by_address_;  // of the first element, in file order for each
  std::vector<std::shared_ptr<const MappedFile>> files_;
};

}  // namespace tern
