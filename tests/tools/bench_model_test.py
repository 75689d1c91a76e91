#!/usr/bin/env python3
"""tern bench model: networks that are fed in other ways than a decoder: sequences whole, neighbours beside them.
usage: bench_model_test.py BINARY SOURCE_DIR"""
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

TERN, GOLDEN = sys.argv[1], os.path.join(sys.argv[2], "tests", "golden")


def tern(*args):
    r = subprocess.run([TERN, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    return r.returncode, r.stdout, r.stderr


class BenchModel(unittest.TestCase):
    def bench(self, case, *more, inputs=None):
        folder = os.path.join(GOLDEN, case)
        inputs = inputs or os.path.join(folder, "inputs.safetensors")
        with tempfile.TemporaryDirectory() as tmp:
            model = os.path.join(tmp, "m.tern")
            code, _, err = tern("convert", os.path.join(folder, "model"), "-o", model)
            self.assertEqual(code, 0, err)
            return tern("bench", "model", model, "--inputs", inputs, "--threads", "1", "--warmup", "0", "--repeat", "1", "--min-seconds", "0", "--json", *more)

    def test_a_performer_that_is_not_causal(self):
        code, out, err = self.bench("performer/softmax_mask")
        self.assertEqual(code, 0, err)
        self.assertGreater(json.loads(out)["tokens"], 0)
        code, _, err = self.bench("performer/softmax_mask", "--chunks", "2")
        self.assertEqual(code, 2)
        self.assertIn("whole", err)
        code, _, err = self.bench("performer/cross_rezero_mask")
        self.assertEqual(code, 2)
        self.assertIn("context", err)

    def test_a_retro_reads_its_neighbours(self):
        code, out, err = self.bench("retro/paper_no_null_no_abs")
        self.assertEqual(code, 0, err)
        header = json.dumps({"input_ids": {"dtype": "I64", "shape": [1, 8], "data_offsets": [0, 64]}, "retrieved": {"dtype": "I64", "shape": [2, 1, 1, 4], "data_offsets": [64, 128]}})
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as f:
            f.write(struct.pack("<Q", len(header)) + header.encode() + bytes(128))
            f.flush()
            code, _, err = self.bench("retro/paper_no_null_no_abs", inputs=f.name)
        self.assertEqual(code, 2)
        self.assertIn("different batches", err)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
