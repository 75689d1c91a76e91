"""Bad foreign checkpoints: safetensors, sharded indexes, torch zip, torch legacy, and files of other kinds.

`files()` yields (name, content, exit code, words): content is bytes, or a dict of names and bytes for a folder. `cases(folder)` makes them arguments of `convert`.
Everything starts from a checkpoint that would be read and breaks one thing. Nothing here does harm: names that run code would at most touch CANARY.
"""
import json
import os
import random
import struct
import zlib

from case import Case, write

CANARY = "tern-canary"   # a pickle that runs would create this file in the working folder


# --- safetensors -------------------------------------------------------------------------------------------------------------------------------------------

def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(kind="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}


def safetensors_files():
    good = {"w": entry(), "v": entry("U8", [3], [8, 11])}
    data = bytes(11)
    whole = safetensors(good, data)
    yield "empty", b"", 4, "the file is empty"
    for n in (1, 7, 8):
        yield f"only_{n}_bytes", whole[:n], 4, "too short for a header"
    for n in range(9, len(whole), 7):
        yield f"cut_at_{n}", whole[:n], 4, ""
    yield "cut_last_byte", whole[:-1], 4, "outside of the data"
    yield "one_byte_more", whole + b"\0", 4, "1 bytes lie behind the last tensor"
    yield "zip_appended", whole + b"PK\5\6" + bytes(18), 4, "22 bytes lie behind the last tensor"
    for name, length in (("2_64", 2**64 - 1), ("2_63", 2**63), ("one_more_than_file", len(whole) - 7), ("200_mb", 200 << 20)):
        yield f"header_length_{name}", safetensors(good, data, length), 4, "the header says"
    yield "header_length_0", struct.pack("<Q", 0) + b"{" + bytes(40), 4, "does not begin with '{'"
    yield "leading_space", safetensors(b" " + json.dumps(good).encode(), data), 4, "does not begin with '{'"
    yield "header_is_list", safetensors(b"[1, 2, 3, 4, 5, 6, 7, 8]", data), 4, "does not begin with '{'"
    yield "header_of_spaces", safetensors(b" " * 100_000, data), 4, "does not begin with '{'"
    yield "header_cut_json", safetensors(b'{"w": {"dtype": "F32"', data), 4, "not valid JSON"
    yield "two_json_values", safetensors(json.dumps(good).encode() + b"{}", data), 4, "not valid JSON"
    yield "invalid_utf8_name", safetensors(b'{"w\xff": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\0"), 4, "not valid JSON"
    yield "lone_surrogate_name", safetensors(b'{"w\\ud800": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\0"), 4, "not valid JSON"
    for label, text in (("nul", "\\u0000"), ("newline", "\\n"), ("escape", "\\u001b[2J"), ("right_to_left", "\\u202e"), ("zero_width", "\\u200b")):
        yield f"name_with_{label}", safetensors(b'{"w%s": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}}' % text.encode(), b"\0"), 4, "control characters"
    yield "empty_name", safetensors({"": entry("U8", [1], [0, 1])}, b"\0"), 4, "empty name"
    yield "name_too_long", safetensors({"n" * 513: entry("U8", [1], [0, 1])}, b"\0"), 4, "name is too long"
    double = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    yield "duplicate_name", safetensors(double, b"\0"), 4, "'w' stands twice"
    yield "duplicate_key", safetensors(b'{"w":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"\0"), 4, "stands twice"
    yield "deep_json", safetensors(b'{"w":' + b"[" * 10_000, data), 4, "nesting deeper than 8"
    yield "deep_objects", safetensors(b'{"w":' + b'{"a":' * 10_000, data), 4, "nesting deeper than 8"
    for kind in ("F8_E4M3", "F8_E5M2", "U64", "C64", "f32", "", "F32\u001b"):
        yield f"dtype_{len(kind)}_{kind.strip(chr(27)) or 'empty'}", safetensors({"w": entry(kind, [2], [0, 8])}, bytes(8)), 4, "unsupported dtype"
    for label, broken, words in (
            ("dtype_number", {"dtype": 4, "shape": [2], "data_offsets": [0, 8]}, "dtype must be a string"),
            ("dtype_null", {"dtype": None, "shape": [2], "data_offsets": [0, 8]}, "dtype must be a string"),
            ("shape_number", {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}, "shape must be a list"),
            ("shape_strings", {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}, "whole number"),
            ("shape_float", {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}, "whole number"),
            ("shape_negative", {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "negative"),
            ("shape_2_63", {"dtype": "F32", "shape": [2**63], "data_offsets": [0, 8]}, "too large"),
            ("shape_2_64", {"dtype": "F32", "shape": [2**64], "data_offsets": [0, 8]}, "whole number"),
            ("shape_product_wraps", {"dtype": "F32", "shape": [2**32, 2**32, 2], "data_offsets": [0, 8]}, "overflows"),
            ("shape_bytes_wrap", {"dtype": "F64", "shape": [2**61 + 1], "data_offsets": [0, 8]}, "overflows"),
            ("shape_rank_7", {"dtype": "F32", "shape": [1] * 7, "data_offsets": [0, 4]}, "too many dimensions"),
            ("shape_too_large", {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, "do not fit type and shape"),
            ("shape_zero_with_bytes", {"dtype": "F32", "shape": [0, 2], "data_offsets": [0, 8]}, "do not fit type and shape"),
            ("offsets_three", {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}, "list of two"),
            ("offsets_null", {"dtype": "F32", "shape": [2], "data_offsets": None}, "list of two"),
            ("offsets_strings", {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]}, "whole number"),
            ("offsets_negative", {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}, "negative"),
            ("offsets_backwards", {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}, "outside of the data"),
            ("offsets_2_63", {"dtype": "F32", "shape": [2], "data_offsets": [2**63, 2**63 + 8]}, "outside of the data"),
            ("offsets_2_64", {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**64]}, "whole number"),
            ("offsets_past_end", {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]}, "outside of the data"),
            ("lacks_shape", {"dtype": "F32", "data_offsets": [0, 8]}, "lacks"),
            ("unknown_key", {**entry(), "strides": [1]}, "does not belong"),
            ("entry_is_list", [1], "must be an object"),
            ("entry_is_null", None, "must be an object")):
        yield label, safetensors({"w": broken}, bytes(8)), 4, words
    yield "overlap", safetensors({"a": entry("U8", [6], [0, 6]), "b": entry("U8", [6], [4, 10])}, bytes(10)), 4, "overlap those of tensor 'a'"
    yield "same_bytes_twice", safetensors({"a": entry(), "b": entry()}, bytes(8)), 4, "overlap those of tensor"
    yield "hole", safetensors({"a": entry("U8", [4], [0, 4]), "b": entry("U8", [4], [6, 10])}, bytes(10)), 4, "a hole of 2 bytes"
    yield "hole_at_start", safetensors({"a": entry("U8", [4], [2, 6])}, bytes(6)), 4, "a hole of 2 bytes"
    yield "metadata_number", safetensors({"__metadata__": {"a": 1}, **good}, data), 4, "must be a string"
    yield "metadata_list", safetensors({"__metadata__": [], **good}, data), 4, "must be an object"
    yield "no_tensors", safetensors({}), 4, "holds no tensors"
    many = {f"t{i}": entry("U8", [0], [0, 0]) for i in range(65_537)}
    yield "too_many_tensors", safetensors(many), 4, "too many tensors"


# --- pickles and the torch containers ----------------------------------------------------------------------------------------------------------------------

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
VERSION = b"\x80\x02M\xe9\x03."


def text(s):
    data = s.encode() if isinstance(s, str) else s
    return b"X" + struct.pack("<I", len(data)) + data


def integer(n):
    if -2**31 <= n < 2**31:
        return b"J" + struct.pack("<i", n)
    data = n.to_bytes((n.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def group(*items):
    return b"(" + b"".join(items) + b"t"


def name(module, what):
    return f"c{module}\n{what}\n".encode()


def storage(key="0", elements=6, cls="FloatStorage", module="torch", legacy=False, view=None):
    parts = [text("storage"), name(module, cls), text(key), text("cpu"), integer(elements)]
    if legacy:
        parts.append(view or b"N")
    return group(*parts) + b"Q"


def tensor(store, offset=0, size=(2, 3), stride=(3, 1)):
    sizes, strides = (group(*map(integer, v)) if v is not None else b"N" for v in (size, stride))
    return name("torch._utils", "_rebuild_tensor_v2") + group(store, integer(offset), sizes, strides, b"\x89", name("collections", "OrderedDict") + b")R") + b"R"


def state(*pairs):
    """A state dict of (name, pickled value) as one pickle."""
    return b"\x80\x02" + name("collections", "OrderedDict") + b")R(" + b"".join(text(k) + v for k, v in pairs) + b"u."


def legacy(obj, keys=("0",), storages=((6, bytes(24)),), magic=MAGIC, version=VERSION, little=b"\x88", tail=b""):
    system = b"\x80\x02}(" + text("protocol_version") + integer(1001) + text("little_endian") + little + text("type_sizes") + b"}" + b"u."
    key_list = b"\x80\x02](" + b"".join(map(text, keys)) + b"e."
    return magic + version + system + obj + key_list + b"".join(struct.pack("<q", n) + d for n, d in storages) + tail


class Entry:
    """One zip entry; any field of its two headers can be set apart."""

    def __init__(self, path, data, **changes):
        self.name = self.local_name = path.encode() if isinstance(path, str) else path
        self.data, self.method, self.flags, self.extra, self.central_extra, self.descriptor = data, 0, 0, b"", b"", b""
        self.crc, self.size, self.packed, self.offset = zlib.crc32(data), len(data), len(data), None
        self.local = {}
        for k, v in changes.items():
            setattr(self, k, v)
        if "name" in changes:
            self.local_name = changes.get("local_name", self.name)


def zip_file(entries, before=b"", after=b"", end=None, zip64=b""):
    out, central = bytearray(before), b""
    for e in entries:
        at = len(out)
        get = lambda field: e.local.get(field, getattr(e, field))
        out += struct.pack("<IHHHIIIIHH", 0x04034b50, 20, get("flags"), get("method"), 0, get("crc"), get("packed"), get("size"), len(e.local_name), len(e.extra))
        out += e.local_name + e.extra + e.data + e.descriptor
        central += struct.pack("<IHHHHIIIIHHHHHII", 0x02014b50, 20, 20, e.flags, e.method, 0, e.crc, e.packed, e.size, len(e.name), len(e.central_extra), 0, 0, 0, 0,
                               at if e.offset is None else e.offset) + e.name + e.central_extra
    fields = {"disk": 0, "entries": len(entries), "bytes": len(central), "offset": len(out), "comment": 0, **(end or {})}
    out += central + zip64
    out += struct.pack("<IHHHHIIH", 0x06054b50, fields["disk"], fields["disk"], fields["entries"], fields["entries"], fields["bytes"], fields["offset"], fields["comment"])
    return bytes(out) + after


def torch_zip(obj, records=(("0", bytes(24)),), more=(), **how):
    entries = [Entry("archive/data.pkl", obj), *(Entry(f"archive/data/{k}", d) for k, d in records), Entry("archive/version", b"3\n"), *more]
    return zip_file(entries, **how)


def zip_with(change_pickle=None, change_data=None, **how):
    """The good archive with fields of its data.pkl or data/0 entry changed."""
    good = state(("w", tensor(storage())))
    return zip_file([Entry("archive/data.pkl", good, **(change_pickle or {})), Entry("archive/data/0", bytes(24), **(change_data or {})), Entry("archive/version", b"3\n")], **how)


def containers(label, obj, words, code=4, **storages):
    """The same object in both containers; `obj` is called with legacy=False or True."""
    make = obj if callable(obj) else (lambda legacy: obj)
    yield f"zip_{label}", torch_zip(make(False), **({"records": storages["records"]} if "records" in storages else {})), code, words
    yield f"legacy_{label}", legacy(make(True), **({k: storages[k] for k in ("keys", "storages") if k in storages})), code, words


def pickle_files():
    run = text(f"touch {CANARY}") + b"\x85R"
    short = lambda s: b"\x8c" + bytes([len(s)]) + s.encode()
    attacks = {
        "global_reduce": (name("os", "system") + run, "refuses name 'os.system' at offset"),
        "posix_reduce": (name("posix", "system") + run, "refuses name 'posix.system'"),
        "global_alone": (name("os", "system"), "refuses name 'os.system'"),
        "stack_global": (short("os") + short("system") + b"\x93" + run, "refuses name 'os.system'"),
        "stack_global_dotted": (short("os") + short("path.join") + b"\x93" + run, "refuses name 'os.path.join'"),
        "inst": (b"(" + text(f"touch {CANARY}") + b"ios\nsystem\n", "refuses name 'os.system'"),
        "obj": (b"(" + name("os", "system") + text(f"touch {CANARY}") + b"o", "refuses name 'os.system'"),
        "newobj": (name("subprocess", "Popen") + text(f"touch {CANARY}") + b"\x85\x81", "refuses name 'subprocess.Popen'"),
        "newobj_ex": (name("collections", "OrderedDict") + b")}\x92", "opcode NEWOBJ_EX"),
        "build_setstate": (name("evil", "Thing") + b")\x81}(" + text("__setstate__") + name("os", "system") + b"ub", "refuses name 'os.system'"),
        "eval": (name("builtins", "eval") + run, "refuses name 'builtins.eval'"),
        "eval_python_2": (name("__builtin__", "eval") + run, "refuses name '__builtin__.eval'"),
        "getattr": (name("builtins", "getattr") + group(name("torch", "Size"), text("__init__")) + b"R", "refuses name 'builtins.getattr'"),
        "import": (name("builtins", "__import__") + run, "refuses name 'builtins.__import__'"),
        "runpy": (name("runpy", "_run_code") + run, "refuses name 'runpy._run_code'"),
        "importlib": (name("importlib", "import_module") + run, "refuses name 'importlib.import_module'"),
        "functools_partial": (name("functools", "partial") + group(name("torch", "Size")) + b"R", "refuses name 'functools.partial'"),
        "operator": (name("operator", "attrgetter") + run, "refuses name 'operator.attrgetter'"),
        "torch_load": (name("torch", "load") + run, "refuses name 'torch.load'"),
        "torch_hub": (name("torch.hub", "load") + run, "refuses name 'torch.hub.load'"),
        "numpy_load": (name("numpy", "load") + run, "refuses name 'numpy.load'"),
        "own_class": (name("evil", "Thing") + run, "refuses name 'evil.Thing'"),
        "control_characters_in_name": (name("ev\x1b[2Jil", "Thing") + run, "refuses name 'ev\\x1b[2Jil.Thing'"),
        "ext1": (b"\x82\x01", "opcode EXT1"),
        "ext2": (b"\x83\x01\x00", "opcode EXT2"),
        "ext4": (b"\x84\x01\x00\x00\x00", "opcode EXT4"),
        "persid_text": (b"P0\n", "opcode PERSID"),
        "int_text": (b"I7\n", "opcode INT"),
        "string_text": (b"S'a'\n", "opcode STRING"),
        "get_text": (b"g0\n", "opcode GET"),
        "dup": (b"N2", "opcode DUP"),
        "unknown_opcode": (b"\xfe", "opcode number 254"),
    }
    for label, (body, words) in attacks.items():
        yield from containers(f"attack_{label}", state(("w", tensor(storage())), ("x", body)), words)
    for label, body, words in (
            ("long4_huge", b"\x8b\xff\xff\xff\x7f", "integer is too long"),
            ("long4_negative", b"\x8b\xff\xff\xff\xff", "integer is too long"),
            ("unicode8_2_63", b"\x8d" + struct.pack("<Q", 2**63), "string is too long"),
            ("unicode_4_gb", b"X\xff\xff\xff\xff", "string is too long"),
            ("unicode_16_mb", b"X\xff\xff\xff\x00", "ends too early"),
            ("frame_huge", b"\x95" + struct.pack("<Q", 2**64 - 1), "a frame of 18446744073709551615 bytes"),
            ("marks", b"(" * 200_000, "nesting deeper than 1000"),
            ("memo_index_huge", b"Nr\xff\xff\xff\xff", "memo index"),
            ("memo_unset", b"h\x63", "the memo has no number 99"),
            ("stack_underflow", b"0" * 9, "too few values"),
            ("tuple_without_mark", b"0000t", ""),
            ("protocol_9", b"\x80\x09", "pickle protocol"),
            ("name_without_end", b"c" + b"m" * 5000, "name without end"),
            ("reduce_of_string", text("x") + b")R", "REDUCE calls a string"),
            ("reduce_without_tuple", name("torch", "Size") + b"NR", "arguments that are None"),
            ("build_on_list", b"]Nb", "BUILD on a list"),
            ("append_on_dict", b"}Na", "APPEND on a dict"),
            ("setitem_on_list", b"]NNs", "SETITEM on a list"),
            ("persistent_id_string", text("0") + b"Q", "persistent id that is a string")):
        yield from containers(label, state(("w", tensor(storage())), ("x", body)), words)
    # Billion laughs: each level holds the one before ten times. As values, as attributes, as names of tensors.
    def laughs(first, level, count):
        """`first`, then `count` times level(what pushes the value before); the last value is left on the stack."""
        return first + b"".join(b"q" + bytes([i]) + b"0" + level(b"h" + bytes([i])) for i in range(count))
    ten_keys = lambda again: b"}(" + b"".join(text(f"k{j}") + again for j in range(10)) + b"u"
    keep = lambda body: state(("w", tensor(storage())), ("x", body))
    yield "zip_laughs_of_lists", torch_zip(keep(laughs(b"]", lambda again: b"](" + again * 10 + b"e", 30))), (0, 4, 8), ""
    yield "zip_laughs_of_lists_alone", torch_zip(b"\x80\x02" + laughs(b"]", lambda again: b"](" + again * 10 + b"e", 30) + b"."), 4, "neither a state dict nor a module"
    yield "zip_laughs_of_dicts", torch_zip(keep(laughs(b"}", ten_keys, 30))), 4, "counted as often as they are shared"
    yield "zip_laughs_of_tensors", torch_zip(b"\x80\x02" + laughs(tensor(storage()), ten_keys, 7) + b"."), 4, "too many tensors"
    yield "zip_dict_in_itself", torch_zip(b"\x80\x02}q\x00" + text("a") + b"h\x00s."), 4, "nesting deeper than 64"
    yield "zip_module_in_itself", torch_zip(b"\x80\x02" + name("m", "M") + b")\x81q\x00}(" + text("_modules") + b"}" + text("a") + b"h\x00s" + b"ub."), 4, "nesting deeper than 64"
    yield "zip_deep_dicts", torch_zip(b"\x80\x02" + b"".join(b"}" + text("a") for _ in range(500)) + b"}" + b"s" * 500 + b"."), 4, "nesting deeper than 64"
    yield "zip_counter_chain", torch_zip(b"\x80\x02" + name("collections", "Counter") + b"q\x000}" + text("a") + b"K\x01sq\x010" + b"h\x00h\x01\x85Rq\x010" * 100_000 + b"h\x01."), 4, "holds no tensors"
    yield "zip_many_values", torch_zip(b"\x80\x02" + b")" * 5_000_000 + b"."), 4, "more than"


def tensor_files():
    w = lambda t: lambda legacy: state(("w", t(legacy)))
    for label, make, words in (
            ("offset_past_end", lambda l: tensor(storage(legacy=l), offset=1), "reaches behind its storage"),
            ("offset_2_62", lambda l: tensor(storage(legacy=l), offset=2**62), "reaches behind its storage"),
            ("offset_wraps", lambda l: tensor(storage(legacy=l), offset=2**63 - 1), "strides overflow"),
            ("offset_negative", lambda l: tensor(storage(legacy=l), offset=-1), "is negative"),
            ("stride_past_end", lambda l: tensor(storage(legacy=l), stride=(4, 1)), "reaches behind its storage"),
            ("stride_2_62", lambda l: tensor(storage(legacy=l), stride=(2**62, 1)), "reaches behind its storage"),
            ("stride_wraps", lambda l: tensor(storage(legacy=l), size=(3, 2), stride=(2**62, 2**62)), "strides overflow"),
            ("stride_negative", lambda l: tensor(storage(legacy=l), stride=(-3, 1)), "is negative"),
            ("size_past_end", lambda l: tensor(storage(legacy=l), size=(3, 3)), "reaches behind its storage"),
            ("size_negative", lambda l: tensor(storage(legacy=l), size=(-2, 3)), "overflows"),
            ("size_wraps", lambda l: tensor(storage(legacy=l), size=(2**32, 2**32), stride=(0, 0)), "overflows"),
            ("size_of_one_number", lambda l: tensor(storage(legacy=l), size=(2**40,), stride=(0,)), "more elements than its storage"),
            ("size_beyond_64_bits", lambda l: tensor(storage(legacy=l), size=(2**70,), stride=(1,)), "no integer"),
            ("rank_7", lambda l: tensor(storage(legacy=l), size=(1,) * 7, stride=(1,) * 7), "too many dimensions"),
            ("strides_missing", lambda l: tensor(storage(legacy=l), stride=(1,)), "differ in their number"),
            ("size_none", lambda l: tensor(storage(legacy=l), size=None), "are not storage, offset, size, stride"),
            ("storage_missing_class", lambda l: tensor(storage(cls="QInt8Storage", legacy=l)), "QInt8Storage'"),
            ("storage_negative_count", lambda l: tensor(storage(elements=-1, legacy=l)), "out of range"),
            ("storage_count_2_62", lambda l: tensor(storage(elements=2**62, legacy=l)), "out of range"),
            ("storage_id_short", lambda l: tensor(group(text("storage"), name("torch", "FloatStorage")) + b"Q"), "is not ('storage'"),
            ("storage_id_unknown", lambda l: tensor(group(text("thing"), name("torch", "FloatStorage"), text("0"), text("cpu"), integer(6)) + b"Q"), "is not ('storage'")):
        yield from containers(label, w(make), words)
    yield from containers("tensor_without_arguments", state(("w", name("torch._utils", "_rebuild_tensor_v2") + b")R")), "are not storage, offset, size, stride", keys=(), storages=())
    for label, obj, words in (
            ("a_tensor_alone", lambda l: b"\x80\x02" + tensor(storage(legacy=l)) + b".", "one tensor without a name"),
            ("a_list", lambda l: b"\x80\x02]" + tensor(storage(legacy=l)) + b"a.", "neither a state dict nor a module"),
            ("a_number", lambda l: b"\x80\x02K\x05.", "neither a state dict nor a module"),
            ("name_twice", lambda l: state(("w", tensor(storage(legacy=l))), ("w", tensor(storage(legacy=l)))), "'w' stands twice"),
            ("name_twice_by_nesting", lambda l: state(("a.b", tensor(storage(legacy=l))), ("a", b"}" + text("b") + tensor(storage(legacy=l)) + b"s")), "the name stands twice"),
            ("name_invalid_utf8", lambda l: state((b"w\xff", tensor(storage(legacy=l)))), "not valid UTF-8"),
            ("name_newline", lambda l: state(("w\n", tensor(storage(legacy=l)))), "control characters"),
            ("name_escape", lambda l: state(("w\x1b[31m", tensor(storage(legacy=l)))), "control characters"),
            ("name_empty", lambda l: state(("", tensor(storage(legacy=l)))), "empty name"),
            ("name_long", lambda l: state(("n" * 600, tensor(storage(legacy=l)))), "name is too long"),
            ("name_is_none", lambda l: b"\x80\x02}N" + tensor(storage(legacy=l)) + b"s.", "not a string"),
            ("parameter_is_string", lambda l: b"\x80\x02" + name("m", "M") + b")\x81}(" + text("_modules") + b"}" + text("_parameters") + b"}" + text("w") + text("x") + b"sub.",
             "is no tensor"),
            ("module_is_string", lambda l: b"\x80\x02" + name("m", "M") + b")\x81}(" + text("_modules") + b"}" + text("a") + text("x") + b"sub.", "is no module")):
        uses_storage = b"_rebuild_tensor" in obj(True)
        yield from containers(label, obj, words, **({} if uses_storage else {"keys": (), "storages": ()}))
    good = state(("w", tensor(storage())))
    yield "zip_record_missing", torch_zip(good, records=()), 4, "has no entry data/0"
    yield "zip_record_short", torch_zip(good, records=(("0", bytes(23)),)), 4, "size of a storage differs"
    yield "zip_record_long", torch_zip(good, records=(("0", bytes(25)),)), 4, "size of a storage differs"
    yield "zip_storage_key_path", torch_zip(state(("w", tensor(storage(key="../data.pkl"))))), 4, "has no entry data/"
    yield "zip_storage_two_types", torch_zip(state(("w", tensor(storage())), ("v", tensor(storage(cls="IntStorage"))))), 4, "used with two types"
    yield "zip_bytes_behind_pickle", torch_zip(good + b"x"), 4, "bytes lie behind the pickle"
    yield "zip_big_endian", torch_zip(good, more=(Entry("archive/byteorder", b"big"),)), 4, "unsupported byte order"
    yield "zip_version_text", zip_file([Entry("a/data.pkl", good), Entry("a/data/0", bytes(24)), Entry("a/version", b"three")]), 4, "is no number"
    yield "zip_torchscript", torch_zip(good, more=(Entry("archive/constants.pkl", b"\x80\x02)."), Entry("archive/code/m.py", b"pass"))), 4, "TorchScript archive: it contains code"
    code = Entry("archive/code/m.py", b"x", method=8)
    yield "zip_torchscript_compressed", torch_zip(good, more=(code, Entry("archive/constants.pkl", b"\x80\x02)."))), 4, "TorchScript archive: it contains code"
    yield "zip_npz", zip_file([Entry("arr_0.npy", b"\x93NUMPY\x01\x00" + bytes(100))]), 4, "no data.pkl"
    yield "zip_two_roots", zip_file([Entry("a/data.pkl", good), Entry("b/data.pkl", good)]), 4, "two data.pkl"
    yield "zip_entry_outside_root", torch_zip(good, more=(Entry("other/file", b"x"),)), 4, "outside of the root folder"
    old = state(("w", tensor(storage(legacy=True))))
    yield "legacy_wrong_version", legacy(old, version=b"\x80\x02M\xea\x03."), 4, "unsupported version of the legacy torch format"
    yield "legacy_big_endian", legacy(old, little=b"\x89"), 4, "big-endian"
    yield "legacy_no_byte_order", legacy(old, little=b"N"), 4, "does not tell the byte order"
    yield "legacy_count_differs", legacy(old, storages=((5, bytes(20)),)), 4, "element count differs"
    yield "legacy_count_2_63", legacy(old, storages=((2**63 - 1, bytes(24)),)), 4, "element count differs"
    yield "legacy_count_negative", legacy(old, storages=((-6, bytes(24)),)), 4, "element count differs"
    yield "legacy_data_short", legacy(old, storages=((6, bytes(23)),)), 4, "ends too early"
    yield "legacy_data_long", legacy(old, tail=b"xyz"), 4, "3 bytes lie behind the last storage"
    yield "legacy_key_missing", legacy(old, keys=(), storages=()), 4, "its storage '0' is missing"
    yield "legacy_key_unknown", legacy(old, keys=("0", "9"), storages=((6, bytes(24)), (1, bytes(4)))), 4, "no tensor speaks of this storage"
    yield "legacy_key_twice", legacy(old, keys=("0", "0"), storages=((6, bytes(24)), (6, bytes(24)))), 4, "the storage stands twice"
    yield "legacy_two_counts", legacy(state(("w", tensor(storage(legacy=True))), ("v", tensor(storage(elements=7, legacy=True))))), 4, "described in two ways"
    view = lambda at, n: group(text("v"), integer(at), integer(n))
    yield "legacy_view_outside", legacy(state(("w", tensor(storage(legacy=True, view=view(3, 4)))))), 4, "view outside of another storage"
    yield "legacy_view_wraps", legacy(state(("w", tensor(storage(legacy=True, view=view(2**62, 2**62)))))), 4, "view outside of another storage"
    yield "legacy_view_negative", legacy(state(("w", tensor(storage(legacy=True, view=view(-1, 4)))))), 4, "is not (key, offset, elements)"


def cut_files():
    good, old = torch_zip(state(("w", tensor(storage())))), legacy(state(("w", tensor(storage(legacy=True)))))
    for n in range(4, len(good), 61):
        yield f"zip_cut_at_{n}", good[:n], 4, ""
    for n in range(16, len(old), 37):
        yield f"legacy_cut_at_{n}", old[:n], 4, ""
    flips = random.Random(7)
    # Bits of the headers and of the directory; flips inside of tensor data cannot be seen without a digest.
    places = list(range(len(good) - 22 - 3 * 46 - 50, len(good) - 22)) + list(range(26, 46))
    for n in flips.sample([p for p in places], 24):
        bit = 1 << flips.randrange(8)
        changed = bytearray(good)
        changed[n] ^= bit
        yield f"zip_flip_{n}_{bit}", bytes(changed), (0, 4, 8), ""


def zip_files():
    wide = lambda *values: struct.pack("<HH", 1, 8 * len(values)) + struct.pack(f"<{len(values)}Q", *values)
    big = {"size": 0xffffffff, "packed": 0xffffffff}
    for label, change, words in (
            ("compressed", {"method": 8}, "is compressed (method 8)"),
            ("compressed_only_locally", {"local": {"method": 8}}, "differ in the method"),
            ("encrypted", {"flags": 1}, "is encrypted"),
            ("encrypted_only_locally", {"local": {"flags": 1}}, "differ in the flags"),
            ("masked_headers", {"flags": 1 << 13}, "unknown flag bits"),
            ("strong_encryption", {"flags": 1 << 6}, "unknown flag bits"),
            ("local_name_differs", {"local_name": b"archive/data.pk1"}, "differ in the name"),
            ("local_name_longer", {"local_name": b"archive/data.pkl\0"}, "differ in the name"),
            ("local_crc_differs", {"local": {"crc": 1}}, "differ in the CRC"),
            ("local_size_differs", {"local": {"size": 3}}, "differ in the size"),
            ("two_sizes", {"packed": 3}, "its two sizes differ"),
            ("size_one_less", None, "a gap of 1 bytes"),
            ("size_one_more", None, ""),
            ("size_4_gb", {"size": 0xfffffffe, "packed": 0xfffffffe}, "remain before the central directory"),
            ("size_zip64_2_63", {**big, "central_extra": wide(2**63, 2**63), "extra": wide(2**63, 2**63)}, "remain before the central directory"),
            ("size_zip64_missing", {**big}, "lacks its zip64 sizes"),
            ("size_zip64_only_central", {**big, "central_extra": wide(24, 24)}, "differ in the size"),
            ("size_zip64_differs", {**big, "central_extra": wide(24, 24), "extra": wide(20, 20)}, "differ in the size"),
            ("extra_cut", {"central_extra": struct.pack("<HH", 1, 99)}, "ends too early"),
            ("offset_past_end", {"offset": 0x7fffffff}, "lies behind the end"),
            ("offset_into_data", {"offset": 3}, "no local header"),
            ("offset_of_other", {"offset": 0}, "differ in the name"),
            ("descriptor_missing", {"flags": 8}, "data descriptor is missing"),
            ("descriptor_damaged", {"flags": 8, "descriptor": bytes(16)}, "data descriptor is damaged"),
            ("descriptor_lies", {"flags": 8, "descriptor": struct.pack("<IIII", 0x08074b50, zlib.crc32(bytes(24)), 24, 25)}, "contradicts the central directory"),
            ("name_absolute", {"name": b"/archive/data/0"}, "is not a relative path"),
            ("name_parent", {"name": b"archive/../../data/0"}, "leads outside"),
            ("name_backslash", {"name": b"archive\\data\\0"}, "is not a relative path"),
            ("name_drive", {"name": b"C:/data/0"}, "is not a relative path"),
            ("name_folder", {"name": b"archive/data/0/"}, "is a folder"),
            ("name_empty_part", {"name": b"archive//data/0"}, "leads outside"),
            ("name_nul", {"name": b"archive/data/0\0"}, "not plain text"),
            ("name_empty", {"name": b""}, "is empty"),
            ("name_of_other", {"name": b"archive/data.pkl"}, "stands twice")):
        if change is None:
            change = {"size": 23 if "less" in label else 25, "packed": 23 if "less" in label else 25}
        if label.startswith(("local_name",)):
            yield f"zip_{label}", zip_with(change_pickle=change), 4, words
        else:
            yield f"zip_{label}", zip_with(change_data=change), 4, words
    yield "zip_prefix", zip_with(before=b"MZ" + bytes(62)), 4, ""
    yield "zip_prefix_zip", zip_with(before=b"PK\3\4"), 4, ""
    yield "zip_trailing", zip_with(after=b"\0"), 4, "no zip end record"
    yield "zip_comment", zip_with(end={"comment": 4}, after=b"PK\5\6"), 4, ""
    yield "zip_comment_length", zip_with(end={"comment": 9}), 4, "has a comment"
    yield "zip_split", zip_with(end={"disk": 1}), 4, "split over several files"
    yield "zip_entries_65535", zip_with(end={"entries": 65535}), 4, "needs at least 46 bytes each"
    yield "zip_entries_one_less", zip_with(end={"entries": 2}), 4, "behind the last entry"
    yield "zip_directory_offset", zip_with(end={"offset": 0}), 4, "does not end at the end record"
    yield "zip_directory_2_32", zip_with(end={"offset": 0xffffffff, "bytes": 0xffffffff}), 4, "does not end at the end record"
    record = lambda entries, size, at: struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 45, 45, 0, 0, entries, entries, size, at)
    locator = lambda at: struct.pack("<IIQI", 0x07064b50, 0, at, 1)
    for label, fields, at in (("entries", (2**63, 200, 0), 0), ("size", (3, 2**64 - 1, 0), 0), ("offset", (3, 200, 2**64 - 1), 0)):
        yield f"zip_zip64_{label}_lie", zip_with(zip64=record(*fields) + locator(at)), 4, ""
    yield "zip_zip64_locator_lie", zip_with(zip64=record(3, 200, 0) + locator(2**63)), 4, "not where its locator says"
    yield "zip_zip64_locator_alone", zip_with(zip64=locator(0)), 4, ""
    # The bomb of one deflated gigabyte, and the one of overlapping entries.
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    yield "zip_bomb_deflated", zip_file([Entry("archive/data.pkl", bomb, method=8, size=64 << 20)]), 4, "is compressed"
    good = state(("w", tensor(storage())))
    shared = [Entry("archive/data.pkl", good)] + [Entry(f"archive/data/{i}", b"", size=24, packed=24, offset=30 + 16 + len(good)) for i in range(50)]
    yield "zip_bomb_overlapping", zip_file(shared), 4, ""
    inner = zip_file([Entry("archive/data/0", bytes(24))])[:30 + 14 + 24]
    nested = [Entry("archive/data.pkl", good), Entry("archive/data/1", inner), Entry("archive/data/0", b"", size=24, packed=24, crc=zlib.crc32(bytes(24)), offset=46 + len(good) + 44)]
    both = zip_file(nested)
    cut = 46 + len(good) + 44 + len(inner)
    yield "zip_entry_inside_entry", both[:cut] + zip_tail(both, cut, 44), 4, "overlaps the entry"
    yield "zip_empty_archive", zip_file([]), 4, "no data.pkl"
    yield "zip_many_entries", zip_file([Entry(f"archive/data/{i}", b"") for i in range(65_536 - 1)], end={"entries": 65_535}), 4, "no data.pkl"


def zip_tail(whole, cut, dropped):
    """The directory and end record behind a local header of `dropped` bytes that is left out; offsets follow."""
    tail = bytearray(whole[cut + dropped:])
    at = struct.unpack_from("<I", tail, len(tail) - 6)[0]
    struct.pack_into("<I", tail, len(tail) - 6, at - dropped)
    return bytes(tail)


# --- indexes of shards and folders -------------------------------------------------------------------------------------------------------------------------

def index_files():
    shard = safetensors({"w": entry()}, bytes(8))
    index = lambda weights: json.dumps({"metadata": {}, "weight_map": weights}).encode()
    name = "model.safetensors.index.json"
    for label, target in (("parent", "../../etc/passwd"), ("absolute", "/etc/passwd"), ("dot", "."), ("no_name", ""), ("folder", "sub/a.safetensors"), ("nul", "a\0b"), ("long", "a" * 300)):
        yield f"index_shard_{label}", {name: index({"w": target}), "a.safetensors": shard}, 4, "must be a plain file in this folder"
    yield "index_shard_is_folder", {name: index({"w": "sub"}), "sub/a.safetensors": shard}, 4, "must be a plain file in this folder"
    yield "index_shards_missing", {name: index({"w": "a.safetensors", "v": "b.safetensors", "u": "c.safetensors"}), "a.safetensors": shard}, 8, "'b.safetensors', 'c.safetensors'"
    yield "index_tensors_missing", {name: index({"w": "a.safetensors", "v": "a.safetensors", "u": "a.safetensors"}), "a.safetensors": shard}, 8, "'v', 'u'"
    yield "index_tensor_in_two_shards", {name: index({"w": "a.safetensors", "v": "b.safetensors"}), "a.safetensors": shard, "b.safetensors": shard}, 8, "stand in two shards: 'w'"
    yield "index_no_map", {name: b'{"metadata": {}}'}, 4, "no object 'weight_map'"
    yield "index_map_list", {name: b'{"weight_map": []}'}, 4, "no object 'weight_map'"
    yield "index_shard_number", {name: b'{"weight_map": {"w": 3}}'}, 4, "must be a string"
    yield "index_duplicate_name", {name: b'{"weight_map": {"w": "a", "w": "b"}}'}, 4, "stands twice"
    yield "index_deep", {name: b'{"weight_map": ' + b"[" * 10_000}, 4, "nesting deeper than 8"
    yield "index_cut", {name: index({"w": "a.safetensors"})[:-3], "a.safetensors": shard}, 4, "not valid JSON"
    yield "index_name_control", {name: index({"w\n": "a.safetensors"}), "a.safetensors": shard}, 4, "control characters"
    yield "index_shard_damaged", {name: index({"w": "a.safetensors"}), "a.safetensors": shard[:-1]}, 4, "outside of the data"
    yield "index_shard_empty", {name: index({"w": "a.safetensors"}), "a.safetensors": b""}, 4, "the file is empty"
    yield "folder_empty", {"README.md": b"nothing"}, 4, "holds no weights"
    yield "folder_tensorflow", {"config.json": b"{}", "tf_model.h5": b"\x89HDF"}, 4, "weights of other kinds"
    yield "folder_two_files", {"a.pt": b"x", "b.pt": b"x"}, 4, "several weight files"
    yield "folder_config_list", {"config.json": b"[]", "model.safetensors": shard}, 4, "must be an object"
    yield "folder_config_cut", {"config.json": b'{"a": ', "model.safetensors": shard}, 4, "not valid JSON"
    yield "folder_config_deep", {"config.json": b'{"a": ' + b"[" * 10_000, "model.safetensors": shard}, 4, "nesting deeper than"
    yield "folder_config_utf8", {"config.json": b'{"a": "\xff"}', "model.safetensors": shard}, 4, "not valid JSON"


def other_kinds():
    page = b"<!DOCTYPE html><html><head><title>404</title></head></html>" + b" " * 300
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1140884800\n"
    tar = (b"storages" + bytes(249) + b"ustar\x0000").ljust(1024, b"\0")
    for label, data, words in (("png", b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"), ("elf", b"\x7fELF\2\1\1" + bytes(100), "an ELF program"), ("html", page, "an HTML page"),
                               ("lfs_pointer", pointer, "a Git LFS pointer"), ("gguf", b"GGUF\3" + bytes(100), "a GGUF model"), ("pdf", b"%PDF-1.4\n" + bytes(100), "a PDF document"),
                               ("gzip", b"\x1f\x8b\x08" + bytes(100), "a gzip archive"), ("numpy", b"\x93NUMPY\1\0" + bytes(100), "a NumPy array"),
                               ("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"), ("tar", tar, "a tar archive"), ("plain_pickle", b"\x80\x02}q\0." + bytes(100), "a plain Python pickle"),
                               ("zeros", bytes(4096), ""), ("text", b"hello world, this is no model\n" * 9, "not a checkpoint"), ("random", random.Random(3).randbytes(4096), "not a checkpoint")):
        for extension in ("bin", "safetensors"):
            yield f"{label}_as_{extension}", data, 4, words


def files():
    for part, extension in ((safetensors_files, "safetensors"), (pickle_files, "bin"), (tensor_files, "bin"), (cut_files, "bin"), (zip_files, "pt"), (index_files, ""), (other_kinds, "")):
        for label, content, code, words in part():
            if not extension and isinstance(content, bytes):
                label, _, kind = label.rpartition("_as_")
                yield f"{label}.{kind}", content, code, words
            else:
                yield f"{label}.{extension}" if extension else label, content, code, words


def cases(folder):
    for label, content, code, words in files():
        path = os.path.join(folder, label)
        if isinstance(content, dict):
            for inner, data in content.items():
                write(path, inner, data)
        else:
            write(folder, label, content)
        yield Case(label, ["convert", path, "-o", "OUTPUT"], code if isinstance(code, tuple) else (code,), words)
