"""`.tern` files byte by byte (the comment of formats/model_file.h). Correct by default; a case breaks one thing and keeps the digests right, or not."""
import json
import struct

from xxh3 import xxh3_64

MAGIC = b"\x8aTERN\r\n\x1a"
TYPES = {"f32": 0, "f16": 1, "bf16": 2, "f64": 3, "i8": 4, "u8": 5, "i16": 6, "i32": 7, "i64": 8, "boolean": 9}
SIZES = {"f32": 4, "f16": 2, "bf16": 2, "f64": 8, "i8": 1, "u8": 1, "i16": 2, "i32": 4, "i64": 8, "boolean": 1}


def up(value, step):
    return (value + step - 1) // step * step


class Tensor:
    def __init__(self, name, shape, kind="f32", layout=0, group="", data=None):
        self.name = name.encode() if isinstance(name, str) else name
        self.group = group.encode() if isinstance(group, str) else group
        self.shape, self.kind, self.layout = list(shape), TYPES[kind], layout
        count = 1
        for d in shape:
            count *= d
        if layout == 1:
            pair = 1 if kind == "f32" else 2
            count = up(shape[0], 16) * up(shape[1], pair)
        self.data = bytes(count * SIZES[kind]) if data is None else data
        self.bytes = len(self.data)
        self.offset = self.digest = None   # None: what is right
        self.rank = len(self.shape)
        self.reserved = 0


class TernFile:
    def __init__(self, architecture="transformer-xl", config=None, tensors=(), blobs=(), **metadata):
        self.metadata = json.dumps({"architecture": architecture, "config": {} if config is None else config, **metadata}).encode()
        self.tensors, self.blobs = list(tensors), [list(b) for b in blobs]
        self.header, self.counts = {}, {}   # fields to override
        self.at = {}                        # after build(): where things are

    def build(self):
        strings = b"".join(t.name + t.group for t in self.tensors) + b"".join(name.encode() for name, _ in self.blobs)
        table_bytes = 32 + up(len(self.metadata), 8) + 96 * len(self.tensors) + 32 * len(self.blobs) + len(strings)
        at = up(64 + table_bytes, 64)
        placed, blob_offsets = [], []
        for _, data in self.blobs:
            at = up(at, 64)
            blob_offsets.append(at)
            placed.append((at, data))
            at += len(data)
        group = b""
        for t in self.tensors:
            page = t.group != group or (not t.group and t.bytes >= 65536)
            at = up(at, 4096 if page else 64)
            t.placed, group = at, t.group
            placed.append((at, t.data))
            at += len(t.data)
        end = up(at, 4096 if group else 64)
        table = struct.pack("<IIQQQ", self.counts.get("tensors", len(self.tensors)), self.counts.get("blobs", len(self.blobs)),
                            self.counts.get("metadata", len(self.metadata)), self.counts.get("strings", len(strings)), self.counts.get("reserved", 0))
        table += self.metadata.ljust(up(len(self.metadata), 8), b"\0")
        self.at["tensors"] = 64 + len(table)
        for t in self.tensors:
            shape = [d & (1 << 64) - 1 for d in (t.shape + [0] * 6)[:6]]
            table += struct.pack("<IIBBBBI6QQQQQ", len(t.name), len(t.group), t.kind, t.layout, t.rank, 0, 0, *shape,
                                 t.placed if t.offset is None else t.offset, t.bytes, xxh3_64(t.data) if t.digest is None else t.digest, t.reserved)
        for (name, data), offset in zip(self.blobs, blob_offsets):
            table += struct.pack("<IIQQQ", len(name.encode()), 0, offset, len(data), xxh3_64(data))
        table += strings
        out = bytearray(end + 16)
        out[64:64 + len(table)] = table
        for offset, data in placed:
            out[offset:offset + len(data)] = data
        self.at["data"] = up(64 + table_bytes, 64)
        self.at["end"] = end
        out[end:] = struct.pack("<Q", self.header.get("file_bytes", end + 16)) + b"TERN_END"
        reseal(out, table, self.header)
        return bytes(out)


def reseal(out, table=None, fields=None):
    """Writes the header of a bytearray again, so that both digests are right whatever was changed in the table."""
    fields = fields or {}
    if table is None:
        length = struct.unpack_from("<Q", out, 32)[0]
        table = bytes(out[64:64 + length])
    head = fields.get("magic", MAGIC) + struct.pack("<IIQQQQQ", fields.get("version", 1), fields.get("order", 0x01020304),
                                                    fields.get("file_bytes", len(out)), fields.get("table_offset", 64),
                                                    fields.get("table_bytes", len(table)), fields.get("table_digest", xxh3_64(table)),
                                                    fields.get("reserved", 0))
    out[0:64] = head + struct.pack("<Q", fields.get("header_digest", xxh3_64(head)))
