"""Region-consistent transfer: a teacher's features of whole images into a student that is trained with crops."""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from wsd_distill import losses
from wsd_distill.data.training_data import TrainingData
from wsd_distill.modeling import MultiLabelClassifier, WSDDNOutput

from .features import LayerObjective, LayerPair
from .objective import StudentOutput

_KEY = "distiller.objectives.loss_regions"
_NO_PROPOSALS = (
    f"{_KEY}.regions is not view, and there are no proposals: set "
    "dataloader.train.proposals='${proposals.train}' and make them with tools/generate_proposals.py"
)
FIT_HINT = "call Distiller.fit_objectives, as DistillTrainer does before the first step"


class RegionConsistent(LayerObjective):
    """Match features of the same regions in the teacher's map of the whole image and in the student's augmented view.

    Not in the paper. The teacher's map, computed once for each image, is resampled to what the student's view shows
    (``show_outputs``), so that crops, flips and mixing need no further pass of the teacher. Compared are the cells of
    the whole view, regions, or both. Differences from Eq. 3-4: each channel's distance is divided by the standard
    deviation of the teacher's channel, regions are not weighted by s', and the loss is a mean over cells and channels:
    about 2 for unrelated maps of equal statistics, 0 for equal ones.

    Psi, on the student's map, is the identity or a 1x1 convolution. The convolution starts at its regularized
    least-squares fit on ``fit_images`` training images: one with random weights would send noise into the student.

    Args:
        layer: maps of the teacher and the student to match.
        regions: "view": the cells of the whole view, the teacher's map average-pooled to the size of the student's;
            "proposals": RoIAlign of the proposals that the view shows, clipped to it; "both": the mean of both losses.
        adapter: Psi: "identity" for a teacher and a student of one network, or "least_squares".
        pooler_size: height and width of the pooled features of proposals.
        num_proposals: maximum number of proposals per image, the best ones.
        weight: factor of the loss.
        fit_images: number of training images for the channels' deviations and the fit of Psi.
        ridge: regularization of the fit, as a fraction of the mean variance of the student's channels.

    Raises:
        ValueError: an option is unknown, or with ``adapter="identity"`` the maps have different channels.
    """

    needs_scores, whole_maps = False, True
    deviation: Tensor

    def __init__(
        self,
        *,
        layer: LayerPair,
        regions: str = "view",
        adapter: str = "least_squares",
        pooler_size: int = 3,
        num_proposals: int = 30,
        weight: float = 10.0,
        fit_images: int = 320,
        ridge: float = 1e-3,
    ):
        super().__init__([layer])
        if regions not in ("view", "proposals", "both"):
            raise ValueError(f'{_KEY}.regions must be "view", "proposals" or "both", got {regions!r}')
        if adapter not in ("identity", "least_squares"):
            raise ValueError(f'{_KEY}.adapter must be "identity" or "least_squares", got {adapter!r}')
        self.layer, self.regions, self.adapter_kind = layer, regions, adapter
        self.pools_proposals = regions != "view"
        self.pooler_size, self.num_proposals = pooler_size, num_proposals
        self.weight, self.fit_images, self.ridge = weight, fit_images, ridge

    def build(self, student_shapes: dict[str, ShapeSpec], teacher_shapes: dict[str, ShapeSpec]) -> None:
        super().build(student_shapes, teacher_shapes)
        student, teacher = student_shapes[self.layer.student], teacher_shapes[self.layer.teacher]
        if self.adapter_kind == "least_squares":
            self.adapter: nn.Module = Conv2d(student.channels, teacher.channels, 1)
        elif student.channels != teacher.channels:
            raise ValueError(
                f"the student's map {self.layer.student} has {student.channels} channels and the teacher's "
                f"{self.layer.teacher} {teacher.channels}: set {_KEY}.adapter=least_squares"
            )
        else:
            self.adapter = nn.Identity()
        self.register_buffer("deviation", torch.zeros(teacher.channels))  # (C,); 0 until it is measured
        self.poolers = nn.ModuleList(
            ROIPooler(self.pooler_size, [1 / shape.stride], 0, "ROIAlignV2") for shape in (teacher, student)
        )
        self._moments = _Moments(student.channels, teacher.channels)

    def check_data(self, data: TrainingData, student: MultiLabelClassifier) -> None:
        super().check_data(data, student)
        if self.regions != "view" and not data.has_proposals:
            raise ValueError(_NO_PROPOSALS)

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        if not self.deviation.any():
            raise RuntimeError(f"the deviations of the teacher's channels are not measured: {FIT_HINT}")
        target = teacher.features[self.layer.teacher]
        student_map = self.adapter(student.features[self.layer.student])
        self.check_batch(student)
        terms = []
        if self.regions != "proposals":
            cells = _pool_cells(target, student_map)
            terms.append(losses.standardized_distance(cells, student_map, self.deviation))
        if self.regions != "view":
            if not teacher.boxes:
                raise ValueError(_NO_PROPOSALS)
            maps = ((target, teacher.boxes), (student_map, student.boxes))
            rois, student_rois = (
                pooler([x], [b[: self.num_proposals] for b in boxes]) for pooler, (x, boxes) in zip(self.poolers, maps)
            )
            terms.append(losses.standardized_distance(rois, student_rois, self.deviation))
        return self.weight * torch.stack(terms).mean()

    def fit_step(self, student: StudentOutput, teacher: WSDDNOutput) -> None:
        self.check_batch(student)
        student_map = student.features[self.layer.student]
        cells = _pool_cells(teacher.features[self.layer.teacher], student_map)
        self._moments.add(student_map.movedim(1, -1).flatten(0, 2), cells.movedim(1, -1).flatten(0, 2))

    def fit_end(self) -> None:
        weight, bias, deviation = self._moments.solve(self.ridge)
        self.deviation.copy_(deviation.clamp(min=1e-3 * deviation.max()))  # some channels hardly vary
        if isinstance(self.adapter, Conv2d):
            with torch.no_grad():
                self.adapter.weight.copy_(weight[:, :, None, None])
                self.adapter.bias.copy_(bias)


