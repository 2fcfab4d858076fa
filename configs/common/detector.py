"""A supervised detector instead of EdgeBoxes, for a T-WDet that was trained on its proposals (Table 5)."""

from detectron2.config import LazyCall as L

from wsd_distill.proposals.generators.detector import Detector


def use_detector_proposals(model, image_proposals):
    """Let ``image_proposals`` ask a detector, and T-WDet nobody until the detector's files are known.

    Training needs no detector, whose stores are there. docs/proposals.md has the overrides for photos of no dataset.
    """
    image_proposals.proposer = L(Detector)(config="", weights="", opts=[], max_boxes=100, device="${train.device}")
    model.proposer = None  # "${image_proposals}" once they are named
