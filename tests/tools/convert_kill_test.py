#!/usr/bin/env python3
"""convert killed at hundreds of points: the output is the old file or a complete new one, always.   usage: convert_kill_test.py BINARY SOURCE_DIR

Most kills come after a random time, a third at a chosen system call (by strace, where it is there and allowed): before each write, sync and rename.
"""
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BINARY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
sys.path.insert(0, os.path.join(SOURCE, "tests", "bad_files"))
import xl_checkpoint as xl  # noqa: E402

KILLS = 240
SECONDS = 30  # stop early on a slow machine, but not before 200


def read(path):
    with open(path, "rb") as f:
        return f.read()


def main():
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        # A megabyte or two, so that a kill can fall anywhere: while reading, writing, verifying, renaming.
        config = xl.config(n_layer=3, d_model=128, d_embed=128, d_inner=512, n_head=4, d_head=32, vocab_size=512)
        entries = {name: ("F32", shape, bytes(range(1, 65)) * (xl.count(shape) // 16)) for name, shape in xl.shapes(config).items()}
        source = xl.write(os.path.join(folder, "source"), config, entries)
        out = os.path.join(folder, "out")
        os.mkdir(out)
        target = os.path.join(out, "m.tern")

        def command(kind):
            return [BINARY, "convert", source, "-o", target, "--type", kind, "--quiet"]

        files = {}
        for kind in ("f32", "bf16"):
            start = time.monotonic()
            subprocess.run(command(kind), check=True, stdout=subprocess.DEVNULL)
            duration = time.monotonic() - start
            files[kind] = read(target)
        whole = set(files.values())
        assert len(whole) == 2
        present = "bf16"

        def check(what):
            now = read(target)
            if now not in whole:
                sys.exit(f"{what}: the output is neither the old file nor the new one ({len(now)} bytes)")
            left = [n for n in os.listdir(out) if n != "m.tern"]
            if len(left) > 1 or any(".tern-tmp-" not in n for n in left):
                sys.exit(f"{what}: left {left}")
            return "f32" if now == files["f32"] else "bf16", len(left)

        kills = landed = leftovers = 0
        begin = time.monotonic()

        def enough():
            return kills >= KILLS or (kills >= 200 and time.monotonic() - begin > SECONDS)

        def timed():
            nonlocal kills, landed, leftovers, present
            kind = "f32" if present == "bf16" else "bf16"
            p = subprocess.Popen(command(kind), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.random() * duration * 1.1)
            p.send_signal(signal.SIGKILL)
            p.wait()
            now, left = check("killed by time")
            killed = p.returncode == -signal.SIGKILL
            landed += killed and now == kind
            leftovers += left
            kills += killed
            present = now

        calls = "openat,flock,fallocate,write,pwrite64,ftruncate,fsync,rename,unlink,close,mmap,munmap,madvise"
        traced = False
        if shutil.which("strace"):
            log = os.path.join(folder, "log")
            traced = subprocess.run(["strace", "-f", "-e", f"trace={calls}", "-o", log, *command("f32")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        if traced:
            total = read(log).count(b"\n")
            present, _ = check("traced")
            for n in sorted(rng.sample(range(1, total + 1), min(KILLS // 3, total))):
                kind = "f32" if present == "bf16" else "bf16"
                r = subprocess.run(["strace", "-f", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:signal=SIGKILL:when={n}", *command(kind)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                now, left = check(f"killed at system call {n}")
                landed += r.returncode != 0 and now == kind
                leftovers += left
                kills += r.returncode != 0
                present = now
        tries = 0
        while not enough() and tries < 4 * KILLS:
            timed()
            tries += 1
        if kills < 200:
            sys.exit(f"only {kills} kills hit a living process")
        if landed == 0 or leftovers == 0:
            sys.exit(f"the kills missed: {landed} after the rename, {leftovers} left a temporary")
        subprocess.run(command("f32"), check=True, stdout=subprocess.DEVNULL)  # sweeps what killed writers left
        if os.listdir(out) != ["m.tern"] or read(target) != files["f32"]:
            sys.exit(f"after the last run: {os.listdir(out)}")
        print(f"{kills} kills{', some at chosen system calls' if traced else ''}: {landed} came after the rename, {leftovers} left a temporary that the next run swept; "
              f"{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
