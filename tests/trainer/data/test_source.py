"""What a training computes from every image shows how far it is."""

from __future__ import annotations

import pytest
import torch

from trainer import progress
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages
from trainer.graph.prepared import Prepared


class Clock:
    """A clock that a test sets."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


def test_slow_images_are_counted_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)

    def load(number: int) -> Prepared:
        clock.now_s += 6
        one = torch.zeros(1)
        image = torch.full((1, 3, 8, 8), float(number))
        return Prepared(image, None, torch.ones(1, 1, 8, 8), None, one, one)

    batches = list(TrainingImages(load, 4, "digest").with_copies(Augmentation(), 1, 0))
    assert [float(batch.color.max()) for batch in batches] == [0, 1, 2, 3]
    assert {len(batch.color) for batch in batches} == {2}
    assert capsys.readouterr().err.splitlines() == [
        "computing from the normal images: 2 of 4, 6.0 s each, about 0:12 left",
        "computing from the normal images: 4 of 4, 6.0 s each, about 0:00 left",
    ]
