// tern version (also tern --version): one line that says what is running here.
#include "engine/kernels/kernels.h"
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
    TERN_ASSIGN(const KernelTable* kernels, ChosenKernels());
    if (console.json) {
      Json targets = Json::array();
      for (std::string_view target : KernelTargets()) targets.push_back(target);
      console.PrintJson(Json{{"version", TERN_VERSION}, {"compiler", Compiler()}, {"target", kernels->target}, {"targets", targets}, {"highway", HighwayVersion()}});
    } else {
      console.Print(Str("tern ", TERN_VERSION, " (", Compiler(), ", ", kernels->target, ", Highway ", HighwayVersion(), ")\n"));
    }
    return {};
  }
};

}  // namespace

extern const Verb kVersion = {"version", "Help", "say which version this is, its compiler and the instruction set in use", "tern version", Make<Version>};

}  // namespace tern
