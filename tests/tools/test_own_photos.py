"""The commands of docs/own_photos.md, from three lists to labels of a photo, outside the repository."""

import json

import numpy as np
from helpers.running import TESTS, run
from PIL import Image

OWN = ["dataset.name=pets", "dataset.image_root=photos"]
OWN += [f"dataset.files.{split}={split}.csv" for split in ("train", "val", "test")]
SMALL = ["train.max_iter=1", "train.device=cpu", "trainer.amp=False"]
SMALL += ["dataloader.train.num_workers=0", "dataloader.train.total_batch_size=4"]
COLOURS = {"cat": (200, 60, 40), "dog": (40, 70, 210)}


def write_photos(folder):
    """For each split a photo of each class and one of both, no two alike, and a list."""
    rng = np.random.default_rng(0)
    folder.joinpath("photos").mkdir()
    for split in ("train", "val", "test"):
        lines = ["file,labels"]
        for i, labels in enumerate(["cat", "dog", "cat;dog"]):
            photo = Image.fromarray(rng.integers(90, 130, (60, 80, 3), np.uint8))
            for label in labels.split(";"):
                x, y = rng.integers(0, 30, 2).tolist()
                photo.paste(COLOURS[label], (x, y, x + 30, y + 25))
            photo.save(folder / "photos" / f"{split}{i}.png")
            lines.append(f"{split}{i}.png,{labels}")
        folder.joinpath(f"{split}.csv").write_text("\n".join(lines) + "\n")


def test_from_lists_of_photos_to_the_labels_of_one(tmp_path):
    """Outputs, checkpoints, proposals and the teacher's cache are found by the names that the configs give them."""

    def tool(name, config, *arguments):
        config = ["--config-file", TESTS.parent / "configs" / "efficientnet_lite0" / f"{config}.py"]
        return run(TESTS.parent / "tools" / f"{name}.py", *config, *arguments, *OWN, data=tmp_path, cwd=tmp_path)

    write_photos(tmp_path)
    checked = tool("check_dataset", "student", "--num-workers", 0).stdout
    assert "pets_train: 3 images, 4 labels" in checked and checked.endswith("\n3 warnings\n")  # few photos
    tool("generate_proposals", "teacher", "--num-workers", 0)
    student, teacher = "dataloader.train.mapper.sizes=[64]", "dataloader.train.mapper.{}=[96]"
    tool("train_net", "teacher", *SMALL, "train.init_checkpoint=", teacher.format("sizes"))
    distilling = [*SMALL, student, teacher.format("teacher_sizes"), "trainer.teacher_check.warn_only=True"]
    tool("train_net", "stage1", *distilling, "train.init_checkpoint=")
    tool("train_net", "stage2", *distilling)
    tool("train_net", "soft_labels", *distilling, "train.init_checkpoint=")
    results = json.loads((tmp_path / "output/pets/efficientnet_lite0_edge_boxes/stage2/results.json").read_text())
    assert results["objectives"]["temperature/t_cls_min"] < results["objectives"]["temperature/t_cls_max"]
    assert set(results) == {"val", "test", "objectives"} and "mAP" in results["test"]["multilabel"]
    weights = ["--weights", "output/pets/efficientnet_lite0_edge_boxes/stage2/model_final.pth", "--threshold", 0]
    photos = ["--input", "photos/test0.png", "photos/test2.png"]
    found = tool("predict", "student", *weights, *photos, student, "train.device=cpu")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["file_name"] for line in lines] == photos[1:]
    with np.load(tmp_path / "output/pets/efficientnet_lite0_edge_boxes/stage2/inference/test/scores.npz") as file:
        expected = dict(zip(file["class_names"].tolist(), file["scores"].T[:, [0, 2]].tolist()))
    for i, line in enumerate(lines):
        assert set(line) == {"file_name", "labels"} and sorted(line["labels"]) == ["cat", "dog"]
        for label, score in line["labels"].items():
            assert abs(score - expected[label][i]) < 1e-4
