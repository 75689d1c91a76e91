#!/bin/sh
# The register tiles of the products keep their accumulators in registers: compilers have been seen to spill them after an innocent change, at half the
# speed. Counts vector stores to the stack in the hot tiles of the program.   usage: kernel_spills_test.sh BINARY SOURCE_DIR
[ "$(uname -m)" = x86_64 ] || { echo "skipped: not x86-64"; exit 0; }
command -v objdump > /dev/null || { echo "skipped: no objdump"; exit 0; }
listing=$(mktemp) || exit 1
trap 'rm -f "$listing"' EXIT
objdump -d -C --no-show-raw-insn "$1" > "$listing"
grep -q '__asan\|__tsan\|__ubsan' "$listing" && { echo "skipped: a sanitised build"; exit 0; }
awk '
  /^[0-9a-f]+ </ { name = $0; hot = 0
    if (name ~ /RunTile<tern::N_AVX3::ReadF32, 14, 2>|RunTile<tern::N_AVX3::ReadF32, 8, 2>|RunTile<tern::N_AVX2::ReadF32, 6, 1>/) hot = 1
    if (name ~ /avx512_vnni::Tile<14, 2>|avx_vnni::Tile<6, 1>/) hot = 1
    if (hot) tiles++ }
  hot && /vfmadd|vpdpbusd/ { products[name]++ }
  hot && /vmovap.*%[yz]mm[0-9]+,.*\(%rsp\)|vmovdq.*%[yz]mm[0-9]+,.*\(%rsp\)/ { spills[name]++ }
  END {
    if (tiles < 5) { print "only " tiles + 0 " of 5 tiles found: have they been renamed?"; exit 1 }
    for (n in products) if (spills[n] * 50 > products[n]) { print spills[n] " spills for " products[n] " products in " n; bad = 1 }
    exit bad
  }' "$listing"
