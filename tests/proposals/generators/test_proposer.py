import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import numpy as np
import pytest

from wsd_distill.proposals.generators import DetectorProposer, EdgeBoxes, Proposer, SelectiveSearch


class WholeImage(Proposer):
    """One box, the whole image."""

    name = "whole_image"

    @property
    def parameters(self):
        return {}

    def __call__(self, image):
        height, width = image.shape[:2]
        return np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)


def test_names_and_workers_of_the_built_in_proposers():
    built_in = (EdgeBoxes, SelectiveSearch, DetectorProposer)
    assert [proposer.name for proposer in built_in] == ["edge_boxes", "selective_search", "detector"]
    assert [proposer.in_workers for proposer in built_in] == [True, True, False]


@pytest.mark.parametrize("attribute", ["parameters", "__call__"])
def test_an_incomplete_proposer_cannot_be_built(attribute):
    incomplete = type("Incomplete", (WholeImage,), {attribute: getattr(Proposer, attribute)})
    with pytest.raises(TypeError, match=f"abstract .*{attribute}"):
        incomplete()
