#!/usr/bin/env python3
"""Writes the tiny_* checkpoints of tests/golden/formats with the public libraries (torch 2.13, safetensors).

usage: make_fixtures.py FOLDER
"""
import argparse
import json
import os
import sys

import torch
from safetensors.torch import save_file

torch.manual_seed(20)
ROOT = sys.argv[1]


def folder(name):
    path = os.path.join(ROOT, "tiny_" + name)
    os.makedirs(path, exist_ok=True)
    return path


def all_types():
    base = torch.tensor([[1, 0, 3], [120, 5, 6]])
    out = {str(t).split(".")[1]: base.to(t) for t in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)}
    out["negative"] = -base
    out["scalar"] = torch.tensor(2.5)
    out["none"] = torch.zeros(0, 4)
    out["six"] = torch.randn(1, 2, 1, 2, 1, 3)
    return out


class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width, self.eps, self.cutoffs, self.kind = width, 1e-5, [20, 40], "block"
        self.linear = torch.nn.Linear(width, 3, bias=False)
        self.register_buffer("kept", torch.arange(4.0))
        self.register_buffer("not_saved", torch.arange(5.0), persistent=False)
        self.register_parameter("absent", None)
        self.table = torch.randn(2, 2)
        self.tables = [None, torch.randn(3)]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.d_model, self.options = 4, {"flag": True, "rate": 0.5}
        self.embed = torch.nn.Embedding(5, 4)
        self.blocks = torch.nn.ModuleList(Block(4) for _ in range(2))
        self.head = torch.nn.Linear(4, 5)
        self.head.weight = self.embed.weight


def shards(name, tensors, save, extension):
    path = folder(name)
    names = sorted(tensors)
    count = 3
    index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for t in tensors.values())}, "weight_map": {}}
    stem = "model" if extension == "safetensors" else "pytorch_model"
    for i in range(count):
        file = f"{stem}-{i + 1:05}-of-{count:05}.{extension}"
        part = {n: tensors[n].contiguous() for n in names[i::count]}
        save(part, os.path.join(path, file))
        index["weight_map"].update({n: file for n in part})
    with open(os.path.join(path, f"{stem}.{extension}.index.json"), "w") as f:
        json.dump(index, f, indent=1)


types = all_types()
torch.save(types, folder("types_zip") + "/pytorch_model.bin")
torch.save(types, folder("types_legacy") + "/pytorch_model.bin", _use_new_zipfile_serialization=False)
save_file(types, folder("types_safetensors") + "/model.safetensors", metadata={"format": "pt"})
shards("safetensors_sharded", types, save_file, "safetensors")
shards("bin_sharded", types, torch.save, "bin")

net = Net()
torch.save(net, folder("module_zip") + "/model.pt")
torch.save(net, folder("module_legacy") + "/model.pt", _use_new_zipfile_serialization=False)
torch.save(net.state_dict(), folder("tied_zip") + "/pytorch_model.bin")
torch.save(net.state_dict(), folder("tied_legacy") + "/pytorch_model.bin", _use_new_zipfile_serialization=False)
optimizer = {"state": {0: {"step": torch.tensor(3.0)}}}
torch.save({"state_dict": net.state_dict(), "optimizer": optimizer, "epoch": 3, "args": argparse.Namespace(d_model=4, name="tiny")}, folder("training_zip") + "/checkpoint.pth")
torch.save({"encoder": {"w": torch.ones(2), "inner": {"b": torch.zeros(1)}}, "layers": {0: torch.full((2,), 7.0)}}, folder("nested_zip") + "/pytorch_model.bin")
tagged = torch.nn.Parameter(torch.tensor([4.0, 5.0]))
tagged.note = 5
expanded = torch.tensor([[7.0], [8.0]]).expand(2, 3)
torch.save({"tagged": tagged, "expanded": expanded, "inner": torch.nn.Linear(2, 1)}, folder("mixed_zip") + "/pytorch_model.bin")
