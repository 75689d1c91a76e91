#!/usr/bin/env python3
"""How the program talks: help, errors, exit codes, JSON, closed pipes, signals.   usage: cli_test.py BINARY SOURCE_DIR"""
import json
import os
import pty
import re
import subprocess
import sys
import unittest

BINARY = os.path.abspath(sys.argv[1])


def tern(*args, stdin=b"", env=None, **kw):
    e = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
    e.update(env or {})
    r = subprocess.run([BINARY, *args], input=stdin, stdout=kw.pop("stdout", subprocess.PIPE), stderr=kw.pop("stderr", subprocess.PIPE), env=e, timeout=60, **kw)
    r.out = (r.stdout or b"").decode()
    r.err = (r.stderr or b"").decode()
    return r


def on_terminal(*args, env=None):
    """Runs with stdout and stderr on a pseudo-terminal; gives what a person sees."""
    master, slave = pty.openpty()
    e = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
    e.update(env or {})
    p = subprocess.Popen([BINARY, *args], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=e, close_fds=True)
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(master)
    p.wait(timeout=60)
    return seen.decode()


VERBS = [v["name"] for v in json.loads(tern("help", "--json").out)["verbs"]]


def all_paths():
    """Every verb, kinds included: ["bench", "gemm"]."""
    for verb in VERBS:
        text = tern("help", verb).out
        if " KIND ..." not in text:
            yield [verb]
            continue
        for line in text.splitlines():
            m = re.match(r"  ([a-z]+)  +\S", line)
            if m and tern("help", verb, m.group(1)).returncode == 0:
                yield [verb, m.group(1)]


PATHS = list(all_paths())


class Help(unittest.TestCase):
    def test_every_verb_explains_itself(self):
        self.assertGreaterEqual(len(VERBS), 3)
        for path in PATHS:
            with self.subTest(path=path):
                r = tern(*path, "--help")
                self.assertEqual((r.returncode, r.err), (0, ""))
                self.assertIn("Usage\n  tern " + " ".join(path), r.out)
                self.assertIn("Example\n  ", r.out)
                for flag in ("--json", "--quiet", "--verbose", "--help"):
                    self.assertIn(flag, r.out)
                self.assertEqual(r.out, tern("help", *path).out)
                self.assertEqual(r.out, tern(*path, "-h").out)

    def test_overview(self):
        r = tern("help")
        self.assertEqual(r.returncode, 0)
        for verb in VERBS:
            self.assertRegex(r.out, rf"(?m)^  {verb} ")
        self.assertEqual(r.out, tern("--help").out)
        bare = tern()
        self.assertEqual((bare.returncode, bare.out), (2, ""))
        self.assertIn("Usage", bare.err)

    def test_version_is_one_line(self):
        r = tern("--version")
        self.assertEqual(r.returncode, 0)
        self.assertRegex(r.out, r"\Atern \d+\.\d+\.\d+ \(.*\)\n\Z")
        self.assertEqual(r.out, tern("version").out)
        said = json.loads(tern("version", "--json").out)
        for target in said["targets"]:
            self.assertEqual(json.loads(tern("version", "--json", env={"TERN_TARGET": target}).out)["target"], target)
        wrong = tern("version", env={"TERN_TARGET": "z80"})
        self.assertEqual((wrong.returncode, wrong.out), (2, ""))


class Completion(unittest.TestCase):
    def test_shells_know_every_verb_and_flag(self):
        for shell in ("bash", "zsh", "fish"):
            script = tern("completion", shell).out
            for path in PATHS:
                self.assertIn(path[-1], script)
                for flag in re.findall(r"(?m)^  (?:-\w, |    )(--[a-z0-9-]+)", tern("help", *path).out):
                    self.assertTrue(flag in script or "-l " + flag[2:] in script, (shell, path, flag))

    def complete(self, *words):
        script = tern("completion", "bash").out + f"\nCOMP_WORDS=({' '.join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}; _tern; echo \"${{COMPREPLY[@]}}\"\n"
        r = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.stderr, "")
        return r.stdout.split()

    def test_bash_completes(self):
        self.assertEqual(self.complete("tern", "vers"), ["version"])
        self.assertEqual(self.complete("tern", "completion", "f"), ["fish"])
        self.assertEqual(self.complete("tern", "version", "--js"), ["--json"])


