#!/usr/bin/env python3
"""Can the long-term memory count? A model made of nothing but it, on the Transformer-XL host of the infinity-former.

usage: histogram.py TERN [LENGTH]... [--seeds N] [--json]

Embeddings are one-hot, the mask is open, mu and sigma are constant (1/2 and ln 2), projections are identities: what the memory answers is a histogram of
all tokens so far, weighted by where they lie. Streams of LENGTH tokens over 20 symbols (4096 8192 16384 32768) are fed in segments of 1024 into N = 512
basis functions, tau 0.75; then empty tokens until all have entered. Printed: the mean over seeds of Pearson's correlation of the answer with the true
counts, for stationary streams and for ones that drift from one distribution to another (the paper's sorting task); and beside it what a Transformer-XL
memory of as many bytes can know: the counts of the last tokens it still has.
"""
import argparse, array, json, math, os, random, struct, subprocess, sys, tempfile

SYMBOLS, SEGMENT, BASIS = 20, 1024, 512
EMPTY = 20  # a token whose embedding is zero


def save(path, tensors):
    header, body = {}, b""
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def load(path):
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            out[name] = (t["shape"], array.array("f", data[8 + n + begin:8 + n + end]))
    return out


def floats(values):
    return array.array("f", values).tobytes()


def write_model(folder):
    d = SYMBOLS
    config = dict(model_type="infinite-former", architectures=["MemTransformerLM"], n_token=SYMBOLS + 1, n_layer=1, n_head=1, d_model=d, d_head=d, d_inner=2,
                  tgt_len=SEGMENT, mem_len=SEGMENT, augment_len=SEGMENT, long_term_attention=True, long_term_attention_basis=BASIS, mask=True, mask_type="cnn")
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    eye = lambda n: floats([1.0 if i == j else 0.0 for i in range(n) for j in range(n)])
    zeros = lambda *shape: ("F32", list(shape), floats([0.0] * math.prod(shape)))
    ones = lambda n: ("F32", [n], floats([1.0] * n))
    layer, memory = "layers.0.", "layers.0.dec_attn.long_term_attention."
    t = {"word_emb.emb_layers.0.weight": ("F32", [SYMBOLS + 1, d], eye(d) + floats([0.0] * d)),
         "r_w_bias": zeros(1, d), "r_r_bias": zeros(1, d),
         layer + "dec_attn.qkv_net.weight": zeros(3 * d, d), layer + "dec_attn.r_net.weight": zeros(d, d), layer + "dec_attn.o_net.weight": zeros(d, d),
         layer + "dec_attn.layer_norm.weight": ones(d), layer + "dec_attn.layer_norm.bias": zeros(d),
         layer + "pos_ff.CoreNet.0.weight": zeros(2, d), layer + "pos_ff.CoreNet.0.bias": zeros(2),
         layer + "pos_ff.CoreNet.3.weight": zeros(d, 2), layer + "pos_ff.CoreNet.3.bias": zeros(d),
         layer + "pos_ff.layer_norm.weight": ones(d), layer + "pos_ff.layer_norm.bias": zeros(d),
         "proj_output.weight": zeros(SYMBOLS + 1, d),
         memory + "proj_key.weight": zeros(d, d), memory + "proj_value.weight": ("F32", [d, d], eye(d)), memory + "attn_out.weight": ("F32", [d, d], eye(d)),
         memory + "mask_net.weight": zeros(d, d, 3), memory + "mask_net.bias": ("F32", [d], floats([20.0] * d)),
         memory + "mu.weight": zeros(1, BASIS), memory + "sigma.weight": zeros(1, BASIS)}
    save(os.path.join(folder, "model.safetensors"), t)


def weights(rng):
    p = [rng.randint(1, 9) for _ in range(SYMBOLS)]
    return [x / sum(p) for x in p]


def stream(n, seed, drift):
    rng = random.Random(seed)
    first, last = weights(rng), weights(rng)
    if not drift:
        return rng.choices(range(SYMBOLS), first, k=n)
    return [rng.choices(range(SYMBOLS), [(1 - r) * a + r * b for a, b in zip(first, last)])[0] for r in ((j + 1) / n for j in range(n))]


def correlation(a, b):
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    cov = sum((x - ma) * (y - mb) for x, y in zip(a, b))
    return cov / math.sqrt(sum((x - ma) ** 2 for x in a) * sum((y - mb) ** 2 for y in b))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("tern")
    ap.add_argument("lengths", nargs="*", type=int, default=[4096, 8192, 16384, 32768])
    ap.add_argument("--seeds", type=int, default=40)
    ap.add_argument("--json", action="store_true")
    a = ap.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder)
        model = os.path.join(folder, "m.tern")
        subprocess.run([a.tern, "convert", folder, "-o", model, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        # Per layer: B and what waits to enter it (mem_len + augment_len rows), against keys and values of as many bytes.
        kept = (BASIS * SYMBOLS + 2 * SEGMENT * SYMBOLS) // (2 * SYMBOLS)
        for n in a.lengths:
            row = {"tokens": n, "xl_tokens_of_equal_bytes": kept}
            for name, drift in (("stationary", False), ("drifting", True)):
                streams = [stream(n, seed, drift) for seed in range(a.seeds)]
                ids = array.array("q", [t for s in streams for t in s + [EMPTY] * (SEGMENT + 1)]).tobytes()
                save(os.path.join(folder, "in.safetensors"), {"input_ids": ("I64", [a.seeds, n + SEGMENT + 1], ids)})
                chunks = [SEGMENT] * (n // SEGMENT) + ([n % SEGMENT] if n % SEGMENT else []) + [SEGMENT, 1]
                out = os.path.join(folder, "out.safetensors")
                subprocess.run([a.tern, "forward", model, "--inputs", os.path.join(folder, "in.safetensors"), "--outputs", out, "--chunks", ",".join(map(str, chunks))], check=True,
                               stdout=subprocess.DEVNULL)
                (batch, time, width), data = load(out)["last_hidden_state"]
                memory, window = [], []
                for b, s in enumerate(streams):
                    answer = data[(b * time + time - 1) * width:(b * time + time) * width]
                    counts = [s.count(x) for x in range(SYMBOLS)]
                    memory.append(correlation(answer, counts))
                    window.append(correlation([s[-kept:].count(x) for x in range(SYMBOLS)], counts))
                row[name] = sum(memory) / len(memory)
                row[name + "_xl"] = sum(window) / len(window)
            rows.append(row)
            if not a.json:
                print(f"{n:7d} tokens  stationary {row['stationary']:.4f} (last {kept} tokens {row['stationary_xl']:.4f})  "
                      f"drifting {row['drifting']:.4f} (last {kept} tokens {row['drifting_xl']:.4f})", flush=True)
    if a.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    sys.exit(main())
