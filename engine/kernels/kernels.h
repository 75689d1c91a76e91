// The kernels of one SIMD target as a table of function pointers: single-threaded, allocating nothing, knowing no
// graph. Thread-safe.
//
// Families: gemm.h (products over packed weights), rows.h (rows and elements), attention.h, chunk_attention.h; a family is a header with a
// struct of pointers and one or more .cc files that fill it for every target (README.md beside this file says how to
// add one).
#pragma once

#include <span>
#include <string_view>

#include "engine/base/status.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/calibrate.h"
#include "engine/kernels/chunk_attention.h"
#include "engine/kernels/continuous.h"
#include "engine/kernels/favor.h"
#include "engine/kernels/gemm.h"
#include "engine/kernels/rows.h"

namespace tern {

struct KernelTable : GemmKernels, RowKernels, AttentionKernels, CalibrationKernels, FavorKernels, ChunkKernels, ContinuousKernels {
  std::string_view target;  // "avx512", "avx2", "neon", "baseline"
};

// Targets that were compiled in and that this CPU runs, best first; the last is "baseline".
std::span<const std::string_view> KernelTargets();
// The table of one of them, or null.
const KernelTable* KernelsFor(std::string_view target);
// The table named `wanted`, the best one if it is empty; kUsage if the name is unknown or this CPU cannot run it.
Result<const KernelTable*> ChooseKernels(std::string_view wanted);

// The version of Highway the kernels were compiled with: "1.0.3".
std::string_view HighwayVersion();

// ChooseKernels(environment variable TERN_TARGET), read once. A program checks this at start-up.
const Result<const KernelTable*>& ChosenKernels();
// The chosen table; the best one if TERN_TARGET is wrong.
const KernelTable& Kernels();

}  // namespace tern
