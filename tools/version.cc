// tern version (also tern --version): one line that says what is running here.
#include "tools/verb.h"

namespace tern {
namespace {

std::string Compiler() {
#if defined(__clang__)
  return Str("clang ", __clang_major__, ".", __clang_minor__, ".", __clang_patchlevel__);
#else
  return Str("g++ ", __GNUC__, ".", __GNUC_MINOR__, ".", __GNUC_PATCHLEVEL__);
#endif
}

class Version : public Command {
 public:
  void Declare(Arguments&) override {}
  Status Run(Console& console) override {
    if (console.json) {
      console.PrintJson(Json{{"version", TERN_VERSION}, {"compiler", Compiler()}});
    } else {
      console.Print(Str("tern ", TERN_VERSION, " (", Compiler(), ")\n"));
    }
    return {};
  }
};

}  // namespace

extern const Verb kVersion = {"version", "Help", "say which version this is, its compiler and the instruction set in use", "tern version", Make<Version>};

}  // namespace tern
