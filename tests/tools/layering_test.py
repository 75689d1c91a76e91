#!/usr/bin/env python3
"""Every include of our own points to the same room or an earlier one; oneTBB and Highway stay in theirs.   usage: layering_test.py BINARY SOURCE_DIR"""
import pathlib
import re
import sys

# The rooms in order. A file may include its own room and the earlier ones, except where FENCES says no.
ROOMS = ["engine/base", "engine/kernels", "engine/graph", "engine/nn", "formats", "models", "engine/plan", "engine/retrieval", "engine/runtime", "engine/api",
         "tools/corpus", "tools"]
FENCES = {"engine/graph": {"engine/kernels"}, "engine/nn": {"engine/kernels"}, "models": {"engine/kernels"}, "engine/plan": {"engine/kernels"}}
# External headers that have one home.
HOMES = {r"<(tbb|oneapi)/": {"engine/base/parallel.cc"}, r"<hwy/": {"engine/kernels/"}, r"[<\"]hwy/": {"engine/kernels/"}, r"<CLI/": {"tools/arguments.cc"},
         r"<doctest/": {"tests/"}, r"<mpi": {"tools/corpus/mpi/"}, r"<toml": {"tools/corpus/toml.cc"}, r"<utf8proc": {"formats/", "tools/corpus/"}, r"<(zstd|zlib)": {"formats/", "tools/corpus/", "tests/"}}


def room_of(path):
    for room in sorted(ROOMS, key=len, reverse=True):
        if path.startswith(room + "/"):
            return room
    return None


def main():
    source = pathlib.Path(sys.argv[2])
    wrong, seen = [], 0
    files = [p for folder in ("engine", "formats", "models", "tools", "tests") for p in (source / folder).rglob("*") if p.suffix in (".cc", ".h", ".c")]
    for file in sorted(files):
        name = file.relative_to(source).as_posix()
        room = room_of(name)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+([<"][^>"]+[>"])', line)
            if not m:
                continue
            seen += 1
            target, where = m.group(1), f"{name}:{number}"
            for pattern, homes in HOMES.items():
                if re.match(pattern, target) and not any(name.startswith(home) for home in homes):
                    wrong.append(f"{where}: {target} belongs in {', '.join(sorted(homes))} only")
            if target[0] != '"' or target.startswith('"hwy/') or room is None:
                continue
            other = room_of(target[1:-1])
            if not (source / target[1:-1]).exists():
                wrong.append(f"{where}: {target} is not a path from the top folder")
            elif other is None:
                wrong.append(f"{where}: {target} is outside the rooms")
            elif ROOMS.index(other) > ROOMS.index(room):
                wrong.append(f"{where}: {room} may not include {other}")
            elif other in FENCES.get(room, ()):
                wrong.append(f"{where}: {room} and {other} do not know each other")
            elif room == "tools/corpus" and other not in ("tools/corpus", "engine/base", "engine/runtime", "engine/api"):
                wrong.append(f"{where}: tools/corpus stands on engine/base alone (models: through engine/runtime)")
    print("\n".join(wrong))
    print(f"{seen} includes in {len(files)} files, {len(wrong)} wrong")
    return 1 if wrong or seen < 20 else 0


sys.exit(main())
