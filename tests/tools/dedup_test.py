#!/usr/bin/env python3
"""dedup: the golden cases for any number of threads, kills at any point with --resume, a full disk, other people's mistakes.
usage: dedup_test.py BINARY SOURCE_DIR [KILLS]"""
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import unittest

from corpus_cases import BINARY, GOLDEN, CorpusCase, read, rows, tern, tree, write_corpus


class Dedup(CorpusCase):
    def golden(self, name):
        _, expect, out = self.run_golden(name, ["--threads", "3", "--max-memory", "4K"])
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

    def test_golden(self):
        for stage in ("exact", "near", "lines", "substr"):
            for name in sorted(os.listdir(os.path.join(GOLDEN, stage))):
                self.golden(stage + "/" + name)

    def test_kills_then_resume(self):
        write_corpus(self.tmp + "/a.jsonl", 3000, 1)
        self.kill_and_resume("dedup", self.tmp + "/a.jsonl", "--exact", "--near", "--lines", "--substr", "--min-bytes", "40", "--max-cluster", "1000")

    def test_a_folder_that_another_run_is_writing_into(self):
        write_corpus(self.tmp + "/a.jsonl", 50, 1)
        work = self.tmp + "/out/.tern-work"
        os.makedirs(work)
        with open(work + "/lock", "w") as lock, open(work + "/list", "w") as theirs:
            theirs.write("half of a list")
            fcntl.flock(lock, fcntl.LOCK_EX)
            for flag in ("--force", "--resume"):
                code, _, err = tern("dedup", self.tmp + "/a.jsonl", "-o", self.tmp + "/out", flag)
                self.assertEqual(code, 3, err)
                self.assertIn("another run", err)
                self.assertEqual(sorted(os.listdir(work)), ["list", "lock"])

    def test_failures(self):
        write_corpus(self.tmp + "/a.jsonl", 2000, 3)
        for extra in ([], ["--substr", "--max-memory", "1K"], ["--lines"]):
            self.check_failures("dedup", self.tmp + "/a.jsonl", *extra)

    def test_full_disks(self):
        write_corpus(self.tmp + "/a.jsonl", 1500, 3)
        self.check_full_disks("dedup", self.tmp + "/a.jsonl", "--exact", "--near", "--lines", "--substr", "--max-memory", "100K", "--max-cluster", "1000")

    def test_input_that_changes_while_it_is_read(self):
        write_corpus(self.tmp + "/a.jsonl", 100, 3)
        os.mkfifo(self.tmp + "/pipe.jsonl")
        p = subprocess.Popen([BINARY, "dedup", self.tmp + "/a.jsonl", self.tmp + "/pipe.jsonl", "-o", self.tmp + "/out"], stderr=subprocess.PIPE)
        with open(self.tmp + "/pipe.jsonl", "wb") as pipe:  # open only when the first file has been read
            with open(self.tmp + "/a.jsonl", "ab") as f:
                f.write(b'{"text": "one more"}\n')
            pipe.write(b'{"text": "through the pipe"}\n')
        err = p.communicate(timeout=60)[1].decode()
        self.assertEqual(p.returncode, 3, err)
        self.assertIn("a.jsonl: the file changed while it was being read", err)
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
