// Which global names a pickle may speak of. The one list for all readers of pickles.
#pragma once

#include <string_view>

namespace tern {

enum class PickleName {
  kKnown,    // data: containers, torch's tensors and storages, numpy arrays
  kOpaque,   // a class or function of somebody's program: inert, and only where PickleGlobals::kOpaque allows it
  kRefused,  // a module that runs or loads code: no data needs it
};
PickleName ClassifyPickleName(std::string_view module, std::string_view name);

}  // namespace tern
