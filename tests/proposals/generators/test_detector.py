import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg, instantiate
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from wsd_distill.proposals.generators.detector import Detector

OVERRIDES = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.OUT_FEATURES": ["res4"],
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 3,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 80,
    "MODEL.DEVICE": "cpu",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Config and weights of a small Faster R-CNN."""
    folder = tmp_path_factory.mktemp("detector")
    cfg = get_cfg()
    cfg.merge_from_list([text for pair in OVERRIDES.items() for text in pair])
    (folder / "tiny.yaml").write_text(cfg.dump())
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "tiny.pth")
    return str(folder / "tiny.yaml"), str(folder / "tiny.pth")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)


def load(config, weights):
    cfg = get_cfg()
    cfg.merge_from_file(config)
    cfg.MODEL.WEIGHTS = weights
    return cfg


@pytest.mark.parametrize("channels", ["BGR", "RGB"])
def test_gives_what_detectron2s_predictor_gives(files, image, channels):
    cfg = load(*files)
    cfg.INPUT.FORMAT = channels
    theirs = DefaultPredictor(cfg)(image[:, :, ::-1])["instances"]  # it takes BGR
    boxes, scores = Detector(*files, opts=["INPUT.FORMAT", channels], device="cpu")(image)
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    assert len(boxes) > 20
    order = theirs.scores.argsort(descending=True, stable=True)
    np.testing.assert_array_equal(scores, theirs.scores[order].numpy())
    np.testing.assert_array_equal(boxes, theirs.pred_boxes.tensor[order].numpy())


def test_max_boxes_are_the_best_of_all_classes(files, image):
    boxes, scores = Detector(*files, device="cpu")(image)
    few_boxes, few_scores = Detector(*files, max_boxes=7, device="cpu")(image)
    np.testing.assert_array_equal(few_boxes, boxes[:7])
    np.testing.assert_array_equal(few_scores, scores[:7])
    assert (np.diff(scores) <= 0).all()
    assert boxes.min() >= 0 and (boxes.max(0) <= [100, 60, 100, 60]).all()


LAZY = """
from detectron2.config import LazyCall as L, get_cfg
from detectron2.data import DatasetMapper, transforms as T
from detectron2.modeling import build_model


def tiny(num_classes):
    cfg = get_cfg()
    cfg.merge_from_file({file!r})
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    return build_model(cfg)


model = L(tiny)(num_classes=3)
resize = L(T.ResizeShortestEdge)(short_edge_length=64, max_size=80)
dataloader = dict(test=dict(mapper=L(DatasetMapper)(is_train=False, augmentations=[resize], image_format="BGR")))
"""


@pytest.fixture
def lazy(files, tmp_path):
    (tmp_path / "tiny.py").write_text(LAZY.format(file=files[0]))
    return str(tmp_path / "tiny.py")


def test_a_lazy_config_is_the_same_detector(files, lazy, image):
    for ours, theirs in zip(Detector(lazy, files[1], device="cpu")(image), Detector(*files, device="cpu")(image)):
        np.testing.assert_array_equal(ours, theirs)


def test_parameters_tell_another_config_or_other_weights(files, lazy, tmp_path):
    config, weights = files
    usual = Detector(config, weights).parameters
    assert usual == Detector(config, weights, device="cpu").parameters
    assert (usual["config"], usual["weights"], usual["max_boxes"]) == ("tiny.yaml", "tiny.pth", 100)
    other_opts = Detector(config, weights, opts=["INPUT.MIN_SIZE_TEST", "65"]).parameters
    assert other_opts["config sha256"] != usual["config sha256"]
    assert other_opts["weights sha256"] == usual["weights sha256"]
    state = torch.load(weights)["model"]
    state["roi_heads.box_predictor.cls_score.bias"] += 1
    torch.save({"model": state}, tmp_path / "tiny.pth")
    other_weights = Detector(config, str(tmp_path / "tiny.pth")).parameters
    assert other_weights["weights sha256"] != usual["weights sha256"]
    assert {**other_weights, "weights sha256": usual["weights sha256"]} == usual
    of_lazy = [
        Detector(lazy, weights, opts=opts).parameters for opts in ([], [], ["dataloader.test.mapper.image_format=RGB"])
    ]
    assert of_lazy[0] == of_lazy[1] != of_lazy[2]


def test_weights_that_leave_something_random_are_an_error(files, lazy, tmp_path):
    config, weights = files
    state = torch.load(weights)["model"]
    del state["proposal_generator.rpn_head.conv.bias"]
    torch.save({"model": state}, tmp_path / "part.pth")
    with pytest.raises(ValueError) as caught:
        Detector(config, str(tmp_path / "part.pth"))
    first = f"{tmp_path}/part.pth does not fit the detector of this config: missing: proposal_generator.rpn_head.conv."
    assert str(caught.value).splitlines()[0] == first + "bias"
    with pytest.raises(
        ValueError, match=r"shape of .*cls_score\.weight: \(4, 16\) in the file, \(6, 16\) in the model"
    ):
        Detector(config, weights, opts=["MODEL.ROI_HEADS.NUM_CLASSES", "5"])
    with pytest.raises(ValueError, match=r"shape of .*cls_score\.weight"):
        Detector(lazy, weights, opts=["model.num_classes=5"])


def test_missing_files_are_errors(files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights '.*gone\.pth' are not a file"):
        Detector(files[0], str(tmp_path / "gone.pth"))
    with pytest.raises(FileNotFoundError, match="weights '' are not a file"):
        Detector(files[0], "")
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml is neither a file nor in the model zoo"):
        Detector("gone.yaml", files[1])
    with pytest.raises(FileNotFoundError, match="the detector has no config"):
        Detector("", files[1])


def test_a_config_of_the_paper_takes_it_as_the_proposer_of_photos(files, image, load_config):
    config, weights = (f"image_proposals.proposer.{key}={file}" for key, file in zip(("config", "weights"), files))
    cfg = load_config("voc/teacher_vgg16_fasterrcnn.py", "model.proposer=${image_proposals}", config, weights)
    pixels = torch.as_tensor(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))  # BGR, as this model's
    found = instantiate(cfg.model.proposer)({"image": pixels})
    boxes, scores = Detector(*files)(image)
    assert len(found) == 100 and 0 < len(boxes)
    kept = min(len(boxes), 100)
    np.testing.assert_allclose(found.proposal_boxes.tensor[:kept].numpy(), boxes[:kept])
    np.testing.assert_allclose(found.scores[:kept].numpy(), scores[:kept])
