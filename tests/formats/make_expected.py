#!/usr/bin/env python3
"""Writes expected.json: names, types, shapes and value checksums of checkpoints, read by an independent reader.

usage: make_expected.py FOLDER...       (each holds config.json and weights; one object per folder name, to standard output)

Reads safetensors, torch zip and torch legacy, sharded or not, with numpy and the standard library alone. Each tensor is [type, shape, crc32], the checksum
over its values as little-endian float32. Tensors of pickled modules that are plain attributes come under "attributes".
"""
import collections
import io
import json
import os
import pickle
import struct
import sys
import zipfile
import zlib

import numpy as np

TYPES = {"Float": ("f32", "<f4"), "Double": ("f64", "<f8"), "Half": ("f16", "<f2"), "BFloat16": ("bf16", "<u2"), "Long": ("i64", "<i8"), "Int": ("i32", "<i4"),
         "Short": ("i16", "<i2"), "Char": ("i8", "i1"), "Byte": ("u8", "u1"), "Bool": ("boolean", "?")}
SAFE = {"F32": "Float", "F64": "Double", "F16": "Half", "BF16": "BFloat16", "I64": "Long", "I32": "Int", "I16": "Short", "I8": "Char", "U8": "Byte", "BOOL": "Bool"}


class Tensor:
    def __init__(self, kind, values):
        self.kind, self.values = kind, values

    def row(self):
        v = self.values
        if self.kind == "BFloat16":
            v = (v.astype(np.uint32) << 16).view(np.float32)
        v = np.ascontiguousarray(v.astype(np.float32))
        return [TYPES[self.kind][0], list(self.values.shape), zlib.crc32(v.tobytes())]


def opaque(name):
    class Opaque:
        def __new__(cls, *args):
            return object.__new__(cls)

        def __init__(self, *args):
            pass

        def __setstate__(self, state):
            self.state = state
    Opaque.__name__ = name
    return Opaque


class Reader(pickle.Unpickler):
    def __init__(self, file, storage):
        super().__init__(file)
        self.storage = storage

    def find_class(self, module, name):
        if name == "OrderedDict":
            return collections.OrderedDict
        if name == "set":
            return set
        if name.endswith("Storage"):
            return name[:-7]
        if name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return lambda s, offset, size, stride, *rest: (s, offset, size, stride)
        if name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return lambda t, *rest: t
        return opaque(module + "." + name)

    def persistent_load(self, pid):
        return pid[1] if pid[0] == "module" else self.storage(pid)


class Storage:
    def __init__(self, kind, elements):
        self.kind, self.elements, self.data = kind, elements, None


def is_tensor(v):
    return isinstance(v, tuple) and len(v) == 4 and isinstance(v[0], Storage)


def tensor(v):
    storage, offset, size, stride = v
    flat = np.frombuffer(storage.data, TYPES[storage.kind][1])
    values = np.lib.stride_tricks.as_strided(flat[offset:] if offset < len(flat) else flat[:0], size, [s * flat.itemsize for s in stride]) if np.prod(size) else np.zeros(size, flat.dtype)
    return Tensor(storage.kind, values)


def flatten(v, path, out, attributes):
    join = lambda name: f"{path}.{name}" if path else str(name)
    if is_tensor(v):
        out[path] = tensor(v)
    elif isinstance(v, dict):
        for k, item in v.items():
            flatten(item, join(k), out, attributes)
    elif isinstance(getattr(v, "state", None), dict):
        state = v.state
        if "_modules" in state:
            unsaved = state.get("_non_persistent_buffers_set", ())
            flatten(state["_parameters"], path, out, attributes)
            flatten({k: b for k, b in state["_buffers"].items() if k not in unsaved}, path, out, attributes)
            flatten({k: b for k, b in state["_buffers"].items() if k in unsaved}, path, attributes, attributes)
            flatten(state["_modules"], path, out, attributes)
            for k, item in state.items():
                if not k.startswith("_"):
                    flatten(item, join(k), attributes, attributes)
        else:
            flatten(state, path, attributes, attributes)
    elif isinstance(v, (list, tuple)):
        for i, item in enumerate(v):
            flatten(item, join(i), attributes, attributes)


def read_torch(path):
    storages = {}

    def storage(pid):
        return storages.setdefault(pid[2], Storage(pid[1], pid[4]))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as z:
            root = [n for n in z.namelist() if n.endswith("/data.pkl")][0][:-8]
            value = Reader(io.BytesIO(z.read(root + "data.pkl")), storage).load()
            for key, s in storages.items():
                s.data = z.read(f"{root}data/{key}")
    else:
        with open(path, "rb") as f:
            for _ in range(3):
                pickle.load(f)
            value = Reader(f, storage).load()
            for key in pickle.load(f):
                count, = struct.unpack("<q", f.read(8))
                storages[key].data = f.read(count * np.dtype(TYPES[storages[key].kind][1]).itemsize)
            assert f.read() == b""
    if isinstance(value, dict) and "state_dict" in value:
        value = value["state_dict"]
    out, attributes = {}, {}
    flatten(value, "", out, attributes)
    return out, attributes


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    out = {}
    for name, e in header.items():
        if name != "__metadata__":
            kind = SAFE[e["dtype"]]
            out[name] = Tensor(kind, np.frombuffer(data[slice(*e["data_offsets"])], TYPES[kind][1]).reshape(e["shape"]))
    return out


def read_folder(folder):
    tensors, attributes = {}, {}
    paths = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
    for path in sorted(paths):
        name = os.path.basename(path)
        if name.endswith(".safetensors"):
            tensors.update(read_safetensors(path))
        elif name.endswith((".bin", ".pt", ".pth")):
            more, attributes = read_torch(path)
            tensors.update(more)
    rows = lambda group: {name: t.row() for name, t in sorted(group.items())}
    return {"tensors": rows(tensors), **({"attributes": rows(attributes)} if attributes else {})}


if __name__ == "__main__":
    result = {os.path.basename(folder.rstrip("/")): read_folder(folder) for folder in sys.argv[1:]}
    print("{")
    for i, (case, groups) in enumerate(result.items()):
        print(f' "{case}": {json.dumps(groups)}' + ("," if i + 1 < len(result) else ""))
    print("}")
