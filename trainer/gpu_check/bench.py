"""What a check is and what it works on: a small synthetic product, and detectors trained on it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from trainer.api import TrainedRun, TrainOptions, load_run, train
from trainer.evaluate.images import ShownImage
from trainer.evaluate.judged import open_judged
from trainer.synthetic.products.write import Amounts, write_product
from trainer.train.run_folder import RUN_FILE

PRODUCT, SEED = "washer", 0
AMOUNTS = Amounts(train=12, validation=6, test=6, per_defect=1, belt=0, empty=1)
EPOCHS = 2  # of every phase
FRAMES = 4  # that graphs are compared on

Feeds = Mapping[str, NDArray[np.generic]]
T = TypeVar("T")


class CheckFailed(EdgeError):
    """A check found what must not be."""


class NotExecuted(EdgeError):
    """A check cannot be done here; the text says why."""


@dataclass(frozen=True)
class Done:
    """What a check that passed has found. numbers: by name, with their unit at the end of it."""

    said: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Where the checks work.

    folder: for the product and the runs, kept from check to check. device: torch's name of what is
    checked: the GPU, or the CPU itself in a rehearsal.
    """

    folder: Path
    device: str = "cuda"
    amounts: Amounts = AMOUNTS
    epochs: int = EPOCHS

    @property
    def is_rehearsal(self) -> bool:
        """Whether the CPU stands in for the GPU."""
        return self.device == "cpu"

    def product(self) -> Path:
        """The images; drawn by whoever asks first."""
        product, unfinished = self.folder / PRODUCT, self.folder / "unfinished"
        if not product.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
            for _ in write_product(PRODUCT, unfinished, self.amounts, SEED):
                pass
            unfinished.rename(product)
        return product

    def trained(self, system: str, on_cpu: bool) -> TrainedRun:
        """A run of the `compact` preset, trained on the CPU or on what is checked; by whoever asks
        first.
        """
        folder = self.folder / f"{system}-{'cpu' if on_cpu else 'device'}"
        if (folder / RUN_FILE).is_file():
            return load_run(folder)
        device = "cpu" if on_cpu else self.device
        options = TrainOptions(epochs=self.epochs, seed=SEED, device=device, overwrite=True)
        return train(system, self.product(), folder, options)


def frames_of(run: TrainedRun, count: int = FRAMES) -> list[Feeds]:
    """Every graph input by name, of some test images, good and defective ones."""
    samples = open_judged(run.info).samples
    chosen = samples[:: max(1, len(samples) // count)][:count]
    neutral = {spec.name: spec.neutral() for spec in run.deployed.inputs}
    defaults = {name: value for name, value in neutral.items() if value is not None}
    return [{**defaults, **ShownImage(sample).inputs(run)[0]} for sample in chosen]


def timed(act: Callable[[], T]) -> tuple[T, float]:
    """What `act` gives, and the seconds it took."""
    start_s = time.monotonic()
    return act(), time.monotonic() - start_s
