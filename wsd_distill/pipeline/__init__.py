"""Trainings as runs with dependencies: which there are, how they are scheduled, and the paper's tables of them."""
