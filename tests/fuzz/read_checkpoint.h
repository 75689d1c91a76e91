// Reads every tensor of a checkpoint in every way, for fuzz targets: whatever was opened must be readable without harm.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "formats/checkpoint.h"

namespace tern {

inline void ReadCheckpoint(const Checkpoint& c) {
  std::vector<std::string> names = c.names();
  names.insert(names.end(), c.attribute_names().begin(), c.attribute_names().end());
  for (const std::string& name : names) {
    const CheckpointTensor* t = c.Find(name);
    if (!t) std::abort();
    const int64_t rows = t->shape.rank() == 0 ? 1 : t->shape[0], elements = t->shape.elements();
    const int64_t width = rows == 0 ? 0 : elements / rows;
    // Not more than a little of a tensor that is large: the first rows and the last one.
    const int64_t some = width == 0 ? std::min<int64_t>(rows, 4) : std::min(rows, std::max<int64_t>(1, 4096 / width));
    if (width > (1 << 20)) continue;
    std::vector<float> values(static_cast<size_t>(some * width));
    std::vector<int64_t> integers(values.size());
    std::vector<uint8_t> raw(values.size() * 8);
    for (int64_t first : {int64_t{0}, rows - some}) {
      if (!c.ReadF32(name, first, some, values.data()).ok() || !c.ReadBytes(name, first, some, raw.data()).ok())
        std::abort();
      if (c.ReadI64(name, first, some, integers.data()).ok() == IsFloat(t->type)) std::abort();
    }
    for (const std::string& other : c.SharedWith(name))
      if (!(c.Find(other)->shape == t->shape)) std::abort();
    uint32_t sum = 0;
    for (uint8_t byte : c.Mapped(name).first(std::min<size_t>(c.Mapped(name).size(), 4096))) sum += byte;
    volatile uint32_t sink = sum;
    (void)sink;
  }
  (void)DumpJson(c.attributes());
}

inline void OpenAndRead(std::span<const uint8_t> bytes) {
  auto c = Checkpoint::OpenBytes(bytes);
  if (c.ok())
    ReadCheckpoint(**c);
  else
    (void)c.status().message();
}

}  // namespace tern
