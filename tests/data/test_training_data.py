"""What the config of a training loader says about its batches."""

import pytest
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog
from omegaconf import OmegaConf

from wsd_distill.data.mix import MixImages
from wsd_distill.data.training_data import TrainingData


class OwnMix:
    """A mix of a user, with kinds."""

    kinds = ("mixup",)


def make_loader(**changes):
    loader = {
        "dataset": "pets",
        "total_batch_size": 4,
        "mapper": {"sizes": [16]},
        "mix": L(MixImages)(mixup=0.4, mosaic=True),
        "proposals": None,
    }
    return OmegaConf.create({**loader, **changes}, flags={"allow_objects": True})


def test_sizes_and_kinds_of_mixing():
    data = TrainingData.from_config(make_loader())
    assert (data.sizes, data.mix) == ([16], ["mixup", "mosaic"])
    for mix in (None, L(MixImages)(mixup=0.4, prob=0.0), L(MixImages)()):
        assert not TrainingData.from_config(make_loader(mix=mix, total_batch_size=1, mapper={"sizes": [8, 16]})).mix


def test_loaders_and_mixes_of_the_user():
    assert TrainingData.from_config(OmegaConf.create({"dataset": "pets"})) == TrainingData("pets", None, [], ())
    assert TrainingData.from_config(make_loader(mix=L(OwnMix)())).mix == ("mixup",)
    assert TrainingData.from_config(make_loader(mix=L(object)())).mix == ()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mapper": {"sizes": [16, 24]}}, r"images of the sizes \[16, 24\] cannot be mixed: set a single one in data"),
        (
            {"total_batch_size": 1},
            "needs two images for each process: set train.batch_size to 2 or more .* dataloader.train.mix=null",
        ),
    ],
)
def test_batches_that_cannot_be_mixed_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingData.from_config(make_loader(**changes))


def test_proposals_of_a_store_or_of_the_dataset(restore_catalogs):
    DatasetCatalog.register("pets", lambda: [{"image_id": 0}])
    DatasetCatalog.register("boxed", lambda: [{"image_id": 0, "proposal_boxes": []}])
    assert TrainingData("none", proposals="a.arrow").has_proposals and TrainingData("boxed").has_proposals
    assert not TrainingData("pets").has_proposals
