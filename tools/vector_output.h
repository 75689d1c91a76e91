// Rows of f32 vectors as they are made, to .npy, .safetensors or .jsonl; the number of rows is known only at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "engine/base/file.h"
#include "tools/output.h"

namespace tern {

class VectorOutput {
 public:
  // By the ending of `path`: kUsage for any other. Empty: JSON lines to stdout.
  static Result<VectorOutput> Create(const std::string& path, int64_t width, Console* console);
  Status Add(std::span<const float> rows);  // whole rows
  Status Finish();                          // writes the header, commits
  int64_t rows() const { return rows_; }

 private:
  enum class Kind { kStdout, kNpy, kSafetensors, kJsonl };
  std::string Header() const;
  Kind kind_ = Kind::kStdout;
  int64_t width_ = 0, rows_ = 0;
  Console* console_ = nullptr;
  std::optional<FileWriter> file_;
};

}  // namespace tern
