#!/usr/bin/env python
"""Compare a model folder with plain PyTorch networks, from JPEG bytes to labels, and measure ``wsd predict``.

    python benchmarks/inference.py --recipe efficientnet_lite0 --threads 1
    python benchmarks/inference.py --recipe vgg16 --rounds 3
    python benchmarks/inference.py --model pets/model --recipe efficientnet_lite0 --images photos/

The plain network is timm's or, for VGG16, torchvision's; it gets the same bytes as a user would feed it: Pillow
decodes, resizes and converts, torch normalizes. Without --model, a folder with random weights is written; the time does
not depend on the weights. Without --images, photos shipped with scikit-image are written as JPEGs of 640 x 480. All
take turns in one process; a ratio is the median of the ratios per round. Start-up and memory are those of a process of
its own, from its start to the labels of one photo; its files are in the page cache.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate
from turns import measure_in_turns, median_of, median_ratio, peak_memory, write_photos

from wsd_distill.predicting.run import Options, predict
from wsd_distill.predicting.sources import open_sources
from wsd_distill.tagging import Tagger

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ONNX, TORCH, PLAIN = "Tagger, ONNX Runtime", "Tagger, PyTorch", "plain PyTorch"
NETWORKS = {"efficientnet_lite0": "tf_efficientnet_lite0", "vgg16": "vgg16"}
BACKENDS = {ONNX: "onnx", TORCH: "torch"}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # the values do not change the time


def write_model(folder: Path, recipe: str) -> Path:
    """Write a model folder of the recipe's student with random weights and 80 classes."""
    from detectron2.config import instantiate

    from wsd_distill.engine import load_config
    from wsd_distill.tagging.save import make_config, save_model_folder

    cfg = load_config(str(CONFIGS / recipe / "student.py"), ["dataset.name=coco_2014"])
    cfg.dataset.update(num_classes=80, class_names=[f"class {k}" for k in range(80)])
    model = instantiate(cfg.model).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        save_model_folder(model, make_config(cfg, model), folder)
    return folder


def build_plain(name: str, num_classes: int):
    """Build timm's network, or torchvision's VGG16."""
    if name == "vgg16":
        from torchvision.models import vgg16

        return vgg16(num_classes=num_classes).eval()
    import timm

    return timm.create_model(name, num_classes=num_classes).eval()


def make_plain(name: str, tagger: Tagger) -> tuple[Callable, Callable]:
    """Return (bytes -> tensor (3, S, S)) and (list of tensors -> labels) of a plain network."""
    import torch

    network, size = build_plain(name, len(tagger.classes)), tagger.config.image_size
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in IMAGENET)

    def read(data: bytes) -> torch.Tensor:
        image = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - mean) / std

    @torch.no_grad()
    def compute(inputs: list[torch.Tensor]) -> list:
        return (network(torch.stack(inputs)).sigmoid() >= 0.5).nonzero().tolist()

    return read, compute


def make_tagger(tagger: Tagger) -> tuple[Callable, Callable]:
    """Return (bytes -> pixels) and (list of pixels -> labels) of a tagger."""
    return tagger.read, lambda inputs: [tagger.select(row) for row in tagger.probabilities(np.stack(inputs))]


def set_threads(threads: int) -> None:
    """Limit PyTorch and OpenCV; a Tagger on ONNX Runtime uses the cores that the process may use."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def compare(runs: dict[str, tuple[Callable, Callable]], photos: list[bytes], batch: int, rounds: int) -> list[list]:
    """Measure from bytes to labels and the network alone; return rows."""
    calls = {}
    for name, (read, compute) in runs.items():
        batches = [photos[i : i + batch] for i in range(0, len(photos) - len(photos) % batch, batch)]
        inputs = [[read(data) for data in chunk] for chunk in batches]

        def whole(read=read, compute=compute, batches=batches) -> None:
            for chunk in batches:
                compute([read(data) for data in chunk])

        def network(compute=compute, inputs=inputs) -> None:
            for read_inputs in inputs:
                compute(read_inputs)

        calls[name], calls[f"{name} network"] = whole, network
    count = len(photos) - len(photos) % batch
    found = measure_in_turns(calls, rounds)
    rows = []
    for name in runs:
        seconds, network = found[name], found[f"{name} network"]
        cpu, wall = np.median(seconds, axis=0) / count
        speed, alone = (median_ratio(found[f"{PLAIN}{end}"], found[f"{name}{end}"]) for end in ("", " network"))
        row = [name, batch, 1000 * cpu, 1000 * wall * batch, 1 / wall, *speed, 1000 * np.median(network[:, 0]) / count]
        rows.append([*row, alone[0]])
    return rows


HEADERS = ["", "batch", "CPU, ms a photo", "latency of a batch, ms", "photos/s", "speed by CPU", "by clock"]
HEADERS += ["network, CPU ms", "speed by CPU"]
FORMATS = ("", "", ".1f", ".1f", ".1f", ".2f", ".2f", ".1f", ".2f")


def start(name: str, model: str, network: str, photo: str) -> float:
    """Label one photo in this process, which has to be a fresh one; return its peak memory in MB."""
    config = Tagger.load(model, "onnx") if name == PLAIN else Tagger.load(model, BACKENDS[name])
    read, compute = make_plain(network, config) if name == PLAIN else make_tagger(config)
    compute([read(Path(photo).read_bytes())])
    return peak_memory()


def in_fresh_process(arguments: list[str]) -> tuple[float, str]:
    """Return seconds of a Python process from its start to its end, and what it prints."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-W", "ignore", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - started, done.stdout


