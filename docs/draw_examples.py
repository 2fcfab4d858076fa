#!/usr/bin/env python
"""Draw docs/examples.png: predictions of runs on coco3k for photos that scikit-image ships.

python docs/draw_examples.py output/coco3k/efficientnet_lite0_edge_boxes    # with the runs of RUNS
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import sys
from pathlib import Path

import numpy as np
import skimage
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from torchvision.ops import nms

from wsd_distill.data.image import read_rgb
from wsd_distill.engine.trained_run import load_trained_run
from wsd_distill.report.figures import draw_scenes

PHOTOS = {  # public domain and CC0; their objects among the classes of COCO
    "astronaut": ["person"],
    "chelsea": ["cat"],
    "coffee": ["cup", "spoon", "dining table"],
}
RUNS = {"teacher": "T-WDet", "student": "S-Cls (w/o)"}


@torch.no_grad()
def main(runs: Path) -> None:
    """Run the models of a root folder of runs on the photos."""
    models = {}
    for name in RUNS:
        cfg, model = load_trained_run(runs / name)
        models[name] = model, cfg.dataloader.test.test.loader
    teacher, loader = models["teacher"]
    classes = MetadataCatalog.get(loader.dataset).thing_classes
    scenes = []
    for photo, objects in PHOTOS.items():
        file = str(Path(skimage.__file__).parent / "data" / f"{photo}.png")
        record = {"file_name": file, "image_id": photo, "labels": [classes.index(name) for name in objects]}
        view = instantiate(loader.mapper)(record)
        output = teacher.compute_outputs([{**view, "proposals": teacher.proposer(view)}])
        best = nms(output.boxes[0].tensor, output.objectness[0], 0.4)[:3]
        image = read_rgb(file)
        to_photo = np.tile(np.array(image.shape[1::-1]) / view["image"].shape[-1], 2)
        scores = [model([instantiate(node.mapper)(record)])[0]["image_scores"] for model, node in models.values()]
        scenes.append(
            {
                "image": image,
                "boxes": output.boxes[0].tensor[best].cpu().numpy() * to_photo,
                "labels": view["labels"].numpy(),
                "scores": [p.cpu().numpy() for p in scores],
            }
        )
    draw_scenes(Path(__file__).with_name("examples.png"), scenes, list(RUNS.values()), classes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
