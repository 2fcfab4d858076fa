"""T-WDet: WSDDN (Bilen and Vedaldi, CVPR 2016) on any backbone, Section 3.1."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone, detector_postprocess
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.registry import locate
from torch import Tensor, nn
from torchvision.ops import nms

from wsd_distill.losses import fused_scores, image_level_bce

from .heads import build_head
from .normalization import NormalizedImageModel
from .refinement import RefinementBranches, refined_scores, refinement_losses
from .yaml_settings import common_settings

_NO_MIX = "T-WDet is not trained with mixed images, as proposals do not mix: set dataloader.train.mix=null"


@dataclass
class WSDDNOutput:
    """T-WDet outputs for a batch of N images; lists have one entry per image.

    Attributes:
        features: backbone feature maps, name -> (N, C, h, w).
        boxes: proposals in pixels of the input.
        cls_logits, det_logits: (R_n, K) M^c and M^d.
        refined_logits: (R_n, B, K + 1) of the refinement branches; None without branches or from a cache.
    """

    features: dict[str, Tensor]
    boxes: list[Boxes]
    cls_logits: list[Tensor]
    det_logits: list[Tensor]
    refined_logits: list[Tensor] | None = None

    @cached_property
    def scores(self) -> list[Tensor]:
        """(R_n, K) S of each image."""
        return [fused_scores(c, d) for c, d in zip(self.cls_logits, self.det_logits)]

    @property
    def image_scores(self) -> Tensor:
        """(N, K) p = sum_R S."""
        return torch.stack([s.sum(0) for s in self.scores])

    @property
    def detection_scores(self) -> list[Tensor]:
        """(R_n, K) scores of detections: the mean over refinement branches, without branches S."""
        if self.refined_logits is None:
            return self.scores
        return [refined_scores(logits).mean(1) for logits in self.refined_logits]

    @property
    def objectness(self) -> list[Tensor]:
        """(R_n,) s' = sum_K S of each image (Section 3.2)."""
        return [s.sum(1) for s in self.scores]


