"""Writes narrow.safetensors for tests/batch_norm.rs with PyTorch 2.15: python make.py"""

import pathlib

import safetensors.torch
import torch
import torchvision

torch.manual_seed(11)

# torchvision's VGG with narrow convolutions, each followed by batch norm.
BLOCKS = [4, 4, "M", 6, 6, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M"]
model = torchvision.models.VGG(torchvision.models.vgg.make_layers(BLOCKS, batch_norm=True), num_classes=3)
model.avgpool = torch.nn.AdaptiveAvgPool2d(2)
for index, (inputs, outputs) in {0: (32, 8), 3: (8, 8), 6: (8, 3)}.items():
    model.classifier[index] = torch.nn.Linear(inputs, outputs)

# Running statistics, weights and biases other than 0 and 1, so that each of them affects the logits.
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
        torch.nn.init.uniform_(module.running_var, 0.3, 1.5)
        torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        torch.nn.init.uniform_(module.bias, -0.3, 0.3)
model.eval()

pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
labels = torch.tensor([2, 0], dtype=torch.uint8)
logits = model(pixels / 127.5 - 1)
torch.nn.functional.cross_entropy(logits, labels.long()).backward()

out = {"pixels": pixels, "labels": labels, "logits": logits.detach()}
out |= {"init." + name: tensor for name, tensor in model.state_dict().items()}
out |= {"grad." + name: parameter.grad for name, parameter in model.named_parameters()}
safetensors.torch.save_file(out, pathlib.Path(__file__).parent / "narrow.safetensors")
