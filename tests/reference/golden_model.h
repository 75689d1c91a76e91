// Checkpoints as open models, for tests of what runs them.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/runtime/convert.h"
#include "engine/runtime/model.h"
#include "tests/reference/scratch.h"

namespace tern {

// The checkpoint of a folder, converted to a file of the scratch folder: NAME.tern for NAME or NAME/model.
inline std::shared_ptr<const Model> ModelOf(const ScratchFolder& scratch, const std::string& folder, const ModelOptions& options = {}, const std::string& type = {},
                                            std::vector<std::string> allow_extra = {}) {
  const std::filesystem::path path(folder);
  ConvertOptions convert;
  convert.source = folder, convert.type = type, convert.allow_extra = std::move(allow_extra);
  convert.output = scratch / ((path.filename() == "model" ? path.parent_path() : path).filename().string() + ".tern");
  Status converted = Convert(convert, nullptr, {}, nullptr);
  REQUIRE_MESSAGE(converted.ok(), converted.message());
  auto model = Model::Open(convert.output, options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return *model;
}

// A golden case, named as "reformer/lm_cached_padded".
inline std::string GoldenFolder(const std::string& name) { return std::string(TERN_SOURCE_DIR) + "/tests/golden/" + name + "/model"; }
inline std::shared_ptr<const Model> GoldenModel(const ScratchFolder& scratch, const std::string& name, const ModelOptions& options = {}, const std::string& type = {}) {
  return ModelOf(scratch, GoldenFolder(name), options, type);
}

}  // namespace tern
