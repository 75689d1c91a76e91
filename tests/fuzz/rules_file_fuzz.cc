// Rules files in JSON.
#include "tests/fuzz/judge_by_rules.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tern::corpus::JudgeByRules(data, size, false);
  return 0;
}
