// Opens a Checkpoint: finds the weight files, tells their containers by content, joins shards.
#pragma once

#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "formats/checkpoint.h"

namespace tern {

class CheckpointBuilder {
 public:
  static Result<std::unique_ptr<Checkpoint>> Open(const std::string& path);
  static Result<std::unique_ptr<Checkpoint>> OpenBytes(std::span<const uint8_t> bytes);

 private:
  CheckpointBuilder() : out_(new Checkpoint()) {}
  Status OpenFolder(const std::string& folder);
  Status OpenFile(const std::string& path);
  Status OpenIndex(const std::string& path, std::string_view text);
  Status OpenConfig();
  // The tensors of one container. A name that is there already is added to *repeated.
  Status AddContainer(std::span<const uint8_t> bytes, std::vector<std::string>* repeated);
  void AddTensor(std::string name, const StridedView& view, bool attribute, std::vector<std::string>* repeated);

  std::unique_ptr<Checkpoint> out_;
};

}  // namespace tern
