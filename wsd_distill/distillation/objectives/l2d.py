"""L2D, multi-label knowledge distillation (Yang et al., ICCV 2023, arXiv 2308.06453): logits and label-wise embeddings.

    L_L2D = L_BCE + lambda_MLD L_MLD + lambda_CD L_CD + lambda_ID L_ID

    L_MLD = 1/N sum_i sum_k KL([p^T_ik, 1 - p^T_ik] || [p^S_ik, 1 - p^S_ik])
    L_CD = sum_k sum_(i,j) l(phi_CD(e^T_ik, e^T_jk), phi_CD(e^S_ik, e^S_jk))  over images i, j that have the class k
    L_ID = sum_i sum_(k,l) l(phi_ID(e^T_ik, e^T_il), phi_ID(e^S_ik, e^S_il))  over the classes k, l of the image i

N images, K classes, e_ik is the embedding of class k in image i, phi is the Euclidean distance and l is Huber's
function. Checked against the authors' code (github.com/penghui-yang/L2D): the weights 10, 100 and 1000, the division of
distances by the mean of their group, and that of a group's sum by its number of members. Not checked, for lack of the
paper's text: the numbers of its equations, its weights, and whether it has these two divisions.

In that code the hard loss, CD and ID are sums over the batch of 64 images, and MLD is a mean. Here the hard loss is a
mean over images (Eq. 10). Divided by N, the terms keep their ratios to it at any batch size: CD and ID are
divided by N with the weights 100 and 1000, and the weight of MLD is 10 / 64.
"""

from __future__ import annotations

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from torch import Tensor, nn

from wsd_distill import losses
from wsd_distill.data.training_data import TrainingData
from wsd_distill.modeling import MultiLabelClassifier, WSDDNOutput

from .features import LayerObjective, LayerPair
from .objective import Objective, StudentOutput

_NO_MIX = "label-wise embeddings of mixed images are not defined: set dataloader.train.mix=null"


class MultiLabelLogits(Objective):
    """Multi-label logits distillation (MLD) of L2D: one-versus-all probabilities of each class.

    The teacher's one-versus-all logit is that of its image score, logit(p_k). Classes with unknown labels are left out.

    Args:
        weight: lambda_MLD / 64 of the authors' code, whose hard loss is a sum over 64 images.
    """

    def __init__(self, *, weight: float = 10 / 64):
        super().__init__()
        self.weight = weight

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        logits = student.logits
        target = student.mix_scores(teacher.image_scores)
        return self.weight * losses.one_versus_all_loss(target, logits, student.labels)


class LabelWiseEncoder(nn.Module):
    """Label-wise embeddings of a feature map: each class has a learned query that attends to the cells.

    A smaller ML-Decoder (Ridnik et al., WACV 2023), as which the authors' networks classify: cross-attention with a
    residual connection and layer normalization, without its feed-forward layer and dropout. The queries keep the
    embeddings of two classes apart from the first step.

    Args:
        channels: C of the feature map.
        num_classes: K.
        dim: D, length of an embedding; a multiple of ``num_heads``.
        num_heads: number of attention heads.
    """

    def __init__(self, channels: int, num_classes: int, dim: int, num_heads: int):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(num_classes, dim))
        self.project = nn.Linear(channels, dim)
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, h, w) to embeddings (N, K, D) and to the (N, K) logits of each class on its own embedding."""
        cells = self.project(features.flatten(2).transpose(1, 2)).relu()  # (N, h * w, D)
        queries = self.queries.expand(len(features), -1, -1)  # (N, K, D)
        embeddings = self.norm(queries + self.attention(queries, cells, cells, need_weights=False)[0])
        logits = (embeddings * self.classifier.weight).sum(2) + self.classifier.bias  # (N, K)
        return embeddings, logits


class LabelWiseEmbeddings(LayerObjective):
    """Class-aware (CD) and instance-aware (ID) label-wise embedding distillation of L2D.

    - Teacher: the embedding of a class is the sum of its region features, weighted by S: regions are pooled from a
      feature map with RoIAlign and averaged over their bins, (R, C), and S^T times them is (K, C).
    - Student: a :class:`LabelWiseEncoder` on a feature map. The authors' student classifies with such an encoder at
      test time too. S-Cls is a plain network with global pooling, so that here the encoder is a part of the objective,
      is dropped after training and costs nothing at test time. What makes the embeddings label-wise in the authors'
      student, the classification loss on them, is the auxiliary term ``label_weight`` here.

    Only positive labels enter CD and ID, both divided by N; unknown labels enter no term. Raises ValueError for images
    that were mixed.

    Args:
        layer: feature maps of the teacher, for regions, and of the student, for the encoder.
        num_classes: K.
        class_weight: lambda_CD.
        instance_weight: lambda_ID.
        label_weight: factor of the classification loss (Eq. 10) on the student's embeddings.
        dim: length of the student's embeddings.
        num_heads: attention heads of the encoder.
        pooler_size: bins per side of a region of the teacher.
    """

    whole_maps = True  # of the encoder

    def __init__(
        self,
        *,
        layer: LayerPair,
        num_classes: int,
        class_weight: float = 100.0,
        instance_weight: float = 1000.0,
        label_weight: float = 1.0,
        dim: int = 256,
        num_heads: int = 8,
        pooler_size: int = 3,
    ):
        super().__init__([layer])
        self.layer, self.num_classes, self.dim, self.num_heads = layer, num_classes, dim, num_heads
        self.class_weight, self.instance_weight, self.label_weight = class_weight, instance_weight, label_weight
        self.pooler_size = pooler_size

    def build(self, student_shapes: dict[str, ShapeSpec], teacher_shapes: dict[str, ShapeSpec]) -> None:
        super().build(student_shapes, teacher_shapes)
        channels = student_shapes[self.layer.student].channels
        self.encoder = LabelWiseEncoder(channels, self.num_classes, self.dim, self.num_heads)
        self.pooler = ROIPooler(self.pooler_size, [1 / teacher_shapes[self.layer.teacher].stride], 0, "ROIAlignV2")

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        self.check_batch(student)
        if student.mix is not None:
            raise ValueError(_NO_MIX)
        target = self.teacher_embeddings(teacher)  # (N, K, C)
        embeddings, logits = self.encoder(student.features[self.layer.student])  # (N, K, D), (N, K)
        labels = student.labels
        positive = labels == 1
        class_aware = losses.embedding_structure_loss(target.transpose(0, 1), embeddings.transpose(0, 1), positive.T)
        instance_aware = losses.embedding_structure_loss(target, embeddings, positive)
        structure = (self.class_weight * class_aware + self.instance_weight * instance_aware) / len(labels)
        return structure + self.label_weight * losses.hard_label_loss(logits, labels)

    def check_data(self, data: TrainingData, student: MultiLabelClassifier) -> None:
        super().check_data(data, student)
        if data.mix:
            raise ValueError(_NO_MIX)

    def teacher_embeddings(self, teacher: WSDDNOutput) -> Tensor:
        """Compute the (N, K, C) sums of region features, weighted by S; 0 for an image without regions."""
        regions = self.pooler([teacher.features[self.layer.teacher]], teacher.boxes).float().mean((2, 3))  # (sum R, C)
        per_image = regions.split([len(boxes) for boxes in teacher.boxes])
        return torch.stack([s.T @ x for s, x in zip(teacher.scores, per_image)])
