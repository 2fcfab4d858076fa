"""Training loop on Detectron2's TrainerBase: gradient accumulation, mixed precision, losses in the log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wsd_distill.modeling.normalization import CLASSIFICATION_LAYERS

from .distributed import check_unused_parameters


class Prefetcher:
    """Iterate over ``loader`` in its order while a thread reads the next batch.

    An error of the loader is raised, with its traceback, where its batch is requested. The loader's code must not draw
    PyTorch's random numbers, which the model draws meanwhile.
    """

    def __init__(self, loader: Iterable):
        self.loader = loader
        self._batches = iter(loader)
        self._reader = ThreadPoolExecutor(1, "prefetcher")  # Python joins its thread at exit
        self._next = self._read()

    def _read(self) -> Future:
        return self._reader.submit(next, self._batches)

    def __iter__(self) -> Prefetcher:
        return self

    def __next__(self) -> Any:
        batch = self._next.result()
        self._next = self._read()
        return batch

    def pause(self) -> None:
        """Wait until nothing is being read; the batch is kept."""
        wait([self._next])


class Trainer(TrainerBase):
    """Minimize the sum of a model's losses; each loss is logged under its name.

    Args:
        model: in training mode, batch -> dict of scalar losses.
        data_loader: endless iterable of micro-batches; the next one is read while the current one is in use.
        optimizer: over the parameters to train.
        accumulate: micro-batches of a step; its gradient is the mean over them, and over ranks.
        amp: autocast and gradient scaling on a GPU.
        clip_norm: maximal norm of the gradient; None: no clipping.
        start_penalty: weight a of L2-SP (Li et al., ICML 2018), a / 2 * ||w - w0||^2 over pretrained parameters w,
            added to the losses as ``loss_start``; w0 is set by ``set_start``.
        ema: decay d of an exponential moving average of weights and BatchNorm statistics, which is evaluated and saved
            instead of them: average <- d * average + (1 - d) * weights after each step. None: no average.
        ema_warmup: limit the decay of step s = 0, 1, ... to 1 - (1 + s)^(-2/3) (timm's ModelEmaV3), so that the average
            does not hold the initial weights for long. False: the average starts with the weights after the first step.
        seed: PyTorch's generators are seeded with it, the rank, the iteration and the micro-batch before each forward
            pass, so that a resumed training draws the same numbers as an uninterrupted one.

    Attributes:
        should_stop: called on each rank in each step; once it returns True on one, ``stopping`` is True on all.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        accumulate: int = 1,
        amp: bool = False,
        clip_norm: float | None = None,
        start_penalty: float = 0.0,
        ema: float | None = None,
        ema_warmup: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        if ema is not None and not 0 < ema < 1:
            raise ValueError(f"trainer.ema is {ema}: set it to a decay above 0 and below 1, or to null for no average")
        if amp and not torch.cuda.is_available():
            raise ValueError("mixed precision needs a GPU: set trainer.amp=False")
        model.train()
        self.model, self.data_loader, self.optimizer = model, data_loader, optimizer
        self.accumulate, self.amp, self.clip_norm, self.seed = accumulate, amp, clip_norm, seed
        self.grad_scaler = torch.amp.GradScaler("cuda", enabled=amp)
        self.start_penalty = start_penalty
        self._start: list[tuple[Tensor, Tensor]] = []  # trained parameters and their pretrained values
        self.last_checkpoint = ""  # latest file of this run, set by ResumableCheckpointer on the main process
        self.should_stop: Callable[[], bool] = lambda: False
        self.stopping = False
        self.ema, self.ema_warmup = ema, ema_warmup
        self._average: ModelEmaV3 | None = None
        self._batches: Prefetcher | None = None

    @property
    def unwrapped_model(self) -> nn.Module:
        """The model without its DistributedDataParallel wrapper."""
        return getattr(self.model, "module", self.model)

    def set_start(self, model: nn.Module, state: Mapping[str, Tensor], new_layers: Sequence[str] = ()) -> None:
        """Set the start of ``start_penalty``: trained parameters of ``model`` whose values are those in ``state``.

        Classification layers and ``new_layers`` keep no distance, even if ``state`` has them: a stage 1 saves the
        random classifier that it does not train.

        Args:
            model: the student or teacher of ``self.model``, with the pretrained weights.
            state: the pretrained weights.
            new_layers: names of submodules.

        Raises:
            ValueError: no trained parameter is pretrained.
        """
        new = (*CLASSIFICATION_LAYERS, *(f"{name}." for name in new_layers))
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad and not name.startswith(new)]
        trained = [(p, state[name]) for name, p in named if name in state]
        pretrained = [p for p, value in trained if torch.equal(p.detach().cpu(), value.to(p.dtype))]
        self._start = [(p, p.detach().clone()) for p in pretrained]
        if not self._start:
            raise ValueError(
                "trainer.start_penalty: no trained parameter has a value from train.init_checkpoint: set both, or 0"
            )

    def _compute_start_penalty(self) -> Tensor:
        return self.start_penalty / 2 * torch.stack([(p - start).square().sum() for p, start in self._start]).sum()

    @property
    def raw_model(self) -> nn.Module:
        """The model that a checkpoint holds, with the weights that the optimizer changes."""
        return self.unwrapped_model

    @property
    def eval_model(self) -> nn.Module:
        """The model to evaluate and to save: ``raw_model``, with ``ema`` a copy that has the averaged weights."""
        return self.raw_model if self._average is None else self._average.module

    def before_train(self) -> None:
        if self.ema is not None and self._average is None:  # not before the initial weights are loaded
            self._average = self._copy_model()
        super().before_train()

    def _copy_model(self) -> ModelEmaV3:
        return ModelEmaV3(self.raw_model, decay=self.ema, use_warmup=self.ema_warmup)

    def run_step(self) -> None:
        self.optimizer.zero_grad()
        data_time = 0.0
        totals: dict[str, Tensor] = {}
        for micro_step in range(self.accumulate):
            start = time.perf_counter()
            batch = self._next_batch()
            data_time += time.perf_counter() - start
            check_inputs(batch)
            torch.manual_seed(self._derive_seed(micro_step))
            for name, value in self._backward(batch, last=micro_step + 1 == self.accumulate).items():
                totals[name] = totals.get(name, 0.0) + value / self.accumulate
        if self.iter == self.start_iter and self.unwrapped_model is not self.model:
            check_unused_parameters(self.unwrapped_model)
        if self.clip_norm is not None:
            self.grad_scaler.unscale_(self.optimizer)
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self._log({name: value.item() for name, value in totals.items()}, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        if self._average is not None:
            self._average.update(self.raw_model, step=self.iter + 1)

    def _derive_seed(self, micro_step: int) -> int:
        entropy = (self.seed, comm.get_rank(), self.iter, micro_step)
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])

    def after_train(self) -> None:
        self._pause_reading()
        super().after_train()

    def _next_batch(self) -> list[dict]:
        if self._batches is None or self._batches.loader is not self.data_loader:
            self._pause_reading()
            self._batches = Prefetcher(self.data_loader)
        return next(self._batches)

    def _pause_reading(self) -> None:
        if self._batches is not None:
            self._batches.pause()

    def _backward(self, batch: list[dict], last: bool) -> dict[str, Tensor]:
        """Add the gradients of a micro-batch; ranks exchange them at the last one only."""
        model = self.model
        with model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext():
            with torch.autocast("cuda", enabled=self.amp):
                try:
                    losses = model(batch)
                except FloatingPointError as error:  # of Detectron2's RPN
                    raise FloatingPointError(self._describe_divergence(str(error).splitlines()[0])) from error
            if self._start:
                losses = {**losses, "loss_start": self._compute_start_penalty()}
            self.grad_scaler.scale(sum(losses.values()) / self.accumulate).backward()
        return {name: value.detach() for name, value in losses.items()}

    def _log(self, losses: dict[str, float], data_time: float) -> None:
        """Log means over ranks; set ``stopping``.

        Raises:
            FloatingPointError: a loss is not finite on some rank; no optimizer step was made with it.
        """
        gathered = comm.all_gather({"losses": losses, "data_time": data_time, "stop": self.should_stop()})
        self.stopping = any(x["stop"] for x in gathered)
        of_ranks = [x["losses"] for x in gathered]
        bad = {name: x[name] for name in losses for x in of_ranks if not math.isfinite(x[name])}
        if bad:
            self.last_checkpoint = comm.all_gather(self.last_checkpoint)[0]
            raise FloatingPointError(self._describe_divergence(f"{', '.join(bad)} became {list(bad.values())}"))
        if not comm.is_main_process():
            return
        self.storage.put_scalar("data_time", max(x["data_time"] for x in gathered))
        means = {name: sum(x[name] for x in of_ranks) / len(of_ranks) for name in losses}
        self.storage.put_scalars(total_loss=sum(means.values()), **means)

    def results(self) -> dict:
        """Return what ``results.json`` gets besides the metrics."""
        return {}

    def _describe_divergence(self, what: str) -> str:
        """Return a sentence with the likely cause: wrong weights or settings before the first step, else the rate."""
        what = f"{what} at iteration {self.iter}"
        if self.iter == 0:
            state = self.unwrapped_model.state_dict()
            broken = [name for name, x in state.items() if x.is_floating_point() and not torch.isfinite(x).all()]
            if broken:
                text = (
                    f"{what}: {', '.join(broken[:3])} of the model had values that are not finite before the first step"
                )
                return f"{text}. Set train.init_checkpoint to a file with sound weights."
            return (
                f"{what}, before the first step, though weights and inputs are finite: the learning rate is not the "
                "cause. Check model.pixel_mean, model.pixel_std and proposals.score_scale, and with trainer.amp=True "
                "try False."
            )
        last = self.last_checkpoint
        start = f"train.init_checkpoint={last} " if last else ""
        return (
            f"{what}. Lower the learning rate and start {'from the last checkpoint' if last else 'again'} in a new "
            f"folder, without --resume, which restores the old rate: {start}optimizer.lr=... train.output_dir=..."
        )

    def state_dict(self) -> dict:
        """Return the state of the training; with ``ema`` also the raw weights, as a checkpoint's model is averaged."""
        parts = {"optimizer": self.optimizer.state_dict(), "grad_scaler": self.grad_scaler.state_dict()}
        if self.ema is not None:
            parts["raw_model"] = self.raw_model.state_dict()
        return {**super().state_dict(), **parts}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the training; with ``ema``, the averaged weights must have been loaded into ``raw_model`` before.

        Raises:
            ValueError: the state is of a training with an average and this one has none, or the other way round.
        """
        if ("raw_model" in state_dict) != (self.ema is not None):
            found = "with" if "raw_model" in state_dict else "without"
            raise ValueError(f"it was trained {found} an average of the weights, and trainer.ema is {self.ema}")
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
        if self.ema is not None:
            self._average = self._copy_model()
            self.raw_model.load_state_dict(state_dict["raw_model"])


def check_inputs(batch: list[dict]) -> None:
    """Check that images and proposals of a batch are finite, also of a teacher's view. Only dicts are checked.

    Raises:
        ValueError: names the image.
    """
    for x in (x for x in batch if isinstance(x, dict)):
        for view in filter(None, (x, x.get("teacher"))):
            for name, values in _float_inputs(view):
                if not torch.isfinite(values).all():
                    image = x.get("file_name", x.get("image_id", "an image"))
                    raise ValueError(
                        f"{image}: its {name} are not finite (NaN or infinite): fix the file or its values"
                    )


def _float_inputs(view: dict) -> Iterator[tuple[str, Tensor]]:
    image, proposals = view.get("image"), view.get("proposals")
    if image is not None and image.is_floating_point():
        yield "pixels", image
    if proposals is not None:
        yield "proposal boxes", proposals.proposal_boxes.tensor
        if proposals.has("scores"):
            yield "proposal scores", proposals.scores
