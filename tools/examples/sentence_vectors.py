#!/usr/bin/env python3
"""Text classification from sentence vectors: nearest centroid, and logistic regression, over what `tern embed` writes.

usage: sentence_vectors.py TERN MODEL[,MODEL...] TRAIN TEST [TRAIN TEST ...]

TRAIN and TEST hold a label and a text a line, either "LABEL TEXT" or, named .csv, the columns text,category. With two models, such as a file in f32 and the
same in q8, the last line of each data set says how far apart they are. Needs numpy alone.
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
        return np.load(vectors).astype(np.float64)


def nearest_centroid(x, y, classes, test):
    centroids = np.stack([x[y == c].mean(0) for c in range(classes)])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    return (test @ centroids.T).argmax(1)


def logistic_regression(x, y, classes, test, penalty=1.0, rounds=300):
    """Multinomial, with an L2 penalty on the weights; accelerated gradient descent (Nesterov) with the step of the loss's curvature."""
    x, test = (np.hstack([v, np.ones((len(v), 1))]) for v in (x, test))
    target = np.eye(classes)[y]
    keep = np.ones((x.shape[1], 1))
    keep[-1] = 0   # the intercept is free
    step = 1 / (0.5 * np.linalg.norm(x, 2) ** 2 + penalty)
    w = ahead = np.zeros((x.shape[1], classes))
    t = 1.0
    for _ in range(rounds):
        logits = x @ ahead
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        new = ahead - step * (x.T @ (p - target) + penalty * keep * ahead)
        t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = new + (t - 1) / t_new * (new - w)
        w, t = new, t_new
    return (test @ w).argmax(1)


def main():
    if len(sys.argv) < 5 or len(sys.argv) % 2 == 0:
        sys.exit(__doc__.split("\n\n")[1])
    tern, models, files = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
    for train, test in zip(files[::2], files[1::2]):
        (train_texts, train_labels), (test_texts, test_labels) = read(train), read(test)
        names = sorted(set(train_labels))
        y, truth = (np.array([names.index(label) for label in labels]) for labels in (train_labels, test_labels))
        print(f"{os.path.basename(train)}: {len(names)} classes, {len(y)} texts to learn from, {len(truth)} to judge")
        accuracies = []
        for model in models:
            vectors = embed(tern, model, train_texts + test_texts)
            x, judged = vectors[:len(y)], vectors[len(y):]
            accuracies.append([100 * (f(x, y, len(names), judged) == truth).mean() for f in (nearest_centroid, logistic_regression)])
            print("  {}: nearest centroid {:.2f} %, logistic regression {:.2f} %".format(os.path.basename(model), *accuracies[-1]))
        if len(models) == 2:
            print("  difference: {:+.2f}, {:+.2f} points".format(*(b - a for a, b in zip(*accuracies))))


if __name__ == "__main__":
    main()