@META_ARCH_REGISTRY.register()
class WSDDN(NormalizedImageModel):
    """Backbone -> s_R * RoIPool(F; R) (Eq. 2) -> head -> two branches -> S = softmax_K * softmax_R -> p = sum_R S.

    Args:
        backbone: returns a dict of feature maps.
        in_feature: feature map to pool from; its stride sets the scale of RoI pooling.
        head: box head, (M, C, pooler_size, pooler_size) -> (M, ``output_size``).
        num_classes: K.
        pixel_mean, pixel_std, image_format: as in NormalizedImageModel.
        pooler_size: height and width of the pooled features.
        pooler_type: type of RoI pooling, as in Detectron2's ROIPooler.
        score_scale, score_shift: pooled features are multiplied by ``score_scale * s_R + score_shift``; Eq. 2: 1, 0.
        num_refinements: B, number of refinement branches (:mod:`.refinement`; OICR has 3). Their mean replaces S as the
            scores of detections; image scores and the outputs used by distillation remain those of S.
        test_nms_thresh: IoU threshold of the NMS per class at test time.
        test_topk_per_image: maximum number of detections per image; None keeps all (up to R * K).
            LocalizationEvaluator uses the 100 best per class.
        proposer: computes proposals at test time for inputs without proposals: input dict -> Instances, as in
            ``forward`` (``wsd_distill.proposals.image_proposals``); None makes such an input an error.
        class_names, input_size, new_layers: as in NormalizedImageModel.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        in_feature: str,
        head: nn.Module,
        num_classes: int,
        pixel_mean: list[float],
        pixel_std: list[float],
        image_format: str,
        pooler_size: int = 7,
        pooler_type: str = "ROIPool",
        score_scale: float = 1.0,
        score_shift: float = 0.0,
        num_refinements: int = 0,
        test_nms_thresh: float = 0.4,
        test_topk_per_image: int | None = None,
        proposer: Callable[[dict], Instances] | None = None,
        class_names: Sequence[str] | None = None,
        input_size: int | None = None,
        new_layers: Sequence[str] = (),
    ):
        if num_classes < 2:  # a softmax over one class is 1
            raise ValueError(f"num_classes={num_classes}: T-WDet needs 2 classes or more, add a background class")
        super().__init__(pixel_mean, pixel_std, image_format, num_classes, class_names, input_size, new_layers)
        self.backbone = backbone
        self.in_feature = in_feature
        scale = 1 / backbone.output_shape()[in_feature].stride
        self.box_pooler = ROIPooler(pooler_size, [scale], sampling_ratio=0, pooler_type=pooler_type)
        self.head = head
        self.cls_branch = nn.Linear(cast(int, head.output_size), num_classes)
        self.det_branch = nn.Linear(cast(int, head.output_size), num_classes)
        for branch in (self.cls_branch, self.det_branch):
            nn.init.xavier_uniform_(branch.weight)
            nn.init.zeros_(branch.bias)
        self.refinement = None
        if num_refinements:
            self.refinement = RefinementBranches(cast(int, head.output_size), num_classes, num_refinements)
        self.score_scale, self.score_shift = score_scale, score_shift
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        self.proposer = proposer

    @classmethod
    def from_config(cls, cfg):
        backbone = build_backbone(cfg)
        node, in_feature = cfg.MODEL.WSDDN, cfg.MODEL.IMAGE_LEVEL.IN_FEATURE
        pooler_size = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
        return {
            "backbone": backbone,
            "in_feature": in_feature,
            "head": build_head(cfg, backbone.output_shape()[in_feature], pooler_size),
            "pooler_size": pooler_size,
            "pooler_type": cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE,
            "score_scale": node.SCORE_SCALE,
            "score_shift": node.SCORE_SHIFT,
            "num_refinements": node.NUM_REFINEMENTS,
            "test_nms_thresh": node.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE if cfg.TEST.DETECTIONS_PER_IMAGE >= 0 else None,
            "proposer": locate(node.PROPOSER)(cfg) if node.PROPOSER else None,
            "input_size": node.INPUT_SIZE,
            **common_settings(cfg),
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Compute the loss in training, predictions otherwise.

        Args:
            batched_inputs: one dict per image with ``image`` (3, H, W) uint8 and ``proposals``, Instances with
                ``proposal_boxes`` (in pixels of ``image``) and ``scores`` (s_R); in training also ``labels`` (K,). At
                test time optionally ``height`` and ``width`` of the original image, to which boxes are scaled, and
                ``views``, the same number for each image: dicts with an ``image`` and the same R ``proposals``; their
                scores are averaged and replace those of ``image``.

        Returns:
            In training ``{"loss_image": scalar}``, and for each refinement branch b = 1..B ``"loss_refine<b>"``.
            Otherwise for each image a dict with ``image_scores`` (K,), p, and ``instances`` with ``pred_boxes``,
            ``scores`` (entries of the detection scores, without a minimum) and ``pred_classes``.

        Raises:
            ValueError: An input has no proposals, in training or without a ``proposer``; at test time, an image has
                another size than ``input_size``.
        """
        if self.training:
            return self.losses(self.compute_outputs(batched_inputs), batched_inputs)
        self.check_input_size(batched_inputs)
        if self.proposer is not None:
            batched_inputs = [x if "proposals" in x else {**x, "proposals": self.proposer(x)} for x in batched_inputs]
        return self.inference(*self.average_scores(batched_inputs), batched_inputs)

    def compute_outputs(self, batched_inputs: list[dict], images: ImageList | None = None) -> WSDDNOutput:
        """Compute features and logits, with one RoI pooling and one pass of the head for all images.

        Args:
            images: of ``preprocess_image``, if they are there already.
        """
        for x in batched_inputs:
            if "proposals" not in x:
                raise ValueError(
                    f"{x.get('file_name', 'an input')} has no proposals, which T-WDet needs: set a proposal store "
                    "(dataloader.test.<split>.loader.proposals) or, for images without views, give the model a proposer"
                )
        images = images or self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        proposals = [x["proposals"].to(self.device) for x in batched_inputs]
        boxes = [p.proposal_boxes for p in proposals]
        pooled = self.box_pooler([features[self.in_feature]], boxes)  # (sum R, C, h, w)
        prior = torch.cat([p.scores for p in proposals])  # (sum R,): s_R
        pooled = pooled * (self.score_scale * prior + self.score_shift)[:, None, None, None]
        vectors = self.head(pooled)  # (sum R, D)
        counts = [len(b) for b in boxes]
        cls_logits, det_logits = (branch(vectors).split(counts) for branch in (self.cls_branch, self.det_branch))
        refined = None if self.refinement is None else self.refinement(vectors).split(counts)
        return WSDDNOutput(features, boxes, cls_logits, det_logits, refined)

    def losses(self, output: WSDDNOutput, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Compute the losses on the image-level labels."""
        if any("mix" in x for x in batched_inputs):
            raise ValueError(_NO_MIX)
        labels = torch.stack([x["labels"] for x in batched_inputs]).to(self.device)  # (N, K)
        losses = {"loss_image": image_level_bce(output.image_scores, labels)}
        if output.refined_logits is not None:
            per_image = zip(output.scores, output.refined_logits, output.boxes, labels)
            refined = torch.stack([refinement_losses(s, r, b.tensor, y) for s, r, b, y in per_image]).mean(0)  # (B,)
            losses.update({f"loss_refine{i}": loss for i, loss in enumerate(refined, 1)})
        return losses

    def check_mix(self, kinds: Collection[str]) -> None:
        """Raise ValueError if images are mixed; ``kinds`` as in :attr:`.MixImages.kinds`."""
        if kinds:
            raise ValueError(_NO_MIX)

    def average_scores(self, batched_inputs: list[dict]) -> tuple[list[Tensor], list[Tensor]]:
        """Compute (R_n, K) S and detection scores of each image, averaged over its views if there are any."""
        views = zip(*(x.get("views", [x]) for x in batched_inputs))
        outputs = [self.compute_outputs(list(view)) for view in views]  # one view of all images at a time
        scores, detection_scores = (
            [torch.stack(per_image).mean(0) for per_image in zip(*per_view)]
            for per_view in ([o.scores for o in outputs], [o.detection_scores for o in outputs])
        )
        return scores, detection_scores

    def inference(self, scores: list[Tensor], detection_scores: list[Tensor], batched_inputs: list[dict]) -> list[dict]:
        """Build the predictions from (R_n, K) S and detection scores of each image."""
        results = []
        for x, s, detected in zip(batched_inputs, scores, detection_scores):
            size = x["image"].shape[-2:]
            instances = self._detect(x["proposals"].proposal_boxes.to(s.device), detected, size)
            instances = detector_postprocess(instances, x.get("height", size[0]), x.get("width", size[1]))
            results.append({"image_scores": s.sum(0).clamp(max=1), "instances": instances})
        return results

    def _detect(self, boxes: Boxes, scores: Tensor, image_size: tuple[int, int]) -> Instances:
        """Apply NMS to each column of the scores (R, K) and sort detections by falling score."""
        kept = [nms(boxes.tensor, column, self.test_nms_thresh) for column in scores.T.contiguous()]
        rows = torch.cat(kept)
        classes = torch.cat([torch.full_like(k, i) for i, k in enumerate(kept)])
        best = scores[rows, classes].argsort(descending=True, stable=True)[: self.test_topk_per_image]
        rows, classes = rows[best], classes[best]
        return Instances(image_size, pred_boxes=boxes[rows], scores=scores[rows, classes], pred_classes=classes)
