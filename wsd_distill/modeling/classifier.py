"""S-Cls: a plain multi-label image classifier, the paper's student."""

from __future__ import annotations

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsd_distill.losses import hard_label_loss

from .heads import build_head
from .normalization import NormalizedImageModel


@META_ARCH_REGISTRY.register()
class MultiLabelClassifier(NormalizedImageModel):
    """Backbone -> head -> one logit and one sigmoid for each class.

    Args:
        backbone: gives a dict of feature maps.
        in_feature: the map that goes to the head.
        head: (N, C, h, w) -> (N, ``output_size``).
        num_classes: K.
        pixel_mean, pixel_std, image_format: as NormalizedImageModel.
        input_size: at test time, an image that is no square of this side is squashed to it, as the mapper squashes
            those that it reads; None takes images as they are.
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
        input_size: int | None = None,
    ):
        super().__init__(pixel_mean, pixel_std, image_format)
        self.backbone = backbone
        self.in_feature = in_feature
        self.head = head
        self.input_size = input_size
        self.classifier = nn.Linear(head.output_size, num_classes)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def from_config(cls, cfg):
        backbone = build_backbone(cfg)
        node, in_feature = cfg.MODEL.CLASSIFIER, cfg.MODEL.IMAGE_LEVEL.IN_FEATURE
        shape = backbone.output_shape()[in_feature]
        return {
            "backbone": backbone,
            "in_feature": in_feature,
            "head": build_head(cfg, shape, node.INPUT_SIZE // shape.stride, node.POOL),
            "num_classes": cfg.MODEL.IMAGE_LEVEL.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "image_format": cfg.INPUT.FORMAT,
            "input_size": node.INPUT_SIZE,
        }

    def forward(self, batched_inputs: list[dict]):
        """
        Args:
            batched_inputs: one dict an image: ``image`` (3, H, W) uint8 and, in training, ``labels`` (K,); at test time
                optionally ``views``, as many for every input: dicts with an ``image``, averaged in place of ``image``.

        Returns:
            In training ``{"loss_hard": scalar}`` (Eq. 10); otherwise for each image ``image_scores`` (K,), sigmoids.
        """
        if self.training:
            return self.losses(self.logits(self.features(batched_inputs)), batched_inputs)
        return self.inference(batched_inputs)

    def features(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Feature maps of the backbone, name -> (N, C, h, w)."""
        return self.backbone(self.preprocess_image(batched_inputs).tensor)

    def logits(self, features: dict[str, Tensor]) -> Tensor:
        """(N, K) from the backbone's feature maps."""
        return self.classifier(self.head(features[self.in_feature]))

    def losses(self, logits: Tensor, batched_inputs: list[dict]) -> dict[str, Tensor]:
        labels = torch.stack([x["labels"] for x in batched_inputs]).to(self.device)  # (N, K)
        return {"loss_hard": hard_label_loss(logits, labels)}

    def inference(self, batched_inputs: list[dict]) -> list[dict]:
        views = zip(*(x.get("views", [x]) for x in batched_inputs))
        views = [[self._resize_to_input(x) for x in view] for view in views]
        scores = [self.logits(self.features(view)).float().sigmoid() for view in views]  # each (N, K)
        return [{"image_scores": p} for p in torch.stack(scores).mean(0)]

    def _resize_to_input(self, x: dict) -> dict:
        size = (self.input_size, self.input_size)
        if self.input_size is None or x["image"].shape[-2:] == size:
            return x
        pixels = x["image"].round().byte().cpu()  # the mapper's numbers to the last bit
        return {**x, "image": interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]}
