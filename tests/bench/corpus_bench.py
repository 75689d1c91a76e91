#!/usr/bin/env python3
"""Times the data tools on one JSONL corpus: MB of input per processor second on one thread, the gain of a second thread in wall time, peak memory;
and beside them what a user would run instead.

usage: corpus_bench.py TERN CORPUS.jsonl [--repeat 3] [--out FOLDER] [--rows exact,near,..] [--datatrove PYTHON] [--lee DEDUP_DATASET] [--part MB]

The input is read once beforehand, so that it is cached. FOLDER (/dev/shm/..) takes the output: name a memory file system, or the disk is measured.
Peers: json and sha1 in Python for exact; the program of Lee et al. (suffix array, self-similar, collect, over the texts as one file) for substr; a
datatrove pipeline of its four filters, in the Python named, over the first MB of the corpus (10), for the filters. For near there is recall and precision.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

ROWS = {
    "exact": ["dedup", "--exact"],
    "near": ["dedup", "--near", "--yes"],
    "exact near": ["dedup", "--yes"],
    "lines": ["dedup", "--lines"],
    "substr": ["dedup", "--substr"],
    "substr 1 pass": ["dedup", "--substr", "--passes", "1"],
    "filter all": ["filter", "--rules", "gopher,gopher-rep,c4,fineweb"],
    "filter gopher": ["filter", "--rules", "gopher"],
    "filter gopher-rep": ["filter", "--rules", "gopher-rep"],
    "filter c4": ["filter", "--rules", "c4"],
    "filter fineweb": ["filter", "--rules", "fineweb"],
}

EXACT = r"""
import sys, json, hashlib
seen, kept = set(), open(sys.argv[2], "w", encoding="utf-8")
for line in open(sys.argv[1], encoding="utf-8"):
    digest = hashlib.sha1(json.loads(line)["text"].encode()).digest()
    if digest not in seen:
        seen.add(digest)
        kept.write(line)
"""
DATATROVE = r"""
import logging, os, sys
logging.disable(logging.CRITICAL)
from loguru import logger
logger.remove()
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
folder, name = os.path.split(sys.argv[1])
LocalPipelineExecutor([JsonlReader(folder, glob_pattern=name), GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(filter_no_terminal_punct=True),
                       FineWebQualityFilter(), JsonlWriter(sys.argv[2], compression=None)], tasks=1, workers=1, logging_dir=None, skip_completed=False).run()
