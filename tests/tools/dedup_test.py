#!/usr/bin/env python3
"""dedup: the golden cases for any number of threads, kills at any point with --resume, a full disk, other people's mistakes.
usage: dedup_test.py BINARY SOURCE_DIR [KILLS]"""
import hashlib
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
KILLS = int(sys.argv[3]) if len(sys.argv) > 3 else 40
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


def write_corpus(path, count, seed):
    r = random.Random(seed)
    words = ["w%d" % i for i in range(900)]
    with open(path, "w") as f:
        texts = []
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


class Dedup(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.tmp = self.folder.name

    def tearDown(self):
        self.folder.cleanup()

    def golden(self, name):
        with open(os.path.join(GOLDEN, name, "case.json"), encoding="utf-8") as f:
            case = json.load(f)
        expect, out = case["expect"], os.path.join(self.tmp, name.replace("/", "-"))
        args = [a.replace("{in}", os.path.join(GOLDEN, name, "in")).replace("{out}", out) for a in case["args"]]
        code, _, err = tern(*args)
        self.assertEqual(code, case["exit"], name + ": " + err)
        if code != 0:
            self.assertNotEqual(err, "")
        for f in expect.get("absent", []):
            self.assertFalse(os.path.exists(os.path.join(out, f)), name + ": " + f)
        shape = {
            "removed": lambda: [[r["doc"], r["reason"], r.get("kept"), r.get("similarity")] for r in rows(out + "/removed.jsonl")],
            "where": lambda: [[r["doc"], r["id"], r["line"], r["offset"]] for r in rows(out + "/removed.jsonl")],
            "clusters": lambda: [[r["stage"], r["keeper"], r["members"]] for r in rows(out + "/clusters.jsonl")],
            "pairs": lambda: [[r["a"], r["b"], r["similarity"]] for r in rows(out + "/pairs.jsonl")],
            "bad": lambda: [[r["doc"], r["line"], r["offset"]] for r in rows(out + "/bad.jsonl")],
            "spans": lambda: [[r[k] for k in ("doc", "stage", "pass", "begin", "end")] + ([r["cut_begin"], r["cut_end"]] if r["stage"] == "substr" else [r["first_doc"]]) for r in rows(out + "/spans.jsonl")],
            "kept_texts": lambda: {f: [r["text"] for r in rows(out + "/kept/" + f)] for f in expect["kept_texts"]},
            "kept_sha": lambda: {f: hashlib.sha256(read(out + "/kept/" + f)).hexdigest() for f in os.listdir(out + "/kept")},
        }
        for key, wanted in expect.items():
            if key not in shape:
                continue
            got = shape[key]()
            if key in ("removed", "pairs"):
                self.assertEqual(len(got), len(wanted), name)
                for g, w in zip(got, wanted):
                    self.assertEqual(g[:-1], w[:-1], name)
                    if w[-1] is not None:
                        self.assertAlmostEqual(g[-1], w[-1], delta=1e-6)
            else:
                self.assertEqual(got, wanted, name + ": " + key)
        if code == 0:
            for key, value in expect.get("report", {}).items():
                self.assertEqual(json.loads(read(out + "/report.json"))[key], value, name + ": " + key)
            first = tree(out)
            code, _, err = tern(*args, "--force", "--threads", "3", "--max-memory", "4K")
            self.assertEqual(code, 0, err)
            self.assertEqual(tree(out), first, name + ": three threads, little memory")

    def test_golden(self):
        for stage in ("exact", "near", "lines", "substr"):
            for name in sorted(os.listdir(os.path.join(GOLDEN, stage))):
                self.golden(stage + "/" + name)

    def test_kills_then_resume(self):
        write_corpus(self.tmp + "/a.jsonl", 3000, 1)
        args = ["dedup", self.tmp + "/a.jsonl", "--exact", "--near", "--lines", "--substr", "--min-bytes", "40", "--max-cluster", "1000", "-q", "-o"]
        start = time.monotonic()
        self.assertEqual(tern(*args, self.tmp + "/whole")[0], 0)
        duration = time.monotonic() - start
        whole = tree(self.tmp + "/whole")
        rng = random.Random(2)
        killed = 0
        for i in range(KILLS):
            out = self.tmp + "/out"
            for attempt in range(rng.randrange(1, 4)):
                p = subprocess.Popen([BINARY, *args, out, "--resume", "--threads", str(rng.randrange(1, 4))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(rng.random() * duration * 1.1)
                p.send_signal(signal.SIGKILL)
                killed += p.wait() == -signal.SIGKILL
                # What stands under a final name is whole.
                for name, data in (tree(out) if os.path.exists(out) else {}).items():
                    if not name.startswith(".tern-work"):
                        self.assertTrue(".tern-tmp-" in name or data == whole.get(name), name)
            code, _, err = tern(*args, out, "--resume")
            self.assertEqual(code, 0, err)
            self.assertEqual(tree(out), whole)
            shutil.rmtree(out)
        self.assertGreater(killed, KILLS // 5)

    def test_full_disk(self):
        write_corpus(self.tmp + "/a.jsonl", 2000, 3)

        def small_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))

        for extra in ([], ["--substr", "--max-memory", "1K"], ["--lines"]):
            code, _, err = tern("dedup", self.tmp + "/a.jsonl", *extra, "-o", self.tmp + "/out", before=small_files)
            self.assertEqual(code, 3, err)
            self.assertIn("cannot write", err)
            self.assertFalse(os.path.exists(self.tmp + "/out"))

    def test_against(self):
        write_corpus(self.tmp + "/all.jsonl", 1200, 5)
        lines = read(self.tmp + "/all.jsonl").splitlines(True)
        for name, part in (("ref", lines[:500]), ("new", lines[500:])):
            with open(self.tmp + "/" + name + ".jsonl", "wb") as f:
                f.writelines(part)
        for stages in (["--exact"], ["--lines"], ["--substr", "--min-bytes", "40", "--passes", "1"], ["--substr", "--min-words", "9", "--passes", "1"]):
            # The stages that look at first occurrences only: as if the reference stood in front.
            args = [*stages, "--keep", "first", "--force", "-o", self.tmp + "/o"]
            self.assertEqual(tern("dedup", self.tmp + "/ref.jsonl", self.tmp + "/new.jsonl", *args)[0], 0)
            together = tree(self.tmp + "/o")
            code, _, err = tern("dedup", self.tmp + "/new.jsonl", "--against", self.tmp + "/ref.jsonl", *args)
            self.assertEqual(code, 0, err)
            apart = tree(self.tmp + "/o")
            self.assertEqual(apart["kept/new.jsonl"], together["kept/new.jsonl"], stages)
            self.assertNotIn("kept/ref.jsonl", apart)
            shifted = [r["doc"] - 500 for r in map(json.loads, together["removed.jsonl"].splitlines()) if r["doc"] >= 500]
            self.assertEqual([json.loads(r)["doc"] for r in apart["removed.jsonl"].splitlines()], shifted)
        # Near: nothing alike to the reference stays, and nothing of the reference goes. A former run's folder is a reference too.
        self.assertEqual(tern("dedup", self.tmp + "/ref.jsonl", "--exact", "-o", self.tmp + "/former")[0], 0)
        code, _, err = tern("dedup", self.tmp + "/new.jsonl", "--against", self.tmp + "/former", "--near", "--max-cluster", "500", "-o", self.tmp + "/n")
        self.assertEqual(code, 0, err)
        removed = rows(self.tmp + "/n/removed.jsonl")
        self.assertGreater(sum("against" in r for r in removed), 50)
        for r in removed:
            if "against" in r:
                self.assertIsNone(r["kept"])
                self.assertEqual(r["against"]["id"], str(json.loads(read(self.tmp + "/former/kept/ref.jsonl").splitlines()[r["against"]["doc"]])["id"]))
        code, out, err = tern("dedup", self.tmp + "/n/kept/new.jsonl", "--against", self.tmp + "/former", "--near", "--json", "-o", self.tmp + "/again")
        self.assertEqual((code, json.loads(out)["removed"]), (0, 0))

    def test_folders_and_inputs(self):
        os.mkdir(self.tmp + "/in")
        with open(self.tmp + "/in/a.jsonl", "w") as f:
            f.write('{"text": "one"}\n{"text": "one"}\n')
        with open(self.tmp + "/in/b.txt", "w") as f:
            f.write("one\ntwo\n")
        code, out, err = tern("dedup", self.tmp + "/in", "--exact", "--json", "-o", self.tmp + "/o1")
        self.assertEqual(code, 0, err)
        self.assertEqual((json.loads(out)["documents"], json.loads(out)["kept"]), (4, 2))
        self.assertEqual(read(self.tmp + "/o1/kept/b.txt"), b"two\n")
        self.assertEqual(tern("dedup", self.tmp + "/in", "--exact", "-o", self.tmp + "/o1")[0], 2)  # not empty
        self.assertEqual(tern("dedup", self.tmp + "/in/*.txt", "--exact", "--force", "-o", self.tmp + "/o1")[0], 0)
        self.assertEqual(os.listdir(self.tmp + "/o1/kept"), ["b.txt"])  # nothing of the former run
        self.assertEqual(tern("dedup", self.tmp + "/in/*.nothing", "--exact", "-o", self.tmp + "/o2")[0], 3)
        self.assertFalse(os.path.exists(self.tmp + "/o2"))
        code, out, err = tern("dedup", "-", "--exact", "--json", "-o", self.tmp + "/o3", stdin=b'{"text":"x"}\n{"text":"x"}\n')
        self.assertEqual(code, 0, err)
        self.assertEqual(read(self.tmp + "/o3/kept/stdin.jsonl"), b'{"text":"x"}\n')
        manifest = json.loads(read(self.tmp + "/o3/manifest.json"))
        self.assertEqual((manifest["verb"], manifest["inputs"][0]["documents"]), ("dedup", 2))
        with open(self.tmp + "/x.parquet", "wb") as f:
            f.write(b"PAR1")
        code, _, err = tern("dedup", self.tmp + "/x.parquet", "-o", self.tmp + "/o4")
        self.assertEqual(code, 4)
        self.assertIn("JSONL", err)
        for bad in (["--bands", "16"], ["--unit", "word0"], ["--keep", "best"], ["--max-cluster", "0"], ["--normalize", "x"], ["--threshold", "1.5"]):
            self.assertEqual(tern("dedup", self.tmp + "/in", *bad, "-o", self.tmp + "/o5")[0], 2, bad)


unittest.main(argv=sys.argv[:1])
