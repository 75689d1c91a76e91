// The integer register tiles of the int8 product, one set per instruction set; q8.cc drives them.
#pragma once

#include <cstdint>

namespace tern {

struct Q8TileArgs {
  const uint8_t* x;  // [R, 4 groups]
  int64_t ldx;
  int64_t groups;       // of four k's
  const int8_t* panel;  // P panels, panel_bytes apart
  int64_t panel_bytes;
  const int8_t* prefetch;      // from here on one line is fetched into L2 for every line of a panel
  const int32_t* column_sums;  // [16 P]
  int32_t* out;                // [R, 16 P]: sum (x - 128) q
};
using Q8TileFn = void (*)(const Q8TileArgs&);

// Tiles of 1, 2, 4 and 8 panels: fn[log2 panels][rows - 1] for rows <= max_rows[log2 panels]; 0 rows: there is no such
// tile.
struct Q8Tiles {
  int max_rows[4];
  const Q8TileFn* fn[4];
  int many;  // log2 of the panels of a group for many rows
  int64_t (*peak_loop)(int64_t iterations);
};

// Null where this processor (or compiler target) has no such instructions.
const Q8Tiles* Q8TilesAvx512Vnni();
const Q8Tiles* Q8TilesAvxVnni();
const Q8Tiles* Q8TilesAvx2();

}  // namespace tern
