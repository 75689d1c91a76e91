// One head of hashed attention over a whole sequence: hash, sort, attend, merge; each stage shared over the gang. Used by the LshAttention op and by
// `tern bench attention`.
//
// Spec: Reformer (Kitaev et al. 2020) as the public implementation computes it. The key of a token is its query scaled to length 1. Buckets are found by
// rotated directions (nearest_axis), tokens sorted by (round, bucket, position) by counting, chunks of that order attend to their neighbours
// (kernels/chunk_attention.h), and every token's rounds are joined where the token stands: nothing is sorted back.
#pragma once

#include "engine/base/cancel.h"
#include "engine/base/parallel.h"
#include "engine/graph/lsh.h"
#include "engine/kernels/kernels.h"

namespace tern {

struct LshHead {
  const float *qk = nullptr, *v = nullptr;  // [S, Dh], rows `stride` floats apart
  int64_t qk_stride = 0, v_stride = 0;
  int64_t length = 0;                       // S: a multiple of the chunk, or at most one chunk (then all attend to all, and nothing is hashed)
  const uint8_t* masked = nullptr;          // [S] not 0: no key; or null
  const float* rotations = nullptr;         // [Dh, rounds * directions]
  BucketFactors buckets;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Scratch for sequences up to `length`. Linear in it.
int64_t LshScratchBytes(const LshSpec& spec, int64_t length, int threads);

// Bucket ids [rounds][S] (without the rounds' offsets) are left in `ids` if it is not null. Bits do not depend on the number of threads. Within gang.Run.
void AttendLshHead(Gang* gang, const KernelTable& kernels, const CancelToken* cancel, const LshSpec& spec, const LshHead& head, uint8_t* scratch, int threads,
                   int32_t* ids);

// The bucket of one row in one round: x [directions], rotated. In [0, buckets).
int32_t BucketOf(const KernelTable& kernels, const BucketFactors& buckets, const float* x);
// Key scale of a row: 1 / sqrt(mean of squares + 1e-6).
float LshKeyScale(const KernelTable& kernels, const float* qk, int64_t width);

}  // namespace tern
