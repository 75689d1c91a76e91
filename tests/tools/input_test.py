#!/usr/bin/env python3
"""Where a verb's text comes from - a file, .jsonl, standard input, the argument itself - and how it ends: limits, Ctrl-C, a lost mapping.

usage: input_test.py BINARY SOURCE_DIR
"""
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BINARY = os.path.abspath(sys.argv[1])


class Input(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.vocab = cls.file("none", "x\n")        # bytes need no vocabulary; --count gives the bytes without line ends

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def file(cls, name, text):
        path = os.path.join(cls.folder.name, name)
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        return path

    def run_tern(self, *args, stdin=b"", **kw):
        return subprocess.run([BINARY, "tokenize", self.vocab, "--kind", "bytes", *args], input=stdin, capture_output=True, timeout=60, **kw)

    def count(self, *args, **kw):
        r = self.run_tern("--count", *args, **kw)
        self.assertEqual((r.returncode, r.stderr), (0, b""), args)
        return int(r.stdout)

    def refuse(self, code, *args, **kw):
        r = self.run_tern("--count", *args, **kw)
        self.assertEqual(r.returncode, code, r.stderr)
        self.assertEqual(r.stdout, b"")
        self.assertRegex(r.stderr.decode(), r"\Atern: [^\n]+\n\Z")
        return r.stderr.decode()

    def test_the_argument_itself(self):
        self.assertEqual(self.count("a b c"), 5)
        self.assertEqual(self.count("--", "-a"), 2)
        self.assertEqual(self.count(""), 0)
        self.assertEqual(self.count(self.folder.name + "/nothing-here/a") > 3, True)     # no such file: it is text

    def test_a_file(self):
        self.assertEqual(self.count(self.file("text.txt", "a b\na b c\n")), 8)
        self.assertEqual(self.count(self.file("empty.txt", "")), 0)

    def test_standard_input(self):
        self.assertEqual(self.count(stdin=b"a b\nc"), 4)
        self.assertEqual(self.count("-", stdin=b"a b"), 3)
        with open(self.file("in.txt", "a a a a"), "rb") as f:
            r = subprocess.run([BINARY, "tokenize", self.vocab, "--kind", "bytes", "--count"], stdin=f, capture_output=True, timeout=60)
        self.assertEqual(r.stdout, b"7\n")

    def test_jsonl(self):
        self.assertEqual(self.count(self.file("x.jsonl", '{"text": "a b"}\n\n{"id": 7, "text": "c"}')), 4)
        error = self.refuse(4, self.file("y.jsonl", '{"text": "a"}\n{"body": "b"}\n'))
        self.assertIn('y.jsonl: line 2: no field "text"', error)
        error = self.refuse(4, self.file("z.jsonl", '{"text": "a"}\n{"text": \n'))
        self.assertIn("z.jsonl: line 2", error)

    def test_binary(self):
        self.assertGreater(self.count(stdin=bytes(range(256)) * 100), 0)

    def test_closed_and_unreadable(self):
        r = subprocess.run(["bash", "-c", '"$0" tokenize "$1" --kind bytes --count <&-', BINARY, self.vocab], capture_output=True, timeout=60)
        self.assertEqual(r.returncode, 2)
        self.assertIn(b"standard input is closed", r.stderr)
        if os.getuid() != 0:
            path = self.file("secret.txt", "a")
            os.chmod(path, 0)
            self.assertIn("cannot open", self.refuse(3, path))
        fifo = os.path.join(self.folder.name, "fifo")
        os.mkfifo(fifo)
        writer = subprocess.Popen(["bash", "-c", 'echo "a b a" > "$0"', fifo])
        self.assertEqual(self.count(fifo), 5)
        writer.wait(timeout=60)

    def test_a_line_without_end(self):
        line = b'{"text": "' + b"a " * (10 << 20) + b'"}\n'
        self.assertIn("longer than", self.refuse(2, self.file("long.jsonl", line)))

    def test_a_terminal_is_told(self):
        master, slave = pty.openpty()
        p = subprocess.Popen([BINARY, "tokenize", self.vocab, "--kind", "bytes", "--count"], stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=True)
        os.close(slave)
        os.write(master, b"a b\n\x04")
        out, err = p.communicate(timeout=60)
        os.close(master)
        self.assertEqual((p.returncode, out.strip()), (0, b"3"))
        self.assertIn(b"Ctrl-D", err)

    def stopped_by(self, number, *args):
        p = subprocess.Popen([BINARY, "tokenize", self.vocab, "--kind", "bytes", "--count", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)])   # a shell's background job ignores some
        p.stdin.write(b"a b\n")
        p.stdin.flush()
        for _ in range(600):            # until it waits for more
            with open(f"/proc/{p.pid}/io") as io, open(f"/proc/{p.pid}/stat") as stat:
                if int(io.read().split("rchar: ")[1].split()[0]) > 0 and stat.read().rsplit(")", 1)[1].split()[0] == "S":
                    break
            time.sleep(0.01)
        time.sleep(0.3)
        p.send_signal(number)
        out, err = p.communicate(timeout=60)
        return p.returncode, out, err

    def test_signals(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            got, out, _ = self.stopped_by(number)
            self.assertEqual((got, out), (code, b""))
        code, out, err = self.stopped_by(signal.SIGBUS)
        self.assertEqual((code, out), (3, b""))
        self.assertRegex(err.decode(), r"\Atern: a mapped file became shorter [^\n]*\n\Z")
        code, out, err = self.stopped_by(signal.SIGBUS, "--json")
        self.assertEqual((code, json.loads(out)["error"]["code"]), (3, 3))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
