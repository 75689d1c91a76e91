#!/usr/bin/env python3
"""What does remembering a history cost? Transformer-XL, which keeps it whole, beside an infinity-former, which keeps it in N = 512 basis functions.

usage: equal_memory.py TERN [--most TOKENS] [--measured TOKENS] [--threads N] [--svg FILE] [--json]

Both are the same network (2 layers of 256, 4 heads of 64, feed-forward 1024, random weights) read in segments of 512. For histories of 1,024 tokens, four
times as many, ... up to --most (1,048,576): the bytes of the state as `tern plan` gives them, and the time of a token, the median of five segments. The
infinity-former reads one stream up to --most. Transformer-XL has mem_len = history, full from the start (its empty rows cost what others cost); above
--measured (65,536) its time is that of the longest measured one in proportion to the operations that `tern plan` counts, marked with ~. Last, the
Transformer-XL whose state is as large as the infinity-former's.
"""
import argparse, json, math, os, random, subprocess, sys, tempfile

from histogram import floats, save

WIDTH, HEADS, INNER, LAYERS, VOCABULARY, SEGMENT, BASIS = 256, 4, 1024, 2, 32, 512, 512
REPEATS = 5


def weights(rng, names):
    out = {}
    for name, shape in names:
        n = math.prod(shape)
        norm = name.endswith("layer_norm.weight")
        out[name] = ("F32", list(shape), floats([1.0] * n if norm else [0.0] * n if name.endswith("bias") else [rng.gauss(0, 0.5 / math.sqrt(shape[-1])) for _ in range(n)]))
    return out


def block(prefix):
    d, f = WIDTH, INNER
    return [(prefix + "dec_attn.qkv_net.weight", (3 * d, d)), (prefix + "dec_attn.r_net.weight", (d, d)), (prefix + "dec_attn.o_net.weight", (d, d)),
            (prefix + "dec_attn.layer_norm.weight", (d,)), (prefix + "dec_attn.layer_norm.bias", (d,)), (prefix + "pos_ff.CoreNet.0.weight", (f, d)),
            (prefix + "pos_ff.CoreNet.0.bias", (f,)), (prefix + "pos_ff.CoreNet.3.weight", (d, f)), (prefix + "pos_ff.CoreNet.3.bias", (d,)),
            (prefix + "pos_ff.layer_norm.weight", (d,)), (prefix + "pos_ff.layer_norm.bias", (d,))]


def write(folder, config, names):
    os.mkdir(folder)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    save(os.path.join(folder, "model.safetensors"), weights(random.Random(1), names))


