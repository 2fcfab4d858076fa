"""Base class of the terms of the distillation loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes
from torch import Tensor, nn

from wsd_distill.data.mix import Mix
from wsd_distill.data.training_data import TrainingData
from wsd_distill.modeling import MultiLabelClassifier, WSDDNOutput

from ..views import get_boxes, get_mix


@dataclass
class StudentOutput:
    """S-Cls outputs for a batch of N images; the logits are computed on first use.

    Attributes:
        model: S-Cls.
        batched_inputs: the inputs of the model.
        features: backbone feature maps, name -> (N, C, h, w).
    """

    model: MultiLabelClassifier
    batched_inputs: list[dict]
    features: dict[str, Tensor]

    @cached_property
    def logits(self) -> Tensor:
        """(N, K) m of Eq. 8."""
        return self.model.logits(self.features)

    @property
    def device(self) -> torch.device:
        return next(iter(self.features.values())).device

    @property
    def labels(self) -> Tensor:
        """(N, K): from 0 to 1, -1 = unknown."""
        return torch.stack([x["labels"] for x in self.batched_inputs]).to(self.device)

    @property
    def boxes(self) -> list[Boxes]:
        """Proposals that the views show, in pixels of the views; [] if the inputs have none."""
        return get_boxes(self.batched_inputs, self.device)

    @property
    def ranks(self) -> list[Tensor]:
        """(R_n,) rank of each of these proposals among all of its image."""
        return [x["proposals"].rows.to(self.device) for x in self.batched_inputs]

    @property
    def mix(self) -> Mix | None:
        """How the images of the batch were mixed; None if they were not."""
        return get_mix(self.batched_inputs)

    def mix_scores(self, scores: Tensor) -> Tensor:
        """Mix the teacher's (N, K) scores as the images of the batch were mixed."""
        return scores if self.mix is None else self.mix.scores(scores)


class Objective(nn.Module, ABC):
    """One term of the loss that the Distiller minimises.

    Attributes:
        needs_scores: uses the logits of the teacher's regions, which only T-WDet has.
        fit_images: number of training images that ``fit_step`` is to see before training; 0: it is not called.
    """

    needs_scores = True
    fit_images = 0

    @property
    def teacher_features(self) -> list[str]:
        """Names of the teacher's feature maps used by this objective."""
        return []

    def build(self, student_shapes: dict[str, ShapeSpec], teacher_shapes: dict[str, ShapeSpec]) -> None:
        """Create the layers that depend on feature map shapes; the Distiller calls this once.

        The shapes are ``output_shape()`` of both backbones. Raises ValueError if one lacks a feature map.
        """

    def check_data(self, data: TrainingData, student: MultiLabelClassifier) -> None:
        """Raise ValueError if this objective cannot be used with these batches; called before the teacher runs."""

    @abstractmethod
    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        """Return the scalar loss for the outputs of both models on the same N images."""

    def scalars(self) -> dict[str, float]:
        """Return values to log besides the loss."""
        return {}

    def fit_step(self, student: StudentOutput, teacher: WSDDNOutput) -> None:
        """Collect statistics of a batch, before training."""

    def fit_end(self) -> None:
        """Set initial values from the statistics of all ranks."""


class Objectives(nn.ModuleDict):
    """Objectives by loss name (``loss_*``), as keyword arguments for LazyConfig."""

    def __init__(self, **objectives: Objective):
        super().__init__(objectives)
