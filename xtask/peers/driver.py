"""Driver of `cargo xtask bench-peers`: measures rows in turns and prints a table.

Times on a shared machine vary, so only ratios of times measured together are meaningful. Every library
runs a row in its own worker process, so the peak memory is that of a single row. After all workers are
set up they take turns, every second round in the opposite order, so that a machine that gets slower
affects all of them equally. The header of `peer.py` describes the protocol.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib import metadata

ROOT = pathlib.Path(__file__).resolve().parents[2]
INSTALL = "python3 -m venv ../peers && ../peers/bin/pip install torch torchvision"
LAYOUTS = ["torch nchw", "torch channels_last"]
PIPELINES = ["torchvision pillow", "torchvision v2"]
# For each kind of row: the default number of turns, the peers, and the default batch sizes.
ROWS = {
    "frozen forward": (7, LAYOUTS, ["b1", "b8", "b32"]),
    "predict forward": (7, LAYOUTS, ["b1"]),
    "features step": (5, LAYOUTS, ["b8"]),
    "stage-1 step": (5, LAYOUTS, ["b32"]),
    "stage-2 step": (5, LAYOUTS, ["b32"]),
    "loader train uncached": (9, PIPELINES, []),
    "loader train cached": (9, PIPELINES, []),
    "stage-1 epochs": (3, LAYOUTS, []),
    "two-stage recipe": (1, LAYOUTS, []),
}
for stage in ["stage-1", "stage-2"]:
    for precision in ["f32", "tf32", "bf16"]:
        ROWS[f"cuda {stage} step {precision}"] = (7, LAYOUTS, ["b32"])


class Row:
    """A row such as `frozen forward b8`. Other batch sizes and image sizes are allowed: `… b4 112px`."""

    def __init__(self, name):
        match = re.fullmatch(r"(.+?)(?: b([1-9]\d*)(?: ([1-9]\d+)px)?)?", name)
        kind, batch, size = match.groups()
        if kind not in ROWS or bool(batch) != bool(ROWS[kind][2]) or int(size or 224) < 32:
            sys.exit(f"unknown row `{name}`. The rows are: {', '.join(default_rows())}. Rows with a batch size "
                     "also accept other sizes, such as `frozen forward b4 112px`")
        self.name, self.batch = name, int(batch or 0)
        self.rounds, peers, _ = ROWS[kind]
        self.workers = ["ours", *peers]
        self.device = "cuda" if kind.startswith("cuda ") else "cpu"
        # A single run of a small batch, or on a GPU, is too short to time accurately.
        images = 320 if self.device == "cuda" else 16
        self.runs = max(images // self.batch, 1) if self.batch else 1


def default_rows():
    return [f"{kind} {batch}" for kind, row in ROWS.items() for batch in row[2]] + [
        kind for kind, row in ROWS.items() if not row[2]
    ]


class Worker:
    def __init__(self, row, name, options):
        command = [options.worker, row.name]
        if name != "ours":
            command = [sys.executable, str(ROOT / "xtask/peers/peer.py"), row.name, name]
        command += [str(options.threads), *([] if row.batch else [str(options.data)])]
        # rayon reads RAYON_NUM_THREADS. The row decides whether f32 is rounded to TF32, so the variable that
        # overrides this is removed.
        environment = {**os.environ, "RAYON_NUM_THREADS": str(options.threads), "RUST_BACKTRACE": "0"}
        environment.pop("NVIDIA_TF32_OVERRIDE", None)
        self.name, self.seconds, self.peak, self.errors = name, [], 0, tempfile.TemporaryFile()
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self.errors, env=environment, text=True
        )

    def line(self):
        line = self.process.stdout.readline().strip()
        if not line:
            self.process.kill()
            self.errors.seek(0)
            lines = self.errors.read().decode(errors="replace").splitlines()[-20:]
            raise RuntimeError("\n  ".join([f"{self.name} ended early ({self.process.wait()}):", *lines]))
        return line

    def time(self, runs):
        # Idle threads of the previous library may still spin.
        time.sleep(0.25)
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        self.seconds.append(float(self.line()))

    def finish(self):
        self.process.stdin.close()
        self.peak = int(self.line())
        if self.process.wait() != 0:
            self.line()


def measure(row, options):
    """Returns the result of a row as it is written to JSON."""
    workers = [Worker(row, name, options) for name in row.workers]
    try:
        for worker in workers:
            line = worker.line()
            if line != "ready":
                raise RuntimeError(f"{worker.name} printed `{line}` instead of `ready`")
        for number in range(options.rounds or row.rounds):
            print(f"{row.name}: round {number + 1}", file=sys.stderr)
            for worker in workers if number % 2 == 0 else reversed(workers):
                worker.time(row.runs)
        for worker in workers:
            worker.finish()
    finally:
        for worker in workers:
            worker.process.kill()
    ours, *peers = workers
    seconds = {worker.name: statistics.median(worker.seconds) for worker in workers}
    return {
        "name": row.name,
        "ours_seconds": seconds["ours"],
        "peers": {peer.name: seconds[peer.name] for peer in peers},
        "ratio": min(seconds[peer.name] for peer in peers) / seconds["ours"],
        "ours_peak_bytes": ours.peak,
        "peers_peak_bytes": {peer.name: peer.peak for peer in peers},
        "rounds": {worker.name: worker.seconds for worker in workers},
    }


def table(results):
    """An aligned Markdown table."""
    lines, notes = [["row", "library", "seconds", "spread", "vs ours", "peak MB", "vs ours"]], []
    for row in results:
        seconds = {"ours": row["ours_seconds"], **row["peers"]}
        peaks = {"ours": row["ours_peak_bytes"], **row["peers_peak_bytes"]}
        for name, median in seconds.items():
            turns, ours = row["rounds"][name], name == "ours"
            mark = " *" if not ours and median / seconds["ours"] == row["ratio"] else ""
            lines.append([
                row["name"] if ours else "",
                name + mark,
                f"{median:.4f}",
                f"{100 * (max(turns) - min(turns)) / median:.0f} %",
                "" if ours else f"{median / seconds['ours']:.2f}{mark}",
                f"{peaks[name] / 1e6:.0f}",
                "" if ours else f"{peaks[name] / peaks['ours']:.2f}",
            ])
        if row["name"].startswith("cuda "):
            speeds = [f"{name} {Row(row['name']).batch / median:.0f}" for name, median in seconds.items()]
            notes.append(f"{row['name']}: images per second: {', '.join(speeds)}.")
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    rows = []
    for line in lines:
        cells = [cell.ljust(width) if column < 2 else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(line, widths))]
        rows.append(f"| {' | '.join(cells)} |")
    ends = ["-", "-", *":::::"]
    rows.insert(1, f"|{'|'.join('-' * (width + 1) + end for width, end in zip(widths, ends))}|")
    rows.append(
        "\nSeconds is the median of the turns. Spread is the range of the turns divided by the median. Peak is the "
        "peak resident memory of the process after setup, including its libraries but not the worker processes of a "
        "data loader; on a GPU, the peak memory of tensors. The fastest peer is marked *."
    )
    return "\n".join(rows + notes) + "\n"


def output_of(*command):
    """Standard output of a program, empty if it is not installed."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


