#!/usr/bin/env python3
"""Converting as a user does it: what comes out, what is refused and how, what is left behind.   usage: convert_test.py BINARY SOURCE_DIR"""
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

BINARY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
sys.path.insert(0, os.path.join(SOURCE, "tests", "bad_files"))
import xl_checkpoint as xl  # noqa: E402


def tern(*args, **kw):
    r = subprocess.run([BINARY, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, **kw)
    r.out, r.err = r.stdout.decode(), r.stderr.decode()
    return r


def read(path):
    with open(path, "rb") as f:
        return f.read()


class Convert(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.source = xl.write(self.path("source"))
        self.out = self.path("out/m.tern")
        os.mkdir(self.path("out"))

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def left(self):
        return sorted(os.listdir(self.path("out")))

    def convert(self, *args, exits=0, **kw):
        r = tern("convert", self.source, "-o", self.out, *args, **kw)
        self.assertEqual(r.returncode, exits, r.err)
        return r

    def test_the_file_is_complete_and_reproducible(self):
        r = self.convert("--json")
        self.assertEqual(json.loads(r.out)["architecture"], "transformer-xl")
        self.assertEqual(self.left(), ["m.tern"])
        first = read(self.out)
        self.convert()
        self.assertEqual(read(self.out), first)
        v = json.loads(tern("verify", self.out, "--json").out)
        self.assertTrue(v["ok"])
        self.assertEqual(v["digest"], json.loads(r.out)["digest"])

    def test_nothing_of_this_machine_is_in_the_file(self):
        self.convert()
        self.assertNotIn(self.folder.name.encode(), read(self.out))

    def test_values(self):
        self.convert()
        data = read(self.out)
        name = "transformer.layers.1.dec_attn.layer_norm.bias"
        raw = xl.tensors(xl.config())[name][2]
        self.assertEqual(data.count(raw), 1)  # a vector stands as it was
        table = struct.unpack("<640f", xl.tensors(xl.config())["transformer.word_emb.emb_layers.0.weight"][2])
        panel = struct.pack("<256f", *[table[n * 16 + k] for k in range(16) for n in range(16)])
        self.assertEqual(data.count(panel), 1)  # a tied table stands in panels of 16 rows

    def test_a_file_of_every_version_loads(self):
        fixtures = os.path.join(SOURCE, "tests", "fixtures")
        for name in sorted(n for n in os.listdir(fixtures) if n.endswith(".tern")):
            with self.subTest(name=name):
                self.assertEqual(tern("verify", os.path.join(fixtures, name)).returncode, 0)
        r = tern("inspect", os.path.join(fixtures, "transformer-xl-v1.tern"), "--json", "--tensors")
        self.assertEqual(r.returncode, 0, r.err)
        model = json.loads(r.out)
        self.assertEqual((model["architecture"], model["version"], model["license"]), ("transformer-xl", 1, "Apache-2.0"))
        self.assertEqual(model["parameters"]["stored"], sum(xl.count(s) for s in xl.shapes(xl.config()).values()) + 8)  # and inv_freq
        self.assertEqual(len(model["tensors"]), len(xl.shapes(xl.config())) + 1)

    def test_types(self):
        sizes = {}
        for kind in ("f32", "bf16", "f16", "q8"):
            report = json.loads(self.convert("--json", "--type", kind).out)
            self.assertEqual(report["type"], kind)
            sizes[kind] = os.path.getsize(self.out)
        self.assertLess(sizes["bf16"], sizes["f32"])
        self.assertEqual(sizes["bf16"], sizes["f16"])
        self.assertIn("reserved", self.convert("--type", "q4", exits=2).err)
        self.assertIn("f32", self.convert("--type", "f33", exits=2).err)

    def test_a_16_bit_source_stays_as_it_is(self):
        entries = {}
        for name, (_, shape, raw) in xl.tensors(xl.config()).items():
            f = struct.unpack(f"<{len(raw) // 4}I", raw)
            entries[name] = ("BF16", shape, struct.pack(f"<{len(f)}H", *[u >> 16 for u in f]))
        xl.write(self.source, entries=entries)
        self.assertEqual(json.loads(self.convert("--json").out)["type"], "bf16")
        self.assertEqual(json.loads(self.convert("--json", "--type", "f32").out)["type"], "f32")

    def test_a_model_of_ours_is_a_source(self):
        self.convert("--license", "Apache-2.0")
        again = self.path("again.tern")
        self.assertEqual(tern("convert", self.out, "-o", again).returncode, 0)
        self.assertEqual(read(again), read(self.out))
        half, direct = self.path("half.tern"), self.path("direct.tern")
        self.assertEqual(tern("convert", self.out, "-o", half, "--type", "f16").returncode, 0)
        self.assertEqual(tern("convert", self.source, "-o", direct, "--type", "f16", "--license", "Apache-2.0").returncode, 0)
        self.assertEqual(read(half), read(direct))
        r = tern("convert", half, "-o", again, "--type", "f32")
        self.assertEqual(r.returncode, 2)
        self.assertIn("original checkpoint", r.err)
        self.assertEqual(read(again), read(self.out))
        self.assertEqual(tern("convert", half, "-o", half).returncode, 0)  # onto itself
        self.assertEqual(read(half), read(direct))

    def test_onto_itself_in_another_type(self):
        self.convert()
        self.assertEqual(tern("convert", self.out, "-o", self.out, "--type", "bf16").returncode, 0)
        self.assertEqual(tern("verify", self.out).returncode, 0)
        self.assertEqual(self.left(), ["m.tern"])

    def test_a_damaged_source_of_ours_is_refused(self):
        self.convert()
        data = bytearray(read(self.out))
        data[-200] ^= 1
        with open(self.out, "wb") as f:
            f.write(data)
        r = tern("convert", self.out, "-o", self.out, "--type", "bf16")
        self.assertEqual(r.returncode, 5)
        self.assertEqual(read(self.out), bytes(data))

    def test_everything_that_does_not_fit_is_listed(self):
        entries = xl.tensors(xl.config())
        kind, shape, raw = entries.pop("transformer.layers.0.dec_attn.o_net.weight")
        entries["transformer.layers.0.dec_attn.0_net.weight"] = (kind, shape, raw)
        del entries["transformer.layers.1.pos_ff.CoreNet.3.bias"]
        entries["transformer.layers.0.dec_attn.r_net.weight"] = ("F32", [8, 32], raw[:1024])
        entries["transformer.layers.0.pos_ff.layer_norm.bias"] = ("I32", [16], bytes(64))
        entries["optimizer.state"] = ("F32", [2], bytes(8))
        xl.write(self.source, entries=entries)
        r = self.convert(exits=8)
        lines = r.err.splitlines()
        for words in (["missing", "transformer.layers.0.dec_attn.o_net.weight", "nearest name", "0_net"], ["missing", "layers.1.pos_ff.CoreNet.3.bias"],
                      ["other shape", "[8, 32]", "[16, 16]"], ["wrong type", "layer_norm.bias", "i32"], ["extra", "optimizer.state"], ["extra", "0_net"]):
            self.assertTrue(any(all(w in line for w in words) for line in lines), (words, r.err))
        self.assertIn("2 missing, 1 of another shape, 1 of a wrong type, 2 extra", lines[-1])
        self.assertEqual(self.left(), [])
        j = self.convert("--json", exits=8)
        error = json.loads(j.out)["error"]
        self.assertEqual((error["code"], len(error["problems"])), (8, 6))

    def test_extra_tensors_may_be_left_out(self):
        entries = xl.tensors(xl.config())
        entries["optimizer.state"] = ("F32", [2], bytes(8))
        xl.write(self.source, entries=entries)
        self.assertIn("--allow-extra", self.convert(exits=8).err)
        self.assertEqual(json.loads(self.convert("--json", "--allow-extra", "optimizer.*").out)["left_out"], ["optimizer.state"])

    def test_a_tied_pair_that_differs_is_warned_about(self):
        entries = xl.tensors(xl.config())
        table = entries["transformer.word_emb.emb_layers.0.weight"]
        entries["crit.out_layers.0.weight"] = table
        xl.write(self.source, entries=entries)
        self.assertNotIn("differ", self.convert().err)
        entries["crit.out_layers.0.weight"] = (table[0], table[1], bytes(len(table[2])))
        xl.write(self.source, entries=entries)
        self.assertIn("differ in the source", self.convert().err)

    def test_an_unknown_architecture_names_the_known(self):
        xl.write(self.source, c=xl.config(model_type="gpt5", architectures=["GPT5"]))
        r = self.convert(exits=4)
        self.assertIn("gpt5", r.err)
        self.assertIn("transformer-xl", r.err)

    def test_config_out_of_range(self):
        for changes in ({"n_layer": 10**9}, {"n_head": 0}, {"d_model": 15}, {"vocab_size": "many"}, {"cutoffs": [50]}, {"d_head": -1}, {"n_layer": 2**64}):
            xl.write(self.source, c=xl.config(**changes), entries=xl.tensors(xl.config()))
            with self.subTest(changes=changes):
                self.assertIn("config field", self.convert(exits=4).err)
        self.assertEqual(self.left(), [])

    def test_too_large_for_f16(self):
        entries = xl.tensors(xl.config())
        name = "transformer.layers.0.dec_attn.o_net.weight"
        entries[name] = ("F32", [16, 16], struct.pack("<256f", *[70000.0] * 256))
        xl.write(self.source, entries=entries)
        r = self.convert("--type", "f16", exits=9)
        self.assertIn("bf16", r.err)
        self.assertEqual(self.left(), [])
        self.convert("--type", "bf16")

    def test_nan_is_warned_about_and_verify_stops(self):
        entries = xl.tensors(xl.config())
        name = "transformer.layers.0.dec_attn.o_net.weight"
        entries[name] = ("F32", [16, 16], struct.pack("<256f", *[float("nan")] * 2 + [0.5] * 253 + [float("inf")]))
        xl.write(self.source, entries=entries)
        self.assertIn("layers.0.attention.o", self.convert().err)
        r = tern("verify", self.out)
        self.assertEqual(r.returncode, 9)
        self.assertRegex(r.out, r"layers.0.attention.o +2 +1")
        self.assertEqual(tern("verify", self.out, "--allow-nan").returncode, 0)
        error = json.loads(tern("verify", self.out, "--json").out)["error"]
        self.assertEqual(error["non_finite"], [{"tensor": "layers.0.attention.o", "nan": 2, "infinite": 1}])

    def test_a_read_only_folder(self):
        as_nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}  # root may write everywhere
        os.chmod(self.folder.name, 0o755)
        os.chmod(self.path("out"), 0o555)
        try:
            if subprocess.run([BINARY, "version"], stdout=subprocess.DEVNULL, **as_nobody).returncode != 0:
                self.skipTest("nobody cannot run the program")
        except PermissionError:
            self.skipTest("nobody cannot run the program")
        self.convert(exits=3, **as_nobody)
        self.assertEqual(self.left(), [])
        os.chmod(self.path("out"), 0o755)

    def test_no_folder(self):
        self.out = self.path("nowhere/m.tern")
        self.assertIn("cannot create", self.convert(exits=3).err)
        self.out = self.path("out")
        self.assertIn("folder", self.convert(exits=3).err)

    def test_no_room(self):
        self.convert()
        old, size = read(self.out), os.path.getsize(self.out)
        for limit in (0, 1, 4096, size // 2, size - 1):
            with self.subTest(limit=limit):
                def limited():
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                self.convert(exits=3, preexec_fn=limited)
                self.assertEqual(self.left(), ["m.tern"])
                self.assertEqual(read(self.out), old)

    def test_a_full_file_system(self):
        mount = self.path("small")
        os.mkdir(mount)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", mount], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("no right to mount a small file system")
        try:
            self.out = os.path.join(mount, "m.tern")
            self.assertIn("no space", self.convert(exits=3).err)
            self.assertEqual(os.listdir(mount), [])
        finally:
            subprocess.run(["umount", mount], check=True)

    def test_interrupted(self):
        big = xl.config(n_layer=24, d_model=256, d_embed=256, d_inner=512, n_head=4, d_head=64)
        entries = {name: ("F32", shape, bytes(4 * xl.count(shape))) for name, shape in xl.shapes(big).items()}
        xl.write(self.source, c=big, entries=entries)
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            p = subprocess.Popen([BINARY, "convert", self.source, "-o", self.out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while p.poll() is None and not os.listdir(self.path("out")):
                pass
            p.send_signal(sig)
            p.wait(timeout=30)
            self.assertIn(p.returncode, (0, 128 + sig))
            self.assertIn(self.left(), ([], ["m.tern"]))
            if self.left():
                self.assertEqual(tern("verify", self.out).returncode, 0)
                os.remove(self.out)

    def test_memory_does_not_grow_with_the_model(self):
        # 160 MB in tensors of at most 4 MB: the whole takes less than the promise.
        big = xl.config(n_layer=12, d_model=512, d_embed=512, d_inner=2048, n_head=8, d_head=64, vocab_size=64)
        shapes = xl.shapes(big)
        header, at = {}, 0
        for name, shape in shapes.items():
            header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + 2 * xl.count(shape)]}
            at += 2 * xl.count(shape)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        xl.write(self.source, c=big, entries={})
        with open(os.path.join(self.source, "model.safetensors"), "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            f.truncate(8 + len(text) + at)  # zeros
        peak = self.path("peak")
        code = ("import resource, subprocess, sys; r = subprocess.call(sys.argv[2:]); "
                "open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)); sys.exit(r)")
        r = subprocess.run([sys.executable, "-c", code, peak, BINARY, "convert", self.source, "-o", self.out, "--type", "f32"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE)
        self.assertEqual(r.returncode, 0, r.stderr)
        largest = 4 * 2048 * 512
        self.assertGreater(os.path.getsize(self.out), 30 * largest)
        if "sanitize" not in os.environ.get("TERN_BUILD", ""):
            self.assertLess(int(read(peak)) * 1024, 2 * largest + (64 << 20))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]], verbosity=1)
