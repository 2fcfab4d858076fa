import numpy as np
import pytest
import skimage.data
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BoxMode
from detectron2.utils.visualizer import Visualizer
from PIL import Image

from wsd_distill.config import add_wsd_distill_config
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.proposals.generate import generate
from wsd_distill.proposals.generators import EdgeBoxes
from wsd_distill.proposals.image_proposals import ImageProposals


class Spy:
    """Returns two boxes for any image and records the images."""

    def __init__(self, boxes=((0, 0, 8, 4), (4, 2, 16, 8))):
        self.boxes, self.seen = np.array(boxes, np.float32).reshape(-1, 4), []

    def __call__(self, image):
        self.seen.append(image)
        return self.boxes, np.linspace(0.9, 0.5, len(self.boxes), dtype=np.float32)


def tensor(pixels):
    return torch.as_tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def test_proposals_are_computed_at_the_original_size_and_scaled_to_the_input():
    spy = Spy()
    found = ImageProposals(proposer=spy, num_proposals=3)({"image": torch.zeros(3, 20, 20), "height": 10, "width": 40})
    assert spy.seen[0].shape == (10, 40, 3) and spy.seen[0].dtype == np.uint8
    assert found.image_size == (20, 20)
    assert found.proposal_boxes.tensor.tolist() == [[0, 0, 4, 8], [2, 4, 8, 16]]  # x by 20 / 40, y by 20 / 10
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.5]))


def test_small_proposals_are_left_out():
    """The spy's boxes have 16 and 48 of 400 pixels."""
    found = ImageProposals(proposer=Spy(), num_proposals=3, min_proposal_area=0.1)(
        {"image": torch.zeros(3, 20, 20), "height": 10, "width": 40}
    )
    assert found.proposal_boxes.tensor.tolist() == [[2, 4, 8, 16]]


def test_edge_boxes_of_a_photo_of_grass_can_be_used():
    pixels = np.stack([skimage.data.grass()] * 3, axis=2)
    found = ImageProposals(proposer=EdgeBoxes(), num_proposals=5)({"image": tensor(pixels)})
    assert len(found) == 5 and found.scores.max() == 1


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_proposer_receives_rgb(order, dtype):
    spy = Spy()
    image = torch.zeros(3, 8, 16, dtype=dtype)
    image[order.index("R")] = 250
    ImageProposals(proposer=spy, image_format=order)({"image": image})
    assert spy.seen[0][3, 5].tolist() == [250, 0, 0]
    assert spy.seen[0].flags.c_contiguous


def test_no_proposals_give_the_whole_image():
    found = ImageProposals(proposer=Spy(()), num_proposals=1)(
        {"image": torch.zeros(3, 20, 30), "height": 10, "width": 40}
    )
    assert found.proposal_boxes.tensor.tolist() == [[0, 0, 30, 20]] and found.scores.tolist() == [1]


def test_unknown_channel_order_raises():
    with pytest.raises(ValueError, match="image_format is 'YUV': use 'RGB' or 'BGR'"):
        ImageProposals(proposer=Spy(), image_format="YUV")


