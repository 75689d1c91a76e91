// How a product is shared out among workers. The bits of a product do not depend on it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/base/checked.h"
#include "engine/kernels/cache.h"
#include "engine/kernels/packed.h"

namespace tern {

// Chunk i takes rows [i % row_chunks * row_step ..] and panels [i / row_chunks * panel_step ..].
struct ProductSplit {
  int64_t panel_step, panel_chunks, row_step, row_chunks;
  int64_t chunks() const { return panel_chunks * row_chunks; }
};

// y [rows, n] = x [rows, k] W^T, rows of x `ldx` apart. Work below about a million multiply-adds is not worth a second worker (specs: 8 us); a chunk stays
// short enough to be a cancellation point (some ms). Panels go in pairs, which is what one register tile of the widest target takes.
inline ProductSplit SplitProduct(int64_t rows, int64_t n, int64_t k, int64_t ldx, int threads) {
  const int64_t pairs = CeilDiv(PanelCount(n), 2), macs = rows * n * k;
  const bool shared = threads > 1 && macs >= (1 << 19);
  int64_t wanted = shared ? 4 * threads : 1;
  wanted = std::max(wanted, macs / 200'000'000);
  ProductSplit s{0, 0, rows, 1};
  // Rows that the kernel packs first are packed once for every chunk they are in: few chunks across.
  if (shared && RowsCollide(ldx, k) && rows >= 28 * threads) s.row_step = CeilDiv(rows, threads), s.row_chunks = CeilDiv(rows, s.row_step);
  const int64_t per_chunk = CeilDiv(pairs, std::min(pairs, CeilDiv(wanted, s.row_chunks)));
  s.panel_step = per_chunk * 2, s.panel_chunks = CeilDiv(pairs, per_chunk);
  if (s.row_chunks == 1 && s.panel_chunks * 2 < wanted && rows >= 64) {  // few panels, many rows: split rows too, in whole tiles of 14
    s.row_step = RoundUp(CeilDiv(rows, CeilDiv(wanted, s.panel_chunks)), 28);
    s.row_chunks = CeilDiv(rows, s.row_step);
  }
  return s;
}

}  // namespace tern
