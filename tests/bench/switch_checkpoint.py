#!/usr/bin/env python3
"""A Switch Transformer of any size with random weights, as Hugging Face stores one: sharded safetensors with an index. Needs numpy.

usage: switch_checkpoint.py FOLDER [--experts N] [--d-model D] [--d-ff F] [--layers L] [--sparse S] [--shard-mb M]

As given, the layout of switch-base-128 at a third of its width: 12 + 12 layers, 6 + 6 of them sparse, 128 experts of 2 MiB each, 3.4 GB in about 33 shards. The same
arguments give the same bytes. Add a T5 tokenizer (spiece.model) to the folder to run it on text.
"""
import argparse, json, os, struct, zlib
import numpy

HEADS, D_KV, VOCABULARY, BUCKETS = 4, 64, 32128, 32


def shapes(a):
    """name -> (shape, standard deviation); 0: a norm's weight, about 1."""
    d, f, inner = a.d_model, a.d_ff, HEADS * D_KV
    step = a.layers // a.sparse if a.sparse else 0
    out = {"shared.weight": ((VOCABULARY, d), 1.0), "lm_head.weight": ((VOCABULARY, d), d ** -0.5)}  # not tied: a random tied head repeats its input

    def products(prefix, kind):
        for m, n, std in (("q", (inner, d), (d * D_KV) ** -0.5), ("k", (inner, d), d ** -0.5), ("v", (inner, d), d ** -0.5), ("o", (d, inner), inner ** -0.5)):
            out[f"{prefix}.{kind}.{m}.weight"] = (n, std)

    for stack in ("encoder", "decoder"):
        kinds = ("SelfAttention", "EncDecAttention")[:1 + (stack == "decoder")]
        for b in range(a.layers):
            block = f"{stack}.block.{b}.layer"
            for i, kind in enumerate(kinds):
                products(f"{block}.{i}", kind)
                if b == 0 and i == 0:
                    out[f"{block}.{i}.{kind}.relative_attention_bias.weight"] = ((BUCKETS, HEADS), 0.5)
                out[f"{block}.{i}.layer_norm.weight"] = ((d,), 0)
            mlp = f"{block}.{len(kinds)}"
            names = [f"{mlp}.mlp"]
            if step and (step == 1 or b % step == 1):
                out[f"{mlp}.mlp.router.classifier.weight"] = ((a.experts, d), 2 * d ** -0.5)
                names = [f"{mlp}.mlp.experts.expert_{e}" for e in range(a.experts)]
            for name in names:
                out[f"{name}.wi.weight"], out[f"{name}.wo.weight"] = ((f, d), d ** -0.5), ((d, f), f ** -0.5)
            out[f"{mlp}.layer_norm.weight"] = ((d,), 0)
        out[f"{stack}.final_layer_norm.weight"] = ((d,), 0)
    return out


def numbers(name, shape, std):
    """Of a stream of the tensor's own, so that no other tensor changes them."""
    values = numpy.random.Generator(numpy.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape, dtype=numpy.float32)
    return values * numpy.float32(std) if std else 1 + values * numpy.float32(0.1)


def write_shard(path, names, table):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        size = 4 * int(numpy.prod(table[name][0]))
        header[name] = {"dtype": "F32", "shape": list(table[name][0]), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            f.write(numbers(name, *table[name]).tobytes())


def make(a):
    os.makedirs(a.folder, exist_ok=True)
    table = shapes(a)
    groups, room = [[]], a.shard_mb << 20
    for name, (shape, _) in table.items():
        size = 4 * int(numpy.prod(shape))
        if groups[-1] and size > room:
            groups.append([])
            room = a.shard_mb << 20
        groups[-1].append(name)
        room -= size
    weight_map = {}
    for i, names in enumerate(groups):
        file = f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors"
        write_shard(os.path.join(a.folder, file), names, table)
        weight_map.update(dict.fromkeys(names, file))
    total = sum(4 * int(numpy.prod(shape)) for shape, _ in table.values())
    with open(os.path.join(a.folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, f)
    with open(os.path.join(a.folder, "config.json"), "w") as f:
        json.dump({"model_type": "switch_transformers", "architectures": ["SwitchTransformersForConditionalGeneration"], "vocab_size": VOCABULARY, "d_model": a.d_model,
                   "d_kv": D_KV, "d_ff": a.d_ff, "num_heads": HEADS, "num_layers": a.layers, "num_decoder_layers": a.layers, "num_sparse_encoder_layers": a.sparse,
                   "num_sparse_decoder_layers": a.sparse, "num_experts": a.experts, "expert_capacity": 64, "router_bias": False, "router_dtype": "float32",
                   "relative_attention_num_buckets": BUCKETS, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6, "feed_forward_proj": "relu",
                   "tie_word_embeddings": False,
                   "is_encoder_decoder": True, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}, f, indent=1)
    return len(groups), total, max(4 * int(numpy.prod(shape)) for shape, _ in table.values())


def arguments(parser):
    for flag, default in (("--experts", 128), ("--d-model", 256), ("--d-ff", 1024), ("--layers", 12), ("--sparse", 6), ("--shard-mb", 100)):
        parser.add_argument(flag, type=int, default=default)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("folder")
    arguments(parser)
    shards, total, largest = make(parser.parse_args())
    print(f"{shards} shards, {total:,} bytes, largest tensor {largest:,}")
