"""Loaders with boxes, for the supervised detector alone: those of ``common/data.py`` give a model no box.

Pictures are squashed to a square, as T-WDet's are. The boxes of the training split are learned; those of the test split
only reach the evaluator.
"""

from detectron2.config import LazyCall as L
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.evaluation import COCOEvaluator

from wsd_distill.data.build import build_test_loader, build_train_loader


def detection_loaders(side, *, flip_prob):
    """``dataloader`` of a detector whose input is ``side`` pixels wide and high."""
    resize, flip = L(T.Resize)(shape=[side, side]), L(T.RandomFlip)(prob=flip_prob)
    image_format = "${model.input_format}"
    return dict(
        train=L(build_train_loader)(
            dataset="${dataset.train}",
            mapper=L(DatasetMapper)(is_train=True, augmentations=[resize, flip], image_format=image_format),
            total_batch_size=8,
            num_workers=0,
        ),
        test=dict(
            test=dict(
                loader=L(build_test_loader)(
                    dataset="${dataset.test}",
                    mapper=L(DatasetMapper)(is_train=False, augmentations=[resize], image_format=image_format),
                    batch_size=8,
                ),
                evaluator=L(COCOEvaluator)(
                    dataset_name="${dataset.test}",
                    tasks=["bbox"],
                    output_dir="${train.output_dir}/inference/test",
                    use_fast_impl=False,  # the fast one needs Detectron2's C++ extension
                ),
            )
        ),
    )
