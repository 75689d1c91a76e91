#!/usr/bin/env python3
"""fill, answer, classify and embed as a user meets them, with small golden models and wrong input.   usage: encoder_verbs_test.py BINARY SOURCE_DIR"""
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

BINARY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
GOLDEN = os.path.join(SOURCE, "tests", "golden")
sys.path.insert(0, os.path.join(SOURCE, "tests", "bad_files"))
from tern_file import reseal  # noqa: E402
from xxh3 import xxh3_64  # noqa: E402


def tern(*args, stdin=b"", exits=0):
    r = subprocess.run([BINARY, *map(str, args)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    r.out, r.err = r.stdout.decode(), r.stderr.decode(errors="replace")
    if r.returncode != exits:
        raise AssertionError(f"tern {' '.join(map(str, args))[:200]}: exit {r.returncode}, expected {exits}\n{r.err}")
    return r


def lines(text):
    """Answers in JSON lines; an error at the end is one more object, which is not counted."""
    return [answer for answer in map(json.loads, text.splitlines()) if "error" not in answer]


class Verbs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.models = {}
        for name, golden in (("fill", "albert/masked_lm"), ("answer", "bert/qa_legacy"), ("label", "bert/distilbert_seqcls"), ("choose", "albert/multiple_choice"),
                             ("embed", "albert/groups2_inner2_layers5")):
            cls.models[name] = os.path.join(cls.folder, name + ".tern")
            tern("convert", os.path.join(GOLDEN, golden, "model"), "-o", cls.models[name], "--tokenizer", os.path.join(SOURCE, "tests", "fixtures", "letters", "vocab.txt"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def file(cls, name, data):
        path = os.path.join(cls.folder, name)
        with open(path, "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        return path

    # Bytes that are no text, and texts that are hardly any: every verb takes them.
    ODD = b"\xff\xfe broken\n\x01\x02\x1b[31m\x00 bell\x07\n\n \nthe bird\r\n"

    def test_fill(self):
        r = lines(tern("fill", self.models["fill"], "the [MASK] flies south.", "--json", "--top-k", 97).out)
        self.assertEqual([len(r), len(r[0]["masks"]), len(r[0]["masks"][0])], [1, 1, 97])
        p = [f["probability"] for f in r[0]["masks"][0]]
        self.assertAlmostEqual(sum(p), 1, places=4)
        self.assertEqual(p, sorted(p, reverse=True))
        text = tern("fill", self.models["fill"], "the [MASK] flies [MASK].").out
        self.assertIn("mask 1\n", text)
        self.assertIn("mask 2\n", text)

    def test_fill_wrong_input(self):
        self.assertIn("[MASK]", tern("fill", self.models["fill"], "no mask here", exits=2).err)
        self.assertIn("too long", tern("fill", self.models["fill"], "a " * 80 + "[MASK]", exits=2).err)
        self.assertIn("no masked-LM head", tern("fill", self.models["label"], "the [MASK]", exits=2).err)
        good = self.file("lines.txt", "the [MASK]\n\nnone\nlong [MASK] way\n")
        r = tern("fill", self.models["fill"], good, "--json", exits=4)
        self.assertEqual([x["line"] for x in lines(r.out)], [1, 4])
        self.assertIn("line 2", r.err)
        self.assertIn("line 3", r.err)
        self.assertIn("2 of 4 lines", r.err)
        records = self.file("fill.jsonl", '{"text": "the [MASK]"}\n{"text": 3}\nnothing\n{"text": "[MASK] it"}\n')
        r = tern("fill", self.models["fill"], records, "--json", exits=4)
        self.assertEqual([x["line"] for x in lines(r.out)], [1, 4])
        tern("fill", self.models["fill"], "-", stdin=b"\xff [MASK] \x00\x07\n")
        tern("fill", self.models["fill"], "-", stdin=b"x" * 10_000_000 + b" [MASK]\n")   # one word, one unknown piece

    def test_answer(self):
        context = "The bird (a long one) flies south; who wrote it? \u00c9t\u00e9 1999. " * 12   # many windows
        r = json.loads(tern("answer", self.models["answer"], "--question", "who wrote it?", "--max-length", 32, "--stride", 8, "--n-best", 4, "--json", context).out)
        self.assertEqual(len(r["n_best"]), 4)
        for a in r["n_best"]:
            self.assertEqual(a["text"].encode(), context.encode()[a["begin"]:a["end"]])
        self.assertEqual(r["answer"], r["n_best"][0]["text"])
        self.assertAlmostEqual(sum(a["probability"] for a in r["n_best"]), 1, places=4)
        plain = tern("answer", self.models["answer"], "--question", "who?", self.file("context.txt", context)).out
        self.assertRegex(plain, r"^\d+\.\d\d %\t.*\t\d+-\d+\n")

    def test_answer_wrong_input(self):
        model = self.models["answer"]
        self.assertIn("--question", tern("answer", model, "the bird", exits=2).err)
        self.assertIn("empty", tern("answer", model, "--question", "who?", "-", exits=2).err)
        r = tern("answer", model, "--question", "who wrote it " * 40, "the bird flies south", exits=2)   # longer than the window
        self.assertRegex(r.err, "question|window|room")
        self.assertIn("no question-answering head", tern("answer", self.models["label"], "--question", "who?", "it", exits=2).err)
        for odd in (self.ODD, b"\xff" * 50, b"\x00\x01\x02"):
            out = json.loads(tern("answer", model, "--question", "who?", "--json", "-", stdin=odd).out)
            for a in out["n_best"]:
                self.assertLessEqual(0, a["begin"])
                self.assertLessEqual(a["end"], len(odd))

    def test_classify(self):
        r = lines(tern("classify", self.models["label"], "--json", "--top-k", 9, "the bird flies south").out)
        self.assertEqual(sorted(x["label"] for x in r[0]["labels"]), ["LABEL_0", "LABEL_1", "LABEL_2"])
        self.assertAlmostEqual(sum(x["probability"] for x in r[0]["labels"]), 1, places=5)
        records = self.file("texts.jsonl", '{"text": "the bird"}\n{"text": 3}\n\n{"text": "long way"}\n[1]\n{"text": "it"}\n')
        r = tern("classify", self.models["label"], records, "--json", exits=4)
        self.assertEqual([x["line"] for x in lines(r.out)], [1, 4, 6])
        for number in ("line 2", "line 5"):
            self.assertIn(number, r.err)
        self.assertIn("2 records", r.err)
        r = tern("classify", self.models["label"], "-", "--json", stdin=self.ODD)
        self.assertEqual(len(lines(r.out)), 5)
        self.assertEqual(len(lines(tern("classify", self.models["label"], "-", "--json", stdin=b"the bird " * 1_200_000).out)), 1)   # 10 MB, cut to what the model takes
        self.assertIn("no classification head", tern("classify", self.models["fill"], "it", exits=2).err)

    def test_labels_that_do_not_fit_the_head(self):
        folder = os.path.join(self.folder, "labels")
        shutil.copytree(os.path.join(GOLDEN, "bert/distilbert_seqcls/model"), folder)
        with open(os.path.join(folder, "config.json")) as f:
            config = json.load(f)
        config["id2label"] = {"0": "no", "1": "yes"}
        config.pop("num_labels", None)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f)
        r = tern("convert", folder, "-o", os.path.join(self.folder, "x.tern"), exits=8)
        self.assertIn("classifier", r.err)

    def test_choices(self):
        record = {"text": "who wrote it?", "choices": ["the bird", "it flies", "a long way south"]}
        r = lines(tern("classify", self.models["choose"], "-", "--json", "--top-k", 3, stdin=json.dumps(record).encode()).out)
        self.assertEqual(sorted(c["choice"] for c in r[0]["choices"]), [0, 1, 2])
        self.assertAlmostEqual(sum(c["probability"] for c in r[0]["choices"]), 1, places=5)
        for c in r[0]["choices"]:
            self.assertEqual(c["text"], record["choices"][c["choice"]])
        # A choice's score does not depend on the others: the softmax of two is that of the same scores.
        two = lines(tern("classify", self.models["choose"], "-", "--json", "--top-k", 2, stdin=json.dumps(dict(record, choices=record["choices"][:2])).encode()).out)[0]
        p3 = {c["choice"]: c["probability"] for c in r[0]["choices"]}
        p2 = {c["choice"]: c["probability"] for c in two["choices"]}
        self.assertAlmostEqual(math.log(p3[0] / p3[1]), math.log(p2[0] / p2[1]), places=4)
        bad = '{"text": "who?"}\n{"text": "who?", "choices": []}\n{"text": "who?", "choices": ["a", 3]}\nno record\n' + json.dumps(record) + "\n"
        r = tern("classify", self.models["choose"], "-", "--json", stdin=bad.encode(), exits=4)
        self.assertEqual([x["line"] for x in lines(r.out)], [5])
        for n in (1, 2, 3, 4):
            self.assertIn(f"line {n}", r.err)
        self.assertIn("bird", tern("classify", self.models["choose"], self.file("choices.jsonl", json.dumps(dict(record, choices=["bird"])))).out)

    def vectors(self, path):
        with open(path, "rb") as f:
            data = f.read()
        header = eval(data[10:256].decode())  # noqa: S307: a numpy header of our own
        rows, width = header["shape"]
        values = struct.unpack(f"<{rows * width}f", data[256:])
        return [values[i * width:(i + 1) * width] for i in range(rows)]

    def test_embed(self):
        out = os.path.join(self.folder, "v.npy")
        texts = "the bird flies\nwho wrote it?\nsouth\n"
        tern("embed", self.models["embed"], self.file("t.txt", texts), "-o", out)
        rows = self.vectors(out)
        self.assertEqual(len(rows), 3)
        for row in rows:
            self.assertAlmostEqual(sum(x * x for x in row), 1, places=5)
        # The same in any company and in every form.
        alone = lines(tern("embed", self.models["embed"], "who wrote it?").out)[0]["embedding"]
        self.assertEqual([struct.pack("<f", x) for x in alone], [struct.pack("<f", x) for x in rows[1]])
        named = os.path.join(self.folder, "v.safetensors")
        tern("embed", self.models["embed"], "-", "-o", named, "--batch", 1, stdin=texts.encode())
        with open(named, "rb") as f:
            raw = f.read()
        header = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
        self.assertEqual(header["embeddings"]["shape"], [3, len(rows[0])])
        self.assertEqual(raw[256:], b"".join(struct.pack(f"<{len(r)}f", *r) for r in rows))

    def test_embed_wrong_input(self):
        out = os.path.join(self.folder, "w.npy")
        records = self.file("broken.jsonl", '{"text": "the bird"}\nnot json\n{"text": "south"}\n{"txt": "x"}\n')
        r = tern("embed", self.models["embed"], records, "-o", out, exits=4)
        for number in ("line 2", "line 4"):
            self.assertIn(number, r.err)
        rows = self.vectors(out)
        self.assertEqual([math.isnan(row[0]) for row in rows], [False, True, False, True])
        self.assertEqual(len(self.vectors(out)[0]), len(rows[1]))
        r = tern("embed", self.models["embed"], records, exits=4)
        self.assertEqual([x["embedding"] is None for x in lines(r.out)], [False, True, False, True])
        r = tern("embed", self.models["embed"], "-", stdin=self.ODD)
        self.assertEqual(len(lines(r.out)), 5)
        self.assertEqual(len(lines(tern("embed", self.models["embed"], "-", stdin=b"the bird " * 1_200_000).out)), 1)
        self.assertIn("task head", tern("embed", self.models["label"], "it", exits=2).err)
        self.assertIn(".npy", tern("embed", self.models["embed"], "it", "-o", os.path.join(self.folder, "v.csv"), exits=2).err)

    def test_a_damaged_tokenizer_in_a_model(self):
        with open(self.models["fill"], "rb") as f:
            data = bytearray(f.read())
        at = data.index(b"[PAD]")
        # The blob's record: 32 bytes with the offset of a range that holds the piece.
        table = struct.unpack_from("<II", data, 64)
        metadata = struct.unpack_from("<Q", data, 72)[0]
        record = 64 + 32 + (metadata + 7) // 8 * 8 + 96 * table[0]
        offset, size = struct.unpack_from("<QQ", data, record + 8)
        self.assertTrue(offset <= at < offset + size)
        data[offset:offset + 8] = b"\xff" * 8
        struct.pack_into("<Q", data, record + 24, xxh3_64(bytes(data[offset:offset + size])))
        reseal(data)
        r = tern("fill", self.file("damaged.tern", bytes(data)), "the [MASK]", exits=4)
        self.assertIn("the tokenizer in the file", r.err)

    def test_q8(self):
        """What fills, answers and labels in f32 does in eight bits, with almost the same numbers."""
        for name, args in (("fill", ["the [MASK] flies"]), ("label", ["the bird"]), ("choose", ["-"])):
            eight = os.path.join(self.folder, name + "8.tern")
            report = json.loads(tern("convert", self.models[name], "-o", eight, "--type", "q8", "--json").out)
            self.assertEqual(report["type"], "q8")
            self.assertTrue(report["errors"])
            tern("verify", eight)
            types = json.loads(tern("inspect", eight, "--json").out)["types"]
            self.assertIn("i8", types)
            self.assertLess(os.path.getsize(eight), os.path.getsize(self.models[name]))
            stdin = b'{"text": "who?", "choices": ["it", "bird"]}'
            top = lambda model: [r.get("probability") or r["masks"][0][0]["probability"] for r in lines(tern({"fill": "fill"}.get(name, "classify"), model, *args, "--json", stdin=stdin).out)]
            self.assertAlmostEqual(top(self.models[name])[0], top(eight)[0], delta=0.05)
        text = tern("convert", self.models["embed"], "-o", os.path.join(self.folder, "e8.tern"), "--type", "q8").out
        self.assertIn("as q8", text)
        self.assertRegex(text, r"\d\.\d\d %  groups")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=0)