def _pool_cells(maps: Tensor, student_maps: Tensor) -> Tensor:
    """Average-pool maps (N, C, h, w) to the height and width of the student's."""
    return adaptive_avg_pool2d(maps, (student_maps.shape[2], student_maps.shape[3]))


class _Moments:
    """Sums over cells from which the least-squares fit y = W x + b is solved, over all ranks."""

    def __init__(self, inputs: int, outputs: int):
        self.count = 0
        self.x, self.y = torch.zeros(inputs, dtype=torch.float64), torch.zeros(outputs, dtype=torch.float64)
        self.xx, self.xy = (torch.zeros(inputs, n, dtype=torch.float64) for n in (inputs, outputs))
        self.yy = torch.zeros(outputs, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add M cells: x (M, inputs), y (M, outputs)."""
        x, y = x.detach().cpu().double(), y.detach().cpu().double()
        self.count += len(x)
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += y.square().sum(0)

    def solve(self, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return W (outputs, inputs), b (outputs,) and the standard deviation of y (outputs,).

        ``ridge`` times the mean variance of x is added to each variance.
        """
        gathered = comm.all_gather((self.count, self.x, self.y, self.xx, self.xy, self.yy))
        count, x, y, xx, xy, yy = (sum(part) for part in zip(*gathered))
        mean_x, mean_y = x / count, y / count
        covariance = xx / count - torch.outer(mean_x, mean_x)
        covariance += ridge * covariance.diagonal().mean() * torch.eye(len(x), dtype=x.dtype)
        weight = torch.linalg.solve(covariance, xy / count - torch.outer(mean_x, mean_y)).T
        deviation = (yy / count - mean_y.square()).clamp(min=0).sqrt()
        return weight, mean_y - weight @ mean_x, deviation
