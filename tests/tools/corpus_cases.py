"""What the tests of dedup, filter and leak share: running the program, reading what it wrote, small corpora, golden cases, kills.
A test that imports it is called with BINARY SOURCE_DIR [KILLS]."""
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BINARY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
KILLS = int(sys.argv[3]) if len(sys.argv) > 3 else 10
GOLDEN = os.path.join(SOURCE, "tests/golden/data-tools")


def tern(*args, stdin=None, before=None):
    r = subprocess.run([BINARY, *args], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, preexec_fn=before)
    return r.returncode, r.stdout.decode(), r.stderr.decode()


def read(path):
    with open(path, "rb") as f:
        return f.read()


def rows(path):
    return [json.loads(line) for line in read(path).splitlines()]


def tree(folder):
    return {os.path.relpath(os.path.join(d, f), folder): read(os.path.join(d, f)) for d, _, fs in os.walk(folder) for f in fs}


def write_jsonl(path, texts):
    with open(path, "w", encoding="utf-8") as f:
        for text in texts:
            f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def write_corpus(path, count, seed):
    """Records of random words; two of five are copies with a few edits."""
    r = random.Random(seed)
    words = ["w%d" % i for i in range(900)]
    texts = []
    with open(path, "w") as f:
        for i in range(count):
            if texts and r.random() < 0.4:
                t = r.choice(texts).split(" ")
                for _ in range(r.randrange(4)):
                    t[r.randrange(len(t))] = r.choice(words)
                text = " ".join(t)
            else:
                text = " ".join(r.choice(words) for _ in range(r.randrange(5, 200)))
            texts.append(text)
            f.write(json.dumps({"id": i, "text": text}) + "\n")


class CorpusCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.tmp = self.folder.name

    def tearDown(self):
        self.folder.cleanup()

    def run_golden(self, name, *again):
        """Runs a golden case, and once more with each list of flags in `again`, which must not change a byte. Gives (exit code, expect, output folder)."""
        with open(os.path.join(GOLDEN, name, "case.json"), encoding="utf-8") as f:
            case = json.load(f)
        out = os.path.join(self.tmp, name.replace("/", "-"))
        args = [a.replace("{in}", os.path.join(GOLDEN, name, "in")).replace("{out}", out) for a in case["args"]]
        code, _, err = tern(*args)
        self.assertEqual(code, case["exit"], name + ": " + err)
        if code != 0:
            self.assertNotEqual(err, "")
            return code, case["expect"], out
        for key, value in case["expect"].get("report", {}).items():
            self.assertEqual(json.loads(read(out + "/report.json"))[key], value, name + ": " + key)
        first = tree(out)
        for flags in again:
            code, _, err = tern(*args, "--force", *flags)
            self.assertEqual(code, 0, err)
            self.assertEqual(tree(out), first, name + ": " + " ".join(flags))
        return code, case["expect"], out

    def check_failures(self, *args):
        """A full disk and an input that cannot be read: exit 3, one message, nothing left. args: a command whose output is larger than 200 KB."""
        def small_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))

        out = self.tmp + "/failed"
        code, _, err = tern(*args, "-o", out, before=small_files)
        self.assertEqual(code, 3, err)
        self.assertIn("cannot write", err)
        self.assertFalse(os.path.exists(out))
        code, _, err = tern(*args, "/proc/self/mem", "-o", out)  # opens, but does not read, not even for root
        self.assertEqual(code, 3, err)
        self.assertRegex(err, "/proc/self/mem: cannot read")
        self.assertFalse(os.path.exists(out))

    def check_full_disks(self, *args):
        """Disks of many sizes, so that they fill up at every stage: all is written, or exit 3, one message and nothing left."""
        if not shutil.which("mount"):
            self.skipTest("no file system can be mounted here")
        self.assertEqual(tern(*args, "-q", "-o", self.tmp + "/roomy")[0], 0)
        whole, disk, full = tree(self.tmp + "/roomy"), self.tmp + "/disk", 0
        os.mkdir(disk)
        size = 16 << 10
        while True:
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d" % size, "tmpfs", disk], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if mounted.returncode != 0:
                self.skipTest("no file system can be mounted here")
            try:
                code, _, err = tern(*args, "-q", "-o", disk + "/out")
                if code == 0:
                    self.assertEqual(tree(disk + "/out"), whole)
                    break
                self.assertEqual((code, err.count("tern: ")), (3, 1), err)
                self.assertIn("No space left on device", err)
                self.assertEqual(os.listdir(disk), [], "%d bytes" % size)
                full += 1
            finally:
                subprocess.run(["umount", disk], check=True)
            size += size // 4 & ~4095
        self.assertGreater(full, 5)

    def kill_and_resume(self, *args):
        """Kills at random points, then --resume: the same bytes as a run that nobody disturbed. KILLS times."""
        start = time.monotonic()
        code, _, err = tern(*args, "-q", "-o", self.tmp + "/whole")
        self.assertEqual(code, 0, err)
        duration = time.monotonic() - start
        whole = tree(self.tmp + "/whole")
        rng = random.Random(2)
        out, killed = self.tmp + "/out", 0
        for _ in range(KILLS):
            for _ in range(rng.randrange(1, 4)):
                p = subprocess.Popen([BINARY, *args, "-q", "-o", out, "--resume", "--threads", str(rng.randrange(1, 4))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(rng.random() * duration * 1.1)
                p.send_signal(signal.SIGKILL)
                killed += p.wait() == -signal.SIGKILL
                # What stands under a final name is whole.
                for name, data in (tree(out) if os.path.exists(out) else {}).items():
                    if not name.startswith(".tern-work"):
                        self.assertTrue(".tern-tmp-" in name or data == whole.get(name), name)
            code, _, err = tern(*args, "-q", "-o", out, "--resume")
            self.assertEqual(code, 0, err)
            self.assertEqual(tree(out), whole)
            shutil.rmtree(out)
        self.assertGreater(killed, KILLS // 5)
        return killed
