"""Proposal generators; importing this package registers the built-in ones."""

from .detector import DetectorProposer
from .edge_boxes import EdgeBoxes
from .proposer import PROPOSERS, Proposer, register_proposer
from .selective_search import SelectiveSearch

__all__ = ["PROPOSERS", "DetectorProposer", "EdgeBoxes", "Proposer", "SelectiveSearch", "register_proposer"]