def write_models(root):
    d, h = WIDTH, HEADS
    shared = dict(n_head=h, d_model=d, d_head=d // h, d_inner=INNER, n_layer=LAYERS, mem_len=SEGMENT, tgt_len=SEGMENT, attn_type=0, pre_lnorm=False)
    names = [("transformer.word_emb.emb_layers.0.weight", (VOCABULARY, d)), ("crit.out_layers.0.bias", (VOCABULARY,)), ("transformer.r_w_bias", (h, d // h)), ("transformer.r_r_bias", (h, d // h))]
    for l in range(LAYERS):
        names += block(f"transformer.layers.{l}.")
    write(os.path.join(root, "xl"), dict(shared, model_type="transfo-xl", architectures=["TransfoXLLMHeadModel"], adaptive=True, cutoffs=[], d_embed=d, div_val=1, tie_projs=[False],
                                         untie_r=False, same_length=True, clamp_len=1024, vocab_size=VOCABULARY), names)
    names = [("word_emb.emb_layers.0.weight", (VOCABULARY, d)), ("r_w_bias", (h, d // h)), ("r_r_bias", (h, d // h)), ("proj_output.weight", (VOCABULARY, d))]
    for l in range(LAYERS):
        ltm = f"layers.{l}.dec_attn.long_term_attention."
        names += block(f"layers.{l}.") + [(ltm + "proj_key.weight", (d, d)), (ltm + "proj_value.weight", (d, d)), (ltm + "attn_out.weight", (d, d)), (ltm + "mask_net.weight", (d, d, 3)),
                                          (ltm + "mask_net.bias", (d,)), (ltm + "mu.weight", (1, BASIS)), (ltm + "sigma.weight", (1, BASIS))]
    write(os.path.join(root, "infinite"), dict(shared, model_type="infinite-former", architectures=["MemTransformerLM"], n_token=VOCABULARY, augment_len=SEGMENT, long_term_attention=True,
                                               long_term_attention_basis=BASIS, mask=True, mask_type="cnn"), names)


class Program:
    def __init__(self, tern, root, threads):
        self.tern, self.root, self.threads = tern, root, threads

    def run(self, *words):
        done = subprocess.run([self.tern, *words], stdout=subprocess.PIPE)
        if done.returncode != 0:
            sys.exit(f"equal_memory.py: tern {' '.join(words[:2])} ... failed")
        return done.stdout

    def convert(self, name):
        path = os.path.join(self.root, name + ".tern")
        self.run("convert", os.path.join(self.root, name), "-o", path, "--quiet")
        return path

    # Bytes of the state and operations per token.
    def plan(self, model, *settings):
        j = json.loads(self.run("plan", model, "--context", str(SEGMENT), "--logits", "target", "--json", *settings))
        return j["memory"]["state"], j["plans"][0]["flops"] / SEGMENT

    # Seconds of a token in every segment of a stream.
    def stream(self, model, segments, *settings):
        rng, n = random.Random(2), segments * SEGMENT
        ids, path = bytearray(), os.path.join(self.root, "ids.safetensors")
        for _ in range(n):
            ids += rng.randrange(VOCABULARY).to_bytes(4, "little")
        save(path, {name: ("I32", [1, n], bytes(ids)) for name in ("input_ids", "labels")})
        j = json.loads(self.run("bench", "model", model, "--inputs", path, "--chunks", ",".join([str(SEGMENT)] * segments), "--threads", str(self.threads), "--warmup", "0", "--repeat", "1",
                                "--min-seconds", "0", "--json", *settings))
        return [s / SEGMENT for s in j["chunk_seconds"][0]]


def median(values):
    return sorted(values)[len(values) // 2]


def measure(program, most, measured):
    histories = [1024 * 4 ** i for i in range(20) if 1024 * 4 ** i <= most]
    xl, infinite = program.convert("xl"), program.convert("infinite")
    infinite_state, _ = program.plan(infinite)
    stream = program.stream(infinite, most // SEGMENT + REPEATS)
    rows = []
    for n in histories:
        state, flops = program.plan(xl, "--set", f"mem_len={n}")
        row = {"history": n, "xl_state": state, "xl_flops": flops, "infinite_state": infinite_state}
        row["infinite_seconds"] = median(stream[n // SEGMENT:n // SEGMENT + REPEATS])
        row["xl_measured"] = n <= measured
        if row["xl_measured"]:
            row["xl_seconds"] = median(program.stream(xl, REPEATS + 1, "--set", f"mem_len={n}")[1:])
        else:
            row["xl_seconds"] = rows[-1]["xl_seconds"] * flops / rows[-1]["xl_flops"]
        rows.append(row)
    # The longest memory of as many bytes.
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if program.plan(xl, "--set", f"mem_len={middle}")[0] <= infinite_state:
            low = middle
        else:
            high = middle - 1
    equal = {"mem_len": low, "state": program.plan(xl, "--set", f"mem_len={low}")[0], "seconds": median(program.stream(xl, REPEATS + 1, "--set", f"mem_len={low}")[1:])}
    return rows, equal


def size(n):
    return f"{n * 1e-9:.2f} GB" if n >= 1e9 else f"{n * 1e-6:.1f} MB"


def table(rows, equal):
    lines = ["| history | Transformer-XL: state | a token | ∞-former: state | a token |", "|---|---|---|---|---|"]
    for r in rows:
        lines.append(f"| {r['history']:,} | {size(r['xl_state'])} | {'' if r['xl_measured'] else '~ '}{r['xl_seconds'] * 1e6:,.0f} us | {size(r['infinite_state'])} | {r['infinite_seconds'] * 1e6:,.0f} us |")
    lines.append(f"\nA Transformer-XL of as many bytes ({size(equal['state'])}) remembers {equal['mem_len']:,} tokens and takes {equal['seconds'] * 1e6:,.0f} us a token.")
    return "\n".join(lines)


COLOURS = {"Transformer-XL": "#c8553d", "∞-former": "#2f7ebc"}


def panel(left, title, rows, key, scale, unit):
    width, height, top = 300, 200, 60
    lines = {"Transformer-XL": [(r["history"], r["xl_" + key] * scale, r["xl_measured"] or key == "state") for r in rows],
             "∞-former": [(r["history"], r["infinite_" + key] * scale, True) for r in rows]}
    values = [y for line in lines.values() for _, y, _ in line]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    x0, x1 = math.log2(rows[0]["history"]), math.log2(rows[-1]["history"])
    x = lambda v: left + (math.log2(v) - x0) / max(x1 - x0, 1) * width
    y = lambda v: top + height - (math.log10(v) - low) / max(high - low, 1) * height
    out = [f'<text x="{left}" y="{top - 12}" font-weight="bold">{title}</text>']
    for e in range(low, high + 1):
        value = 10.0 ** e
        out.append(f'<path d="M{left} {y(value):.1f}h{width}" stroke="#e3e8ec"/><text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#5b6b7a">{value:g} {unit}</text>')
    for r in rows:
        label = f"{r['history'] // 1024}k" if r["history"] < 1 << 20 else f"{r['history'] >> 20}M"
        out.append(f'<text x="{x(r["history"]):.1f}" y="{top + height + 17}" text-anchor="middle" fill="#5b6b7a">{label}</text>')
    for name, points in lines.items():
        for (xa, ya, _), (xb, yb, measured) in zip(points, points[1:]):
            out.append(f'<path d="M{x(xa):.1f} {y(ya):.1f}L{x(xb):.1f} {y(yb):.1f}" stroke="{COLOURS[name]}" stroke-width="2"{"" if measured else dash}/>')
        for xa, ya, measured in points:
            fill = COLOURS[name] if measured else "#fff"
            out.append(f'<circle cx="{x(xa):.1f}" cy="{y(ya):.1f}" r="3" fill="{fill}" stroke="{COLOURS[name]}"/>')
    return "\n".join(out)


dash = ' stroke-dasharray="5 4"'


def picture(rows, foot):
    legend = "".join(f'<path d="M{80 + 160 * i} 304h20" stroke="{c}" stroke-width="3"/><text x="{106 + 160 * i}" y="308">{name}</text>' for i, (name, c) in enumerate(COLOURS.items()))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 340" font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n'
            f'<text x="16" y="24" font-size="15" font-weight="bold">What remembering a history of so many tokens costs</text>\n{panel(80, "state", rows, "state", 1e-6, "MB")}\n'
            f'{panel(500, "time of a token", rows, "seconds", 1e3, "ms")}\n{legend}\n<text x="16" y="330" fill="#5b6b7a">{foot}</text>\n</svg>\n')


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("tern")
    ap.add_argument("--most", type=int, default=1 << 20)
    ap.add_argument("--measured", type=int, default=1 << 16)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--svg")
    ap.add_argument("--json", action="store_true")
    a = ap.parse_args()
    if a.most < 1024 or a.measured < 1024:
        ap.error("histories begin at 1024 tokens")
    with tempfile.TemporaryDirectory() as root:
        write_models(root)
        rows, equal = measure(Program(os.path.abspath(a.tern), root, a.threads), a.most, a.measured)
    print(json.dumps({"rows": rows, "equal": equal}, indent=1) if a.json else table(rows, equal))
    if a.svg:
        foot = f"{LAYERS} layers of {WIDTH}, segments of {SEGMENT}, {BASIS} basis functions, {a.threads} thread{'s' if a.threads > 1 else ''}; dashed: foreseen from the number of operations"
        with open(a.svg, "w") as f:
            f.write(picture(rows, foot))


if __name__ == "__main__":
    sys.exit(main())