def machine(options, versions):
    """The machine and the versions as a Markdown list, and a name for the files of this run."""
    fields = dict(re.findall(r"^([^:\t]+)\t*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    flags = [flag for flag in ["avx2", "fma", "avx512f", "amx_tile"] if flag in fields.get("flags", "").split()]
    # Virtual machines may disguise the name but still report the family and model.
    family, model = fields.get("cpu family", "?"), fields.get("model", "?")
    name = fields.get("model name", "unknown")
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) * 1024
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    candle = next(package["version"] for package in locked if package["name"] == "candle-core")
    changes = output_of("git", "status", "--porcelain", "--untracked-files=no")
    commit = output_of("git", "rev-parse", "--short=12", "HEAD") + (", with uncommitted changes" if changes else "")
    gpu = output_of("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader").split("\n")[0] \
        if options.device == "cuda" else ""
    rustc, python = output_of("rustc", "--version").split()[1], sys.version.split()[0]
    versions = {"rustc": rustc, "candle": candle, "python": python, **versions}
    date = datetime.date.today().isoformat()
    lines = [
        f"date: {date}",
        f"processor: {name} (family {family}, model {model}; {' '.join(flags)})",
        *([f"GPU: {gpu}"] if gpu else []),
        f"threads: {options.threads} on {len(os.sched_getaffinity(0))} cores; memory: {memory / 1e9:.0f} GB",
        f"commit: {commit}",
        f"versions: {', '.join(f'{name} {version}' for name, version in versions.items())}",
    ]
    words = gpu.split(",")[0] or re.sub(r"\((r|tm)\)|cpu|processor", "", f"{name} {family} {model}", flags=re.IGNORECASE)
    stem = "-".join([date, *re.findall(r"[a-z0-9]+", words.lower())])
    return "".join(f"- {line}\n" for line in lines), stem


def save(folder, stem, text, results):
    """Writes new files, never over those of an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    path = next(path for name in names if not (path := folder / f"{name}.md").exists())
    path.write_text(text)
    path.with_suffix(".json").write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    print(f"saved in {path.relative_to(ROOT)}")


def main():
    parser = argparse.ArgumentParser(prog="cargo xtask bench-peers --python PYTHON", allow_abbrev=False)
    parser.add_argument("--worker", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", metavar="ROW", action="append", help="measure only this row (may be repeated)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of each worker")
    parser.add_argument("--rounds", type=int, help="turns of each worker [default: 1 to 9, depending on the row]")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "data/hymenoptera_data",
                        help="photographs in DIR/{train,val}/CLASS")
    parser.add_argument("--json", type=pathlib.Path, help="write the results to this file, after each row")
    parser.add_argument("--save", action="store_true", help="save the table in benches/runs")
    options = parser.parse_args()
    rows = [Row(name) for name in options.only or default_rows()]
    other = [row.name for row in rows if row.device != options.device]
    if options.only and other:
        sys.exit(f"the row `{other[0]}` is not one of --device {options.device}")
    rows = [row for row in rows if row.device == options.device]
    if not all((options.data / split).is_dir() for split in ["train", "val"]) and not all(row.batch for row in rows):
        sys.exit(f"{options.data} has no photographs: run `cargo xtask fetch-data`, or pass another folder with --data")
    try:
        versions = {name: metadata.version(name) for name in ["torch", "torchvision", "pillow"]}
    except metadata.PackageNotFoundError as error:
        sys.exit(f"{sys.executable} has no {error.name}. Create another environment: {INSTALL}")
    about, stem = machine(options, versions)
    results, failed = [], []
    for row in rows:
        # A failed row does not prevent the others.
        try:
            results.append(measure(row, options))
        except (RuntimeError, OSError, ValueError) as error:
            print(f"{row.name}: failed: {error}", file=sys.stderr)
            failed.append(row.name)
        if options.json:
            options.json.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    if results:
        print(table(results), about, sep="\n", end="")
        if options.save:
            save(ROOT / "benches/runs", stem, f"{about}\n{table(results)}", results)
    if failed:
        sys.exit(f"failed rows: {', '.join(failed)}")


main()
