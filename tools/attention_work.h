// The kinds of attention that `tern bench attention` measures: one list, one function each.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tools/bench.h"

namespace tern {

// What is measured: q [B, H, T, D] against k, v [B, H, S, D], no projections. A kind reads the fields it has a use for.
struct AttentionWork {
  int64_t batch = 1, heads = 8, t = 0, s = 0, dim = 64;
  bool causal = false;     // for kinds that exist both ways
  int64_t features = 256;  // performer: m
  int64_t chunk = 64, hashes = 1;  // lsh, local
  double sigma = 1;        // standard deviation of queries and keys
  bool accuracy = false;   // also the error against exact attention
};

struct AttentionBench {
  const RepeatFlags& flags;
  const KernelTable& kernels;
  const Machine& machine;
  const CancelToken& cancel;
};

struct AttentionKind {
  std::string_view name, what;
  // A row whose json has workspace_bytes and, where asked and where it means something, relative_error.
  Result<BenchRow> (*measure)(std::string_view kind, const AttentionWork& work, const AttentionBench& bench);
};
std::span<const AttentionKind> AttentionKinds();  // bench_attention.cc

Result<BenchRow> MeasureExactAttention(std::string_view kind, const AttentionWork& work, const AttentionBench& bench);
Result<BenchRow> MeasurePerformerAttention(std::string_view kind, const AttentionWork& work, const AttentionBench& bench);
// Reformer's layers without their projections: local attention, or hashed attention with everything from the draw of the rotations to the merge of rounds.
Result<BenchRow> MeasureChunkAttention(std::string_view kind, const AttentionWork& work, const AttentionBench& bench);

// |out - exact| / |exact| over some rows of some heads; q, out [heads, t, dim], k, v [heads, s, dim]; the t queries stand at the end of the s keys.
Result<double> ErrorAgainstExact(const KernelTable& kernels, const float* q, const float* k, const float* v, const float* out, int64_t heads, const AttentionWork& work);

// The rows of several kinds over length: one table (or JSON), and with --svg one picture. rows[k][l]: kind k at lengths[l]; without seconds: not measured.
struct AttentionComparison {
  std::vector<std::string> kinds;
  std::vector<int64_t> lengths;
  std::vector<std::vector<BenchRow>> rows;
  std::string reference;  // the exact kind that the others are set against
  std::string setting;    // "8 heads of 64, ..."
};
Status ReportComparison(const AttentionComparison& comparison, const AttentionBench& bench, Console& console);

// tern bench attention --spectrum M TEXT.
struct SpectrumFlags {
  std::string model;
  std::optional<std::string> text, svg;
  Settings settings;
  int64_t length = 256, threads = 1;
};
Status ReportSpectrum(const SpectrumFlags& flags, Console& console);

}  // namespace tern
