"""Dataset, proposals and loaders of every recipe. ``dataset.name`` chooses the data."""

from detectron2.config import LazyCall as L

from wsd_distill.data.build import build_test_loader, build_train_loader
from wsd_distill.data.datasets import get_source_dataset
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.data.mix import MixImages
from wsd_distill.data.proposal_store import default_store_path
from wsd_distill.engine import micro_batch
from wsd_distill.evaluation import build_evaluator
from wsd_distill.proposals.generators import DetectorProposer, EdgeBoxes, SelectiveSearch
from wsd_distill.proposals.image_proposals import ImageProposals

dataset = dict(
    name="???",  # a built-in dataset (datasets/README.md), or a name for your own files
    # your own: a list of images (CSV, JSON) or COCO's instances format; unlabelled: also a folder of images
    files=dict(train=None, val=None, test=None, unlabelled=None),
    image_root=None,  # folder of their images; {split} in it is replaced; None: the folder of the file
    classes=None,  # class names, or a text file with one a line; None: the classes of the training file
    # where one file has all splits: values of its column "split"
    split_names=dict(train=None, val=None, test=None, unlabelled=None),
    separator=None,  # of labels in a CSV: semicolon (default), comma, pipe, tab, space
    allow_remote=False,  # True: images whose name is an address (https://...) are read from the network
    allow_outside=False,  # True: names of images may leave image_root (absolute paths, "..")
    register=[],  # calls that register further datasets
    leave_out=None,  # "0/3": train without the first of three folds of the training images (docs/regions.md)
    unlabelled=None,  # registered dataset: distillations train on its images too, without their labels
    # None: taken from the dataset's registration (wsd_distill.data.datasets.DatasetInfo)
    train=None,
    val=None,
    test=None,
    num_classes=None,
    class_names=None,
    flip_prob=None,
    boxes=None,
    t_teacher=None,
    t_student=None,
)

detector = dict(config="", weights="", opts=[], max_boxes=100)  # for proposals.method=detector (Table 5)

proposals = dict(
    method="edge_boxes",
    # score_scale: scores of EdgeBoxes are about 0.3, so some recipes enlarge them; a detector's go up to 1.
    methods=dict(
        edge_boxes=dict(generator=L(EdgeBoxes)(), score_scale=1.0, num_proposals=500),
        selective_search=dict(generator=L(SelectiveSearch)(), score_scale=1.0, num_proposals=500),
        detector=dict(
            generator=L(DetectorProposer)(
                config="${detector.config}",
                weights="${detector.weights}",
                opts="${detector.opts}",
                max_boxes="${detector.max_boxes}",
                device="${train.device}",
            ),
            score_scale=1.0,
            num_proposals=100,
        ),
    ),
    min_area=0.0,  # share of the image; smaller boxes are left out
    score_scale="${proposals.methods.${proposals.method}.score_scale}",
    num_proposals="${proposals.methods.${proposals.method}.num_proposals}",
)
for _split in ("train", "val", "test"):  # files of the proposal stores
    proposals[_split] = L(default_store_path)(
        dataset_name=L(get_source_dataset)(name=f"${{dataset.{_split}}}"), method="${proposals.method}"
    )

# Proposals for arbitrary images, made like those in the stores.
image_proposals = L(ImageProposals)(
    proposer="${proposals.methods.${proposals.method}.generator}",
    num_proposals="${proposals.num_proposals}",
    min_proposal_area="${proposals.min_area}",
    image_format="${model.image_format}",
)


def _test_split(split, threshold_split):
    """Loader and evaluator of a split; F1 uses the threshold tuned on ``threshold_split``, or on the split itself."""
    return dict(
        loader=L(build_test_loader)(
            dataset=f"${{dataset.{split}}}",
            proposals=None,
            mapper=L(MultiLabelMapper)(
                is_train=False,
                num_classes="${dataset.num_classes}",
                sizes="${dataloader.train.mapper.sizes}",
                image_format="${model.image_format}",
                flip_prob="${dataset.flip_prob}",
                num_proposals="${proposals.num_proposals}",
                min_proposal_area="${proposals.min_area}",
                fast_decode="${dataloader.train.mapper.fast_decode}",
                tta=False,  # True: average over all sizes, as they are and flipped
            ),
            batch_size=16,
            num_workers=0,
        ),
        evaluator=L(build_evaluator)(
            dataset_name=f"${{dataset.{split}}}",
            output_dir=f"${{train.output_dir}}/inference/{split}",
            threshold_split=threshold_split,
            boxes=False,
        ),
    )


dataloader = dict(
    train=L(build_train_loader)(
        dataset="${dataset.train}",
        proposals=None,
        mapper=L(MultiLabelMapper)(
            is_train=True,
            num_classes="${dataset.num_classes}",
            sizes=[224],
            image_format="${model.image_format}",
            flip_prob="${dataset.flip_prob}",
            num_proposals="${proposals.num_proposals}",
            crop_scale=None,  # [0.25, 1]: random resized crops of at least a quarter of the image's area
            crop_ratio=[3 / 4, 4 / 3],
            min_visible=0.5,
            min_proposal_area="${proposals.min_area}",
            teacher_sizes=None,
            fast_decode=True,
            color_augment=None,
        ),
        total_batch_size=L(micro_batch)(batch_size="${train.batch_size}", accumulate="${trainer.accumulate}"),
        num_workers=2,
        max_corrupt_images=20,
        seed="${train.seed}",
        start_batch=0,  # set by a resume
        mix=L(MixImages)(mixup=0.0, cutmix=0.0, mosaic=False, prob=1.0),  # of a student's images
    ),
    test=dict(val=_test_split("val", None), test=_test_split("test", "val")),
)


def use_proposals(dataloader):
    """Let every loader read the proposals of its split; evaluate boxes on every split if the dataset has any."""
    dataloader.train.proposals = "${proposals.train}"
    for split, test in dataloader.test.items():
        test.loader.proposals = f"${{proposals.{split}}}"
        test.evaluator.boxes = "${dataset.boxes}"
