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
import time
import unittest
import xml.etree.ElementTree

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
        self.refused(6, "memory", "run", books, "x", "--beams", "512", "--new-tokens", "1000000000")
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

    def ids_file(self, tokens):
        path = os.path.join(self.folder.name, "ids.safetensors")
        text = json.dumps({"input_ids": {"dtype": "I64", "shape": [1, tokens], "data_offsets": [0, 8 * tokens]}}).encode()
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + struct.pack(f"<{tokens}q", *(3 + 37 * i % 2000 for i in range(tokens))))
        return path

    def drawn(self, path, layers):
        """The tokens of each layer, from the titles of the picture's cells."""
        tokens = dict.fromkeys(layers, 0)
        for title in xml.etree.ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}title"):
            tokens[title.text.split(",")[0]] += int(title.text.split(": ")[1].split(" of ")[0])
        return tokens

    def test_bench_and_run_show_the_load_of_experts(self):
        once = ("--repeat", "1", "--warmup", "0", "--min-seconds", "0")
        picture = os.path.join(self.folder.name, "load.svg")
        result = self.run_json("bench", "model", self.model, "--inputs", self.ids_file(200), "--set", "expert_capacity=9", "--svg", picture, *once)
        (layer,) = result["experts"]["layers"]
        self.assertEqual((layer["layer"], layer["tokens"], sum(layer["load"]), len(layer["load"])), ("encoder.layers.1", 200, 200, 4))
        self.assertEqual(layer["largest"], max(layer["load"]))
        self.assertAlmostEqual(layer["imbalance"], max(layer["load"]) / 50)
        self.assertEqual(layer["dropped"], sum(max(0, n - 9) for n in layer["load"]))
        self.assertEqual(self.drawn(picture, ["encoder.layers.1"]), {"encoder.layers.1": 200})
        decode = ("bench", "decode", self.model, "--prompt-ids", self.ids_file(12), "--new-tokens", "5", *once)
        self.assertEqual([(l["layer"], l["tokens"]) for l in self.run_json(*decode)["experts"]["layers"]], [("encoder.layers.1", 12), ("decoder.layers.1", 5)])
        shown = self.tern(*decode)
        self.assertEqual(shown.returncode, 0, shown.err)
        self.assertIn("largest/mean", shown.out)
        self.assertIn("decoder.layers.1", shown.out)
        ran = self.run_json("run", self.model, "Hello there", "--new-tokens", "7", "--ignore-eos", "--svg", picture)
        self.assertEqual(self.drawn(picture, ["encoder.layers.1", "decoder.layers.1"]), {"encoder.layers.1": ran["source_tokens"], "decoder.layers.1": 7})
        self.refused(2, "no experts", "run", os.path.join(SOURCE, "models/zoo/books-xl.tern"), "x", "--svg", picture)

    def test_eight_bits(self):
        folder, q8 = os.path.join(self.folder.name, "wide"), os.path.join(self.folder.name, "q8.tern")
        config = {**CONFIG, "d_model": 64, "d_ff": 64, "d_kv": 16}
        os.mkdir(folder)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f)
        write(os.path.join(folder, "model.safetensors"), tensors(config), 3)
        shutil.copy(os.path.join(SOURCE, "tests/golden/tokenizers/t5/spiece.model"), folder)
        self.run_json("convert", folder, "-o", q8, "--type", "q8")
        stored = {t["name"]: t["type"] for t in self.run_json("inspect", q8, "--tensors")["tensors"]}
        self.assertEqual({t for n, t in stored.items() if ".experts.w" in n}, {"i8"})
        self.assertEqual({t for n, t in stored.items() if "router" in n}, {"f32"})
        ask = ("run", q8, "The <extra_id_0> walks", "--new-tokens", "9", "--ignore-eos")
        free, bounded = self.run_json(*ask, "--threads", "1"), self.run_json(*ask, "--threads", "2", "--expert-memory", "20K")
        self.assertEqual(bounded["ids"], free["ids"])
        self.assertGreater(bounded["experts"]["evictions"], 0)
        self.assertLessEqual(bounded["experts"]["resident_bytes"], 20480)
        self.refused(2, "rounding", "convert", q8, "-o", os.path.join(self.folder.name, "back.tern"), "--type", "f32")

    def test_a_source_longer_than_memory_is_refused_before_anything_runs(self):
        folder, model = os.path.join(self.folder.name, "broad"), os.path.join(self.folder.name, "broad.tern")
        os.mkdir(folder)
        config = {**CONFIG, "d_model": 4, "d_ff": 1 << 19, "num_heads": 1, "num_layers": 1, "num_decoder_layers": 1, "num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 0}
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f)
        shapes = {n: s for n, s in tensors(config).items() if ".block.1." not in n}
        header, at = {}, 0
        for name, shape in shapes.items():
            size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        with open(os.path.join(folder, "model.safetensors"), "wb") as f:  # zeros
            f.write(struct.pack("<Q", len(text)) + text)
            f.truncate(8 + len(text) + at)
        shutil.copy(os.path.join(SOURCE, "tests/golden/tokenizers/t5/spiece.model"), folder)
        self.run_json("convert", folder, "-o", model)
        source = os.path.join(self.folder.name, "long.txt")
        with open(source, "w") as f:
            f.write("the dog " * 200000)  # two megabytes of activations for every token
        self.refused(6, "memory", "run", model, source)
        self.assertEqual(self.tern("run", model, "the dog", "--new-tokens", "1").returncode, 0)

    def test_a_model_larger_than_its_cgroup(self):
        """The kernel takes pages of experts back; the answer is the same, with a bound or without. A batch that would not fit is refused, not killed."""
        with open(BINARY, "rb") as f:
            if b"__asan_init" in f.read():
                self.skipTest("a sanitizer's own memory does not fit into so small a cgroup")
        folder, model = os.path.join(self.folder.name, "large"), os.path.join(self.folder.name, "large.tern")
        config = {**CONFIG, "d_model": 64, "d_ff": 2048, "num_experts": 64, "d_kv": 16}
        os.mkdir(folder)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f)
        numbers = random.Random(9)
        values = [numbers.gauss(0, 1) for _ in range(17011)]
        tables, matrices = (struct.pack("<17011f", *(scale * v for v in values)) for scale in (1, 0.05))
        header, at, shapes = {}, 0, tensors(config)
        for name, shape in shapes.items():
            size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        with open(os.path.join(folder, "model.safetensors"), "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for i, (name, t) in enumerate(header.items()):  # every tensor begins elsewhere in the block
                size, begin, block = t["data_offsets"][1] - t["data_offsets"][0], 4 * (i * 977 % 8192), tables if name == "shared.weight" else matrices
                if len(t["shape"]) == 1:
                    block = struct.pack("<f", 1) * 64
                f.write((block[begin:] + block * (size // len(block) + 1))[:size])
        shutil.copy(os.path.join(SOURCE, "tests/golden/tokenizers/t5/spiece.model"), folder)
        self.run_json("convert", folder, "-o", model)
        shutil.rmtree(folder)
        limit = 32 << 20
        self.assertGreater(os.path.getsize(model), 2 * limit)
        v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        group = os.path.join("/sys/fs/cgroup" if v2 else "/sys/fs/cgroup/memory", f"tern-test-{os.getpid()}")
        try:
            os.mkdir(group)
        except OSError as error:
            self.skipTest(f"no memory-limited cgroup can be made here: {error}")
        try:
            try:
                with open(os.path.join(group, "memory.max" if v2 else "memory.limit_in_bytes"), "w") as f:
                    f.write(str(limit))
            except OSError as error:
                self.skipTest(f"no memory-limited cgroup can be made here: {error}")

            def enter():
                with open(os.path.join(group, "cgroup.procs"), "w") as f:
                    f.write(str(os.getpid()))

            def inside(*args):
                with open(model, "rb") as f:  # out of the cache, or its pages would be another group's
                    os.fsync(f.fileno())
                    os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                r = subprocess.run([BINARY, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, preexec_fn=enter)
                return r.returncode, r.stdout.decode(), r.stderr.decode()

            words = " ".join("".join(numbers.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(6)) for _ in range(300))
            ask = ("run", model, words, "--new-tokens", "20", "--ignore-eos", "--threads", "1", "--json")
            free = self.run_json(*ask[:-1])
            self.assertGreater(free["experts"]["bytes_read"] + free["experts"]["resident_bytes"], limit)
            for more in ((), ("--expert-memory", "8M")):
                try:
                    code, out, err = inside(*ask, *more)
                except subprocess.SubprocessError as error:
                    self.skipTest(f"no process can enter a cgroup here: {error}")
                self.assertEqual(code, 0, err)
                self.assertEqual(json.loads(out)["ids"], free["ids"])
            code, out, err = inside("run", model, "x", "--beams", "100", "--new-tokens", "30000")
            self.assertEqual(code, 6, err)
        finally:
            for _ in range(50):
                try:
                    os.rmdir(group)
                    break
                except OSError:
                    time.sleep(0.1)

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
