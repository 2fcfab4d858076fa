import json
import logging

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from omegaconf import OmegaConf
from torch import nn

from wsd_distill.engine.evaluations import evaluation_order
from wsd_distill.engine.training import do_test
from wsd_distill.evaluation import build_evaluator
from wsd_distill.modeling.checkpoints.load import hash_state

SCORES = {"val": [[0.75], [0.5], [0.25]], "test": [[0.6], [0.2], [0.1]]}
LABELS = [[0], [0], []]


class Model(nn.Module):
    """Returns the scores that the inputs have, times its weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs):
        return [{"image_scores": torch.tensor(x["scores"]) * self.weight.detach()} for x in inputs]


class Loader(list):
    """Batches of the images of a split."""

    def __init__(self, split):
        super().__init__([[{"image_id": i, "scores": scores} for i, scores in enumerate(SCORES[split])]])


class Nothing(DatasetEvaluator):
    """An evaluator of the user, without thresholds."""

    def evaluate(self):
        return {"nothing": {"count": 1.0}}


@pytest.fixture
def cfg(tmp_path, restore_catalogs):
    """Function: the config of two splits, in the given order."""
    for split in SCORES:
        records = [{"image_id": i, "labels": labels} for i, labels in enumerate(LABELS)]
        DatasetCatalog.register(f"of_{split}", lambda records=records: records)
        MetadataCatalog.get(f"of_{split}").thing_classes = ["cat"]

    def make(*splits, **sources):
        folder = "${folder}/%s"
        tests = {
            split: {
                "loader": L(Loader)(split=split),
                "evaluator": L(build_evaluator)(
                    dataset_name=f"of_{split}",
                    output_dir=folder % split,
                    threshold_split=sources.get(split),
                    boxes=False,
                ),
            }
            for split in splits
        }
        return OmegaConf.create({"folder": str(tmp_path), "dataloader": {"test": tests}}, flags={"allow_objects": True})

    return make


@pytest.mark.parametrize("splits", [("test", "val"), ("val", "test")])
def test_the_threshold_is_of_the_same_evaluation_in_any_order(cfg, tmp_path, splits):
    """The scores in the folder are of other weights."""
    (tmp_path / "val").mkdir()
    other = {"scores": np.array([[0.99], [0.98]]), "labels": np.array([[1], [0]]), "class_names": np.array(["cat"])}
    np.savez(tmp_path / "val" / "scores.npz", **other)
    config = cfg(*splits, test="val")
    before = json.dumps(OmegaConf.to_container(config), default=str)
    results = do_test(config, Model())
    assert list(results) == ["val", "test"]
    assert results["val"]["multilabel"]["threshold"] == results["test"]["multilabel"]["threshold"] == 0.375
    assert results["test"]["multilabel"]["CR"] == 50  # 0.6, not 0.2
    assert json.dumps(OmegaConf.to_container(config), default=str) == before


def test_scores_name_the_weights_that_they_are_of(cfg, tmp_path):
    model = Model()
    do_test(cfg("test", "val", test="val"), model)
    digests = {str(np.load(tmp_path / split / "scores.npz")["weights_digest"]) for split in SCORES}
    assert digests == {hash_state(model.state_dict())} and len(hash_state(model.state_dict())) == 32
    model.weight.data *= 0.5
    assert hash_state(model.state_dict()) not in digests


@pytest.mark.parametrize(
    "splits, sources",
    [(["test"], {"test": "val"}), (["test", "val"], {"test": "val", "val": "test"}), (["test"], {"test": "test"})],
)
def test_a_threshold_of_a_split_that_is_not_evaluated_stops_before_the_inference(cfg, splits, sources):
    with pytest.raises(
        ValueError, match=r"dataloader.test.test.evaluator.threshold_split=\w+: not a split that is eval"
    ):
        do_test(cfg(*splits, **sources), Model())


def test_an_evaluator_of_the_user(cfg, caplog):
    config = cfg("test")
    config.dataloader.test.test.evaluator = L(Nothing)()
    caplog.set_level(logging.INFO)
    assert do_test(config, Model()) == {"test": {"nothing": {"count": 1.0}}}
    assert evaluation_order({"b": config.dataloader.test.test, "a": None}) == ["b"]
