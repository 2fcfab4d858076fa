import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import numpy as np
import pytest

from wsd_distill.proposals.generators import (
    PROPOSERS,
    DetectorProposer,
    EdgeBoxes,
    Proposer,
    SelectiveSearch,
    register_proposer,
)


class WholeImage(Proposer):
    """One box, the whole image."""

    name = "whole_image"

    @property
    def parameters(self):
        return {}

    def __call__(self, image):
        height, width = image.shape[:2]
        return np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)


def test_the_built_in_proposers_are_registered():
    assert {"edge_boxes": EdgeBoxes, "selective_search": SelectiveSearch, "detector": DetectorProposer} == PROPOSERS
    assert [PROPOSERS[name].in_workers for name in ("edge_boxes", "selective_search", "detector")] == [
        True,
        True,
        False,
    ]


def test_a_proposer_is_registered_once(monkeypatch):
    monkeypatch.delitem(PROPOSERS, "whole_image", raising=False)
    assert register_proposer(WholeImage) is WholeImage and PROPOSERS.pop("whole_image") is WholeImage
    other = type("Other", (WholeImage,), {"name": "edge_boxes"})
    with pytest.raises(ValueError, match=r"proposer 'edge_boxes' is already registered \(EdgeBoxes\)"):
        register_proposer(other)
    assert PROPOSERS["edge_boxes"] is EdgeBoxes


@pytest.mark.parametrize("attribute", ["parameters", "__call__"])
def test_an_incomplete_proposer_cannot_be_built(attribute):
    incomplete = type("Incomplete", (WholeImage,), {attribute: getattr(Proposer, attribute)})
    with pytest.raises(TypeError, match=f"abstract .*{attribute}"):
        incomplete()
