#!/usr/bin/env python3
"""A mixture of experts that is larger than the memory it may have: converted, run without a bound, with --expert-memory, and in a memory-limited cgroup.

usage: paging.py TERN FOLDER [--limit-mb 1024] [--tokens 32] [--spiece FILE] [the arguments of switch_checkpoint.py] [--json]

Makes the checkpoint in FOLDER (3.4 GB, unless it is there), converts it beside it (as much again, twice with q8), and prints for each run: seconds, tokens a second, peak
resident memory of the process (VmHWM, mapped weights included), what of the file is in memory afterwards (mincore) against dense weights + touched experts, experts
touched and bytes read. Every run begins with the file out of the system's cache and must give the same ids. Exits with 1 if a figure misses its bound: conversion below
2 x the largest tensor + 64 MiB, residency at most 1.05 x, ids equal. Where no cgroup can be made (it takes root), that run is skipped with a message.
"""
import argparse, ctypes, json, mmap, os, random, subprocess, sys, threading, time
import switch_checkpoint

WORDS = random.Random(1)
TEXT = "The <extra_id_0> " + " ".join("".join(WORDS.choice("bdfgklmnprst") + WORDS.choice("aeiou") for _ in range(WORDS.randint(1, 4))) for _ in range(250))
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
ROOT = "/sys/fs/cgroup" if V2 else "/sys/fs/cgroup/memory"


class Limit:
    """A cgroup with `limit` bytes; `enter` is for preexec_fn. None if there can be none."""

    def __init__(self, limit):
        self.path = os.path.join(ROOT, f"tern-paging-{os.getpid()}")
        os.mkdir(self.path)
        try:
            with open(os.path.join(self.path, "memory.max" if V2 else "memory.limit_in_bytes"), "w") as f:
                f.write(str(limit))
        except OSError:
            os.rmdir(self.path)
            raise

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w") as f:
            f.write(str(os.getpid()))

    def peak(self):
        with open(os.path.join(self.path, "memory.peak" if V2 else "memory.max_usage_in_bytes")) as f:
            return int(f.read())

    def close(self):
        for _ in range(50):  # the last page of a process that ended goes a little later
            try:
                return os.rmdir(self.path)
            except OSError:
                time.sleep(0.1)


def high_water(pid):
    try:
        with open(f"/proc/{pid}/status") as f:
            return next((int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


def run(arguments, enter=None):
    """(seconds, peak resident bytes, standard output) of a child. wait4's figure would not do: it begins with what this script itself held when it forked."""
    begin = time.monotonic()
    child = subprocess.Popen([str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=enter)
    out, peak = [], 0
    reader = threading.Thread(target=lambda: out.append(child.stdout.read()))
    reader.start()
    while reader.is_alive():
        peak = max(peak, high_water(child.pid))
        reader.join(0.005)
    if child.wait() != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))}: exit {child.returncode}")
    return time.monotonic() - begin, peak, out[0]


