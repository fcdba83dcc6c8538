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
from trainer.tensor_files import load_stored

Curves = dict[str, list[float]]  # phase name -> mean loss of each epoch

CHECKPOINT_EVERY_S = 5.0


class Interrupted(KeyboardInterrupt):
    """The user stopped the training; the checkpoint is on disk."""


@dataclass
class Phase:
    """One stretch of training.

    name: of its curve. module: what is saved. parameters: what learns; nothing else gets a gradient
    step.
    batches: row or image numbers in 0 .. items - 1 are drawn in shuffled batches of batch_size,
    every item once per epoch.
    loss: (indices (B,) int64, generator) -> scalar. begin: called before the first epoch and when
    resuming inside the phase; it must depend on the modules trained before this phase only. rate:
    peak learning rate; warms up and falls to zero in one cosine. held_out: a figure of images that
    are not trained on, asked for after every epoch with the module in evaluation mode and kept as a
    curve beside the loss; it must draw nothing at random.
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

    checkpoint: None keeps none. fingerprint: of everything the run depends on; a checkpoint of
    another one is refused.
    tell: gets one line of progress now and then. stop_after: end as if interrupted after so many
    epochs (tests).
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
    """Run all phases on the parts of `root`, from the checkpoint if there is one.

    root: its trainable tensors (those of the phases) are what a checkpoint keeps.
    Raises: Interrupted after SIGINT, once the checkpoint is written; DataError if the checkpoint
    belongs to another training.
    """
    generator = torch.Generator().manual_seed(seed)
    state = _resume(phases, generator, control)
    total = sum(phase.epochs for phase in phases)
    clock = _Clock(
        total, sum(phase.epochs for phase in phases[: state.phase]) + state.epoch, control.tell
    )
    with _interruptible(control):
        if phases and state.phase == len(
            phases
        ):  # stopped after its last epoch: what begin measures is not stored
            root.eval()
            phases[-1].begin()
        while state.phase < len(phases):
            _run_phase(root, phases, state, generator, control, clock)
            state.phase, state.epoch, state.optimizer = state.phase + 1, 0, None
            _save(phases, state, None, generator, control)
    root.eval()
    return state.curves


def _run_phase(
    root: nn.Module,
    phases: Sequence[Phase],
    state: _State,
    generator: torch.Generator,
    control: FitControl,
    clock: _Clock,
) -> None:
    """Train one phase from state.epoch to its end."""
    phase = phases[state.phase]
    # frozen parts behave as they will on the device, in a resumed run as in a whole one
    root.eval()
    items = phase.begin()
    optimizer = torch.optim.Adam(
        phase.parameters, lr=phase.rate, betas=(0.9, 0.999), weight_decay=phase.weight_decay
    )
    if state.optimizer is not None:
        optimizer.load_state_dict(state.optimizer)
    phase.module.train()
    curve = state.curves.setdefault(phase.name, [])
    saved_s = time.monotonic()
    while state.epoch < phase.epochs:
        curve.append(_epoch(phase, optimizer, items, state.epoch, generator))
        if phase.held_out is not None:
            state.curves.setdefault(phase.held_out_name, []).append(
                _held_out(phase, phase.held_out)
            )
        state.epoch += 1
        control.epochs_done += 1
        clock.tick(phase, state.epoch, curve[-1], state.curves.get(phase.held_out_name, []))
        stop = control.stop_wanted or control.epochs_done == control.stop_after
        if stop or time.monotonic() - saved_s > CHECKPOINT_EVERY_S:
            _save(phases, state, optimizer, generator, control)
            saved_s = time.monotonic()
        if stop:
            raise Interrupted("training stopped; run the same command again to go on from here")
    phase.module.eval()


@torch.no_grad()
def _held_out(phase: Phase, figure: Callable[[], float]) -> float:
    """The figure of the module as it will be used."""
    phase.module.eval()
    value = figure()
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
    batches = [
        batch for batch in torch.split(order, phase.batch_size) if len(batch) > 1 or items == 1
    ]  # BatchNorm needs two rows
    batches = batches[: phase.steps_per_epoch]
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


def _save(
    phases: Sequence[Phase],
    state: _State,
    optimizer: torch.optim.Optimizer | None,
    generator: torch.Generator,
    control: FitControl,
) -> None:
    """Write the checkpoint, whole or not at all."""
    if control.checkpoint is None:
        return
    buffer = io.BytesIO()
    torch.save(
        {
            "fingerprint": control.fingerprint,
            "phase": state.phase,
            "epoch": state.epoch,
            "curves": state.curves,
            "modules": [phase.module.state_dict() for phase in phases],
            "optimizer": None if optimizer is None else optimizer.state_dict(),
            "generator": generator.get_state(),
            "global_generator": torch.get_rng_state(),
        },
        buffer,
    )
    write_atomically(control.checkpoint, buffer.getvalue())


def _resume(phases: Sequence[Phase], generator: torch.Generator, control: FitControl) -> _State:
    """The state of the checkpoint, loaded into the phases' modules; a fresh one where there is
    none.
    """
    if control.checkpoint is None or not control.checkpoint.is_file():
        return _State()
    remedy = "remove the file, and the training begins anew"
    stored = load_stored(control.checkpoint, "the checkpoint of an interrupted training", remedy)
    if not isinstance(stored, dict) or "fingerprint" not in stored:
        raise DataError(
            f"{control.checkpoint} is not the checkpoint of an interrupted training: {remedy}"
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

    def tick(self, phase: Phase, epoch: int, loss: float, held_out: Sequence[float] = ()) -> None:
        """An epoch is over."""
        self.done += 1
        now_s = time.monotonic()
        if now_s - self.told_s < self.quiet_s and epoch < phase.epochs:
            return
        self.told_s = now_s
        left_s = (
            (now_s - self.started_s) / (self.done - self.done_before) * (self.total - self.done)
        )
        minutes, seconds = divmod(round(left_s), 60)
        besides = f"  held out {held_out[-1]:8.4f}" if held_out else ""
        self.tell(
            f"{phase.name:<8} epoch {epoch:>4}/{phase.epochs}  loss {loss:8.4f}{besides}"
            f"  about {minutes}:{seconds:02d} left"
        )
