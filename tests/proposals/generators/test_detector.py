import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import pickle
import shutil

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from wsd_distill.proposals.generators import DetectorProposer
from wsd_distill.proposals.image_proposals import ImageProposals

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
def test_equals_detectron2s_default_predictor(files, image, channels):
    cfg = load(*files)
    cfg.INPUT.FORMAT = channels
    theirs = DefaultPredictor(cfg)(image[:, :, ::-1])["instances"]  # takes BGR
    boxes, scores = DetectorProposer(*files, opts=["INPUT.FORMAT", channels], device="cpu")(image)
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    assert len(boxes) > 20
    order = theirs.scores.argsort(descending=True, stable=True)
    np.testing.assert_array_equal(scores, theirs.scores[order].numpy())
    np.testing.assert_array_equal(boxes, theirs.pred_boxes.tensor[order].numpy())


def test_max_boxes_keeps_the_best_of_all_classes(files, image):
    boxes, scores = DetectorProposer(*files, device="cpu")(image)
    few_boxes, few_scores = DetectorProposer(*files, max_boxes=7, device="cpu")(image)
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


def equal(first, second, image):
    for ours, theirs in zip(first(image), second(image)):
        np.testing.assert_array_equal(ours, theirs)
    return True


def test_lazy_config_gives_the_same_detections(files, lazy, image):
    assert equal(DetectorProposer(lazy, files[1], device="cpu"), DetectorProposer(*files, device="cpu"), image)


def test_config_yaml_saved_by_a_training_gives_the_same_detections(files, lazy, image, tmp_path):
    cfg = LazyConfig.load(lazy)
    test = cfg.dataloader.test
    cfg.model._target_ = "helpers.tiny_detector.build_tiny"  # a saved config needs an importable name
    cfg.model.config = files[0]
    cfg.dataloader.test = {"val": {"loader": test}, "test": {"loader": test}}  # one loader per split
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    saved = DetectorProposer(str(tmp_path / "config.yaml"), files[1], device="cpu")
    assert equal(saved, DetectorProposer(*files, device="cpu"), image)
    with pytest.raises(KeyError, match="num_clases"):
        DetectorProposer(str(tmp_path / "config.yaml"), files[1], opts=["model.num_clases=5"]).load()


def test_weights_of_the_model_zoo_are_read(files, image, tmp_path):
    state = {name: tensor.numpy() for name, tensor in torch.load(files[1])["model"].items()}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps({"model": state, "__author__": "Detectron2 Model Zoo"}))
    zoo = DetectorProposer(files[0], str(tmp_path / "model_final.pkl"), device="cpu")
    assert equal(zoo, DetectorProposer(*files, device="cpu"), image)
    del state["roi_heads.box_predictor.cls_score.bias"]
    (tmp_path / "part.pkl").write_bytes(pickle.dumps({"model": state, "__author__": "Detectron2 Model Zoo"}))
    with pytest.raises(
        ValueError, match=r"part\.pkl does not fit .*: roi_heads\.box_predictor\.cls_score\.bias \(4,\)"
    ):
        DetectorProposer(files[0], str(tmp_path / "part.pkl")).load()


def test_files_are_read_on_first_use(files, image, tmp_path):
    """A model with this proposer can be built before the detector is trained."""
    config, weights = tmp_path / "late.yaml", tmp_path / "late.pth"
    proposer = DetectorProposer(str(config), str(weights), device="cpu")
    with pytest.raises(FileNotFoundError, match=r"late\.yaml is neither a file nor"):
        proposer(image)
    for source, target in zip(files, (config, weights)):
        shutil.copy(source, target)
    assert proposer.parameters["weights"] == "late.pth"
    weights.unlink()  # read once
    assert equal(proposer, DetectorProposer(*files, device="cpu"), image)


def test_parameters_depend_on_config_and_weights(files, lazy, tmp_path):
    config, weights = files
    usual = DetectorProposer(config, weights).parameters
    assert usual == DetectorProposer(config, weights, device="cpu").parameters
    assert (usual["config"], usual["weights"], usual["max_boxes"]) == ("tiny.yaml", "tiny.pth", 100)
    other_opts = DetectorProposer(config, weights, opts=["INPUT.MIN_SIZE_TEST", "65"]).parameters
    assert other_opts["config sha256"] != usual["config sha256"]
    assert other_opts["weights sha256"] == usual["weights sha256"]
    state = torch.load(weights)["model"]
    state["roi_heads.box_predictor.cls_score.bias"] += 1
    torch.save({"model": state}, tmp_path / "tiny.pth")
    other_weights = DetectorProposer(config, str(tmp_path / "tiny.pth")).parameters
    assert other_weights["weights sha256"] != usual["weights sha256"]
    assert {**other_weights, "weights sha256": usual["weights sha256"]} == usual
    of_lazy = [
        DetectorProposer(lazy, weights, opts=opts).parameters
        for opts in ([], [], ["dataloader.test.mapper.image_format=RGB"])
    ]
    assert of_lazy[0] == of_lazy[1] != of_lazy[2]


def test_weights_that_do_not_set_all_parameters_raise(files, lazy, tmp_path):
    config, weights = files
    state = torch.load(weights)["model"]
    del state["proposal_generator.rpn_head.conv.bias"], state["proposal_generator.rpn_head.conv.weight"]
    torch.save({"model": state}, tmp_path / "part.pth")
    with pytest.raises(ValueError) as caught:
        DetectorProposer(config, str(tmp_path / "part.pth")).load()
    first, *others = str(caught.value).splitlines()
    assert first == (
        f"{tmp_path}/part.pth does not fit the detector of this config: missing or of another shape in the file: "
        "proposal_generator.rpn_head.conv.weight (256, 256, 3, 3)"
    )
    assert others == ["  proposal_generator.rpn_head.conv.bias (256,)"]
    with pytest.raises(
        ValueError, match=r"of another shape in the file: .*cls_score\.weight \(6, 16\), in the file \(4, 16\)"
    ):
        DetectorProposer(config, weights, opts=["MODEL.ROI_HEADS.NUM_CLASSES", "5"]).load()
    with pytest.raises(ValueError, match=r"of another shape in the file: .*cls_score\.weight \(6, 16\)"):
        DetectorProposer(lazy, weights, opts=["model.num_classes=5"]).load()


@pytest.mark.parametrize("use", [DetectorProposer.load, lambda proposer: proposer.parameters])
def test_missing_files_raise(files, tmp_path, use):
    with pytest.raises(FileNotFoundError, match=r"weights '.*gone\.pth' are not a file"):
        use(DetectorProposer(files[0], str(tmp_path / "gone.pth")))
    with pytest.raises(FileNotFoundError, match="weights '' are not a file"):
        use(DetectorProposer(files[0], ""))
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml is neither a file nor in Detectron2's model zoo"):
        use(DetectorProposer("gone.yaml", files[1]))
    with pytest.raises(FileNotFoundError, match="the detector has no config"):
        use(DetectorProposer("", files[1]))


def test_proposals_of_a_photo(files, image):
    image_proposals = ImageProposals(proposer=DetectorProposer(*files), num_proposals=100, image_format="BGR")
    pixels = torch.as_tensor(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))  # BGR
    found = image_proposals({"image": pixels})
    boxes, scores = DetectorProposer(*files)(image)
    assert 0 < len(found) == len(boxes) < 100
    kept = min(len(boxes), 100)
    np.testing.assert_allclose(found.proposal_boxes.tensor[:kept].numpy(), boxes[:kept])
    np.testing.assert_allclose(found.scores[:kept].numpy(), scores[:kept])
