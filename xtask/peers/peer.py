"""Worker of `cargo xtask bench-peers` for PyTorch and torchvision.

usage: peer.py ROW PEER THREADS [DATA]

ROW is a name such as `frozen forward b8`: the workload, the batch size, and the image size if it is
not 224 (`frozen forward b8 112px`). Rows on a GPU begin with `cuda` and contain the precision of
matrix products, `f32`, `tf32` or `bf16`: `cuda stage-2 step bf16 b32`. PEER is `torch nchw`,
`torch channels_last`, `torchvision pillow` or `torchvision v2`. DATA is a directory with train/CLASS
and val/CLASS, for the rows that read images.

Protocol of `driver.py`, shared with crates/cli/examples/bench_worker/main.rs: after setup and a
warm-up, which rows of whole epochs skip, the worker prints `ready`. For each line on standard input,
a number of runs, it prints the mean seconds per run. At the end of the input it prints the peak memory
since the setup in bytes: the resident memory of the process, or on a GPU the memory of tensors. All
other output goes to standard error.
"""

import copy
import gc
import math
import os
import sys
import time

import torch
import torchvision
from torchvision import transforms as T

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
BATCH = 32
# Numbers of classes: of ImageNet, for VGG-16 with 138 million parameters, and of the photographs.
CLASSES, PHOTOGRAPH_CLASSES = 1000, 2


class Row:
    """The parsed name of a row, such as `frozen forward b8 112px`."""

    def __init__(self, name):
        words = name.split()
        self.size = int(words.pop()[:-2]) if words[-1].endswith("px") else 224
        batch = words[-1][1:]
        self.batch = int(batch) if words[-1][0] == "b" and batch.isdigit() else None
        words = words[:-1] if self.batch else words
        self.device = "cuda" if words[0] == "cuda" else "cpu"
        self.precision = words.pop() if self.device == "cuda" else "f32"
        self.workload = " ".join(words[1:] if self.device == "cuda" else words)


def network(memory_format, classes=CLASSES):
    """VGG-16 with torchvision's initialization."""
    return torchvision.models.vgg16(weights=None, num_classes=classes).to(memory_format=memory_format)


def random_images(row, memory_format):
    return torch.randn(row.batch, 3, row.size, row.size).to(row.device, memory_format=memory_format)


