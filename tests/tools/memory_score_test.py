#!/usr/bin/env python3
"""What `tern score` tells of a long-term memory: how much it holds, where it is read, as a table and a picture; wrong input included.

usage: memory_score_test.py BINARY SOURCE_DIR
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET

BINARY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class MemoryScore(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.text = cls.path("book.txt")
        words = random.Random(3)
        with open(cls.text, "w") as f:
            f.write(" ".join(words.choice("aeiot") for _ in range(3000)))

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)

    # A golden checkpoint, other fields in its config, and a vocabulary of single letters.
    def convert(self, golden, letters, **fields):
        source, vocabulary, model = self.path(golden), self.path("vocab.txt"), self.path(golden + ".tern")
        shutil.copytree(os.path.join(SOURCE, "tests/golden/infinite-former", golden, "model"), source, dirs_exist_ok=True)
        with open(os.path.join(source, "config.json")) as f:
            config = json.load(f)
        os.chmod(os.path.join(source, "config.json"), 0o644)
        with open(os.path.join(source, "config.json"), "w") as f:
            json.dump({**config, **fields}, f)
        with open(vocabulary, "w") as f:
            f.write("\n".join(SPECIAL + list(letters)) + "\n")
        self.assertEqual(self.tern("convert", source, "-o", model, "--tokenizer", vocabulary).returncode, 0)
        return model

    def tern(self, *words):
        return subprocess.run([BINARY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def score(self, model, *words):
        r = self.tern("score", model, *words, "--stats", "--json")
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout)

    def refused(self, code, said, *words):
        r = self.tern("score", *words)
        self.assertEqual((r.returncode, r.stdout), (code, ""), r.stderr)
        self.assertIn(said, r.stderr)

    def test_a_memory_that_never_ends(self):
        model, svg = self.convert("sort_long_48", "aeioutnsrlmdhcpgb"), self.path("past.svg")
        scored = self.score(model, self.text, "--svg", svg)
        memory = scored["long_term_memory"]
        # Segments of 8: all that came before the present one, but for the 8 that attention itself sees.
        self.assertEqual(memory["tokens_held"], (scored["tokens"] - 1 - 1) // 8 * 8 - 8)
        self.assertEqual((memory["basis"], memory["width"]), (12, 16))
        heads = [h for layer in memory["layers"] for h in layer["heads"]]
        self.assertEqual(len(heads), 2)
        for h in heads:
            self.assertTrue(0 <= h["mu"] <= 1 and h["sigma"] > 0 and h["tokens_ago"] >= 0)
            self.assertEqual(len(h["density"]), 100)
            self.assertTrue(0 < sum(h["density"]) / 100 <= 1 + 1e-6)   # of a normal density, what lies in [0, 1]
        root = ET.parse(svg).getroot()
        self.assertEqual(len(root.findall("{http://www.w3.org/2000/svg}path")), 2)
        told = self.tern("score", model, self.text, "--stats").stdout
        self.assertIn(f"{memory['tokens_held']:,} tokens in 12 basis functions", told)

    def test_a_memory_that_begins_anew(self):
        model = self.convert("gpt2_long_45", "aeioutnsrlmd", ltm_mem_threshold=64)   # 17 symbols, blocks of 16: anew every four of them
        for tokens in (16, 17, 33, 65, 81, 82, 2000):
            with open(self.path("part.txt"), "w") as f:
                f.write(" ".join("a" for _ in range(tokens)))
            scored = self.score(model, self.path("part.txt"))
            self.assertEqual(scored["tokens"], tokens)
            fed = tokens - 1   # the last is foreseen, not fed
            blocks = max(0, -(-fed // 16) - 1)
            self.assertEqual(scored["long_term_memory"]["tokens_held"], 0 if blocks == 0 else ((blocks - 1) % 4 + 1) * 16, tokens)

    def test_what_cannot_be(self):
        model = self.convert("sort_long_48", "aeioutnsrlmdhcpgb")
        self.refused(2, "one long text", model, self.text, "--stats", "--per-line")
        self.refused(2, "no long-term memory", os.path.join(SOURCE, "models/zoo/books-xl.tern"), self.text, "--stats")
        self.refused(3, "cannot create", model, self.text, "--svg", self.path("nowhere/past.svg"))
        self.refused(2, "no such run-time setting", model, self.text, "--set", "long_term_attention_basis=7")
        short = self.tern("score", model, "a", "--stats", "--svg", self.path("short.svg"))
        self.assertEqual(short.returncode, 0)
        self.assertIn("nothing has entered it yet", short.stdout)
        ET.parse(self.path("short.svg"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
