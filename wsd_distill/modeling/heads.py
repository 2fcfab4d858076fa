"""What turns a feature map, an RoI's or the whole image's, into a feature vector."""

from __future__ import annotations

from torch import Tensor, nn


class FCHead(nn.Module):
    """Fully connected layers fc6, fc7, ... with ReLU and dropout, as in VGG16.

    Args:
        input_shape: (C, h, w) of one feature map. dims: widths of the layers. dropout: probability, after each layer.
        pool: the map is first max-pooled in squares of this side, as pool5 does for a whole image; 1 does nothing.
        batch_norm: normalise before each ReLU, for training from scratch.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        dims: list[int],
        dropout: float = 0.5,
        pool: int = 1,
        batch_norm: bool = False,
    ):
        super().__init__()
        channels, h, w = input_shape
        layers, width = [nn.MaxPool2d(pool), nn.Flatten()], channels * (h // pool) * (w // pool)
        for dim in dims:
            linear = nn.Linear(width, dim)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            norm = [nn.BatchNorm1d(dim)] if batch_norm else []
            layers += [linear, *norm, nn.ReLU(), nn.Dropout(dropout)]
            width = dim
        self.layers = nn.Sequential(*layers)
        self.output_size = width

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, h, w) -> (M, output_size)."""
        return self.layers(x)


class GlobalPoolHead(nn.Module):
    """Mean or maximum over the map.

    Args:
        channels: C. mode: "avg" or "max".
    """

    def __init__(self, *, channels: int, mode: str = "avg"):
        super().__init__()
        if mode not in ("avg", "max"):
            raise ValueError(f'mode is "avg" or "max", not {mode!r}')
        self.mode, self.output_size = mode, channels

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, h, w) -> (M, C)."""
        return x.mean((2, 3)) if self.mode == "avg" else x.amax((2, 3))


def build_head(node, input_shape: tuple[int, int, int], pool: int = 1) -> nn.Module:
    """The head that ``cfg.MODEL.IMAGE_LEVEL`` names, for YAML users: HEAD is "fc", "avg" or "max".

    Args:
        node: ``cfg.MODEL.IMAGE_LEVEL``. input_shape: (C, h, w). pool: as in FCHead.
    """
    if node.HEAD == "fc":
        return FCHead(input_shape=input_shape, dims=node.FC_DIMS, dropout=node.DROPOUT, pool=pool)
    return GlobalPoolHead(channels=input_shape[0], mode=node.HEAD)