"""


def timed(command):
    """(wall, processor seconds, peak memory in MB, as the kernel tells), or the last line of what it said."""
    with tempfile.TemporaryFile() as said:
        start = time.monotonic()
        p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=dict(os.environ, OMP_NUM_THREADS="1"))
        _, status, usage = os.wait4(p.pid, 0)
        wall = time.monotonic() - start
        if status != 0:
            said.seek(0)
            sys.exit(f"{' '.join(command[:6])}: {said.read().decode('utf-8', 'replace').strip()[-300:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def middle(values):
    return sorted(values)[len(values) // 2]


def show(name, megabytes, wall, processor, memory, gain=""):
    print(f"{name:34s} {megabytes / processor:8.1f} MB/cpu-s  wall {wall:7.2f} s  {gain:26s} {memory:7.0f} MB", flush=True)


def tern_row(o, name, megabytes):
    flags, out = ROWS[name], o.out + "/o"
    runs = {1: [], 2: []}
    for _ in range(o.repeat):
        for threads in runs:
            shutil.rmtree(out, ignore_errors=True)
            runs[threads].append(timed([o.tern, flags[0], o.corpus, *flags[1:], "--threads", str(threads), "-q", "-o", out]))
    one, two = ([middle([r[k] for r in runs[t]]) for k in range(3)] for t in (1, 2))
    show(name, megabytes, one[0], one[1], one[2], f"2 threads {two[0]:6.2f} s: {one[0] / two[0]:.2f}x")
    return one[1]


def lee(o, megabytes, processor):
    """Over the texts as one file, as its loaders make it; --cut-all is the same question."""
    data, cache = o.out + "/texts", o.out + "/cache"
    os.makedirs(cache, exist_ok=True)
    with open(o.corpus, encoding="utf-8") as f, open(data, "wb") as out:
        for n, line in enumerate(f):
            out.write(b"\xff\xff" + n.to_bytes(4, "little") + json.loads(line)["text"].encode())
    size = os.path.getsize(data)
    total = [0, 0, 0]
    for step in (["make", "--data-file", data], ["self-similar", "--data-file", data, "--length-threshold", "100", "--cache-dir", cache, "--num-threads", "1"],
                 ["collect", "--data-file", data, "--cache-dir", cache, "--length-threshold", "100"]):
        run = timed([o.lee, *step])
        total = [total[0] + run[0], total[1] + run[1], max(total[2], run[2])]
    show("  Lee et al., one thread", size / 1e6, *total)
    print(f"  -> {total[1] / processor:.1f} times the processor time of substr, 1 pass")


def recall(o):
    """Pairs of J >= 0.8 that 16 bands of 8 find, of those that 128 bands of 2 find (which miss one in 10^28); and J computed anew in Python."""
    import re
    found = []
    for bands in ("16x8", "128x2"):
        shutil.rmtree(o.out + "/o", ignore_errors=True)
        timed([o.tern, "dedup", o.corpus, "--near", "--yes", "--pairs", "--bands", bands, "-q", "-o", o.out + "/o"])
        with open(o.out + "/o/pairs.jsonl") as f:
            found.append({(p["a"], p["b"]): p["similarity"] for p in map(json.loads, f)})
    with open(o.corpus, encoding="utf-8") as f:
        texts = [json.loads(line)["text"] for line in f]
    checked = right = 0
    for (a, b), similarity in found[0].items():
        if not (texts[a] + texts[b]).isascii():
            continue
        sets = []
        for text in (texts[a], texts[b]):
            words = re.findall("[a-z0-9]+", text.lower())
            sets.append({tuple(words[i:i + 5]) for i in range(max(1, len(words) - 4))})
        j = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        checked += 1
        right += j >= 0.8 and abs(j - similarity) < 1e-12
    print(f"near: pairs: {len(found[0])} of {len(found[1])}: recall {len(found[0]) / max(1, len(found[1])):.4f}; {right} of {checked} pairs of ASCII texts have the J a set of words in Python gives")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("tern")
    parser.add_argument("corpus")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", default="/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--datatrove")
    parser.add_argument("--lee")
    parser.add_argument("--part", type=float, default=10)
    o = parser.parse_args()
    o.out = tempfile.mkdtemp(dir=o.out)
    try:
        with open(o.corpus, "rb") as f:
            documents = sum(1 for _ in f)
        megabytes = os.path.getsize(o.corpus) / 1e6
        print(f"{megabytes:.1f} MB, {documents} documents; load {os.getloadavg()[0]:.1f}")
        for name in o.rows.split(","):
            processor = tern_row(o, name, megabytes)
            if name == "exact":
                wall, cpu, memory = timed([sys.executable, "-c", EXACT, o.corpus, o.out + "/peer"])
                show("  json and sha1 in Python", megabytes, wall, cpu, memory)
                print(f"  -> {cpu / processor:.1f} times")
            if name == "substr 1 pass" and o.lee:
                lee(o, megabytes, processor)
            if name == "filter all" and o.datatrove:
                part = o.out + "/part.jsonl"
                with open(o.corpus, "rb") as f, open(part, "wb") as out:
                    out.writelines(f.readlines(int(o.part * 1e6)))
                size = os.path.getsize(part) / 1e6
                wall, cpu, memory = timed([o.datatrove, "-c", DATATROVE, part, o.out + "/peers"])
                show(f"  datatrove, {size:.0f} MB of it", size, wall, cpu, memory)
                print(f"  -> {cpu / size / (processor / megabytes):.0f} times")
        if "near" in o.rows.split(","):  # last: what this process holds counts as the first memory of those it starts
            recall(o)
    finally:
        shutil.rmtree(o.out)


if __name__ == "__main__":
    main()