def test_proposals_of_a_file_equal_the_stores_scaled_to_the_input(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 20, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    proposer, record = EdgeBoxes(max_boxes=60), {"file_name": str(path), "image_id": "a", "labels": []}
    boxes, scores = generate([record], "d", proposer, tmp_path / "s.arrow", num_workers=0)["a"]
    mapper = MultiLabelMapper(is_train=False, num_classes=1, sizes=[96], num_proposals=60)
    stored = {"proposal_boxes": boxes, "proposal_objectness_logits": scores, "proposal_bbox_mode": BoxMode.XYXY_ABS}
    expected = mapper({**record, **stored})["proposals"]
    assert len(boxes) > 20
    image_proposals, view = ImageProposals(proposer=proposer, num_proposals=60), mapper(record)
    found = image_proposals(view)
    torch.testing.assert_close(found.proposal_boxes.tensor, expected.proposal_boxes.tensor, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.scores, expected.scores)
    view["image"] = torch.zeros_like(view["image"])  # the file is searched, not the input
    assert torch.equal(image_proposals(view).proposal_boxes.tensor, found.proposal_boxes.tensor)


def test_file_of_another_size_is_not_used(tmp_path):
    Image.new("RGB", (40, 12)).save(tmp_path / "a.png")
    spy, x = Spy(), {"image": torch.full((3, 20, 20), 7.0), "file_name": str(tmp_path / "a.png"), "width": 40}
    ImageProposals(proposer=spy)({**x, "height": 10})
    ImageProposals(proposer=spy)({**x, "height": 12})
    assert [(image.shape, image.max()) for image in spy.seen] == [((10, 40, 3), 7), ((12, 40, 3), 0)]


@pytest.fixture
def cfg():
    """T-WDet from a YAML config, with EdgeBoxes for inputs without proposals."""
    cfg = get_cfg()
    add_wsd_distill_config(cfg)
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.META_ARCHITECTURE": "WSDDN",
        "MODEL.BACKBONE.NAME": "build_small_conv_net",
        "MODEL.IMAGE_LEVEL.NUM_CLASSES": 3,
        "MODEL.IMAGE_LEVEL.FC_DIMS": [8],
        "MODEL.IMAGE_LEVEL.IN_FEATURE": "conv3",
        "MODEL.WSDDN.PROPOSER": "wsd_distill.proposals.image_proposals.ImageProposals",
        "MODEL.WSDDN.NUM_PROPOSALS": 20,
        "MODEL.EDGE_BOXES.MAX_BOXES": 30,
        "MODEL.WSDDN.INPUT_SIZE": 96,
    }
    cfg.merge_from_list([item for pair in settings.items() for item in pair])
    return cfg


@pytest.fixture
def photo(tmp_path):
    """File of 96 x 160 pixels, a yellow rectangle on noise."""
    pixels = np.random.default_rng(0).integers(40, 60, (96, 160, 3), dtype=np.uint8)
    pixels[30:70, 40:120] = (230, 180, 40)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@torch.no_grad()
def predict(cfg, photo):
    """Return the model and its output for a file without proposals."""
    mapper, model = MultiLabelMapper.from_config(cfg, is_train=False), build_model(cfg).eval()
    (output,) = model([mapper({"file_name": str(photo), "image_id": 0, "labels": [], "height": 96, "width": 160})])
    return model, output


def test_a_file_equals_its_edge_boxes_as_proposals(cfg, photo):
    model, output = predict(cfg, photo)
    boxes, scores = EdgeBoxes(max_boxes=30)(np.asarray(Image.open(photo)))
    stored = {"proposal_boxes": boxes, "proposal_objectness_logits": scores, "proposal_bbox_mode": BoxMode.XYXY_ABS}
    record = {"file_name": str(photo), "image_id": 0, "labels": [], "height": 96, "width": 160, **stored}
    assert len(boxes) > 20
    with torch.no_grad():
        (expected,) = model([MultiLabelMapper.from_config(cfg, is_train=False)(record)])
    torch.testing.assert_close(output["image_scores"], expected["image_scores"])
    found, others = output["instances"], expected["instances"]
    torch.testing.assert_close(found.pred_boxes.tensor, others.pred_boxes.tensor, rtol=0, atol=1e-3)
    assert found.image_size == (96, 160) and found.pred_boxes.tensor[:, 2].max() > 100  # in pixels of the photo


def test_visualizer_draws(cfg, photo):
    cfg.TEST.DETECTIONS_PER_IMAGE = 7
    found = predict(cfg, photo)[1]["instances"]
    assert len(found) == 7
    metadata = MetadataCatalog.get("on_image_test").set(thing_classes=["cat", "dog", "bus"])
    pixels = np.asarray(Image.open(photo))
    drawn = Visualizer(pixels, metadata).draw_instance_predictions(found.to("cpu")).get_image()
    assert drawn.shape == pixels.shape and (drawn != pixels).any(axis=2).sum() > 100


@pytest.mark.parametrize("limit, kept", [(1, 1), (-1, 20 * 3)])
def test_detections_per_image_is_detectron2s_key(cfg, photo, limit, kept):
    """With an IoU of 1 nothing is suppressed, and below 0 Detectron2 keeps everything."""
    cfg.TEST.DETECTIONS_PER_IMAGE = limit
    cfg.MODEL.WSDDN.NMS_THRESH_TEST = 1.0
    assert len(predict(cfg, photo)[1]["instances"]) == kept


def test_a_file_without_proposer_raises(cfg, photo):
    cfg.MODEL.WSDDN.PROPOSER = ""
    with pytest.raises(ValueError, match="has no proposals, .* give the model a proposer"):
        predict(cfg, photo)
