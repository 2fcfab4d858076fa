"""Batches from loader processes with all small tensors in one block of shared memory; large ones travel alone.

PyTorch sends each tensor by a file descriptor and a connection of its own, 32 for a batch of 16 images with labels, and
80 with proposals: milliseconds in which the receiving process could start the kernels of a GPU.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from io import BytesIO
from itertools import accumulate
from typing import Any

import torch
import torch.utils.data
from torch import Tensor

_ALIGNMENT = 64  # bytes
_LARGE = 2**18  # bytes: copying such a tensor costs more than a connection
_DTYPES = {torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64}


class _Pickler(pickle.Pickler):
    """Pickles small tensors as NumPy arrays, whose bytes go to ``buffer_callback``; others go to ``others``."""

    def __init__(self, stream: BytesIO, buffer_callback: Callable):
        super().__init__(stream, protocol=5, buffer_callback=buffer_callback)
        self.others: list[Tensor] = []

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, Tensor) or _is_small(obj):
            return None
        self.others.append(obj)
        return len(self.others) - 1

    def reducer_override(self, obj: Any) -> Any:
        return (torch.from_numpy, (obj.numpy(),)) if isinstance(obj, Tensor) else NotImplemented


class _Unpickler(pickle.Unpickler):
    others: list[Tensor]

    def persistent_load(self, pid: int) -> Tensor:
        return self.others[pid]


def _is_small(x: Tensor) -> bool:
    plain = type(x) is Tensor and x.layout == torch.strided and x.device.type == "cpu" and not x.requires_grad
    return plain and x.dtype in _DTYPES and x.is_contiguous() and x.numel() * x.element_size() < _LARGE


class SharedBatch:
    """A batch that arrives in another process as what it was made from.

    Args:
        batch: any nesting of picklable objects. Its small tensors arrive in memory of their own, which is freed with
            the last of them: copy what outlives the batch.
    """

    def __init__(self, batch: Any):
        stream, buffers = BytesIO(), list[pickle.PickleBuffer]()
        pickler = _Pickler(stream, buffers.append)
        pickler.dump(batch)
        views = [buffer.raw() for buffer in buffers]
        starts = [0, *accumulate(-(-view.nbytes // _ALIGNMENT) * _ALIGNMENT for view in views)]
        self._pickled, self._others = stream.getvalue(), pickler.others
        self._block = torch.empty(starts[-1], dtype=torch.uint8)
        self._spans = [(start, start + view.nbytes) for start, view in zip(starts, views)]
        memory = self._block.numpy().data
        for (start, end), view in zip(self._spans, views):
            memory[start:end] = view

    def __reduce__(self) -> tuple:
        return _unpack, (self._pickled, self._block, self._spans, self._others)


def _unpack(pickled: bytes, block: Tensor, spans: list[tuple[int, int]], others: list[Tensor]) -> Any:
    memory = block.numpy().data
    unpickler = _Unpickler(BytesIO(pickled), buffers=[memory[start:end] for start, end in spans])
    unpickler.others = others
    return unpickler.load()


def collate(images: list[Any], mix: Callable[[list], list] | None = None) -> Any:
    """Return the list of images, after ``mix``; in a loader process a :class:`SharedBatch`, which arrives as a list."""
    batch = images if mix is None else mix(images)
    return batch if torch.utils.data.get_worker_info() is None else SharedBatch(batch)
