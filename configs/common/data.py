"""Loaders of any dataset that has image-level labels.

A dataset's config names ``dataset``; ``proposals`` are the files of its stores; everything else refers to them.
A T-WDet's config has ``use_proposals``; one that distils sets ``dataloader.train.proposals`` alone, for its student
is tested without. ``image_proposals`` makes them as the stores' are made, for a T-WDet that is given photos of no dataset.
"""

from detectron2.config import LazyCall as L

from wsd_distill.data.build import build_test_loader, build_train_loader
from wsd_distill.data.datasets import get_source_dataset
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.data.proposal_store import default_store_path
from wsd_distill.evaluation import MultiLabelEvaluator
from wsd_distill.proposals.generators.edge_boxes import EdgeBoxes
from wsd_distill.proposals.image_proposals import ImageProposals

# ``register``: calls that register datasets which only this config knows; tools make them before anything else.
dataset = dict(train="???", val="???", test="???", num_classes="???", register=[])
proposals = dict(method="edge_boxes")  # by which tools/generate_proposals.py has made the stores
for _split in ("train", "val", "test"):
    proposals[_split] = L(default_store_path)(
        dataset_name=L(get_source_dataset)(name=f"${{dataset.{_split}}}"), method="${proposals.method}"
    )
image_proposals = L(ImageProposals)(
    proposer=L(EdgeBoxes)(max_boxes=500),
    num_proposals="${dataloader.train.mapper.num_proposals}",
    image_format="${dataloader.train.mapper.image_format}",
)


def test_split(split, threshold_split):
    """Loader and evaluator of a split; its F1 is taken at the threshold that is best on ``threshold_split``."""
    return dict(
        loader=L(build_test_loader)(
            dataset=f"${{dataset.{split}}}",
            proposals=None,
            mapper=L(MultiLabelMapper)(
                is_train=False,
                num_classes="${dataset.num_classes}",
                sides="${dataloader.train.mapper.sides}",
                image_format="${dataloader.train.mapper.image_format}",
                flip_prob="${dataloader.train.mapper.flip_prob}",
                num_proposals="${dataloader.train.mapper.num_proposals}",
                fast="${dataloader.train.mapper.fast}",
                tta=False,  # True: a model averages over all sides, as they are and mirrored
            ),
            batch_size=16,
            num_workers=0,
        ),
        evaluator=L(MultiLabelEvaluator)(
            dataset_name=f"${{dataset.{split}}}",
            output_dir=f"${{train.output_dir}}/inference/{split}",
            threshold_split=threshold_split,
        ),
    )


dataloader = dict(
    train=L(build_train_loader)(
        dataset="${dataset.train}",
        proposals=None,
        mapper=L(MultiLabelMapper)(
            is_train=True,
            num_classes="${dataset.num_classes}",
            sides=[224],
            image_format="${model.image_format}",
            flip_prob=0.5,
            num_proposals=500,
            teacher_sizes=None,
            fast=True,
        ),
        total_batch_size=32,
        num_workers=2,
        max_corrupt_images=20,
    ),
    # In this order: the threshold of the test split comes from the scores of the validation split.
    test=dict(val=test_split("val", None), test=test_split("test", "val")),
)


def use_proposals(loaders):
    """Let the loaders of ``dataloader``, of training and of every test, read the proposals of their split."""
    loaders.train.proposals = "${proposals.train}"
    for split, test in loaders.test.items():
        test.loader.proposals = f"${{proposals.{split}}}"
