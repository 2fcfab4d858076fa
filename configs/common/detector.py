"""A supervised detector in the place of EdgeBoxes, for a T-WDet that was trained on its proposals (Table 5)."""

from detectron2.config import LazyCall as L

from wsd_distill.proposals.detector import Detector


def detect_on_image(model, on_image):
    """Let ``on_image`` ask a detector, and T-WDet nobody until the detector's files are known.

    Training needs no detector, whose stores are there. docs/proposals.md has the overrides for photos of no data set.
    """
    on_image.proposer = L(Detector)(config="", weights="", opts=[], max_boxes=100, device="${train.device}")
    model.proposer = None  # "${on_image}" once they are named
