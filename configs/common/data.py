"""Loaders of any data set that has image-level labels.

A data set's config names ``dataset`` and ``proposals``; everything else refers to them.
"""

from detectron2.config import LazyCall as L
from detectron2.data import build_detection_train_loader

from wsd_distill.data.build import build_test_loader, get_dataset_dicts
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.data.proposal_store import ProposalStore
from wsd_distill.evaluation import MultiLabelEvaluator

dataset = dict(train="???", val="???", test="???", num_classes="???")
proposals = dict(train="???", val="???", test="???")


def store(split):
    """The proposals of a split, of which ``proposals.<split>`` is the file."""
    return L(ProposalStore)(path=f"${{proposals.{split}}}", dataset_name=f"${{dataset.{split}}}")


def test_split(split, threshold_split):
    """Loader and evaluator of a split; its F1 is taken at the threshold that is best on ``threshold_split``."""
    return dict(
        loader=L(build_test_loader)(
            dataset=L(get_dataset_dicts)(name=f"${{dataset.{split}}}", first=None),
            mapper=L(MultiLabelMapper)(
                is_train=False,
                num_classes="${dataset.num_classes}",
                sides="${dataloader.train.mapper.sides}",
                image_format="${dataloader.train.mapper.image_format}",
                proposals=None,
                num_proposals="${dataloader.train.mapper.num_proposals}",
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
    train=L(build_detection_train_loader)(
        dataset=L(get_dataset_dicts)(name="${dataset.train}", first=None),
        mapper=L(MultiLabelMapper)(
            is_train=True,
            num_classes="${dataset.num_classes}",
            sides=[224],
            image_format="${model.image_format}",
            flip_prob=0.5,
            proposals=None,
            num_proposals=500,
            teacher_sides=None,
        ),
        total_batch_size=32,
        aspect_ratio_grouping=False,
        num_workers=2,
    ),
    # In this order: the threshold of the test split comes from the scores of the validation split.
    test=dict(val=test_split("val", None), test=test_split("test", "val")),
)
