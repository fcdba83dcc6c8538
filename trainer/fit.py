"""The training loop of every system: phases of epochs, seeded, interruptible, resumed with exactly
the same result.

All that the result depends on is in the checkpoint: weights, optimizer, random generator, phase,
epoch and curves. It is written atomically after an epoch, at most every few seconds, and always
before an interruption ends the process. On the CPU the result is then the same bit for bit,
interrupted or not, for the same number of threads.
"""

from __future__ import annotations

import io
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from edge.errors import DataError
from edge.files import write_atomically
from trainer.progress import minutes
from trainer.tensor_files import load_stored

Curves = dict[str, list[float]]  # phase name -> mean loss of each epoch

CHECKPOINT_EVERY_S = 5.0
CHECKPOINT_KEYS = frozenset(
    {
        "fingerprint",
        "phase",
        "epoch",
        "curves",
        "modules",
        "optimizer",
        "generator",
        "global_generator",
    }
)


class Interrupted(KeyboardInterrupt):
    """The user stopped the training; the checkpoint is on disk."""


@dataclass
class Phase:
    """One stretch of training.

    Args:
        name: of its curve.
        module: what is saved.
        parameters: what learns; nothing else gets a gradient step.
        begin: gives the number of items to learn from. Called before the first epoch and when a
            training is resumed inside the phase; it must depend only on the modules trained before
            this phase.
        loss: (indices (B,) int64, generator) -> scalar. Item numbers are drawn in shuffled batches,
            every item once per epoch.
        epochs, batch_size: of this phase.
        rate: peak learning rate.
        schedule: whether the rate warms up and falls to zero in one cosine (`one_cycle`).
        steps_per_epoch: most batches of an epoch; None: all.
        held_out: an error on images that are not trained on, measured after every epoch with the
            module in evaluation mode and kept as a curve beside the loss; it must draw nothing at
            random.
    """

    name: str
    module: nn.Module
    parameters: Sequence[nn.Parameter]
    begin: Callable[[], int]
    loss: Callable[[Tensor, torch.Generator], Tensor]
    epochs: int
    batch_size: int
    rate: float
    weight_decay: float = 1e-5
    schedule: bool = True
    steps_per_epoch: int | None = None
    held_out: Callable[[], float] | None = None

    @property
    def held_out_name(self) -> str:
        """Of the curve of `held_out`."""
        return f"{self.name}, held out"


@dataclass
class FitControl:
    """Where to keep checkpoints and whom to tell.

    checkpoint: file to keep one in; None keeps none. fingerprint: of everything the run depends on;
    a checkpoint of another one is refused. tell: gets one line of progress now and then.
    stop_after: end as if interrupted after this many epochs (tests).
    """

    checkpoint: Path | None = None
    fingerprint: str = ""
    tell: Callable[[str], None] = lambda line: print(line, flush=True)
    stop_after: int | None = None
    stop_wanted: bool = False
    epochs_done: int = field(default=0, repr=False)


@dataclass
class _State:
    """Where the training stands."""

    phase: int = 0
    epoch: int = 0
    curves: Curves = field(default_factory=dict)
    optimizer: dict[str, Any] | None = None


def fit_phases(root: nn.Module, phases: Sequence[Phase], seed: int, control: FitControl) -> Curves:
    """Run all phases on the modules of `root`, from the checkpoint if there is one.

    root: its trainable tensors (those of the phases) are what a checkpoint keeps.
    Raises: Interrupted after SIGINT, once the checkpoint is written; DataError if the checkpoint
    belongs to another training.
    """
    training = _Training(root, phases, torch.Generator().manual_seed(seed), control)
    with _interruptible(control):
        training.run()
    return training.state.curves


