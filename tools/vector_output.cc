#include "tools/vector_output.h"

#include <cmath>

namespace tern {
namespace {

constexpr size_t kHeaderBytes = 256;  // of both binary kinds, padded: rewritten in place once the number of rows is known

}  // namespace

Result<VectorOutput> VectorOutput::Create(const std::string& path, int64_t width, Console* console) {
  VectorOutput out;
  out.width_ = width;
  out.console_ = console;
  if (path.empty()) return out;
  if (path.ends_with(".npy")) out.kind_ = Kind::kNpy;
  else if (path.ends_with(".safetensors")) out.kind_ = Kind::kSafetensors;
  else if (path.ends_with(".jsonl")) out.kind_ = Kind::kJsonl;
  else return UsageError("the ending of the output is not known").File(path).Hint("Use .npy, .safetensors or .jsonl");
  TERN_ASSIGN(FileWriter w, FileWriter::Create(path));
  out.file_.emplace(std::move(w));
  if (out.kind_ != Kind::kJsonl) TERN_RETURN_IF_ERROR(out.file_->Write(out.Header()));
  return out;
}

std::string VectorOutput::Header() const {
  std::string h;
  if (kind_ == Kind::kNpy) {
    h = std::string("\x93NUMPY\x01\x00", 8) + std::string(2, '\0') + Str("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows_, ", ", width_, "), }");
    h.resize(kHeaderBytes - 1, ' ');
    h += '\n';
    h[8] = static_cast<char>((kHeaderBytes - 10) & 0xff), h[9] = static_cast<char>((kHeaderBytes - 10) >> 8);
  } else {
    h = std::string(8, '\0') + DumpJson({{"embeddings", {{"dtype", "F32"}, {"shape", {rows_, width_}}, {"data_offsets", {0, rows_ * width_ * 4}}}}});
    h.resize(kHeaderBytes, ' ');
    const uint64_t n = kHeaderBytes - 8;
    for (size_t i = 0; i < 8; ++i) h[i] = static_cast<char>(n >> (8 * i) & 0xff);
  }
  return h;
}

Status VectorOutput::Add(std::span<const float> rows) {
  const size_t width = static_cast<size_t>(width_);
  for (size_t at = 0; at + width <= rows.size(); at += width) {
    const auto row = rows.subspan(at, width);
    ++rows_;
    if (kind_ == Kind::kNpy || kind_ == Kind::kSafetensors) {
      TERN_RETURN_IF_ERROR(file_->Write(row.data(), row.size_bytes()));
      continue;
    }
    // Nine digits bring every f32 back.
    std::string line = Str("{\"row\":", rows_ - 1, ",\"embedding\":", std::isnan(row[0]) ? "null}\n" : "[");
    char number[32];
    for (size_t i = 0; i < width && !std::isnan(row[0]); ++i) {
      std::snprintf(number, sizeof number, "%s%.9g", i ? "," : "", static_cast<double>(row[i]));
      line += number;
    }
    if (!std::isnan(row[0])) line += "]}\n";
    if (kind_ == Kind::kStdout) console_->Print(line);
    else TERN_RETURN_IF_ERROR(file_->Write(line));
  }
  return {};
}

Status VectorOutput::Finish() {
  if (!file_) return {};
  if (kind_ != Kind::kJsonl) {
    const std::string header = Header();
    TERN_RETURN_IF_ERROR(file_->WriteAt(0, header.data(), header.size()));
  }
  return file_->Commit();
}

}  // namespace tern
