#!/usr/bin/env python3
"""Every bad file of tests/bad_files gets its exit code and one clear line, leaves nothing behind and takes neither memory nor time.

usage: bad_files_test.py BINARY SOURCE_DIR [NAME...]     NAME: only cases that begin so
"""
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

BINARY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
WANTED = tuple(sys.argv[3:])
FOLDER = os.path.join(SOURCE, "tests", "bad_files")
MEMORY = 2 << 30
with open(BINARY, "rb") as f:
    SANITIZED = b"__asan_init" in f.read()  # a sanitizer reserves terabytes of addresses
sys.path.insert(0, FOLDER)


def limits():
    if not SANITIZED:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(case, output, extra):
    command = [BINARY, *[output if word == "OUTPUT" else word for word in case.command], "--quiet", *extra]
    start = time.monotonic()
    r = subprocess.run(command, input=case.stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=limits, timeout=60)
    return r, time.monotonic() - start


def complaints(case, scratch, as_json):
    """What is wrong with the answer to one case, as a list of lines; `as_json` asks a second time with --json."""
    wrong = []
    os.mkdir(scratch)
    output = os.path.join(scratch, "output.tern")
    try:
        r, seconds = run(case, output, [])
    except subprocess.TimeoutExpired:
        return ["did not end in 60 s"]
    err = r.stderr.decode(errors="replace")
    lines = err.splitlines()
    if r.returncode not in case.exits:
        wrong.append(f"exit {r.returncode}, expected {' or '.join(map(str, case.exits))}")
    if seconds > case.seconds * (10 if SANITIZED else 1):
        wrong.append(f"took {seconds:.1f} s")
    if r.returncode == 0:
        return wrong + [f"stderr: {err[:300]!r}"] * bool(wrong)
    last = lines[-1] if lines else ""
    if not last.startswith("tern: "):
        wrong.append("no message")
    if any(not line.startswith("tern: warning: ") for line in lines[:-1]):
        wrong.append("more than one line")
    if case.says and case.says not in last:
        wrong.append(f"{case.says!r} is not in the message")
    if any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in err.replace("\n", "")) or len(last) > 4000:
        wrong.append("the message has control characters, or is endless")
    if os.listdir(scratch):
        wrong.append(f"left {os.listdir(scratch)}")
    if as_json and not wrong:
        r, _ = run(case, output, ["--json"])
        try:
            error = json.loads(r.stdout)["error"]
            if error["code"] != r.returncode or r.returncode not in case.exits:
                wrong.append(f"--json: code {error['code']}, exit {r.returncode}")
        except (ValueError, KeyError) as problem:
            wrong.append(f"--json: {problem!r} {r.stdout[:200]!r}")
    return wrong + [f"stderr: {err[:400]!r}"] * bool(wrong)


def modules():
    for name in sorted(os.listdir(FOLDER)):
        if name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(name[:-3], os.path.join(FOLDER, name))
            module = importlib.util.module_from_spec(spec)
            sys.modules[name[:-3]] = module
            spec.loader.exec_module(module)
            if hasattr(module, "cases"):
                yield name[:-3], module


def main():
    failed, count, files = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        for name, module in modules():
            here = os.path.join(folder, name)
            os.mkdir(here)
            jobs = []
            for i, case in enumerate(module.cases(here)):
                title = f"{name}/{case.name}"
                if not WANTED or title.startswith(WANTED):
                    jobs.append((title, pool.submit(complaints, case, os.path.join(folder, f"scratch-{name}-{i}"), i % 3 == 0)))
            made = sum(len(names) for _, _, names in os.walk(here))
            for title, job in jobs:
                count += 1
                for line in job.result():
                    print(f"{title}: {line}")
                failed += bool(job.result())
            left = sum(len(names) for _, _, names in os.walk(here)) - made
            if left:
                print(f"{name}: {left} files were left beside the inputs")
                failed += 1
            files += made
            print(f"{name}: {made} files, {len(jobs)} cases")
    print(f"{count} cases over {files} files, {failed} failed")
    return failed != 0 or count == 0


if __name__ == "__main__":
    sys.exit(main())
