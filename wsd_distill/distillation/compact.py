"""Teacher outputs in few bits: what the teacher cache writes for an image.

Every channel of an image has its own step between levels, and 0 is a level, so that the zeros of a ReLU stay exact. The
error is at most half a step: the range of the channel divided by 508 for maps (8 bits), by 2,044 for logits (10 bits).
The bytes are then compressed by Zstandard: maps after a ReLU become smaller with their share of zeros, signed maps
hardly do. With 8 bits for logits RoI-aware transfer chose other regions, of nearly equal s', in 3 of 48 photos, with 10
bits in 1.

Logits have a channel for each branch and class. All regions are kept, with both logits, because the objectives need
more than the best regions: a crop has the softmax over the regions that it shows, in any combination, and learned
temperatures (Eq. 7) change the share of each region. One aggregated remainder fits neither. The regions of RoI-aware
transfer are chosen on reading, as they also depend on the crop; their pooled features, 100 x 49 values of a channel,
would be larger than a map of 42 x 42.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

_CODEC = pa.Codec("zstd", compression_level=1)
_HEAD = np.dtype([("bits", "<u4"), ("shape", "<u4", 3)])


def pack(x: Tensor, bits: int = 8) -> bytes:
    """Convert (C, h, w) to bytes: the head, then compressed (C,) float32 steps, zeros and values.

    With more than 8 bits the low bytes of all values come first, then the high ones, which compress better.
    """
    flat = x.float().flatten(1)  # (C, h * w)
    with_zero = F.pad(flat, (1, 0))
    low, high = with_zero.amin(1), with_zero.amax(1)
    step = (high - low) / (2**bits - 2)  # not - 1: the zero is rounded too
    step = torch.where(step > 0, step, 1)
    zero = (-low / step).round()
    values = (flat / step[:, None]).round() + zero[:, None]  # 0 to 2^bits - 1
    levels = torch.cat([zero[:, None], values], 1).int().cpu().numpy().astype("<u2").view(np.uint8).reshape(-1, 2)
    content = step.cpu().numpy().astype("<f4").tobytes() + levels[:, : _bytes(bits)].T.tobytes()
    return np.array((bits, x.shape), _HEAD).tobytes() + _CODEC.compress(content, asbytes=True)


def unpack(content: bytes, device: torch.device) -> Tensor:
    """Return the float32 tensor (C, h, w) of ``pack``."""
    head = np.frombuffer(content, _HEAD, 1)[0]
    (c, h, w), size = head["shape"].tolist(), _bytes(int(head["bits"]))
    raw = bytearray(_CODEC.decompress(content[_HEAD.itemsize :], c * (4 + size * (1 + h * w))))
    step = torch.from_numpy(np.frombuffer(raw, "<f4", c)).to(device)
    planes = torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 * c)).to(device).view(size, c, 1 + h * w)
    levels = planes[0].float() if size == 1 else planes[0].float() + 256 * planes[1].float()
    return ((levels[:, 1:] - levels[:, :1]) * step[:, None]).view(c, h, w)


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def pack_logits(cls_logits: Tensor, det_logits: Tensor) -> bytes:
    """Pack the (R, K) logits of both branches for an image; R may be 0."""
    return pack(torch.cat([cls_logits, det_logits], 1).T[:, :, None], bits=10)


def unpack_logits(content: bytes, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the (R, K) logits of both branches."""
    cls_logits, det_logits = unpack(content, device)[:, :, 0].T.chunk(2, dim=1)
    return cls_logits, det_logits
