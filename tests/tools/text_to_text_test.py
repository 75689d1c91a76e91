#!/usr/bin/env python3
"""Encoder-decoders and mixtures of experts as a user meets them, wrong input included.   usage: text_to_text_test.py BINARY SOURCE_DIR"""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

BINARY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
CONFIG = {"model_type": "switch_transformers", "architectures": ["SwitchTransformersForConditionalGeneration"], "vocab_size": 2048, "d_model": 16, "d_kv": 4, "d_ff": 24,
          "num_heads": 2, "num_layers": 2, "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 4, "expert_capacity": 64,
          "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}


def tensors(c):
    a, d, f = c["num_heads"] * c["d_kv"], c["d_model"], c["d_ff"]
    out = {"shared.weight": [c["vocab_size"], d]}
    for stack in ("encoder", "decoder"):
        out[f"{stack}.final_layer_norm.weight"] = [d]
        out[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = [32, c["num_heads"]]
        for b in range(2):
            block = f"{stack}.block.{b}.layer."
            kinds = ["SelfAttention"] + (["EncDecAttention"] if stack == "decoder" else [])
            for n, kind in enumerate(kinds):
                for m in "qkv":
                    out[f"{block}{n}.{kind}.{m}.weight"] = [a, d]
                out[f"{block}{n}.{kind}.o.weight"] = [d, a]
                out[f"{block}{n}.layer_norm.weight"] = [d]
            mlp = f"{block}{len(kinds)}."
            out[mlp + "layer_norm.weight"] = [d]
            if b == 0:
                out[mlp + "mlp.wi.weight"], out[mlp + "mlp.wo.weight"] = [f, d], [d, f]
                continue
            out[mlp + "mlp.router.classifier.weight"] = [c["num_experts"], d]
            for e in range(c["num_experts"]):
                out[f"{mlp}mlp.experts.expert_{e}.wi.weight"], out[f"{mlp}mlp.experts.expert_{e}.wo.weight"] = [f, d], [d, f]
    return out


def write(path, shapes, seed):
    header, body, at = {}, [], 0
    numbers = random.Random(seed)
    for name, shape in shapes.items():
        count = 1
        for n in shape:
            count *= n
        size = 1.0 if len(shape) == 1 else 0.5
        values = [1 + 0.2 * numbers.gauss(0, 1) if len(shape) == 1 else size * numbers.gauss(0, 1) for _ in range(count)]
        body.append(struct.pack(f"<{count}f", *values))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * count]}
        at += 4 * count
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(body))


