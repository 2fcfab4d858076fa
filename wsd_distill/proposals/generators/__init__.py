"""Proposal generators."""

from .detector import DetectorProposer
from .edge_boxes import EdgeBoxes
from .proposer import Proposer
from .selective_search import SelectiveSearch

__all__ = ["DetectorProposer", "EdgeBoxes", "Proposer", "SelectiveSearch"]
