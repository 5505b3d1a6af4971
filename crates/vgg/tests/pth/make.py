"""Writes the files for tests/pth.rs with PyTorch 2.15 and torchvision 0.29: python make.py"""

import os
import pathlib

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
