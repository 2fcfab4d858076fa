"""Cross-fitting: the teacher's outputs for an image come from a teacher that was not trained on it.

A teacher has fitted the labels of its training images, so that its maps and scores for them differ from those for new
images. With K folds, teacher i is trained without fold i (``dataset.leave_out=i/K``) and run on fold i only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
import yaml
from detectron2.data import MetadataCatalog
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from wsd_distill.data.build import get_dataset_dicts
from wsd_distill.data.check import split_hash
from wsd_distill.data.datasets.catalog import drop_fold, get_labelled_dataset
from wsd_distill.engine.run_folder import CONFIG, EARLIER, INPUTS, read_inputs
from wsd_distill.modeling import WSDDN
from wsd_distill.modeling.checkpoints.load import CheckpointError, load_state, load_weights, name_key, read_state
from wsd_distill.modeling.freezing import freeze

from .views import Teacher


class Teachers:
    """One module with the weights of each checkpoint in turn, which iteration loads.

    Args:
        teacher: T-WDet, or a classifier, of which only feature maps are used.
        checkpoints: one, or one for each fold of the training images.
        trunk_checkpoint: weights of ``trunk``, a copy of the teacher's backbone; None: ``trunk`` is None.

    Raises:
        FileNotFoundError, CheckpointError: as in ``load_weights``; for ``checkpoints`` raised by the iteration.
    """

    def __init__(self, teacher: Teacher, checkpoints: Sequence[str], trunk_checkpoint: str | None = None):
        self.teacher, self.checkpoints = teacher, list(checkpoints)
        self.trunk = None if trunk_checkpoint is None else _load_trunk(teacher, trunk_checkpoint)
        self._loaded = -1  # index of the checkpoint in the module

    def __len__(self) -> int:
        return len(self.checkpoints)

    def __contains__(self, teacher: object) -> bool:
        return teacher is self.teacher

    def __iter__(self) -> Iterator[Teacher]:
        for i, checkpoint in enumerate(self.checkpoints):
            if i != self._loaded:
                with name_key("distiller.teacher_checkpoint"):
                    state = read_state(checkpoint)
                    _check_refinements(self.teacher, state, checkpoint)
                    load_state(self.teacher, state, checkpoint, trained=isinstance(self.teacher, WSDDN))
                self._loaded = i
            yield self.teacher

    def to(self, device: torch.device) -> None:
        """Move the modules, if they are elsewhere."""
        if self.teacher.device != device:
            self.teacher.to(device)
        if self.trunk is not None:
            self.trunk.to(device)


def _check_refinements(teacher: Teacher, state: Mapping[str, Tensor], checkpoint: str) -> None:
    own, others = (
        {key: value.shape for key, value in x.items() if key.startswith("refinement.")}
        for x in (teacher.state_dict(), state)
    )
    if own != others:
        raise CheckpointError(
            f"{checkpoint} does not have the refinement branches that distiller.teacher.num_refinements asks for: set "
            f"it as in the training of this file{'' if others else ', which has none: 0'}"
        )


def _load_trunk(teacher: Teacher, checkpoint: str) -> nn.Module:
    other = copy.deepcopy(teacher)
    with name_key("distiller.trunk_checkpoint"):
        load_weights(other, checkpoint, trained=False)
    freeze(other.backbone)
    return other.backbone


def check_whole(checkpoint: str) -> None:
    """Check that a single teacher is not one of the folds: then the others have been forgotten.

    Raises:
        ValueError: ``config.yaml`` beside the checkpoint has ``dataset.leave_out``.
    """
    fold = None
    with suppress(OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):  # none, or of another project
        fold = OmegaConf.select(OmegaConf.load(Path(checkpoint).with_name(CONFIG)), "dataset.leave_out")
    if fold is not None:
        raise ValueError(
            f"{checkpoint} was trained with dataset.leave_out={fold}: give the files of all folds in "
            "distiller.teacher_checkpoint, or a teacher of all images"
        )


def check_folds(checkpoints: Sequence[str], dataset: str) -> None:
    """Check that checkpoint i of K was trained on exactly the labelled images of a dataset that are not in fold i.

    ``inputs.json``, which a training writes beside its checkpoints, has the hash of its image ids and labels. What
    the training itself started from (``train.init_checkpoint``) is not checked.

    Args:
        checkpoints: of the K folds, in their order.
        dataset: registered name of the dataset that all folds are of.

    Raises:
        ValueError: a checkpoint was trained on other images or labels, or this cannot be read.
    """
    records, classes = get_dataset_dicts(get_labelled_dataset(dataset)), MetadataCatalog.get(dataset).thing_classes
    for fold, checkpoint in enumerate(checkpoints):
        kept = drop_fold(records, fold, len(checkpoints))
        training = f"a training with dataset.leave_out={fold}/{len(checkpoints)}"
        try:
            inputs = read_inputs(Path(checkpoint).with_name(INPUTS))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{checkpoint}: what it was trained on cannot be read ({error}): give the file in the folder of "
                f"{training}"
            ) from error
        if inputs.get("dataset.train") != split_hash(kept, classes) or EARLIER in inputs:
            raise ValueError(
                f"{checkpoint} was not trained on the images of {dataset} without fold {fold}: give that of "
                f"{training}, in the order of the folds, of which there are as many as files"
            )