class _Training:
    """The phases of one training, and where it stands."""

    def __init__(
        self,
        root: nn.Module,
        phases: Sequence[Phase],
        generator: torch.Generator,
        control: FitControl,
    ) -> None:
        self.root, self.phases = root, phases
        self.generator, self.control = generator, control
        self.state = _resume(phases, generator, control)
        done = sum(phase.epochs for phase in phases[: self.state.phase]) + self.state.epoch
        self.clock = _Clock(sum(phase.epochs for phase in phases), done, control.tell)
        self.saved_s = time.monotonic()

    def run(self) -> None:
        """Train what is left, phase by phase."""
        state = self.state
        if self.phases and state.phase == len(self.phases):
            # stopped after its last epoch: what `begin` measures is not stored
            self.root.eval()
            self.phases[-1].begin()
        while state.phase < len(self.phases):
            self._run_phase(self.phases[state.phase])
            state.phase, state.epoch, state.optimizer = state.phase + 1, 0, None
            self._save(None)
        self.root.eval()

    def _run_phase(self, phase: Phase) -> None:
        """Train one phase from the epoch that the training stands at to its end."""
        # frozen modules behave as they will on the device, in a resumed run as in a whole one
        self.root.eval()
        items = phase.begin()
        optimizer = torch.optim.Adam(
            phase.parameters, lr=phase.rate, betas=(0.9, 0.999), weight_decay=phase.weight_decay
        )
        if self.state.optimizer is not None:
            optimizer.load_state_dict(self.state.optimizer)
        phase.module.train()
        self.saved_s = time.monotonic()
        while self.state.epoch < phase.epochs:
            self._run_epoch(phase, optimizer, items)
            self._save_or_stop(optimizer)
        phase.module.eval()

    def _run_epoch(self, phase: Phase, optimizer: torch.optim.Optimizer, items: int) -> None:
        """One epoch, with its points on the curves."""
        curves = self.state.curves
        loss = _epoch(phase, optimizer, items, self.state.epoch, self.generator)
        curves.setdefault(phase.name, []).append(loss)
        held_out = None if phase.held_out is None else _held_out(phase, phase.held_out)
        if held_out is not None:
            curves.setdefault(phase.held_out_name, []).append(held_out)
        self.state.epoch += 1
        self.control.epochs_done += 1
        self.clock.tick(phase, self.state.epoch, loss, held_out)

    def _save_or_stop(self, optimizer: torch.optim.Optimizer) -> None:
        """After an epoch: write the checkpoint if it is time. Raises: Interrupted if asked to."""
        control = self.control
        stop = control.stop_wanted or control.epochs_done == control.stop_after
        if stop or time.monotonic() - self.saved_s > CHECKPOINT_EVERY_S:
            self._save(optimizer)
            self.saved_s = time.monotonic()
        if stop:
            raise Interrupted("training stopped; run the same command again to go on from here")

    def _save(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Write the checkpoint, whole or not at all.

        torch's own format, not safetensors: beside tensors it holds the optimizer's and both random
        generators' state, and this program alone reads it.
        """
        if self.control.checkpoint is None:
            return
        stored = {
            "fingerprint": self.control.fingerprint,
            "phase": self.state.phase,
            "epoch": self.state.epoch,
            "curves": self.state.curves,
            "modules": [phase.module.state_dict() for phase in self.phases],
            "optimizer": None if optimizer is None else optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "global_generator": torch.get_rng_state(),
        }
        buffer = io.BytesIO()
        torch.save(stored, buffer)
        write_atomically(self.control.checkpoint, buffer.getvalue())


@torch.no_grad()
def _held_out(phase: Phase, measure: Callable[[], float]) -> float:
    """The error of the module as it will be used."""
    phase.module.eval()
    value = measure()
    phase.module.train()
    return value


def _epoch(
    phase: Phase,
    optimizer: torch.optim.Optimizer,
    items: int,
    epoch: int,
    generator: torch.Generator,
) -> float:
    """One pass over shuffled batches; returns the mean loss."""
    order = torch.randperm(items, generator=generator)
    split = torch.split(order, phase.batch_size)
    # BatchNorm needs two rows
    batches = [batch for batch in split if len(batch) > 1 or items == 1][: phase.steps_per_epoch]
    total = 0.0
    for number, batch in enumerate(batches):
        if phase.schedule:
            share = (epoch + number / len(batches)) / phase.epochs
            for group in optimizer.param_groups:
                group["lr"] = phase.rate * one_cycle(share)
        optimizer.zero_grad(set_to_none=True)
        loss = phase.loss(batch, generator)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimizer.step()
        total += float(loss.detach())
    return total / len(batches)


def one_cycle(share: float, warm_up: float = 0.1) -> float:
    """Learning rate factor at a share of the training in 0..1.

    Linear rise from 4 % to 1, then half a cosine down to 0.
    """
    if share < warm_up:
        return 0.04 + 0.96 * share / warm_up
    falling = (share - warm_up) / (1 - warm_up)
    return 0.5 * (1 + float(torch.cos(torch.tensor(falling * torch.pi))))


def _resume(phases: Sequence[Phase], generator: torch.Generator, control: FitControl) -> _State:
    """The state of the checkpoint, loaded into the phases' modules; a fresh one where there is
    none.
    """
    if control.checkpoint is None or not control.checkpoint.is_file():
        return _State()
    remedy = "remove the file, and the training begins anew"
    stored = load_stored(control.checkpoint, "the checkpoint of an interrupted training", remedy)
    if not isinstance(stored, dict) or not stored.keys() >= CHECKPOINT_KEYS:
        raise DataError(
            f"{control.checkpoint} is not the checkpoint of an interrupted training of this"
            f" version: {remedy}"
        )
    if stored["fingerprint"] != control.fingerprint:
        raise DataError(
            f"{control.checkpoint} belongs to a training with other data or options: repeat its"
            " command to go on with it, or name another --out"
        )
    for phase, tensors in zip(phases, stored["modules"], strict=True):
        phase.module.load_state_dict(tensors)
    generator.set_state(stored["generator"])
    torch.set_rng_state(stored["global_generator"])
    if stored["phase"] < len(phases):
        control.tell(f"resuming {phases[stored['phase']].name} at epoch {stored['epoch'] + 1}")
    return _State(stored["phase"], stored["epoch"], stored["curves"], stored["optimizer"])


@contextmanager
def _interruptible(control: FitControl) -> Iterator[None]:
    """SIGINT asks for a stop after the epoch at hand.

    A second one ends at once. Only the main thread may set handlers.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        if control.stop_wanted:
            raise KeyboardInterrupt
        control.stop_wanted = True
        control.tell("stopping after this epoch; press Ctrl-C again to stop at once")

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread: whoever started it handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Clock:
    """One line of progress now and then, with the time left; every epoch when a person watches."""

    def __init__(self, total: int, done: int, tell: Callable[[str], None]) -> None:
        self.total, self.done, self.tell = total, done, tell
        self.started_s, self.done_before = time.monotonic(), done
        self.told_s = 0.0
        self.quiet_s = 1.0 if sys.stderr.isatty() else 10.0

    def tick(self, phase: Phase, epoch: int, loss: float, held_out: float | None) -> None:
        """An epoch is over."""
        self.done += 1
        now_s = time.monotonic()
        if now_s - self.told_s < self.quiet_s and epoch < phase.epochs:
            return
        self.told_s = now_s
        spent_s, done_here = now_s - self.started_s, self.done - self.done_before
        left_s = spent_s / done_here * (self.total - self.done)
        besides = "" if held_out is None else f"  held out {held_out:8.4f}"
        self.tell(
            f"{phase.name:<8} epoch {epoch:>4}/{phase.epochs}  loss {loss:8.4f}{besides}"
            f"  about {minutes(left_s)} left"
        )
