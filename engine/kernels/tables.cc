// Assembles one KernelTable per target, and chooses among them.
#include <array>
#include <cstdlib>
#include <string>

#include "engine/kernels/kernels.h"
#include "engine/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/tables.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

// The functions that fill a table, each defined per target in the .cc file of its name.
// clang-format off
#define TERN_KERNEL_FILES(X) \
  X(FillAttention)           \
  X(FillCalibrate)           \
  X(FillChunkRows)           \
  X(FillContinuous)          \
  X(FillElements)            \
  X(FillFavor)               \
  X(FillGemm)                \
  X(FillGemmLse)             \
  X(FillPack)                \
  X(FillQ8)                  \
  X(FillRows)
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {

#define TERN_DECLARE(Fill) void Fill(KernelTable* table);
TERN_KERNEL_FILES(TERN_DECLARE)
#undef TERN_DECLARE

KernelTable MakeTable(std::string_view target) {
  KernelTable table{};
  table.target = target;
#define TERN_CALL(Fill) Fill(&table);
  TERN_KERNEL_FILES(TERN_CALL)
#undef TERN_CALL
  return table;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tern {
namespace {

struct Targets {
  std::array<KernelTable, 4> tables;
  std::array<std::string_view, 4> names;
  size_t count = 0;

  void Add(int64_t hwy_target, std::string_view name, KernelTable (*make)(std::string_view)) {
    if ((hwy::SupportedTargets() & hwy_target) == 0 && hwy_target != HWY_STATIC_TARGET) return;
    tables[count] = make(name);
    names[count++] = name;
  }
  Targets() {
#if HWY_TARGETS & HWY_AVX3
    Add(HWY_AVX3, "avx512", N_AVX3::MakeTable);
#endif
#if HWY_TARGETS & HWY_AVX2
    Add(HWY_AVX2, "avx2", N_AVX2::MakeTable);
#endif
#if HWY_ARCH_ARM_A64
    Add(HWY_STATIC_TARGET, "neon", HWY_STATIC_DISPATCH(MakeTable));
#else
    Add(HWY_STATIC_TARGET, "baseline", HWY_STATIC_DISPATCH(MakeTable));
#endif
  }
};

const Targets& All() {
  static const Targets targets;
  return targets;
}

}  // namespace

#define TERN_TEXT_(x) #x
#define TERN_TEXT(x) TERN_TEXT_(x)
std::string_view HighwayVersion() {
  return TERN_TEXT(HWY_MAJOR) "." TERN_TEXT(HWY_MINOR) "." TERN_TEXT(HWY_PATCH);
}

std::span<const std::string_view> KernelTargets() {
  return {All().names.data(), All().count};
}

const KernelTable* KernelsFor(std::string_view target) {
  for (size_t i = 0; i < All().count; ++i)
    if (All().names[i] == target) return &All().tables[i];
  return nullptr;
}

Result<const KernelTable*> ChooseKernels(std::string_view wanted) {
  if (wanted.empty()) return &All().tables[0];
  if (const KernelTable* table = KernelsFor(wanted)) return table;
  std::string names;
  for (std::string_view name : KernelTargets()) names += (names.empty() ? "" : ", ") + std::string(name);
  return UsageError(Str("this processor has no kernel target '", Printable(wanted), "'"))
      .Where("TERN_TARGET")
      .Hint(Str("Here it may be ", names));
}

const Result<const KernelTable*>& ChosenKernels() {
  static const Result<const KernelTable*> chosen = [] {
    const char* wanted = std::getenv("TERN_TARGET");
    return ChooseKernels(wanted ? wanted : "");
  }();
  return chosen;
}

const KernelTable& Kernels() {
  static const KernelTable& table = ChosenKernels().ok() ? *ChosenKernels().value() : All().tables[0];
  return table;
}

}  // namespace tern
#endif  // HWY_ONCE