def measure_starts(model: str, network: str, photo: str, rounds: int) -> str:
    rows = []
    for name in (ONNX, TORCH, PLAIN):
        job = [__file__, "--job", json.dumps([name, model, network, photo])]
        seconds = median_of(lambda job=job: in_fresh_process(job)[0], rounds)
        rows.append([name, seconds, float(in_fresh_process(job)[1])])
    program = "import sys; from wsd_distill.cli import main; sys.exit(main())"
    command = ["-c", program, "predict", model, photo]
    rows.append(["wsd predict", median_of(lambda: in_fresh_process(command)[0], rounds), ""])
    return tabulate(
        rows, ["one photo, cold start", "s", "peak memory, MB"], tablefmt="pipe", floatfmt=(".2f", ".2f", ".0f")
    )


def measure_loop(tagger: Tagger, images: str, arguments: argparse.Namespace) -> str:
    """Photos/s of the loop of ``wsd predict``, which decodes in threads while the network runs."""

    def run(options: Options) -> int:
        return sum(1 for _ in predict(tagger, open_sources([images]), options))

    settings = [(batch, workers) for batch in arguments.batch_sizes for workers in arguments.workers]
    calls = {(b, w): partial(run, Options(batch_size=b, workers=w)) for b, w in settings}
    count = sum(1 for _ in open_sources([images]))
    found = measure_in_turns(calls, arguments.rounds)
    rows = [[*key, *(count / np.median(seconds, axis=0)[::-1])] for key, seconds in found.items()]
    headers = ["wsd predict: batch size", "workers", "photos/s", "photos per CPU second"]
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".1f")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="efficientnet_lite0", choices=list(NETWORKS))
    parser.add_argument("--model", help="model folder; its network is that of --recipe")
    parser.add_argument("--images", help="folder of photos")
    parser.add_argument("--count", type=int, default=64, help="photos; a multiple of the batch sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of PyTorch, OpenCV and ONNX Runtime; default: all")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="threads of wsd predict that decode")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)  # used by measure_starts
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.job:
        print(start(*arguments.job))
        return
    if arguments.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])  # before ONNX Runtime loads
    network = NETWORKS[arguments.recipe]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model or str(write_model(folder / "model", arguments.recipe))
        images = arguments.images or str(folder)
        if not arguments.images:
            write_photos(folder, arguments.count)
        photos = [photo.name for photo, _ in zip(open_sources([images]), range(arguments.count))]
        data = [Path(photo).read_bytes() for photo in photos]
        taggers = {name: Tagger.load(model, backend) for name, backend in BACKENDS.items()}
        set_threads(arguments.threads or len(os.sched_getaffinity(0)))
        runs = {name: make_tagger(tagger) for name, tagger in taggers.items()}
        runs[PLAIN] = make_plain(network, taggers[ONNX])
        rows = [row for batch in arguments.batch_sizes for row in compare(runs, data, batch, arguments.rounds)]
        print(
            tabulate(rows, HEADERS, tablefmt="pipe", floatfmt=("", "", ".1f", ".1f", ".1f", ".2f", ".2f", ".1f", ".2f"))
        )
        print(f"\n{measure_starts(model, network, photos[0], arguments.rounds)}")
        print(f"\n{measure_loop(taggers[ONNX], images, arguments)}")


if __name__ == "__main__":
    main()