def forward(row, memory_format):
    """The forward pass without gradients, of the backbone ("frozen forward") or the whole network."""
    model, shape = network(memory_format).eval(), (row.batch, CLASSES)
    if row.workload == "frozen forward":
        model, shape = model.features, (row.batch, 512, row.size // 32, row.size // 32)
    x = random_images(row, memory_format)

    def run():
        with torch.inference_mode():
            return model(x)

    return run, lambda output: check(output, shape)


def features_step(row, memory_format):
    """Forward and backward pass of the backbone, with the gradients of all weights and biases."""
    model = network(memory_format).features.train()
    x = random_images(row, memory_format)

    def run():
        model.zero_grad()
        model(x).sum().backward()
        return model[0].weight.grad

    return run, lambda gradient: check(gradient, (64, 3, 3, 3))


def step(row, memory_format, stage):
    """One training step: forward pass with dropout, loss, backward pass, and SGD with momentum."""
    if row.device == "cuda":
        prepare_gpu(row)
    model = network(memory_format).to(row.device).train()
    optimizer = optimizer_of(model, stage)
    x = random_images(row, memory_format)
    y = (torch.arange(row.batch) % CLASSES).to(row.device)

    def run():
        optimizer.zero_grad()
        with torch.autocast(row.device, torch.bfloat16, enabled=row.precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run, check_losses


def prepare_gpu(row):
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = row.precision == "tf32"
    # Select the fastest algorithm of each layer during the warm-up.
    torch.backends.cudnn.benchmark = True


def optimizer_of(model, stage):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = stage == 2 or name.startswith("classifier.6")
    learning_rates = [(model.classifier[6], 1e-3)]
    if stage == 2:
        learning_rates += [(model.features, 1e-4), (model.classifier[0], 5e-4), (model.classifier[3], 5e-4)]
    groups = [{"params": module.parameters(), "lr": lr} for module, lr in learning_rates]
    return torch.optim.SGD(groups, lr=1e-3, momentum=0.9)


def image_folder(data, split, transform=None):
    return torchvision.datasets.ImageFolder(os.path.join(data, split), transform)


def transform(*resized):
    return T.Compose([*resized, T.ToTensor(), T.Normalize(MEAN, STD)])


def loader(row, peer, data):
    """One pass over the training images on one thread, without worker processes."""
    torch.set_num_threads(1)
    folder = image_folder(data, "train")
    paths = [path for path, _ in folder.samples]
    if peer == "torchvision pillow":
        pipeline = transform(T.RandomResizedCrop(224), T.RandomHorizontalFlip())
        read = folder.loader
    else:
        from torchvision.io import ImageReadMode, decode_image, read_file
        from torchvision.transforms import v2

        resized = [v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()]
        pipeline = v2.Compose([*resized, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
        read = lambda path: decode_image(read_file(path), mode=ImageReadMode.RGB)
    # torchvision has no cache for decoded images. For v2 they are decoded in advance, which is the best
    # case. Pillow decodes them in every epoch, which is the common usage.
    cached = row.workload.endswith(" cached") and peer == "torchvision v2"
    sources = [read(path) for path in paths] if cached else paths

    def run():
        batch, count, last = [], 0, None
        for number, source in enumerate(sources, 1):
            batch.append(pipeline(source if cached else read(source)))
            if len(batch) == BATCH or number == len(sources):
                last = torch.stack(batch)
                count += len(batch)
                batch = []
        assert count == len(paths)
        return last

    return run, lambda last: check(last, (last.shape[0], 3, 224, 224))


def epochs(memory_format, data, stages):
    """Epochs on a directory of photographs, as in PyTorch's transfer learning tutorial: three of each stage."""
    transforms = {
        "train": transform(T.RandomResizedCrop(224), T.RandomHorizontalFlip()),
        "val": transform(T.Resize(256), T.CenterCrop(224)),
    }
    model = network(memory_format, PHOTOGRAPH_CLASSES)

    def run():
        loaders = {
            split: torch.utils.data.DataLoader(
                image_folder(data, split, transform), batch_size=BATCH, shuffle=split == "train", num_workers=4
            )
            for split, transform in transforms.items()
        }
        return [
            loss for stage in stages for loss in fit(model, memory_format, loaders, optimizer_of(model, stage))
        ]

    return run, check_losses


def fit(model, memory_format, loaders, optimizer):
    """The tutorial's training loop: a baseline epoch that only validates, and two that train.

    Returns the mean loss of each pass.
    """
    losses, best, best_weights = [], -1.0, None
    for epoch in range(3):
        for phase in ["train", "val"] if epoch > 0 else ["val"]:
            model.train(phase == "train")
            loss_sum, correct, seen = 0.0, 0, 0
            for x, y in loaders[phase]:
                x = x.to(memory_format=memory_format)
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    logits = model(x)
                    loss = torch.nn.functional.cross_entropy(logits, y)
                if phase == "train":
                    loss.backward()
                    optimizer.step()
                loss_sum += loss.item() * len(y)
                correct += (logits.argmax(1) == y).sum().item()
                seen += len(y)
            losses.append(loss_sum / seen)
            if phase == "val" and correct / seen > best:
                best, best_weights = correct / seen, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return losses


def check(output, shape):
    """Exits if the result has the wrong shape or is not finite, so that failed work is not timed."""
    if output.shape != shape or not output.isfinite().all():
        raise SystemExit(f"invalid result: shape {tuple(output.shape)} instead of {shape}, or values that are not finite")


def check_losses(losses):
    losses = losses if isinstance(losses, list) else [losses]
    if not all(math.isfinite(loss) for loss in losses):
        raise SystemExit(f"loss is not finite: {losses}")


def prepare(row, peer, data):
    """Returns a function that runs the workload, and one that checks its result."""
    memory_format = torch.channels_last if peer == "torch channels_last" else torch.contiguous_format
    return {
        "frozen forward": lambda: forward(row, memory_format),
        "predict forward": lambda: forward(row, memory_format),
        "features step": lambda: features_step(row, memory_format),
        "stage-1 step": lambda: step(row, memory_format, 1),
        "stage-2 step": lambda: step(row, memory_format, 2),
        "loader train uncached": lambda: loader(row, peer, data),
        "loader train cached": lambda: loader(row, peer, data),
        "stage-1 epochs": lambda: epochs(memory_format, data, [1]),
        "two-stage recipe": lambda: epochs(memory_format, data, [1, 2]),
    }[row.workload]()


def reset_peak(row):
    """Resets the peak memory. If the kernel does not support it, the peak includes the setup."""
    gc.collect()
    if row.device == "cuda":
        return torch.cuda.reset_peak_memory_stats()
    try:
        with open("/proc/self/clear_refs", "w") as control:
            control.write("5")
    except OSError:
        pass


def peak_bytes(row):
    if row.device == "cuda":
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def main(name, peer, threads, data=None):
    row = Row(name)
    torch.set_num_threads(int(threads))
    torch.manual_seed(1234)
    run, check_result = prepare(row, peer, data)
    reset_peak(row)
    # Whole epochs take minutes and need no warm-up.
    if row.workload not in ["stage-1 epochs", "two-stage recipe"]:
        check_result(run())
    print("ready", flush=True)
    for line in sys.stdin:
        runs = int(line)
        start = time.perf_counter()
        for _ in range(runs):
            result = run()
        seconds = (time.perf_counter() - start) / runs
        check_result(result)
        print(seconds, flush=True)
    print(peak_bytes(row), flush=True)


main(*sys.argv[1:])
