"""A repository with small configs, so that trainings can be planned without the real ones."""

from pathlib import Path
from types import SimpleNamespace

from detectron2.config import LazyConfig

from wsd_distill.engine import apply_overrides
from wsd_distill.pipeline import plan

RECIPES = {"digit_scenes": "small", "coco_2014": "vgg16", "voc5": "efficientnet_lite0"}

CONFIG = """
from detectron2.config import LazyCall as L
from wsd_distill.data.proposal_store import default_store_path

dataset = dict(name="", train="${{dataset.name}}_train", files=dict(train="", val="", test=""))
proposals = dict(method="edge_boxes")
for _split in ("train", "val", "test"):
    proposals[_split] = L(default_store_path)(
        dataset_name="${{dataset.name}}_" + _split, method="${{proposals.method}}"
    )
image_proposals = dict(proposer=dict(alpha=0.65))
detector = dict(config="", weights="", opts=[])
dataloader = dict(train=dict(proposals=None))
train = dict(epochs={epochs}, max_iter=None, init_checkpoint="{init_checkpoint}")
"""
BASELINES = ("soft_labels", "fitnets_hint", "fitnets", "attention_transfer", "l2d", "feature_distillation")
METHODS = ("teacher", "student", "stage1", "stage2", *BASELINES)


def write_recipes(root: Path) -> None:
    """Write the configs of three recipes below ``root``; stage 1 has 8 epochs, every other training has 12."""
    recipes = {"vgg16": METHODS, "efficientnet_lite0": (*METHODS, "faster_rcnn"), "small": (*METHODS, "faster_rcnn")}
    for recipe, methods in recipes.items():
        (root / "configs" / recipe).mkdir(parents=True)
        for method in methods:
            pretrained = method == "student" and recipe != "small"
            options = {"epochs": 8.0 if method == "stage1" else 12.0}
            options["init_checkpoint"] = f"pretrained://{recipe}" if pretrained else ""
            (root / "configs" / recipe / f"{method}.py").write_text(CONFIG.format(**options))


def use_recipes(root: Path, monkeypatch) -> None:
    """Write the configs, and let a RunPlan load them without their dataset."""
    write_recipes(root)
    monkeypatch.setattr(plan, "load_config", lambda file, opts: apply_overrides(LazyConfig.load(file), opts))
    monkeypatch.setattr(plan, "get_dataset_info", lambda name: SimpleNamespace(recipe=RECIPES[name]))
