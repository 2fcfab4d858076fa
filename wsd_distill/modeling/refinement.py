"""Online instance classifier refinement of T-WDet (OICR; Tang et al., CVPR 2017, Sections 3.2 and 3.3).

R proposals, K classes, B branches. The classes of a branch are the K classes and, last, background.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from wsd_distill.losses import refinement_loss

POSITIVE_IOU = 0.5  # a region with a larger IoU with a seed has the class of the seed


class RefinementBranches(nn.Module):
    """Classifiers of regions, each trained with pseudo labels of the one before, the first with those of S.

    Args:
        input_size: D, size of the vector of a region.
        num_classes: K.
        num_branches: B.
    """

    def __init__(self, input_size: int, num_classes: int, num_branches: int):
        super().__init__()
        self.num_branches = num_branches
        self.classifiers = nn.Linear(input_size, num_branches * (num_classes + 1))
        nn.init.normal_(self.classifiers.weight, std=0.01)
        nn.init.zeros_(self.classifiers.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """Compute (R, B, K + 1) logits from (R, D) vectors."""
        return self.classifiers(vectors).unflatten(1, (self.num_branches, -1))


def refined_scores(logits: Tensor) -> Tensor:
    """Compute (R, B, K) probabilities of the classes, without background, in float32, from (R, B, K + 1) logits."""
    return logits.float().softmax(dim=2)[..., :-1]


def refinement_losses(scores: Tensor, logits: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Compute (B,) losses of one image.

    Args:
        scores: (R, K) S, from which the first branch is trained.
        logits: (R, B, K + 1) of the branches.
        boxes: (R, 4) XYXY_ABS.
        labels: (K,) 1 = positive, 0 = negative, -1 = unknown.
    """
    sources = [scores, *refined_scores(logits).unbind(1)[:-1]]  # (R, K) each
    unknown = torch.cat([labels < 0, labels.new_zeros(1, dtype=torch.bool)])  # (K + 1,)
    losses = []
    for source, branch in zip(sources, logits.float().unbind(1)):
        targets, weights = pseudo_labels(source.detach(), boxes, labels)
        # Without a label, a region that shows the class must not become background.
        losses.append(refinement_loss(branch.masked_fill(unknown, -torch.inf), targets, weights))
    return torch.stack(losses)


def pseudo_labels(scores: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Label the regions of an image by the seeds, the top-scoring region of each positive class.

    A region has the class of the seed that it overlaps most if their IoU is above ``POSITIVE_IOU``, otherwise it is
    background; its weight is the score of this seed either way. A region is the seed of one class: as in the released
    code, that of the first class has score 0 for the others. Without a positive class all weights are 0.

    Args:
        scores: (R, K) of the classes. boxes: (R, 4) XYXY_ABS. labels: (K,), unknown ones (-1) have no seed.

    Returns:
        (R,) int64 class indices, K for background, and (R,) weights.
    """
    num_classes = len(labels)
    classes = (labels > 0).nonzero()[:, 0].tolist()
    if not classes:
        return torch.full((len(boxes),), num_classes, device=boxes.device), scores.new_zeros(len(boxes))
    left = scores.clone()
    seeds = []
    for k in classes:
        seeds.append(int(left[:, k].argmax()))
        left[seeds[-1], classes[classes.index(k) + 1 :]] = 0
    overlap, nearest = box_iou(boxes, boxes[seeds]).max(dim=1)  # (R,)
    seed_scores = left[seeds, classes]
    targets = torch.as_tensor(classes, device=boxes.device)[nearest]
    return targets.where(overlap > POSITIVE_IOU, num_classes), seed_scores[nearest]
