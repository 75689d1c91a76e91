"""A small Transformer-XL as Hugging Face keeps it: config.json and model.safetensors, weights from a fixed formula (library)."""
import json
import os
import struct


def config(**changes):
    c = {"architectures": ["TransfoXLLMHeadModel"], "model_type": "transfo-xl", "vocab_size": 40, "d_model": 16, "d_embed": 16, "n_head": 2,
         "d_head": 8, "d_inner": 24, "n_layer": 2, "div_val": 1, "cutoffs": [], "tie_projs": [False], "mem_len": 8, "clamp_len": -1,
         "same_length": True, "untie_r": True, "pre_lnorm": False, "adaptive": True, "layer_norm_epsilon": 1e-5, "eos_token_id": 0}
    c.update(changes)
    return c


def shapes(c):
    d, heads, width, inner, v = c["d_model"], c["n_head"], c["d_head"], c["d_inner"], c["vocab_size"]
    out = {"crit.out_layers.0.bias": [v], "transformer.word_emb.emb_layers.0.weight": [v, c["d_embed"]]}
    for i in range(c["n_layer"]):
        p = f"transformer.layers.{i}."
        out.update({p + "dec_attn.qkv_net.weight": [3 * heads * width, d], p + "dec_attn.r_net.weight": [heads * width, d],
                    p + "dec_attn.o_net.weight": [d, heads * width], p + "dec_attn.r_w_bias": [heads, width], p + "dec_attn.r_r_bias": [heads, width],
                    p + "dec_attn.layer_norm.weight": [d], p + "dec_attn.layer_norm.bias": [d],
                    p + "pos_ff.CoreNet.0.weight": [inner, d], p + "pos_ff.CoreNet.0.bias": [inner],
                    p + "pos_ff.CoreNet.3.weight": [d, inner], p + "pos_ff.CoreNet.3.bias": [d],
                    p + "pos_ff.layer_norm.weight": [d], p + "pos_ff.layer_norm.bias": [d]})
    return out


def count(shape):
    n = 1
    for d in shape:
        n *= d
    return n


def values(name, shape):
    """Numbers in (-0.25, 0.25), the same on every machine: multiples of 2^-12, so that f32 holds them exactly."""
    seed = sum(name.encode()) * 2654435761 % (1 << 32)
    if "layer_norm.weight" in name:
        return [1.0] * count(shape)
    return [((seed + i * 40503) % 2039 - 1019) / 4096 for i in range(count(shape))]


def tensors(c):
    """{name: (dtype, shape, bytes)} of a whole checkpoint."""
    return {name: ("F32", shape, struct.pack(f"<{count(shape)}f", *values(name, shape))) for name, shape in shapes(c).items()}


def safetensors(entries):
    header, data = {}, b""
    for name, (dtype, shape, raw) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def write(folder, c=None, entries=None):
    """Writes the checkpoint into `folder` (made if need be); gives the folder."""
    c = c or config()
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(c, f)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(safetensors(tensors(c) if entries is None else entries))
    return folder
