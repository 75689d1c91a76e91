// Included before anything of Highway by every file that uses it: the one place that says for which targets kernels are
// compiled.
//
// x86-64: AVX3 (AVX-512 F, BW, CD, DQ, VL), AVX2 (with FMA and F16C), and the static baseline: SCALAR with g++ 12,
// EMU128 with clang, SSE2 (bit 14) with a newer Highway. aarch64: NEON (bits 28, 29). Left out: AVX3_DL, for which
// Highway 1.0.3 generates wrong VNNI; SVE, whose vectors cannot stand in arrays; the SSE steps between baseline and
// AVX2.
#pragma once

#define HWY_DISABLED_TARGETS (~(HWY_AVX3 | HWY_AVX2 | (1LL << 14) | (3LL << 28) | HWY_EMU128 | HWY_SCALAR))
