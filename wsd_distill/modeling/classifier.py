"""S-Cls: a plain multi-label image classifier, the student."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import Tensor, nn

from .heads import build_head
from .multilabel_losses import Loss, RankingLoss, build_loss
from .normalization import NormalizedImageModel
from .yaml_settings import common_settings


@META_ARCH_REGISTRY.register()
class MultiLabelClassifier(NormalizedImageModel):
    """S-Cls: backbone, head and one logit per class.

    Args:
        backbone: returns a dict of feature maps.
        in_feature: feature map used by the head.
        head: (N, C, h, w) -> (N, ``output_size``).
        num_classes: K.
        pixel_mean, pixel_std, image_format: as in NormalizedImageModel.
        class_names, input_size, new_layers: as in NormalizedImageModel.
        loss, loss_options: arguments of :func:`wsd_distill.modeling.multilabel_losses.build_loss`.
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
        class_names: Sequence[str] | None = None,
        input_size: int | None = None,
        new_layers: Sequence[str] = (),
        loss: str | Loss = "cross_entropy",
        loss_options: Mapping[str, Any] | None = None,
    ):
        super().__init__(pixel_mean, pixel_std, image_format, num_classes, class_names, input_size, new_layers)
        self.backbone = backbone
        self.in_feature = in_feature
        self.head = head
        self.loss = build_loss(loss, loss_options)
        self.classifier = nn.Linear(cast(int, head.output_size), num_classes)
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
            "input_size": node.INPUT_SIZE,
            "loss": node.LOSS,
            "loss_options": node.LOSS_OPTIONS,
            **common_settings(cfg),
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Compute the loss in training, predictions otherwise.

        Args:
            batched_inputs: one dict per image with ``image`` (3, H, W) uint8 and, in training, ``labels`` (K,). At test
                time optionally ``views``, the same number for each image: dicts with an ``image``; their predictions
                are averaged and replace the prediction for ``image``.

        Returns:
            In training ``{"loss_hard": scalar}``, by default Eq. 10. Otherwise for each image a dict with
            ``image_scores`` (K,), the sigmoid of the logits.

        Raises:
            ValueError: At test time, an image has another size than ``input_size``.
        """
        if self.training:
            return self.losses(self.logits(self.features(batched_inputs)), batched_inputs)
        self.check_input_size(batched_inputs)
        return self.inference(batched_inputs)

    def features(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Compute the backbone's feature maps, name -> (N, C, h, w)."""
        return self.backbone(self.preprocess_image(batched_inputs).tensor)

    def logits(self, features: dict[str, Tensor]) -> Tensor:
        """Compute (N, K) logits from the backbone's feature maps."""
        return self.classifier(self.head(features[self.in_feature]))

    def losses(self, logits: Tensor, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Compute the loss of (N, K) logits on the image-level labels."""
        labels = torch.stack([x["labels"] for x in batched_inputs]).to(self.device)  # (N, K)
        return {"loss_hard": self.loss(logits, labels)}

    def check_mix(self, kinds: Collection[str]) -> None:
        """Raise ValueError if the loss takes no labels of mixed images; ``kinds`` as in :attr:`.MixImages.kinds`."""
        if isinstance(self.loss, RankingLoss) and {"mixup", "cutmix"} & set(kinds):
            self.loss.refuse_soft_labels("labels of mixed images are between 0 and 1")

    def inference(self, batched_inputs: list[dict]) -> list[dict]:
        """Predict ``image_scores``, averaged over views if there are any."""
        views = zip(*(x.get("views", [x]) for x in batched_inputs))
        scores = [self.logits(self.features(list(view))).float().sigmoid() for view in views]  # each (N, K)
        return [{"image_scores": p} for p in torch.stack(scores).mean(0)]
