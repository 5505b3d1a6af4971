"""Writes the files for tests/pth.rs with PyTorch 2.15 and torchvision 0.29: python make.py"""

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import os
import pathlib
import re

import numpy
import safetensors.torch
import torch
import torchvision

HERE = pathlib.Path(__file__).parent
torch.manual_seed(7)

# torchvision's VGG with the thirteen convolutions of VGG-16, each with two channels.
BLOCKS = [2, 2, "M", 2, 2, "M", 2, 2, 2, "M", 2, 2, 2, "M", 2, 2, 2, "M"]
model = torchvision.models.VGG(torchvision.models.vgg.make_layers(BLOCKS), num_classes=3)
model.avgpool = torch.nn.AdaptiveAvgPool2d(1)
for index, (inputs, outputs) in {0: (2, 4), 3: (4, 4), 6: (4, 3)}.items():
    model.classifier[index] = torch.nn.Linear(inputs, outputs)
state = model.state_dict()


def save(name, value, **options):
    torch.save(value, HERE / name, **options)


safetensors.torch.save_file(state, HERE / "expected.safetensors")
save("plain.pth", state)
save("parameters.pth", dict(model.named_parameters()))

# f16 tensors with the location tag of a GPU.
location_tag = torch.serialization.location_tag
torch.serialization.location_tag = lambda storage: "cuda:0"
save("cuda_half.pth", {name: tensor.half() for name, tensor in state.items()})
torch.serialization.location_tag = location_tag

# A checkpoint of a training script: other values in addition to the weights, names with a wrapper prefix, one storage
# for all tensors, and some tensors transposed in memory.
total = sum(tensor.numel() for tensor in state.values())
shared, offset, views = torch.zeros(total + 5), 5, {}
for name, tensor in state.items():
    view = shared[offset : offset + tensor.numel()]
    view = view.view(tensor.T.shape).T if tensor.dim() == 2 else view.view(tensor.shape)
    view.copy_(tensor)
    views["module." + name], offset = view, offset + tensor.numel()
save("checkpoint.pth", {"epoch": 3, "lr": 0.1, "best": None, "done": False, "state_dict": views})
save("bfloat.pth", {"model": {name: tensor.bfloat16() for name, tensor in state.items()}})


# A checkpoint like those of PyTorch's ImageNet example, with an additional tensor and NumPy scalars.
best = {"epoch": 3, "best_acc1": torch.tensor(0.3), "loss": numpy.float64(0.3), "steps": numpy.int64(7)}
save("best.pth", {**best, "state_dict": state})


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch /tmp/waggle-was-here",)


save("evil.pth", {"features.0.weight": state["features.0.weight"], "features.0.bias": Evil()})
save("module.pth", torch.nn.Sequential(torch.nn.Linear(1, 1)))
save("double.pth", {name: tensor.double() for name, tensor in state.items()})
save("legacy.pth", {"features.0.bias": state["features.0.bias"]}, _use_new_zipfile_serialization=False)
torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)), HERE / "script.pt")


# What training scripts save next to the weights, in every protocol of pickle. Objects of the classes below, and of many
# classes of the standard library and NumPy, become placeholders.
class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Settings:
    out: pathlib.Path = pathlib.Path("runs")


class Average:
    def __init__(self):
        self.shadow = {name: tensor.clone() for name, tensor in state.items()}


class Attributes(dict):
    pass


def warm_up(step):
    return step


layer = torch.nn.Linear(2, 2)
optimizer = torch.optim.Adam(layer.parameters())
layer(torch.zeros(1, 2)).sum().backward()
optimizer.step()
recursive = [1]
recursive.append(recursive)
script = {
    "args": argparse.Namespace(lr=0.1, out=pathlib.PosixPath("/x"), device=torch.device("cuda:0"), dtype=torch.float16),
    "paths": [pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a")],
    "sets": [{1, 2}, frozenset([1, 2])],
    "dicts": [collections.defaultdict(list, {1: [2]}), collections.OrderedDict(a=1), collections.Counter("abca")],
    "deque": collections.deque([1, 2], maxlen=3),
    "times": [datetime.datetime(2026, 1, 2), datetime.timedelta(1), datetime.date(2026, 1, 2), datetime.timezone.utc],
    "pattern": re.compile("a+"),
    "size": torch.Size([1, 2]),
    "arrays": [numpy.zeros((3, 4)), numpy.array(["a", "bc"]), numpy.array([None, 1], dtype=object)],
    "scalars": [numpy.float32(1.5), numpy.int64(3), numpy.bool_(True)],
    "generators": [numpy.random.default_rng(1), torch.get_rng_state()[:8].clone()],
    "classes": [Color.RED, Settings(), Settings, Average(), Attributes(a=1), ValueError("x")],
    "functions": [warm_up, functools.partial(warm_up, 1)],
    "numbers": [10**40, -5, 1 + 2j, decimal.Decimal("1.5"), fractions.Fraction(1, 3), range(3), slice(1, 2)],
    "bytes": [b"ab", bytearray(b"ab"), "\ud800x", ..., NotImplemented, None],
    "recursive": recursive,
    "optimizer": optimizer.state_dict(),
    "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1).state_dict(),
    "state_dict": state,
}
for protocol in [2, 3, 4, 5]:
    save(f"script_{protocol}.pth", script, pickle_protocol=protocol)

# Tensors with attributes and of subclasses, and tensors of other kinds next to the weights and in place of one.
noted = {name: torch.nn.Parameter(tensor.clone()) for name, tensor in state.items()}
for tensor in noted.values():
    tensor.note = 1
save("noted_parameters.pth", noted)


class Subclass(torch.Tensor):
    pass


save("subclass.pth", {name: tensor.as_subclass(Subclass) for name, tensor in state.items()})
kinds = {
    "quantized": torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8),
    "sparse": torch.zeros(2).to_sparse(),
    "complex": torch.zeros(2, dtype=torch.complex64),
    "integer": torch.zeros(2, dtype=torch.int64),
    "float8": torch.zeros(2, dtype=torch.float8_e4m3fn),
    "meta": torch.zeros(2, device="meta"),
    "dimensions": torch.zeros((1,) * 9),
    "negative": torch._neg_view(torch.zeros(2)),
    "nested": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
}
save("other_kinds.pth", {**state, **{f"other.{kind}": tensor for kind, tensor in kinds.items()}})
for kind, tensor in kinds.items():
    # The dtype of a tensor is checked only if the backbone is complete.
    rest = state if kind == "complex" else {"features.0.weight": state["features.0.weight"]}
    if kind not in ["integer", "float8"]:
        save(f"kind_{kind}.pth", {**rest, "features.0.bias": tensor})

save("module_in_dictionary.pth", {"model": torch.nn.Sequential(torch.nn.Linear(1, 1)), "epoch": 3})
save("arrays.pth", {name: tensor.numpy() for name, tensor in state.items()})