class TextToText(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.source, cls.model = os.path.join(cls.folder.name, "source"), os.path.join(cls.folder.name, "m.tern")
        os.mkdir(cls.source)
        cls.configure(CONFIG)
        write(os.path.join(cls.source, "model.safetensors"), tensors(CONFIG), 1)
        shutil.copy(os.path.join(SOURCE, "tests/golden/tokenizers/t5/spiece.model"), cls.source)
        r = cls.tern("convert", cls.source, "-o", cls.model)
        assert r.returncode == 0, r.err

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def configure(cls, config):
        with open(os.path.join(cls.source, "config.json"), "w") as f:
            json.dump(config, f)

    @staticmethod
    def tern(*args):
        r = subprocess.run([BINARY, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        r.out, r.err = r.stdout.decode(), r.stderr.decode()
        return r

    def run_json(self, *args):
        r = self.tern(*args, "--json")
        self.assertEqual(r.returncode, 0, r.err)
        return json.loads(r.out)

    def refused(self, code, said, *args):
        r = self.tern(*args)
        self.assertEqual(r.returncode, code, r.out + r.err)
        self.assertIn(said, r.err)

    def test_run_gives_the_same_ids_whatever_is_resident(self):
        text = "A <extra_id_0> walks into a bar"
        one = self.run_json("run", self.model, text, "--new-tokens", "9", "--ignore-eos", "--threads", "1")
        self.assertEqual(len(one["ids"]), 9)
        self.assertEqual(one["end"], "length")
        inspected = self.run_json("inspect", self.model)["experts"]
        self.assertEqual((inspected["layers"], inspected["per_layer"]), (2, 4))
        paged = self.run_json("run", self.model, text, "--new-tokens", "9", "--ignore-eos", "--threads", "2", "--expert-memory", str(8192), "--prefetch")
        self.assertEqual(paged["ids"], one["ids"])
        self.assertLessEqual(paged["experts"]["resident_bytes"], 8192)
        self.assertGreater(paged["experts"]["evictions"], 0)
        beams = self.run_json("run", self.model, text, "--new-tokens", "9", "--beams", "4", "--no-repeat-ngram", "2")
        self.assertEqual(len({tuple(beams["ids"][i:i + 2]) for i in range(len(beams["ids"]) - 1)}), len(beams["ids"]) - 1)
        shown = self.tern("run", self.model, text, "--new-tokens", "9", "--ignore-eos", "--stats")
        self.assertEqual(shown.out, one["text"] + "\n")
        self.assertIn("experts: ", shown.err)

    def test_beams_of_a_decoder(self):
        books = os.path.join(SOURCE, "models/zoo/books-xl.tern")
        text = "It was a dark night, and"
        greedy = self.run_json("run", books, text, "--new-tokens", "12", "--temperature", "0", "--ignore-eos")
        one = self.run_json("run", books, text, "--new-tokens", "12", "--no-repeat-ngram", "12", "--ignore-eos")
        self.assertEqual(one["ids"], greedy["ids"])
        four = self.run_json("run", books, text, "--new-tokens", "12", "--beams", "4", "--ignore-eos")
        self.assertEqual((len(four["ids"]), four["end"], four["prompt_tokens"]), (12, "length", greedy["prompt_tokens"]))
        self.assertGreaterEqual(four["score"], one["score"])
        self.assertEqual(self.tern("run", books, text, "--new-tokens", "12", "--beams", "4", "--ignore-eos").out, four["text"] + "\n")

    def test_fill_has_a_blank_for_each_sentinel(self):
        filled = self.run_json("fill", self.model, "The <extra_id_0> walks in <extra_id_1> park", "--new-tokens", "12")
        self.assertEqual([b["sentinel"] for b in filled["blanks"]], ["<extra_id_0>", "<extra_id_1>"])
        self.refused(2, "no sentinel", "fill", self.model, "nothing is missing")

    def test_score_is_the_sum_over_the_target(self):
        scored = self.run_json("score", self.model, "--source", "Hello there", "--target", "a small cat")
        self.assertEqual(scored["tokens"], len(scored["log_probs"]))
        self.assertAlmostEqual(scored["nll"], -sum(scored["log_probs"]), places=4)
        self.refused(2, "--source", "score", self.model, "a text")
        self.refused(2, "--source", "score", self.model, "--target", "x")

    def test_plan_says_what_experts_take(self):
        plan = self.run_json("plan", self.model, "--context", "20", "--beams", "3")
        self.assertEqual(plan["experts"]["count"], 8)
        self.assertEqual(plan["memory"]["peak"] - plan["experts"]["peak_without"], plan["experts"]["bytes"])

    def test_what_cannot_be_asked(self):
        self.refused(2, "--beams", "run", self.model, "x", "--beams", "0")
        self.refused(2, "--beams", "run", self.model, "x", "--beams", "1001")
        self.refused(2, "expert_capacity", "run", self.model, "x", "--set", "expert_capacity=0")
        self.refused(2, "capacity_policy", "run", self.model, "x", "--set", "capacity_policy=some")
        self.refused(2, "single expert", "run", self.model, "x", "--expert-memory", "100")
        self.refused(2, "conversation", "run", self.model, "x", "--save-state", os.path.join(self.folder.name, "s"))
        self.refused(6, "memory", "run", self.model, "x", "--beams", "1000", "--new-tokens", "10000000")
        books = os.path.join(SOURCE, "models/zoo/books-xl.tern")
        self.refused(2, "--beams", "run", books, "x", "--beams", "4", "--temperature", "1")
        self.refused(2, "--beams", "run", books, "x", "--beams", "4", "--stop", "y")
        self.refused(2, "--beams", "run", books, "x", "--beams", "4", "--save-state", os.path.join(self.folder.name, "s"))
        self.refused(6, "memory", "run", books, "x", "--beams", "8", "--new-tokens", "1000000000")
        self.refused(2, "no experts", "run", books, "x", "--expert-memory", "1M")
        self.refused(2, "no encoder", "embed", self.model, "x")

    def test_checkpoints_that_do_not_fit(self):
        out = os.path.join(self.folder.name, "bad.tern")
        try:
            self.configure({**CONFIG, "num_experts": 6})
            self.refused(8, "expert_4", "convert", self.source, "-o", out)
            self.configure({**CONFIG, "num_experts": 3})
            self.refused(4, "more experts", "convert", self.source, "-o", out)
            self.configure({**CONFIG, "expert_capacity": 0})
            self.refused(4, "expert_capacity", "convert", self.source, "-o", out)
            self.configure({**CONFIG, "capacity_policy": "other"})
            self.refused(4, "capacity_policy", "convert", self.source, "-o", out)
            self.configure({**CONFIG, "relative_attention_max_distance": 9})
            self.refused(4, "relative_attention_max_distance", "convert", self.source, "-o", out)
        finally:
            self.configure(CONFIG)
        self.assertFalse(os.path.exists(out))

    def test_shards(self):
        folder = os.path.join(self.folder.name, "shards")
        os.mkdir(folder)
        shutil.copy(os.path.join(self.source, "config.json"), folder)
        shapes = tensors(CONFIG)
        names = sorted(shapes)
        parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for file, part in parts.items():
            write(os.path.join(folder, file), {n: shapes[n] for n in part}, 5)
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {"total_size": 1}, "weight_map": {n: file for file, part in parts.items() for n in part}}, f)
        out = os.path.join(self.folder.name, "shards.tern")
        self.assertEqual(self.tern("convert", folder, "-o", out).returncode, 0)
        second = os.path.join(folder, "model-00002-of-00002.safetensors")
        write(second, {"another.weight": [4]}, 5)   # the shard of another model
        self.refused(8, names[1], "convert", folder, "-o", out)
        os.remove(second)
        self.refused(8, "model-00002-of-00002.safetensors", "convert", folder, "-o", out)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
