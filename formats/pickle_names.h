// Names in pickles: which globals one may speak of (the one list for all readers of pickles), and how its opcodes are
// called.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tern {

enum class PickleName {
  kKnown,    // data: containers, torch's tensors and storages, numpy arrays
  kOpaque,   // a class or function of somebody's program: inert, and only where PickleGlobals::kOpaque allows it
  kRefused,  // a module that runs or loads code: no data needs it
};
PickleName ClassifyPickleName(std::string_view module, std::string_view name);

// "BINPUT"; "number 238" for a byte that is no opcode.
std::string PickleOpcodeName(uint8_t code);

}  // namespace tern
