#!/usr/bin/env python3
"""Every command that README.md shows, run, and its output compared: "..." stands for the rest of a line, alone on a line for any lines.
Blocks marked ```text need files that are not here and are left out.

usage: readme_test.py BINARY SOURCE_DIR
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

DOCS = ["The ship left the harbour at dawn, and nobody on the pier could say where it was bound."] * 2 + ["A short one."]


def matches(expected, got):
    expected, got = [re.sub(" +", " ", line) for line in expected], re.sub(" +", " ", got)     # columns are as wide as their figures
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line).replace(re.escape("..."), ".*") + r"\n" for line in expected)
    return re.fullmatch(pattern, got) is not None


def main():
    binary, source = map(pathlib.Path, map(os.path.abspath, sys.argv[1:3]))
    blocks = [body for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", (source / "README.md").read_text(encoding="utf-8"), re.S | re.M) if kind == ""]
    commands, wrong = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name, target in (("tern", binary), ("models", source / "models"), ("tests", source / "tests")):
            os.symlink(target, os.path.join(folder, name))
        with open(os.path.join(folder, "docs.jsonl"), "w") as f:
            f.writelines('{"text":"%s"}\n' % text for text in DOCS)
        for block in blocks:
            for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
                commands += 1
                r = subprocess.run(command, shell=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
                lines = expected.splitlines()
                if command.startswith("./tern run"):     # a sampled text may differ in the last bits of another instruction set
                    lines = ["..."]
                if r.returncode != 0 or not r.stdout or not matches(lines, r.stdout):
                    wrong += 1
                    print(f"$ {command}\nexit {r.returncode}\n{r.stdout}{r.stderr}--- expected\n{expected}")
    print(f"{commands} commands, {wrong} wrong")
    return 1 if wrong or commands < 5 else 0


sys.exit(main())
