#include "formats/file_kind.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

namespace tern {
namespace {

using namespace std::string_view_literals;

struct Signature {
  std::string_view bytes;
  FileKind kind;
};

constexpr Signature kSignatures[] = {
    {"\x8aTERN"sv, FileKind::kTern},
    {"PK\x03\x04"sv, FileKind::kZip},
    {"PK\x05\x06"sv, FileKind::kZip},  // an empty archive
    {"GGUF"sv, FileKind::kGguf},
    {"\x89HDF\r\n\x1a\n"sv, FileKind::kHdf5},
    {"\x93NUMPY"sv, FileKind::kNumpy},
    {"\x1f\x8b"sv, FileKind::kGzip},
    {"version https://git-lfs"sv, FileKind::kGitLfsPointer},
    {"\x89PNG"sv, FileKind::kPng},
    {"\xff\xd8\xff"sv, FileKind::kJpeg},
    {"%PDF-"sv, FileKind::kPdf},
    {"\x7f"
     "ELF"sv,
     FileKind::kElf},
    {"\x08\x03\x12\x07pytorch"sv, FileKind::kOnnx},
    {"\x08\x04\x12\x07pytorch"sv, FileKind::kOnnx},
    {"\x08\x06\x12\x07pytorch"sv, FileKind::kOnnx},
    {"\x08\x07\x12\x07pytorch"sv, FileKind::kOnnx},
};

bool IsSafetensors(std::string_view text) {
  if (text.size() < 9 || text[8] != '{') return false;
  return text[5] == 0 && text[6] == 0 && text[7] == 0;  // a header below 1 TiB
}

bool IsPickle(std::string_view text) {
  return text.size() >= 2 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5;  // PROTO 2..5
}

bool IsTar(std::string_view text) {
  return text.size() >= 263 && text.substr(257, 5) == "ustar";
}

bool StartsWithoutCase(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() && std::equal(lower.begin(), lower.end(), text.begin(), [](char a, char b) {
           return a == static_cast<char>(std::tolower(static_cast<unsigned char>(b)));
         });
}

FileKind SniffText(std::string_view text) {
  size_t first = text.find_first_not_of(" \t\r\n");
  std::string_view body = first == std::string_view::npos ? std::string_view() : text.substr(first);
  if (StartsWithoutCase(body, "<!doctype") || StartsWithoutCase(body, "<html") || StartsWithoutCase(body, "<head"))
    return FileKind::kHtml;
  bool printable = std::all_of(text.begin(), text.end(), [](char c) {
    auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 || byte == '\n' || byte == '\r' || byte == '\t' || byte == '\f';
  });
  if (!printable) return FileKind::kUnknown;
  return body.starts_with('{') || body.starts_with('[') ? FileKind::kJson : FileKind::kText;
}

}  // namespace

FileKind SniffFileKind(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return FileKind::kEmpty;
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 512));
  for (const Signature& s : kSignatures)
    if (text.starts_with(s.bytes)) return s.kind;
  if (IsSafetensors(text)) return FileKind::kSafetensors;
  if (IsPickle(text)) return FileKind::kPickle;
  if (IsTar(text)) return FileKind::kTar;
  return SniffText(text);
}

std::string_view FileKindName(FileKind kind) {
  switch (kind) {
    case FileKind::kEmpty:
      return "an empty file";
    case FileKind::kTern:
      return "a .tern model";
    case FileKind::kSafetensors:
      return "a safetensors file";
    case FileKind::kZip:
      return "a zip archive (a torch checkpoint or npz)";
    case FileKind::kPickle:
      return "a Python pickle";
    case FileKind::kGguf:
      return "a GGUF model";
    case FileKind::kOnnx:
      return "an ONNX model";
    case FileKind::kHdf5:
      return "an HDF5 file";
    case FileKind::kNumpy:
      return "a NumPy array";
    case FileKind::kGzip:
      return "a gzip archive";
    case FileKind::kTar:
      return "a tar archive";
    case FileKind::kGitLfsPointer:
      return "a Git LFS pointer";
    case FileKind::kHtml:
      return "an HTML page";
    case FileKind::kJson:
      return "JSON text";
    case FileKind::kPng:
      return "a PNG picture";
    case FileKind::kJpeg:
      return "a JPEG picture";
    case FileKind::kPdf:
      return "a PDF document";
    case FileKind::kElf:
      return "an ELF program";
    case FileKind::kText:
      return "plain text";
    case FileKind::kUnknown:
      return "an unknown kind of file";
  }
  return "an unknown kind of file";
}

Status WrongKind(FileKind kind, std::string_view wanted) {
  if (kind == FileKind::kEmpty) return Malformed("the file is empty");
  Status status = Malformed(Str("this is ", FileKindName(kind), ", not ", wanted));
  switch (kind) {
    case FileKind::kGitLfsPointer:
      return std::move(status).Hint("It only stands for the model; run: git lfs pull");
    case FileKind::kHtml:
      return std::move(status).Hint("The download gave a web page; fetch the raw file");
    case FileKind::kSafetensors:
    case FileKind::kZip:
    case FileKind::kPickle:
      return std::move(status).Hint("Convert a checkpoint first: tern convert SOURCE -o MODEL.tern");
    case FileKind::kTern:
      return std::move(status).Hint("It is converted already; run the verbs on it");
    case FileKind::kGzip:
    case FileKind::kTar:
      return std::move(status).Hint("Unpack it first");
    default:
      return status;
  }
}

}  // namespace tern
