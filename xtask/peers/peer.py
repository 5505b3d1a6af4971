"""One row of `cargo xtask bench-peers`, done by PyTorch, ONNX Runtime or OpenVINO.

usage: peer.py ROW PEER THREADS [DATA]

ROW is a name such as `frozen forward b8`; PEER says who does it: `torch nchw`, `torch channels_last`,
`onnxruntime`, `openvino`, `torchvision pillow`, `torchvision v2`. After set-up and warm-up it prints
`ready`; every line on standard input then runs the row once and is answered by its seconds; at the end
of the input it prints the peak resident memory in bytes. A peer that cannot do a row, or is not
installed, prints `skip: WHY`.
"""
import os
import sys
import time

row, peer, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = sys.argv[4] if len(sys.argv) > 4 else None
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Skip(Exception):
    """This peer does not do this row here."""


def batch_size():
    return int(row.rsplit(" b", 1)[1])


def module(name):
    try:
        return __import__(name)
    except ImportError as error:
        raise Skip(f"{name} is not installed ({error})")


def torch_setup():
    torch = module("torch")
    module("torchvision")
    torch.set_num_threads(threads)
    torch.manual_seed(1234)
    memory_format = torch.channels_last if peer.endswith("channels_last") else torch.contiguous_format
    return torch, memory_format


def vgg(torch, memory_format, classes=2):
    import torchvision

    model = torchvision.models.vgg16(weights=None)
    model.classifier[6] = torch.nn.Linear(4096, classes)
    return model.to(memory_format=memory_format)


def forward(part):
    """`part`: the frozen trunk ("features") or the network as `predict` runs it ("whole")."""
    n = batch_size()
    if peer.startswith("torch"):
        torch, memory_format = torch_setup()
        model = vgg(torch, memory_format).eval()
        model = model.features if part == "features" else model
        x = torch.randn(n, 3, 224, 224).to(memory_format=memory_format)

        def run():
            with torch.inference_mode():
                model(x)

        return run
    torch, memory_format = torch_setup()
    model = vgg(torch, memory_format).eval()
    model = model.features if part == "features" else model
    x = torch.randn(n, 3, 224, 224)
    import tempfile

    path = os.path.join(tempfile.mkdtemp(), "vgg.onnx")
    module("onnx")
    torch.onnx.export(model, (x,), path, input_names=["x"], dynamo=False)
    x = x.numpy()
    if peer == "onnxruntime":
        ort = module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"x": x})
    ov = module("openvino")
    core = ov.Core()
    compiled = core.compile_model(
        path, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    )
    request = compiled.create_infer_request()
    return lambda: request.infer({0: x})


def step(stage):
    torch, memory_format = torch_setup()
    n = batch_size()
    model = vgg(torch, memory_format).train()
    optimizer = optimizer_of(torch, model, stage)
    x = torch.randn(n, 3, 224, 224).to(memory_format=memory_format)
    y = torch.arange(n) % 2

    def run():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return run


def optimizer_of(torch, model, stage):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = stage == 2 or name.startswith("classifier.6")
    if stage == 1:
        return torch.optim.SGD(model.classifier[6].parameters(), lr=1e-3, momentum=0.9)
    groups = [
        {"params": model.features.parameters(), "lr": 1e-4},
        {"params": model.classifier[0].parameters(), "lr": 5e-4},
        {"params": model.classifier[3].parameters(), "lr": 5e-4},
        {"params": model.classifier[6].parameters(), "lr": 1e-3},
    ]
    return torch.optim.SGD(groups, lr=1e-3, momentum=0.9)


def loader(cached):
    """One pass over the training pictures on one thread, no workers: the pipeline per core."""
    torch = module("torch")
    torchvision = module("torchvision")
    torch.set_num_threads(1)
    folder = torchvision.datasets.ImageFolder(os.path.join(data, "train"))
    paths = [path for path, _ in folder.samples]
    if peer == "torchvision pillow":
        from torchvision import transforms as T

        pipeline = T.Compose(
            [T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)]
        )
        read = folder.loader
    elif peer == "torchvision v2":
        from torchvision.io import ImageReadMode, decode_jpeg, read_file
        from torchvision.transforms import v2

        pipeline = v2.Compose(
            [
                v2.RandomResizedCrop(224, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )
        read = lambda path: decode_jpeg(read_file(path), mode=ImageReadMode.RGB)
    else:
        raise Skip("not a loader")
    # torchvision keeps nothing between epochs; its v2 with pictures decoded beforehand is the fair peer.
    pictures = [read(path) for path in paths] if cached and peer == "torchvision v2" else None

    def run():
        sources = pictures if pictures is not None else (read(path) for path in paths)
        batch = []
        for picture in sources:
            batch.append(pipeline(picture))
            if len(batch) == 32:
                torch.stack(batch)
                batch = []
        if batch:
            torch.stack(batch)

    return run


def epochs(recipe):
    """Whole epochs on a folder of photographs, as the notebook runs them: 4 workers, batches of 32."""
    torch, memory_format = torch_setup()
    torchvision = module("torchvision")
    from torchvision import transforms as T

    train_transform = T.Compose(
        [T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)]
    )
    val_transform = T.Compose([T.Resize(256), T.CenterCrop(224), T.ToTensor(), T.Normalize(MEAN, STD)])
    sets = {
        "train": torchvision.datasets.ImageFolder(os.path.join(data, "train"), train_transform),
        "val": torchvision.datasets.ImageFolder(os.path.join(data, "val"), val_transform),
    }
    loaders = {
        k: torch.utils.data.DataLoader(v, batch_size=32, shuffle=k == "train", num_workers=4)
        for k, v in sets.items()
    }

    def epoch(model, optimizer, train):
        for phase in ("train", "val") if train else ("val",):
            model.train(phase == "train")
            for x, y in loaders[phase]:
                x = x.to(memory_format=memory_format)
                with torch.set_grad_enabled(phase == "train"):
                    loss = torch.nn.functional.cross_entropy(model(x), y)
                if phase == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()

    def run():
        model = vgg(torch, memory_format)
        for stage, count in recipe:
            optimizer = optimizer_of(torch, model, stage)
            for number in range(count):
                epoch(model, optimizer, train=number > 0)

    return run


def build():
    if row.startswith("frozen forward"):
        return forward("features")
    if row.startswith("predict forward"):
        return forward("whole")
    if not peer.startswith("torch "):
        if row.startswith("loader train"):
            return loader(cached=row.endswith(" cached"))
        raise Skip("only PyTorch trains here")
    if row.startswith("stage-1 step"):
        return step(1)
    if row.startswith("stage-2 step"):
        return step(2)
    # The first epoch of a stage only validates, so n epochs are n validations and n - 1 trainings.
    if row == "stage-1 epochs":
        return epochs([(1, 3)])
    if row == "two-stage recipe":
        return epochs([(1, 3), (2, 3)])
    raise Skip("an unknown row")


def peak_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


try:
    run = build()
    if " epochs" not in row and "recipe" not in row:
        run()
except Skip as why:
    print(f"skip: {why}", flush=True)
    sys.exit(0)
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    run()
    print(time.perf_counter() - start, flush=True)
print(peak_bytes(), flush=True)
