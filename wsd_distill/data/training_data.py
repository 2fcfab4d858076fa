"""What the config of a training loader says about its batches: models and objectives can refuse it before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from omegaconf import DictConfig


@dataclass(frozen=True)
class TrainingData:
    """Batches of a training loader, by its config.

    Attributes:
        dataset: registered name.
        proposals: path of the proposal store; None: the loader reads none.
        sizes: sides of the student's images in pixels, of which one is drawn for each image.
        mix: how images may be mixed, as :attr:`.MixImages.kinds`; none of an own ``mix`` without ``kinds``.
    """

    dataset: str
    proposals: str | None = None
    sizes: Sequence[int] = ()
    mix: Sequence[str] = ()

    @classmethod
    def from_config(cls, loader: DictConfig) -> TrainingData:
        """Read ``dataloader.train``; keys that a loader of your own lacks are as by default.

        Raises:
            ValueError: images are to be mixed, and have several sizes or are alone in the batch of a process.
        """
        mix, mapper = getattr(instantiate(loader.get("mix")), "kinds", ()), loader.get("mapper") or {}
        data = cls(loader.get("dataset"), loader.get("proposals"), list(mapper.get("sizes") or ()), mix)
        world_size, batch = comm.get_world_size(), instantiate(loader.get("total_batch_size"))
        if mix and batch is not None and batch < 2 * world_size:
            raise ValueError(
                f"dataloader.train.mix needs two images for each process: set train.batch_size to {2 * world_size} or "
                "more for each of trainer.accumulate, or dataloader.train.mix=null"
            )
        if mix and len(data.sizes) > 1:
            raise ValueError(
                f"images of the sizes {data.sizes} cannot be mixed: set a single one in "
                "dataloader.train.mapper.sizes, or dataloader.train.mix=null"
            )
        return data

    @cached_property
    def has_proposals(self) -> bool:
        """Whether images have proposals, from a store or in the dataset itself."""
        return self.proposals is not None or "proposal_boxes" in DatasetCatalog.get(self.dataset)[0]
