// What a file is, judged by its first bytes: so that a wrong file is refused by its name ("this is a PNG picture")
// rather than as a bad header.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/status.h"

namespace tern {

enum class FileKind {
  kEmpty,
  kTern,         // ours
  kSafetensors,  // u64 header length, then '{'
  kZip,          // torch zip, npz, or any other archive
  kPickle,       // torch legacy, vocab.pkl
  kGguf,
  kOnnx,
  kHdf5,
  kNumpy,
  kGzip,
  kTar,
  kGitLfsPointer,
  kHtml,
  kJson,
  kPng,
  kJpeg,
  kPdf,
  kElf,
  kText,
  kUnknown,
};

// Looks at no more than the first 512 bytes.
FileKind SniffFileKind(std::span<const uint8_t> bytes);
std::string_view FileKindName(FileKind kind);  // "a PNG picture", "a Git LFS pointer", ...

// kMalformed: "this is a PNG picture, not WANTED", with a hint where one helps (an LFS pointer: run git lfs pull).
// WANTED: "a .tern model".
Status WrongKind(FileKind kind, std::string_view wanted);

}  // namespace tern
