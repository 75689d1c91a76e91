// Raw RETRO-pytorch files and Megatron datasets: the input is cut into the two files of each kind where its first byte says, in percent.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/retrieval/foreign.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t cut = 2 + (size - 2) * (data[0] % 101) / 100;
  const std::vector<uint8_t> first(data + 2, data + cut), second(data + cut, data + size);
  auto lucid = tern::LucidFiles::Parse(first, second, 1 + data[1] % 8);
  if (lucid.ok()) {
    std::vector<int32_t> out(static_cast<size_t>(2 * lucid->chunk()));
    for (int64_t i = -1; i <= lucid->rows(); ++i) lucid->Retrieved(i, out);
    for (int64_t i = 0; i < lucid->rows(); ++i)
      if (lucid->Row(i).size() != static_cast<size_t>(lucid->chunk()) || lucid->DocumentOf(i) < 0) std::abort();
  }
  auto megatron = tern::MegatronDataset::Parse(first, second);
  if (!megatron.ok()) return 0;
  size_t tokens = 0;
  for (int64_t i = 0; i < megatron->documents() && tokens < (1 << 20); ++i) {
    auto document = megatron->Document(i);
    if (document.ok()) tokens += document->size();
  }
  return 0;
}
