#include "formats/checkpoint.h"

#include <algorithm>

#include "formats/checkpoint_builder.h"

namespace tern {

Result<const Checkpoint::Entry*> Checkpoint::Rows(std::string_view name, int64_t first_row, int64_t rows) const {
  auto it = entries_.find(name);
  if (it == entries_.end()) return UsageError(Str("no tensor '", name, "'")).File(path_);
  const int64_t have = it->second.view.rows();
  if (first_row < 0 || rows < 0 || first_row > have || rows > have - first_row)
    return UsageError("rows outside of the tensor")
        .File(path_)
        .Where(Str("tensor '", name, "'"))
        .Got(Str(first_row, " + ", rows), Str("within ", have));
  return &it->second;
}

const CheckpointTensor* Checkpoint::Find(std::string_view name) const {
  auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second.outside;
}

Status Checkpoint::ReadF32(std::string_view name, int64_t first_row, int64_t rows, float* out) const {
  TERN_ASSIGN(const Entry* entry, Rows(name, first_row, rows));
  entry->view.ReadF32(first_row, rows, out);
  return {};
}

Status Checkpoint::ReadI64(std::string_view name, int64_t first_row, int64_t rows, int64_t* out) const {
  TERN_ASSIGN(const Entry* entry, Rows(name, first_row, rows));
  if (IsFloat(entry->view.type))
    return UsageError("not a tensor of integers")
        .File(path_)
        .Where(Str("tensor '", name, "'"))
        .Got(DTypeName(entry->view.type), "an integer type");
  entry->view.ReadI64(first_row, rows, out);
  return {};
}

Status Checkpoint::ReadBytes(std::string_view name, int64_t first_row, int64_t rows, void* out) const {
  TERN_ASSIGN(const Entry* entry, Rows(name, first_row, rows));
  entry->view.ReadBytes(first_row, rows, out);
  return {};
}

std::span<const uint8_t> Checkpoint::Mapped(std::string_view name) const {
  auto it = entries_.find(name);
  if (it == entries_.end() || !it->second.view.dense() || it->second.view.shape.elements() == 0) return {};
  const StridedView& view = it->second.view;
  return {view.first_element(), static_cast<size_t>(view.shape.elements() * DTypeBytes(view.type))};
}

std::vector<std::string> Checkpoint::SharedWith(std::string_view name) const {
  std::vector<std::string> same;
  auto it = entries_.find(name);
  if (it == entries_.end() || it->second.view.shape.elements() == 0) return same;
  auto [from, to] = by_address_.equal_range(it->second.view.first_element());
  for (; from != to; ++from)
    if (from->second != name && entries_.find(from->second)->second.view.SameAs(it->second.view))
      same.push_back(from->second);
  return same;
}

Status Checkpoint::CheckUnchanged() const {
  for (const auto& file : files_) TERN_RETURN_IF_ERROR(file->CheckUnchanged());
  return {};
}

void Checkpoint::ReleasePages() const {
  for (const auto& file : files_) file->Advise(MappedFile::Advice::kDontNeed, 0, file->bytes().size());
}

Result<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& path) {
  return CheckpointBuilder::Open(path);
}

Result<std::unique_ptr<Checkpoint>> Checkpoint::OpenBytes(std::span<const uint8_t> bytes) {
  return CheckpointBuilder::OpenBytes(bytes);
}

const std::vector<std::string>& Checkpoint::WeightNames() {
  static const std::vector<std::string> names{"model.safetensors", "model.safetensors.index.json",
                                              "pytorch_model.bin", "pytorch_model.bin.index.json",
                                              "model.pt",          "mp_rank_00/model_optim_rng.pt"};
  return names;
}

}  // namespace tern