class Refusals(unittest.TestCase):
    def refuse(self, *args, **kw):
        r = tern(*args, **kw)
        self.assertEqual((r.returncode, r.out), (2, ""), args)
        self.assertRegex(r.err, r"\Atern: [^\n]*[.?]\n\Z")
        return r.err

    def test_unknown_verb(self):
        self.assertIn("Did you mean version?", self.refuse("verison"))
        self.assertNotIn("Did you mean", self.refuse("frobnicate"))
        self.assertIn('\\x1b', self.refuse("\x1b[31mred"))

    def test_unknown_flag_on_every_verb(self):
        for path in PATHS:
            with self.subTest(path=path):
                self.assertIn("Did you mean --json?", self.refuse(*path, "--josn"))
                self.assertIn("unknown flag -Z", self.refuse(*path, "-Z"))
                self.refuse(*path, "--json=yes")

    def test_flag_before_the_verb(self):
        self.assertIn("the verb comes first", self.refuse("--quiet"))

    def test_places(self):
        self.assertIn("SHELL is missing", self.refuse("completion"))
        self.assertIn("Did you mean bash?", self.refuse("completion", "bsh"))
        self.assertIn("one argument too many", self.refuse("completion", "bash", "zsh"))
        self.assertIn("one argument too many", self.refuse("version", "--", "--json"))

    def test_numbers(self):
        if ["bench", "gemm"] not in PATHS:
            self.skipTest("no verb with numbers")
        for bad in ("-5", "0", "1e9", "nan", "", "abc", "1.5", "9223372036854775808", "1" * 400, "0x10", " 4", "4 "):
            for words in (["--m", bad], ["--m=" + bad]):
                with self.subTest(words=words):
                    self.assertIn("--m", self.refuse("bench", "gemm", *words))
        for bad in ("-1", "nan", "inf", "1e999", "", "1,5"):
            self.assertIn("--min-seconds", self.refuse("bench", "gemm", "--min-seconds", bad))
        self.assertIn("given twice", self.refuse("bench", "gemm", "--m", "4", "--m", "5"))
        self.assertIn("needs a value", self.refuse("bench", "gemm", "--m"))
        self.assertIn("Did you mean", self.refuse("bench", "gem"))
        self.refuse("bench")

    def test_json_errors(self):
        for args in (["verison"], ["completion", "bsh"], ["version", "--bad"], []):
            r = tern(*args, "--json")
            self.assertEqual(r.returncode, 2)
            error = json.loads(r.out)["error"]
            self.assertEqual(error["code"], 2)
            for key in ("message", "file", "where"):
                self.assertIsInstance(error[key], str)
            self.assertEqual(r.out.count("\n"), 1)


class Streams(unittest.TestCase):
    def test_closed_pipe(self):
        read, write = os.pipe()
        os.close(read)
        r = tern("help", stdout=write)
        os.close(write)
        self.assertEqual((r.returncode, r.err), (141, ""))

    def test_full_disk_and_closed_stdout(self):
        with open("/dev/full", "wb") as full:
            for args in (["help"], ["version", "--json"]):
                r = tern(*args, stdout=full)
                self.assertEqual(r.returncode, 3)
                self.assertRegex(r.err, r"tern: standard output: cannot write: .*\n\Z")
            self.assertEqual(tern("verison", "--json", stdout=full).returncode, 2)      # the first failure counts
        r = subprocess.run(["bash", "-c", '"$0" version >&-', BINARY], capture_output=True, timeout=60)
        self.assertEqual(r.returncode, 3)

    def test_closed_stdin_and_stderr(self):
        r = subprocess.run(["bash", "-c", '"$0" version <&- 2>&-', BINARY], capture_output=True, timeout=60)
        self.assertEqual(r.returncode, 0)
        r = subprocess.run(["bash", "-c", '"$0" verison 2>/dev/full', BINARY], capture_output=True, timeout=60)
        self.assertEqual(r.returncode, 2)

    def test_colour(self):
        self.assertIn("\033[", on_terminal("help", env={"TERM": "xterm"}))
        self.assertNotIn("\033", on_terminal("help", env={"TERM": "xterm", "NO_COLOR": "1"}))
        self.assertNotIn("\033", on_terminal("help", env={"TERM": "dumb"}))
        self.assertNotIn("\033", on_terminal("help"))
        self.assertNotIn("\033", tern("help", env={"TERM": "xterm"}).out)
        self.assertIn("\033[", on_terminal("verison", env={"TERM": "xterm"}))

    def test_no_home(self):
        r = subprocess.run([BINARY, "version"], env={}, capture_output=True, timeout=60)
        self.assertEqual((r.returncode, r.stderr), (0, b""))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
