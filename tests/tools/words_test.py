#!/usr/bin/env python3
"""The tracked files speak of the project alone: no absolute path of somebody's machine, no user or host names, nothing but text where text is due.

usage: words_test.py BINARY SOURCE_DIR
"""
import pathlib
import re
import subprocess
import sys

FORBIDDEN = [
    (r"(?<![\w.$}])/(work|home|root|Users)/[\w.-]+", "an absolute path of one machine"),
    (r"(?<![\w.$}])/tmp/(?!tern-)[\w.-]+", "a fixed path in /tmp (use mkdtemp or TMPDIR)"),
    (r"\b(files\.pythonhosted|pypi|registry\.npmjs|proxy\.golang|deb\.debian)\.(org|com)\b", "the address of a package registry"),
    (r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b", "unfinished work"),
    (r"<{7} |>{7} |^={7}$", "a conflict mark"),
]
TEXT = {".cc", ".h", ".c", ".py", ".sh", ".md", ".txt", ".cmake", ".yml", ""}
LIMIT_BYTES = 40 << 20          # the whole tree, the bundled model included


def main():
    source = pathlib.Path(sys.argv[2])
    listed = subprocess.run(["git", "-C", str(source), "ls-files", "-z"], capture_output=True)
    if listed.returncode == 0 and listed.stdout:
        files = [source / name for name in listed.stdout.decode().split("\0") if name]
    else:                       # an exported tree
        files = [p for p in source.rglob("*") if p.is_file() and not any(part.startswith(("build", ".git")) for part in p.relative_to(source).parts)]
    wrong, total = [], 0
    for file in files:
        if not file.is_file():
            continue
        total += file.stat().st_size
        name = file.relative_to(source).as_posix()
        if file.suffix not in TEXT or "corpus/" in name and name.startswith("tests/fuzz") or name.startswith(("tests/golden", "tests/fixtures")):
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            wrong.append(f"{name}: not UTF-8")
            continue
        if name == "tests/tools/words_test.py":
            continue
        for number, line in enumerate(text.splitlines(), 1):
            for pattern, what in FORBIDDEN:
                found = re.search(pattern, line)
                if found:
                    wrong.append(f"{name}:{number}: {what}: {found.group(0)}")
            if file.suffix in (".cc", ".h") and line != line.rstrip():
                wrong.append(f"{name}:{number}: blanks at the end of the line")
    if total > LIMIT_BYTES:
        wrong.append(f"the tree holds {total:,} bytes, more than {LIMIT_BYTES:,}")
    print("\n".join(wrong))
    print(f"{len(files)} files, {total:,} bytes, {len(wrong)} complaints")
    return 1 if wrong or len(files) < 20 else 0


sys.exit(main())
