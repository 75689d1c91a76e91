// The rate of independent fused multiply-adds in registers: what a kernel's GFLOP/s are compared with.
#pragma once

#include <string>

namespace tern::bench {

// GFLOP/s of one thread at the target's vector width, over about 1 ms of processor time.
double FmaGflops(const std::string& target);

}  // namespace tern::bench