def evict(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def resident(path):
    """Bytes of the file that are in memory (mincore)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "rb") as f:
        m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)  # writable only so that ctypes gives its address
    view = ctypes.c_char.from_buffer(m)
    pages = (ctypes.c_ubyte * (len(m) // mmap.PAGESIZE + 1))()
    if libc.mincore(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(len(m)), pages) != 0:
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(p & 1 for p in pages) * mmap.PAGESIZE


def mb(n):
    return f"{n / 1e6:,.1f} MB"


class Paging:
    def __init__(self, a):
        self.a, self.failed, self.rows = a, [], []

    def check(self, good, what):
        if not good:
            self.failed.append(what)

    def convert(self, folder, model, kind, largest, shards):
        seconds, peak, _ = run([self.a.tern, "convert", folder, "-o", model, "--type", kind, "--quiet"])
        bound = 2 * largest + (64 << 20)
        print(f"convert {kind}: {shards} shards, {mb(os.path.getsize(model))}, {seconds:.1f} s, peak {mb(peak)}, bound {mb(bound)}")
        self.check(peak < bound, f"conversion to {kind} took {peak} bytes, bound {bound}")
        return {"type": kind, "shards": shards, "seconds": seconds, "peak_bytes": peak, "bound_bytes": bound, "bytes": os.path.getsize(model)}

    def row(self, model, name, flags, want, limit=None):
        evict(model)
        seconds, peak, out = run([self.a.tern, "run", model, TEXT, "--new-tokens", self.a.tokens, "--ignore-eos", "--threads", 1, "--json", *flags], limit.enter if limit else None)
        in_memory, answer = resident(model), json.loads(out)
        e = answer["experts"]
        needed = self.dense + e["touched"] * self.expert
        row = {"run": name, "seconds": seconds, "tokens_per_second": answer["tokens_per_second"], "peak_rss_bytes": peak, "file_resident_bytes": in_memory,
               "needed_bytes": needed, "experts": e, "same_ids": want in (None, answer["ids"])}
        if limit:
            row["cgroup_peak_bytes"] = limit.peak()
        self.rows.append(row)
        self.check(row["same_ids"], f"{name}: other ids")
        self.check(in_memory <= 1.05 * needed, f"{name}: {in_memory} bytes of the file in memory, needed {needed}")
        ratio = f"{in_memory / needed:.3f}"
        print(f"| {name} | {seconds:.2f} s | {row['tokens_per_second']:.1f} | {mb(peak)} | {mb(in_memory)} | {ratio} | {e['touched']} of {e['experts']} | {mb(e['bytes_read'])} | "
              f"{e['evictions']} |" + (f" the cgroup's peak: {mb(row['cgroup_peak_bytes'])}" if limit else ""))
        return answer["ids"]

    def layout(self, model):
        seen = json.loads(run([self.a.tern, "inspect", model, "--tensors", "--json"])[2])
        grouped = [t for t in seen["tensors"] if t.get("group")]
        self.dense = min(t["offset"] for t in grouped)
        per = {}
        for t in grouped:
            begin, end = per.get(t["group"], (t["offset"], 0))
            per[t["group"]] = (min(begin, t["offset"]), max(end, t["offset"] + t["bytes"]))
        self.expert = -(-max(end - begin for begin, end in per.values()) // 4096) * 4096
        print(f"{model}: {mb(seen['bytes'])}, dense {mb(self.dense)}, {len(per)} experts of {mb(self.expert)}")

    def runs(self, model, kind):
        self.layout(model)
        print("| run | seconds | tok/s | VmHWM | of the file in memory | / needed | experts touched | read | sent away |\n|---|---|---|---|---|---|---|---|---|")
        ids = self.row(model, f"{kind}, no bound", [], None)
        self.row(model, f"{kind}, --expert-memory 256M", ["--expert-memory", "256M"], ids)
        self.row(model, f"{kind}, --expert-memory 256M --prefetch", ["--expert-memory", "256M", "--prefetch"], ids)
        try:
            limit = Limit(self.a.limit_mb << 20)
        except OSError as error:
            return print(f"skipped: no memory-limited cgroup can be made here ({error})")
        try:
            self.row(model, f"{kind}, no bound, in a cgroup of {self.a.limit_mb} MiB", [], ids, limit)
            self.row(model, f"{kind}, --expert-memory 256M, in the cgroup", ["--expert-memory", "256M"], ids, limit)
        finally:
            limit.close()


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("tern")
    parser.add_argument("folder")
    parser.add_argument("--limit-mb", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--spiece", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../golden/tokenizers/t5/spiece.model"))
    parser.add_argument("--types", default="f32,q8")
    parser.add_argument("--json", action="store_true")
    switch_checkpoint.arguments(parser)
    a = parser.parse_args()
    index = os.path.join(a.folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        switch_checkpoint.make(a)
    link = os.path.join(a.folder, "spiece.model")
    if not os.path.exists(link):
        os.symlink(os.path.abspath(a.spiece), link)
    shards = {os.path.join(a.folder, f) for f in json.load(open(index))["weight_map"].values()}
    largest = max(4 * int(switch_checkpoint.numpy.prod(shape)) for shape, _ in switch_checkpoint.shapes(a).values())
    paging, conversions = Paging(a), []
    for kind in a.types.split(","):
        model = f"{a.folder.rstrip('/')}.{kind}.tern"
        if not os.path.exists(model):
            conversions.append(paging.convert(a.folder, model, kind, largest, len(shards)))
            for shard in shards:
                evict(shard)
        paging.runs(model, kind)
    if a.json:
        print(json.dumps({"conversions": conversions, "rows": paging.rows, "failed": paging.failed}))
    for what in paging.failed:
        print("failed:", what, file=sys.stderr)
    return 1 if paging.failed else 0


if __name__ == "__main__":
    sys.exit(main())
