#!/usr/bin/env python3
"""tern bench attention: kinds beside each other over length, their picture; the spectrum of a model's attention."""
import json, os, subprocess, sys, tempfile
import xml.etree.ElementTree as ET

TERN, SOURCE = sys.argv[1], sys.argv[2]
QUICK = ["--repeat", "1", "--warmup", "0", "--min-seconds", "0", "--heads", "1", "--head-dim", "16"]


def run(*args, code=0):
    r = subprocess.run([TERN, "bench", "attention", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert r.returncode == code, (args, r.returncode, r.stderr)
    return r


def compare(folder):
    svg = os.path.join(folder, "c.svg")
    out = json.loads(run("--kind", "causal,performer", "--causal", "--features", "32", "--sigma", "0.4", "--length", "64,256,1024", "--json", "--svg", svg, *QUICK).stdout)
    rows = out["rows"]
    assert [(r["kind"], r["length"]) for r in rows] == [(k, n) for k in ("causal", "performer") for n in (64, 256, 1024)], rows
    errors = [r["relative_error"] for r in rows if r["kind"] == "performer"]
    assert all(0 < e < 1 for e in errors), errors
    assert [c["kind"] for c in out["crossovers"]] == ["performer"]
    memory = [r["workspace_bytes"] for r in rows if r["kind"] == "performer"]
    assert memory[-1] < 2 * memory[0] + 100_000, memory  # the state knows no length
    ET.parse(svg)
    text = run("--kind", "exact,performer", "--length", "64,128", *QUICK).stdout
    assert "performer" in text and "exact" in text, text
    # One kind is what it always was: an object per row.
    one = json.loads(run("--kind", "performer", "--length", "128", "--features", "16", "--accuracy", "--json", *QUICK).stdout)
    assert one["features"] == 16 and one["gflops"] > 0 and one["relative_error"] > 0, one


def spectrum(folder):
    svg, model = os.path.join(folder, "s.svg"), os.path.join(SOURCE, "models/zoo/books-xl.tern")
    out = json.loads(run("--spectrum", model, "It was a dark night, and the wind blew over the hill.", "--tokens", "8", "--set", "mem_len=0", "--json", "--svg", svg).stdout)
    assert out["tokens"] == 8 and len(out["spectrum"]) >= 4
    for head in out["spectrum"]:
        energy = [head["energy"][str(r)] for r in (1, 2, 4, 8)]
        assert 0 < energy[0] and all(a <= b + 1e-12 for a, b in zip(energy, energy[1:])) and abs(energy[-1] - 1) < 1e-9, head
        assert 1 <= head["rank_90"] <= head["rank_99"] <= 8, head
    ET.parse(svg)


def refused():
    assert "--kind" in run("--kind", "exact,nonsense", code=2).stderr
    assert "--query-length" in run("--kind", "performer", "--causal", "--length", "64", "--query-length", "8", *QUICK, code=2).stderr
    assert "text" in run("--spectrum", os.path.join(SOURCE, "models/zoo/books-xl.tern"), code=2).stderr
    run("--features", "0", code=2)


with tempfile.TemporaryDirectory() as folder:
    compare(folder)
    spectrum(folder)
    refused()
print("ok")
