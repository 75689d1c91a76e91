#include "formats/tensor_name.h"

#include "engine/base/utf8.h"

namespace tern {

Status CheckTensorName(std::string_view name) {
  if (name.empty()) return Malformed("a tensor has an empty name");
  if (name.size() > kMaxTensorNameBytes)
    return Malformed("a tensor name is too long").Got(Str(name.size(), " bytes"), Str("at most ", kMaxTensorNameBytes));
  if (!IsUtf8(name)) return Malformed(Str("the tensor name '", Printable(name), "' is not valid UTF-8"));
  // Printable escapes exactly what may not reach a terminal; a name it changes is refused.
  if (Printable(name, kMaxTensorNameBytes) != name)
    return Malformed(Str("the tensor name '", Printable(name), "' has control characters"));
  return {};
}

}  // namespace tern
