"""Two processes with gloo; this file is also the program that they run."""

import json
import sys
from pathlib import Path

from helpers.running import run_two_ranks

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6)

BOX = [0, 0, 10, 10]


def worker(directory: Path, rank: int) -> None:
    import torch
    import torch.distributed as dist
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
    from detectron2.structures import Boxes, BoxMode, Instances

    from wsd_distill.engine import exit_gloo_worker
    from wsd_distill.evaluation import LocalizationEvaluator, MultiLabelEvaluator

    annotation = {"category_id": 0, "bbox": BOX, "bbox_mode": BoxMode.XYXY_ABS}
    image = {"image_id": 7, "height": 50, "width": 50, "labels": [0], "annotations": [annotation]}
    DatasetCatalog.register("one_image", lambda: [image])
    MetadataCatalog.get("one_image").thing_classes = ["cat", "dog"]

    def model(inputs):
        columns = {"pred_classes": torch.tensor([0]), "scores": torch.tensor([0.5])}
        boxes = Boxes(torch.tensor([BOX], dtype=torch.float32))
        found = Instances((50, 50), pred_boxes=boxes, **columns)
        return [{"image_scores": torch.tensor([0.75, 0.25]), "instances": found} for _ in inputs]

    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    evaluators = DatasetEvaluators([MultiLabelEvaluator("one_image"), LocalizationEvaluator("one_image")])
    results = {}
    for case, loader in {"one": [] if rank else [[image]], "padded": [[image]]}.items():
        results[case] = inference_on_dataset(model, loader, evaluators)
    (directory / f"rank{rank}.json").write_text(json.dumps(results))
    exit_gloo_worker()


def test_one_image_on_two_ranks(tmp_path):
    run_two_ranks(__file__, tmp_path)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    for case in ("one", "padded"):  # rank 1 without an image; both ranks with the same
        assert first[case]["multilabel"]["mAP"] == 100
        assert first[case]["multilabel"]["CF1@0.5"] == 50  # cat 1, dog 0: no positive and no prediction
        assert first[case]["localization"]["CorLoc"] == 100
        assert second[case] == {}


if __name__ == "__main__":
    worker(Path(sys.argv[1]), int(sys.argv[2]))
