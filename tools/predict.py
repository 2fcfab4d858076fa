#!/usr/bin/env python
"""Predict the labels of images, and with T-WDet their boxes, as JSON lines and figures.

    python tools/predict.py --config-file output/pets/.../config.yaml --weights FILE --input a.jpg [key=value ...]

A line has the file, the labels whose score p reaches --threshold in descending order, and T-WDet's best boxes of each
label with their entries of S. The default threshold is the one that the run of --weights has tuned.
T-WDet makes proposals for the images of --input as for its stores (image_proposals).
The classes are those of the weights; --input needs neither the dataset nor its list of labels, and the one that a
recipe presets counts only if an override names it.
Without --input a whole split of the config is predicted, with the proposals that its loader reads.
"""

from __future__ import annotations

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from omegaconf import DictConfig

from wsd_distill.data.image import read_rgb
from wsd_distill.engine.cli import (
    add_config_options,
    check_method,
    choose_datasets,
    parse_with_config,
    report_user_errors,
)
from wsd_distill.engine.run_folder import RESULTS
from wsd_distill.evidence import best_boxes, build_predictor, name_boxes
from wsd_distill.modeling.checkpoints.load import get_class_names, read_state
from wsd_distill.proposals.image_proposals import ImageProposals
from wsd_distill.tagging.from_run import WEIGHTS, read_threshold


def parse_arguments() -> tuple[argparse.ArgumentParser, argparse.Namespace, DictConfig, torch.nn.Module]:
    """Return the parser, its arguments, the config, and its model with the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_options(parser, "recipe of the model, or the config.yaml of its run", required=True)
    parser.add_argument("--weights", required=True, help="checkpoint written by tools/train_net.py")
    parser.add_argument("--input", nargs="+", metavar="FILE", help="images; default: all of --split")
    parser.add_argument("--split", default="test", help="entry of dataloader.test whose mapper is used (default test)")
    parser.add_argument("--output", help="file for the JSON lines; default: standard output")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="draw the predictions on each image")
    parser.add_argument("--threshold", type=float, help="lowest score of a label (default: tuned on val by the run)")
    parser.add_argument("--boxes-per-label", type=int, default=1, metavar="N", help="(default 1)")
    state: dict[str, torch.Tensor] = {}

    def read_classes(arguments: argparse.Namespace) -> list[str] | None:
        if not arguments.input:
            return None
        state.update(read_state(arguments.weights))
        return get_class_names(state, arguments.weights)

    arguments, cfg = parse_with_config(parser, "input", read_classes=read_classes)
    if arguments.split not in cfg.dataloader.test:
        splits = ", ".join(cfg.dataloader.test) or "none, as this stage trains no classifier"
        parser.error(f"--split {arguments.split}: entries of dataloader.test in the config: {splits}")
    if not arguments.input:
        choose_datasets(parser, [cfg.dataset[arguments.split]], cfg)
    with report_user_errors(parser):
        if arguments.input and cfg.model.get("proposer", "") is None:
            parser.error(
                "--input: model.proposer is null, and T-WDet needs proposals: set model.proposer=${image_proposals}"
            )
        if not arguments.input and "proposer" in cfg.model:
            cfg.model.proposer = None  # the loader reads a store
        model = build_predictor(cfg, state or read_state(arguments.weights), arguments.weights)
        proposer = getattr(model, "proposer", None)
        if isinstance(proposer, ImageProposals):
            check_method(parser, cfg, proposer.proposer)
        if arguments.threshold is None:
            arguments.threshold = find_threshold(Path(arguments.weights))
    return parser, arguments, cfg, model


def find_threshold(weights: Path) -> float:
    """Return the threshold tuned by the run that has written ``weights``; ValueError if it is not a run's last file."""
    if weights.name != WEIGHTS or not (weights.parent / RESULTS).exists():
        text = f"{weights} is not {WEIGHTS} beside the {RESULTS} of a complete run, whose tuned threshold would be used"
        raise ValueError(f"{text}: give --threshold")
    return read_threshold(weights.parent)


def read_batches(test: DictConfig, files: list[str]) -> Iterable[list[dict]]:
    """Return batches of mapped files, or of the whole split."""
    if not files:
        return instantiate(test.loader)
    mapper = instantiate(test.loader.mapper)
    return ([mapper({"file_name": file, "image_id": file, "labels": []})] for file in files)


def describe(file: str, p: torch.Tensor, found: list[int], boxes: Instances | None, names: list[str]) -> dict:
    line = {"file_name": file, "labels": {names[k]: p[k].item() for k in found}}
    if boxes is not None:
        line["boxes"] = [{"label": label, **box} for label, box in name_boxes(boxes, names)]
    return line


def draw(path: Path, p: torch.Tensor, boxes: Instances | None, line: dict, metadata: Metadata) -> None:
    """Write the image with boxes and p of their classes, or with the labels in its corner."""
    visualizer = Visualizer(read_rgb(line["file_name"]), metadata)
    if boxes is None:
        text = "\n".join(f"{name} {100 * score:.0f}%" for name, score in line["labels"].items())
        visualizer.draw_text(text, (0, 0), horizontal_alignment="left")
    else:
        boxes.scores = p[boxes.pred_classes]
        visualizer.draw_instance_predictions(boxes)
    visualizer.output.save(str(path))


@torch.no_grad()
def main() -> None:
    parser, arguments, cfg, model = parse_arguments()
    metadata = Metadata(thing_classes=model.class_names)
    if arguments.figures:
        arguments.figures.mkdir(parents=True, exist_ok=True)
    batches = read_batches(cfg.dataloader.test[arguments.split], arguments.input)
    images = (image for batch in batches for image in zip(batch, model(batch)))
    output_file = open(arguments.output, "w") if arguments.output else nullcontext(sys.stdout)  # noqa: SIM115
    with report_user_errors(parser), output_file as lines:
        for number, (x, output) in enumerate(images):
            file, p = x["file_name"], output["image_scores"].cpu()
            found = [k for k in p.argsort(descending=True).tolist() if p[k] >= arguments.threshold]
            boxes = None  # of a model without boxes
            if "instances" in output:
                boxes = best_boxes(output["instances"].to("cpu"), found, arguments.boxes_per_label)
            line = describe(file, p, found, boxes, metadata.thing_classes)
            print(json.dumps(line), file=lines, flush=True)
            if arguments.figures:
                draw(arguments.figures / f"{number:05d}_{Path(file).stem}.png", p, boxes, line, metadata)


if __name__ == "__main__":
    main()
