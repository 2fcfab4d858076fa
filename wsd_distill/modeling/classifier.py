"""S-Cls: a plain multi-label image classifier, the paper's student."""

from __future__ import annotations

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import ImageList
from torch import Tensor, nn

from wsd_distill.losses import hard_label_loss

from .heads import build_head


@META_ARCH_REGISTRY.register()
class MultiLabelClassifier(nn.Module):
    """Backbone -> head -> one logit and one sigmoid for each class.

    Args:
        backbone: gives a dict of feature maps.
        in_feature: the map that goes to the head.
        head: (N, C, h, w) -> (N, ``output_size``).
        num_classes: K.
        pixel_mean, pixel_std: per channel, in the order in which the mapper reads images.
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
    ):
        super().__init__()
        self.backbone = backbone
        self.in_feature = in_feature
        self.head = head
        self.classifier = nn.Linear(head.output_size, num_classes)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg):
        backbone = build_backbone(cfg)
        node, shape = cfg.MODEL.CLASSIFIER, backbone.output_shape()[cfg.MODEL.CLASSIFIER.IN_FEATURE]
        side = node.INPUT_SIDE // shape.stride
        return {
            "backbone": backbone,
            "in_feature": node.IN_FEATURE,
            "head": build_head(cfg.MODEL.IMAGE_LEVEL, (shape.channels, side, side), node.POOL),
            "num_classes": cfg.MODEL.IMAGE_LEVEL.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

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
        scores = [self.logits(self.features(list(view))).float().sigmoid() for view in views]  # each (N, K)
        return [{"image_scores": p} for p in torch.stack(scores).mean(0)]

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise and batch."""
        images = [(x["image"].to(self.device).float() - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)
