#!/usr/bin/env python
"""How well T-WDet's regions tell whether a random crop still shows a label.

    python benchmarks/visible_labels.py output/.../teacher --split val

For crops of each image of a split with boxes, as the student's training draws them, and each positive label: the share
of the label's score S that lies in the regions that the crop shows (``HardLabels(visible_below)`` compares it with its
limit) against the truth, that the crop shows at least half of the area of an object of the class. Prints the AUROC over
all pairs of crop and label, beside that of a control without a teacher, the crop's share of the image's area; and for
some limits how many labels would become unknown, and how many of these the crop does not show.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from detectron2.config import instantiate
from sklearn.metrics import roc_auc_score
from tabulate import tabulate
from tqdm import tqdm

from wsd_distill.data.build import get_dataset_dicts
from wsd_distill.data.geometry import Geometry, draw_window
from wsd_distill.distillation.views import ShownOutput
from wsd_distill.engine.trained_run import load_trained_run
from wsd_distill.evaluation.detections import GroundTruth, read_ground_truth
from wsd_distill.modeling import WSDDN, WSDDNOutput

CROP_SCALE = (0.25, 1.0)  # of the recipes
LIMITS = (0.01, 0.05, 0.1, 0.2, 0.5)


class Labels(NamedTuple):
    """M pairs of a crop and a positive label of its image.

    Attributes:
        shares: (M,) share of the label's score in the regions that the crop shows.
        areas: (M,) share of the image's area that the crop has.
        visible: (M,) whether the crop shows at least half of an object of the class.
    """

    shares: np.ndarray
    areas: np.ndarray
    visible: np.ndarray


@torch.no_grad()
def collect(run: Path, split: str, crops: int, seed: int) -> Labels:
    """Run T-WDet once on each image of the split, and draw ``crops`` crops of it.

    Raises:
        ValueError: the run is no T-WDet, or the split has no boxes.
    """
    cfg, model = load_trained_run(run)
    dataset, mapper = cfg.dataset[split], cfg.dataloader.train.mapper
    if not isinstance(model, WSDDN):
        raise ValueError(f"{run} is not a run of T-WDet")
    truth = read_ground_truth(get_dataset_dicts(dataset), dataset, cfg.dataset.num_classes)
    np.random.seed(seed)
    rows, i = [], 0
    for batch in tqdm(instantiate(cfg.dataloader.test[split].loader)):
        output = model.compute_outputs(batch, model.preprocess_image(batch))
        for inputs, boxes, c, d in zip(batch, output.boxes, output.cls_logits, output.det_logits):
            whole: Geometry = inputs["geometry"]
            (height, width), size = whole.shape, inputs["image"].shape[-1]
            regions = boxes.tensor.cpu().numpy() * np.tile([width / size, height / size], 2)
            objects = truth.select((truth.images == i) & truth.valid)
            for _ in range(crops):
                crop = whole._replace(window=draw_window(whole.shape, CROP_SCALE, mapper.crop_ratio))
                rows += measure(crop, regions, WSDDNOutput({}, [boxes], [c], [d]), objects, mapper.min_visible)
            i += 1
    return Labels(*(np.array(column) for column in zip(*rows)))


def measure(
    crop: Geometry, regions: np.ndarray, output: WSDDNOutput, objects: GroundTruth, min_visible: float
) -> list[tuple[float, float, bool]]:
    """Return the fields of :class:`Labels` for each class that the image has.

    Args:
        regions: (R, 4) proposals in pixels of the image.
        output: of T-WDet for the image alone.
        objects: of the image.
        min_visible: as in the mapper.
    """
    shown = torch.as_tensor((crop.visible(regions) >= min_visible).nonzero()[0])
    (shares,) = ShownOutput({}, [], [], [], whole=output, rows=[shown]).shares
    x0, y0, x1, y1 = crop.window
    area, visible = (x1 - x0) * (y1 - y0) / (crop.shape[0] * crop.shape[1]), crop.visible(objects.boxes) >= 0.5
    return [(float(shares[k]), area, bool(visible[objects.classes == k].any())) for k in np.unique(objects.classes)]


def summarize(labels: Labels) -> str:
    """The tables that are printed."""
    hidden = ~labels.visible
    scores = {"share of the label's score": labels.shares, "control: share of the image's area": labels.areas}
    aurocs = [(name, roc_auc_score(labels.visible, score)) for name, score in scores.items()]
    limits = []
    for limit in LIMITS:
        unknown = labels.shares < limit
        limits.append((limit, 100 * unknown.mean(), 100 * (hidden & unknown).sum() / max(1, unknown.sum())))
    count = f"{len(labels.visible)} pairs of crop and label, {100 * hidden.mean():.1f} % not visible"
    head = ["visible_below", "labels unknown, %", "of these not visible, %"]
    return "\n\n".join(
        [count, tabulate(aurocs, ["score", "AUROC"], floatfmt=".3f"), tabulate(limits, head, floatfmt=".3g")]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a T-WDet")
    parser.add_argument("--split", choices=["train", "val", "test"], default="val", help="(default %(default)s)")
    parser.add_argument("--crops", type=int, default=10, help="of each image (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        labels = collect(arguments.run, arguments.split, arguments.crops, arguments.seed)
    except (KeyError, OSError, ValueError) as error:
        parser.error(str(error.args[0] if isinstance(error, KeyError) else error))
    print(summarize(labels))


if __name__ == "__main__":
    main()
