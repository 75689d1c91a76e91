#!/usr/bin/env python3
"""Text classification from sentence vectors: nearest centroid, and logistic regression, over what `tern embed` writes; five folds.

usage: sentence_vectors.py TERN MODEL[,MODEL] FILE[,FILE...] [FILE[,FILE...] ...]

Each argument behind the models is one data set: files that hold a label and a text a line, either "LABEL TEXT" or, named .csv, the columns text,category. With two
models, such as a file in f32 and the same in q8, the last line of each data set says how far apart they are. Needs numpy alone.
"""
import csv
import json
import os
import subprocess
import sys
import tempfile

import numpy as np


def read(path):
    """(texts, labels) of a file."""
    if path.endswith(".csv"):
        with open(path, newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        return [r["text"] for r in rows], [r["category"] for r in rows]
    with open(path, encoding="utf-8", errors="replace") as f:
        pairs = [line.rstrip("\n").split(" ", 1) for line in f if line.strip()]
    return [p[1] for p in pairs], [p[0] for p in pairs]


def embed(tern, model, texts):
    """[texts, width]: one request a line, so that a text may hold anything."""
    with tempfile.TemporaryDirectory() as folder:
        requests, vectors = os.path.join(folder, "texts.jsonl"), os.path.join(folder, "vectors.npy")
        with open(requests, "w", encoding="utf-8") as f:
            f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
        subprocess.run([tern, "embed", model, requests, "-o", vectors, "--quiet"], check=True)
        return np.load(vectors)


def nearest_centroid(x, y, classes, test):
    centroids = np.stack([x[y == c].mean(0) for c in range(classes)])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    return (test @ centroids.T).argmax(1)


def logistic_regression(x, y, classes, test, penalty=1.0, rounds=200):
    """Multinomial, with an L2 penalty on the weights; accelerated gradient descent (Nesterov) with the step of the loss's curvature."""
    x, test = (np.hstack([v, np.ones((len(v), 1), v.dtype)]) for v in (x, test))
    target = np.eye(classes, dtype=x.dtype)[y]
    keep = np.ones((x.shape[1], 1), x.dtype)
    keep[-1] = 0   # the intercept is free
    step = np.float32(1 / (0.5 * np.linalg.norm(x.T @ x, 2) + penalty))
    w = ahead = np.zeros((x.shape[1], classes), x.dtype)
    t = 1.0
    for _ in range(rounds):
        logits = x @ ahead
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        new = ahead - step * (x.T @ (p - target) + np.float32(penalty) * keep * ahead)
        t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = new + np.float32((t - 1) / t_new) * (new - w)
        w, t = new, t_new
    return (test @ w).argmax(1)


def accuracies(vectors, y, classes, folds=5):
    """Percent right of both classifiers, every text judged once by what was learned from the other folds."""
    fold = np.random.default_rng(0).permutation(len(y)) % folds
    right = np.zeros(2)
    for k in range(folds):
        learn, judge = fold != k, fold == k
        for i, classify in enumerate((nearest_centroid, logistic_regression)):
            right[i] += (classify(vectors[learn], y[learn], classes, vectors[judge]) == y[judge]).sum()
    return 100 * right / len(y)


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__.split("\n\n")[1])
    tern, models, sets = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
    for files in sets:
        texts, labels = [], []
        for path in files.split(","):
            more = read(path)
            texts += more[0]
            labels += more[1]
        names = sorted(set(labels))
        y = np.array([names.index(label) for label in labels])
        print(f"{os.path.basename(files.split(',')[0])}: {len(names)} classes, {len(y)} texts, five folds", flush=True)
        results = []
        for model in models:
            results.append(accuracies(embed(tern, model, texts), y, len(names)))
            print("  {}: nearest centroid {:.2f} %, logistic regression {:.2f} %".format(os.path.basename(model), *results[-1]), flush=True)
        if len(models) == 2:
            print("  difference: {:+.2f}, {:+.2f} points".format(*(results[1] - results[0])), flush=True)


if __name__ == "__main__":
    main()
