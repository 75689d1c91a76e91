"""Bad `.tern` files: one rule of the specification broken in each, and models whose parts do not fit one another."""
import gzip
import io
import struct
import zipfile

import xl_checkpoint
from case import Case, write
from tern_file import TernFile, Tensor, reseal
from xxh3 import xxh3_64

U64 = (1 << 64) - 1


def sane_config(**changes):
    """A canonical config, and with it all of a model."""
    c = {"vocab_size": 20, "d_model": 4, "d_embed": 4, "n_heads": 1, "d_head": 4, "d_inner": 6, "n_layers": 1, "div_val": 1, "cutoffs": [],
         "tie_projs": [False], "tie_weight": True, "untie_r": True, "pre_lnorm": False, "same_length": True, "mem_len": 4, "clamp_len": -1,
         "tgt_len": 8, "eos_token_id": 0, "layer_norm_epsilon": 1e-5, "zero_memory": True, "reversed_clusters": False}
    c.update(changes)
    return c


def sane_tensors():
    v, d, f = 20, 4, 6
    a = "layers.0.attention."
    b = "layers.0.ff."
    vectors = [("inv_freq", [d // 2]), (a + "norm.gamma", [d]), (a + "norm.beta", [d]), (a + "u", [1, 4]), (a + "v", [1, 4]), (b + "norm.gamma", [d]),
               (b + "norm.beta", [d]), (b + "in.bias", [f]), (b + "out.bias", [d]), ("head.bias.0", [v])]
    panels = [("embed.table.0", [v, d]), (a + "qkv", [12, d]), (a + "r", [4, d]), (a + "o", [d, 4]), (b + "in.weight", [f, d]), (b + "out.weight", [d, f])]
    return [Tensor(n, s) for n, s in vectors] + [Tensor(n, s, layout=1) for n, s in panels]


def model(config=None, tensors=None, **metadata):
    return TernFile("transformer-xl", sane_config() if config is None else config, sane_tensors() if tensors is None else tensors, **metadata)


def small():
    """Two tensors and a blob, enough for the rules of the container."""
    return TernFile(config={"d_model": 8}, tensors=[Tensor("alpha", [3]), Tensor("beta", [20, 2], layout=1), Tensor("gamma", [5])], blobs=[("notes", b"text")])


def patched(file, at, fmt, value):
    """A built file with one field of its table changed and both digests right again."""
    out = bytearray(file.build())
    struct.pack_into("<" + fmt, out, at(file) if callable(at) else at, value)
    reseal(out)
    return bytes(out)


def record(index, field):
    return lambda f: f.at["tensors"] + 96 * index + field


def with_header(**fields):
    f = small()
    f.header = fields
    return f.build()


def with_counts(**counts):
    f = small()
    f.counts = counts
    return f.build()


def with_metadata(text):
    f = small()
    f.metadata = text if isinstance(text, bytes) else text.encode()
    return f.build()


def with_tensors(*tensors):
    return TernFile(tensors=tensors).build()


def changed(tensor, **fields):
    for name, value in fields.items():
        setattr(tensor, name, value)
    return tensor


def other_kinds():
    """Files that are something else, by name, with the words that must name it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("a.txt", "hello")
    yield "empty", b"", "empty"
    for n in (1, 7, 8, 15, 31, 63):
        yield f"short-{n}", b"\1" * n, "too short"
    yield "short-tern", small().build()[:40], "too short"
    yield "png", b"\x89PNG\r\n\x1a\n" + b"\0" * 90, "PNG"
    yield "jpeg", b"\xff\xd8\xff\xe0" + b"\0" * 90, "JPEG"
    yield "elf", b"\x7fELF\2\1\1" + b"\0" * 90, "ELF"
    yield "pdf", b"%PDF-1.7\n" + b"\0" * 90, "PDF"
    yield "html", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "HTML"
    yield "lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 100\n", "git lfs pull"
    yield "gguf", b"GGUF\3\0\0\0" + b"\0" * 90, "GGUF"
    yield "gguf-lower", b"gguf\3\0\0\0" + b"\0" * 90, ""
    yield "gzip", gzip.compress(b"x" * 500, mtime=0), "gzip"
    yield "zip", archive.getvalue(), "zip"
    yield "numpy", b"\x93NUMPY\1\0" + b"\0" * 90, "NumPy"
    yield "hdf5", b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "HDF5"
    yield "tar", b"a.txt".ljust(257, b"\0") + b"ustar\00000".ljust(255, b"\0"), "tar"
    yield "pickle", b"\x80\2}q\0." + b"\0" * 90, "pickle"
    yield "text", b"It was a dark and stormy night; the rain fell in torrents, except at occasional intervals.", "text"
    yield "safetensors", xl_checkpoint.safetensors({"a": ("F32", [1], b"\0\0\0\0")}), "safetensors"
    yield "zeros", bytes(4096), ""


def broken_containers():
    good = small().build()
    yield "text-mode", good.replace(b"\r\n", b"\n", 1), "binary mode"
    yield "version-0", with_header(version=0), "version 0"
    yield "version-2", with_header(version=2), "newer release"
    yield "version-huge", with_header(version=0xFFFFFFFF), "newer release"
    yield "version-swapped", with_header(version=0x01000000, order=0x04030201), "big-endian"
    yield "order", with_header(order=0), "byte-order"
    yield "size-plus-1", with_header(file_bytes=len(good) + 1), "truncated"
    yield "size-minus-1", with_header(file_bytes=len(good) - 1), "after the end"
    yield "size-2^63", with_header(file_bytes=1 << 63), "truncated"
    yield "size-2^64-1", with_header(file_bytes=U64), "truncated"
    yield "size-0", with_header(file_bytes=0), "after the end"
    yield "trailing-byte", good + b"\0", "1 bytes after"
    yield "trailing-zip", good + b"PK\5\6" + bytes(18), "22 bytes after"
    yield "table-offset", with_header(table_offset=128), "wrong place"
    yield "table-offset-huge", with_header(table_offset=U64), "wrong place"
    yield "table-2^64-1", with_header(table_bytes=U64), "table"
    yield "table-2^63", with_header(table_bytes=1 << 63), "table"
    yield "table-beyond", with_header(table_bytes=len(good) + 1), "remain"
    yield "table-0", with_header(table_bytes=0, table_digest=xxh3_64(b"")), "too early"
    yield "reserved-header", with_header(reserved=1), "reserved"
    yield "digest-header", with_header(header_digest=1), (5, "header differs")
    yield "digest-table", with_header(table_digest=1), (5, "table differs")
    yield "trailer-magic", good[:-8] + b"TERN_EMD", "trailer"
    yield "trailer-size", good[:-16] + b"\1" + good[-15:], "trailer"
    yield "tensors-2^32-1", with_counts(tensors=0xFFFFFFFF), "too many tensors"
    yield "tensors-60000", with_counts(tensors=60000), "a count of 60000"
    yield "tensors-4", with_counts(tensors=4), ""
    yield "tensors-2", with_counts(tensors=2), ""
    yield "blobs-2^32-1", with_counts(blobs=0xFFFFFFFF), "too many blobs"
    yield "blobs-64", with_counts(blobs=64), ""
    yield "metadata-2^64-1", with_counts(metadata=U64), "metadata are too long"
    yield "metadata-16M", with_counts(metadata=16 << 20), "too early"
    yield "metadata-0", with_counts(metadata=0), ""
    yield "strings-0", with_counts(strings=0), "strings"
    yield "strings-2^64-1", with_counts(strings=U64), "strings"
    yield "reserved-table", with_counts(reserved=7), "reserved"
    for step in range(16):
        n = len(good) * step // 16
        yield f"cut-{n}", good[:n], "" if n >= 64 else "too short" if n else "empty"
    yield "cut-last-byte", good[:-1], "truncated"


def broken_metadata():
    yield "not-json", with_metadata("{"), "JSON"
    yield "array", with_metadata("[]"), "must be an object"
    yield "number", with_metadata("12"), "must be an object"
    yield "two-values", with_metadata("{} {}"), "JSON"
    yield "twice", with_metadata('{"architecture":"a","architecture":"b","config":{}}'), "stands twice"
    yield "no-architecture", with_metadata('{"config":{}}'), "'architecture' is missing"
    yield "no-config", with_metadata('{"architecture":"a"}'), "'config' is missing"
    yield "architecture-number", with_metadata('{"architecture":1,"config":{}}'), "wrong type (got number, expected string"
    yield "config-array", with_metadata('{"architecture":"a","config":[]}'), "wrong type (got array, expected object"
    yield "tokenizer-string", with_metadata('{"architecture":"a","config":{},"tokenizer":"bpe"}'), "'tokenizer' has the wrong type"
    yield "license-array", with_metadata('{"architecture":"a","config":{},"license":[]}'), "'license' has the wrong type"
    yield "deep", with_metadata('{"architecture":"a","config":' + '{"a":' * 9 + "1" + "}" * 10), "nesting deeper than 8"
    yield "deep-10000", with_metadata("[" * 10000 + "]" * 10000), "nesting deeper than 8"
    yield "utf8", with_metadata(b'{"architecture":"a\xff","config":{}}'), "JSON"
    yield "surrogate", with_metadata('{"architecture":"\\ud800","config":{}}'), "JSON"
    yield "escape", with_metadata('{"architecture":"\\u001b[31m","config":{}}'), "control character"
    yield "architecture-empty", with_metadata('{"architecture":"","config":{}}'), "empty"
    yield "architecture-long", with_metadata('{"architecture":"' + "a" * 600 + '","config":{}}'), "too long"
    yield "padding", patched(small(), lambda f: 96 + len(f.metadata), "B", 1), "padding after the metadata"


def broken_records():
    yield "no-name", patched(small(), record(0, 0), "I", 0), "empty"
    yield "long-name", with_tensors(Tensor("n" * 513, [1])), "too long"
    yield "huge-name", patched(small(), record(0, 0), "I", 0xFFFFFFFF), "too early"
    yield "name-newline", with_tensors(Tensor("a\nb", [1])), "control character"
    yield "name-escape", with_tensors(Tensor("a\x1b[2Jb", [1])), "control character"
    yield "name-nul", with_tensors(Tensor("a\0b", [1])), "control character"
    yield "name-utf8", with_tensors(Tensor(b"a\xc3(b", [1])), "not valid UTF-8"
    yield "name-overlong", with_tensors(Tensor(b"a\xc0\xafb", [1])), "not valid UTF-8"
    yield "group-utf8", with_tensors(Tensor("a", [1], group=b"\xff")), "not valid UTF-8"
    yield "same-name", with_tensors(Tensor("a", [1]), Tensor("b", [1]), Tensor("a", [1])), "two tensors are named 'a'"
    yield "same-blob", TernFile(blobs=[("a", b"1"), ("a", b"2")]).build(), "two blobs are named 'a'"
    yield "type-10", patched(small(), record(0, 8), "B", 10), "element type"
    yield "type-255", patched(small(), record(0, 8), "B", 255), "element type"
    yield "layout-2", patched(small(), record(1, 9), "B", 2), "layout is not known"
    yield "layout-of-vector", patched(small(), record(0, 9), "B", 1), "for matrices"
    yield "layout-4", patched(small(), record(1, 9), "B", 4), "layout is not known"
    yield "panel-of-integers", patched(small(), record(1, 8), "B", 6), "panel16 is for"
    yield "panel-of-eight-bits-cut", patched(small(), record(1, 8), "B", 4), "does not follow from type and shape"
    yield "scaled-rows-of-f32", patched(small(), record(1, 9), "B", 3), "rows_q8 is for i8"
    yield "scaled-vector", patched(small(), record(0, 9), "B", 3), "for matrices"
    yield "rank-7", patched(small(), record(0, 10), "B", 7), "rank"
    yield "rank-0", patched(small(), record(0, 10), "B", 0), "beyond its rank"
    yield "reserved-record", patched(small(), record(0, 11), "B", 1), "reserved"
    yield "split-columns-of-rows", patched(small(), record(0, 12), "I", 32), "split columns are for"
    yield "split-columns-of-f32", patched(small(), record(1, 12), "I", 1), "split columns are for"
    yield "reserved-end", patched(small(), record(0, 88), "Q", 1), "reserved"
    yield "dimension-2^63", patched(small(), record(0, 16), "Q", 1 << 63), "dimension is too large"
    yield "dimension-2^64-1", patched(small(), record(0, 16), "Q", U64), "dimension is too large"
    yield "product-wraps", with_tensors(changed(Tensor("w", [1, 1]), shape=[1 << 33, 1 << 33])), "overflows"
    yield "product-wraps-to-0", with_tensors(changed(Tensor("w", [1, 1]), shape=[1 << 32, 1 << 32])), "overflows"
    yield "product-wraps-with-0", with_tensors(changed(Tensor("w", [0, 1, 1]), shape=[0, 1 << 40, 1 << 40])), "overflows"
    yield "bytes-wrap", with_tensors(changed(Tensor("w", [1]), shape=[1 << 62])), "overflows"
    yield "panel-wraps", with_tensors(changed(Tensor("w", [1, 1], layout=1), shape=[1, 1 << 57])), ""
    yield "bytes-differ", patched(small(), record(0, 72), "Q", 16), "does not follow from type and shape"
    yield "shape-differs", patched(small(), record(0, 16), "Q", 4), "does not follow from type and shape"
    yield "past-end-by-1", patched(small(), record(2, 64), "Q", len(small().build()) - 16 - 19), "outside the file"
    yield "offset-2^64-1", patched(small(), record(2, 64), "Q", U64), "outside the file"
    yield "offset-wraps", patched(small(), record(2, 64), "Q", U64 - 19), "outside the file"
    yield "offset-0", patched(small(), record(0, 64), "Q", 0), "overlaps"

    def shifted(index, by):
        f = small()
        f.build()
        f.tensors[index].offset = f.tensors[index].placed + by
        return f.build()
    yield "overlap", shifted(1, -64), "overlaps tensor 'alpha'"
    yield "unaligned", shifted(1, 4), "not aligned"
    yield "hole", shifted(1, 64), "does not follow tensor 'alpha'"
    yield "sum-wraps", with_tensors(*[changed(Tensor(f"w{i}", [1]), bytes=1 << 62, shape=[1 << 57]) for i in range(5)]), ""
    f = TernFile(tensors=[Tensor("a", [2], group="g"), Tensor("b", [2])])
    yield "order", f.build(), "wrong order"
    f = TernFile(tensors=[Tensor("a", [2], group="g"), Tensor("b", [2], group="h"), Tensor("c", [2], group="g")])
    yield "group-split", f.build(), "not contiguous"
    f = small()
    f.build()
    f.tensors[2].offset, f.tensors[0].offset = f.tensors[0].placed, f.tensors[2].placed
    yield "unsorted", f.build(), ""


def broken_models():
    """Sound files whose config, tensors or tokenizer make no model."""
    yield "architecture", TernFile("perpetuum-mobile").build(), "perpetuum-mobile"
    for name, changes in {"layers-1e9": {"n_layers": 10**9}, "layers-0": {"n_layers": 0}, "heads-0": {"n_heads": 0}, "heads-negative": {"n_heads": -1},
                          "width-odd": {"d_model": 5}, "width-0": {"d_model": 0}, "width-2^63": {"d_model": 1 << 63}, "width-text": {"d_model": "4"},
                          "width-float": {"d_model": 4.5}, "width-null": {"d_model": None}, "vocab-0": {"vocab_size": 0},
                          "vocab-1e9": {"vocab_size": 10**9}, "div-0": {"div_val": 0}, "div-8": {"div_val": 8, "cutoffs": [5, 10]},
                          "cutoffs-down": {"cutoffs": [9, 3]}, "cutoffs-text": {"cutoffs": ["9"]}, "cutoffs-object": {"cutoffs": {}},
                          "eos-beyond": {"eos_token_id": 20}, "epsilon-nan-text": {"layer_norm_epsilon": "nan"}, "epsilon-negative": {"layer_norm_epsilon": -1},
                          "memory-huge": {"mem_len": 1 << 40}, "tie-number": {"tie_weight": 1}}.items():
        yield "config-" + name, model(sane_config(**changes)).build(), ""
    yield "config-vocabulary", model(sane_config(vocab_size=21)).build(), "embed.table.0"
    yield "config-inner", model(sane_config(d_inner=7)).build(), "layers.0.ff"
    yield "config-more-layers", model(sane_config(n_layers=2)).build(), "layers.1"
    yield "missing", model(tensors=[t for t in sane_tensors() if t.name != b"layers.0.attention.o"]).build(), "layers.0.attention.o"
    yield "extra", model(tensors=[Tensor("zeta", [2])] + sane_tensors()).build(), "zeta"
    yield "rows-for-panels", model(tensors=[Tensor("embed.table.0", [20, 4]) if t.name == b"embed.table.0" else t for t in sane_tensors()]).build(), "embed.table.0"
    yield "integers", model(tensors=[Tensor("inv_freq", [2], "i32") if t.name == b"inv_freq" else t for t in sane_tensors()]).build(), "inv_freq"
    yield "transposed", model(tensors=[Tensor("layers.0.ff.in.weight", [4, 6], layout=1) if t.name == b"layers.0.ff.in.weight" else t
                                       for t in sane_tensors()]).build(), "layers.0.ff.in.weight"
    for name, data in {"empty": b"", "zeros": bytes(64), "text": b"not a tokenizer", "ones": b"\xff" * 200}.items():
        yield "tokenizer-" + name, TernFile("transformer-xl", sane_config(), sane_tensors(), blobs=[("tokenizer", data)], tokenizer={"kind": "spm"}).build(), "tokenizer"


def damaged_data():
    """Digests that differ: the header is sound, so only what reads the data sees it."""
    def flipped(file, at, bit=0):
        out = bytearray(file.build())
        out[at] ^= 1 << bit
        return bytes(out)
    base = model()
    base.build()
    for i, t in enumerate(base.tensors):
        if t.bytes:
            yield "flip-" + t.name.decode(), flipped(model(), t.placed + i * 7 % t.bytes, i % 8), "digest of tensor '" + t.name.decode() + "' differs"
    yield "flip-padding", flipped(model(), base.tensors[0].placed + base.tensors[0].bytes), "padding"
    blob = TernFile(blobs=[("notes", b"text")])
    blob.build()
    yield "flip-blob", flipped(blob, blob.at["data"]), "digest of blob 'notes' differs"
    dirty = Tensor("w", [17, 3], layout=1, data=b"\1" * (32 * 3 * 4))
    yield "panel-padding", TernFile(tensors=[dirty]).build(), (4, "padding of the panels")
    nan = Tensor("w", [3], data=struct.pack("<3f", 1, float("nan"), float("inf")))
    yield "nan", TernFile(tensors=[nan]).build(), (9, "'w'")


def cases(folder):
    def emit(group, makers, commands, code=4):
        for name, data, says in makers:
            exits, words = (says if isinstance(says, tuple) else (code, says))
            path = write(folder, f"{group}/{name}.tern", data)
            for command in commands:
                yield Case(f"{group}/{name}/{command[0]}", [word if word != "FILE" else path for word in command], (exits,), words)
    everywhere = [["inspect", "FILE"], ["verify", "FILE"]]
    yield from emit("kind", other_kinds(), everywhere)
    yield from emit("container", broken_containers(), everywhere)
    yield from emit("metadata", broken_metadata(), everywhere)
    yield from emit("record", broken_records(), [["verify", "FILE"]])
    yield from emit("model", broken_models(), [["inspect", "FILE"]])
    yield from emit("data", damaged_data(), [["verify", "FILE"]], code=5)
    flipped = bytearray(model().build())
    flipped[-200] ^= 1
    yield Case("source/damaged", ["convert", write(folder, "source/damaged.tern", bytes(flipped)), "-o", "OUTPUT"], (5,), "differs")
    yield Case("source/config", ["convert", write(folder, "source/config.tern", model(sane_config(n_layers=0)).build()), "-o", "OUTPUT"], (4,), "n_layers")
    yield Case("source/missing", ["convert", write(folder, "source/missing.tern", model(tensors=sane_tensors()[1:]).build()), "-o", "OUTPUT"], (8,), "inv_freq")
    many = TernFile(tensors=[Tensor(f"a.rather.long.common.prefix.of.every.name.{i:06d}", [0]) for i in range(60000)])
    names = [t.name for t in many.tensors]
    many.tensors[-1].name = names[0]
    yield Case("record/60000-names", ["verify", write(folder, "record/60000-names.tern", many.build())], (4,), "two tensors are named")
    yield Case("good/model", ["inspect", write(folder, "good/model.tern", model().build())], (0,))
    zero = TernFile("transformer-xl", {}, [Tensor("scalar", []), Tensor("none", [0, 7]), Tensor("six", [1, 1, 1, 1, 1, 1])])
    yield Case("good/shapes", ["verify", write(folder, "good/shapes.tern", zero.build())], (0,))
    yield Case("absent", ["inspect", folder + "/absent.tern"], (3,), "cannot open")
    yield Case("folder", ["verify", folder], (3,), "folder")
    yield Case("device", ["verify", "/dev/zero"], (3,), "not a regular file")
