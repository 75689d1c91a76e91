#include "engine/base/status.h"

#include "engine/base/utf8.h"

namespace tern {

std::string Printable(std::string_view text, size_t max_bytes) {
  std::string out;
  bool cut = text.size() > max_bytes;
  if (cut) text = text.substr(0, max_bytes);
  auto escape = [&out](unsigned char byte) {
    static const char kHex[] = "0123456789abcdef";
    out += "\\x";
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  };
  for (size_t i = 0; i < text.size();) {
    Utf8Char c = DecodeUtf8(text, i);
    // C0 and C1 controls, DEL, the bidirectional and invisible marks: none may reach a terminal.
    bool plain = c.valid && c.code >= 0x20 && !(c.code >= 0x7f && c.code < 0xa0) && !(c.code >= 0x200b && c.code <= 0x200f) &&
                 !(c.code >= 0x2028 && c.code <= 0x202e) && !(c.code >= 0x2060 && c.code <= 0x206f) && c.code != 0xfeff;
    for (size_t j = 0; j < c.bytes; ++j) {
      if (plain) out += text[i + j];
      else escape(static_cast<unsigned char>(text[i + j]));
    }
    i += c.bytes;
  }
  if (cut) out += "...";
  return out;
}

const std::string& Status::Empty() {
  static const std::string empty;
  return empty;
}

Status Status::Set(std::string Detail::*part, std::string_view value) {
  if (detail_ && ((*detail_).*part).empty()) {
    detail_ = std::make_shared<Detail>(*detail_);  // other copies of this Status keep their text
    (*detail_).*part = std::string(value);
  }
  return std::move(*this);
}

std::string Status::message() const {
  if (!detail_) return "ok";
  std::string out;
  if (!detail_->file.empty()) out += Printable(detail_->file, 4096) + ": ";
  if (!detail_->where.empty()) out += Printable(detail_->where, 1024) + ": ";
  out += Printable(detail_->what, 4096);
  if (!detail_->got.empty()) out += " (" + Printable(detail_->got, 1024) + ")";
  if (!detail_->hint.empty()) out += ". " + Printable(detail_->hint, 1024);
  return out;
}

}  // namespace tern
