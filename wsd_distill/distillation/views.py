"""Outputs of a frozen teacher for whole images, and what of them a student's augmented view shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NoReturn, Union

import torch
from detectron2.structures import Boxes
from torch import Tensor, nn

from wsd_distill.data.geometry import Geometry, show_maps
from wsd_distill.data.mix import Mix
from wsd_distill.modeling import WSDDN, MultiLabelClassifier, WSDDNOutput

Teacher = Union[WSDDN, MultiLabelClassifier]  # not "|", for Python 3.9


def run_teacher(teacher: Teacher, views: list[dict], with_scores: bool, trunk: nn.Module | None = None) -> WSDDNOutput:
    """Compute a frozen teacher's outputs for N views of whole images.

    Args:
        teacher: in eval mode.
        views: ``teacher`` of the mapper's outputs, with pixels.
        with_scores: run T-WDet's head too; otherwise, and for a classifier, there are no logits.
        trunk: backbone with the teacher's maps; the output then has the mean of both maps, and the teacher's logits.

    Raises:
        ValueError: T-WDet's logits for a view are not finite; names the image.
    """
    images = teacher.preprocess_image(views)
    if with_scores and isinstance(teacher, WSDDN):
        output = teacher.compute_outputs(views, images)
        check_finite(output, views)
    else:
        output = WSDDNOutput(teacher.backbone(images.tensor), get_boxes(views, teacher.device), [], [])
    if trunk is None:
        return output
    others = trunk(images.tensor)
    return dataclasses.replace(output, features={name: (x + others[name]) / 2 for name, x in output.features.items()})


def check_one_size(views: list[dict], key: str) -> None:
    """Check that the images of a batch have one size: padding of smaller ones is no part of a map to compare.

    Args:
        views: views with or without pixels.
        key: of the mapper, that sets the sizes.

    Raises:
        ValueError: they have several sizes.
    """
    if len({view["image"].shape[-2:] for view in views if "image" in view}) > 1:
        refuse_several_sizes(key)


def refuse_several_sizes(key: str = "sizes") -> NoReturn:
    """Raise ValueError: whole maps are compared, and ``key`` of the mapper has several sizes."""
    raise ValueError(
        f"whole maps are compared, and images have several sizes: set a single one in dataloader.train.mapper.{key}"
    )


def get_boxes(views: list[dict], device: torch.device) -> list[Boxes]:
    """Return the proposals of views in pixels; [] if they have none."""
    return [view["proposals"].proposal_boxes.to(device) for view in views if "proposals" in view]


def check_finite(output: WSDDNOutput, views: list[dict]) -> None:
    """Raise ValueError if T-WDet's logits for a view are not finite; names its image."""
    finite = torch.stack(
        [c.isfinite().all() & d.isfinite().all() for c, d in zip(output.cls_logits, output.det_logits)]
    )
    if not finite.all():
        first = views[int((~finite).nonzero()[0])]
        image = first.get("file_name", first.get("image_id"))
        raise ValueError(
            f"the teacher's scores for image {image!r} are not finite (NaN or infinite): set "
            "distiller.teacher_checkpoint to sound weights, check the teacher's pixel_mean, pixel_std and score_scale, "
            "or with trainer.amp=True try False"
        )


@dataclass
class ShownOutput(WSDDNOutput):
    """What the student's views show of a teacher's outputs for the whole images.

    Attributes:
        whole: the outputs for the whole images.
        rows: of their regions those that the views show; None for all.
    """

    whole: WSDDNOutput | None = None
    rows: list[Tensor | None] = field(default_factory=list)

    @cached_property
    def shares(self) -> Tensor:
        """(N, K) S of each class over the shown regions, divided by that over all regions of the image.

        Both with the softmax over all proposals of the image. Exactly 1 for a whole image.
        """
        assert self.whole is not None
        return torch.stack([_share(scores, rows) for scores, rows in zip(self.whole.scores, self.rows)])


def _share(scores: Tensor, rows: Tensor | None) -> Tensor:
    if rows is None:
        return scores.new_ones(scores.shape[1])
    return scores[rows.to(scores.device)].sum(0) / scores.sum(0).clamp(min=torch.finfo(scores.dtype).tiny)


def show_outputs(output: WSDDNOutput, batched_inputs: list[dict]) -> ShownOutput:
    """Return what the student's views show of a teacher's outputs for the whole images.

    Feature maps are resampled to the view and mixed as its pixels were. Of the regions those remain that the view
    shows, with boxes in pixels of a view of the teacher's size: the softmax over proposals of whoever uses their logits
    is then over these, and evidence for a label that the crop cuts off is gone.

    Args:
        output: of ``run_teacher`` or ``TeacherCache.read``.
        batched_inputs: outputs of the mapper.
    """
    check_one_size([x["teacher"] for x in batched_inputs], "teacher_sizes")
    geometries = [x["geometry"] for x in batched_inputs]
    mix = get_mix(batched_inputs)
    features = {name: show_maps(maps, geometries) for name, maps in output.features.items()}
    if mix is not None:
        features = {name: mix.maps(maps) for name, maps in features.items()}
    boxes = [_show_boxes(x, b) for x, b in zip(batched_inputs, output.boxes)]
    rows = [None if x["geometry"].is_whole else x["proposals"].rows for x in batched_inputs if "proposals" in x]
    cls_logits, det_logits = (_select(logits, rows) for logits in (output.cls_logits, output.det_logits))
    return ShownOutput(features, boxes, cls_logits, det_logits, whole=output, rows=rows)


def get_mix(batched_inputs: list[dict]) -> Mix | None:
    """Return how the images of a batch were mixed; None if they were not."""
    return batched_inputs[0].get("mix")


def _select(logits: Sequence[Tensor], rows: list[Tensor | None]) -> list[Tensor]:
    return [x if i is None else x[i.to(x.device)] for x, i in zip(logits, rows)]


def _show_boxes(x: dict, boxes: Boxes) -> Boxes:
    """Move the teacher's boxes in the whole image to the student's view; those that it does not show are dropped."""
    geometry: Geometry = x["geometry"]
    size = x["teacher"]["proposals"].image_size[1]
    if geometry.is_whole:
        x0, y0, x1, y1 = boxes.tensor.unbind(1)
        return Boxes(torch.stack([size - x1, y0, size - x0, y1], 1)) if geometry.flip else boxes
    shown = x["proposals"]
    return Boxes(shown.proposal_boxes.tensor.to(boxes.device) * (size / shown.image_size[1]))
