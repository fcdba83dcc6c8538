"""What the tests of the trainer read or make again and again is made once in each process."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from edge.frames.clouds import Cloud, read_cloud

MOST_MODELS = 8  # of 20 MB
MOST_CLOUDS = 400  # of 128x128 to 160x120 pixels nearly all: 0.2 MB each

DRAWN = 30  # synthetic defects that choose the share of the score


@pytest.fixture(scope="session", autouse=True)
def _fewer_defects_are_drawn() -> Iterator[None]:
    """Two seconds of every training here, and nothing is shown by more of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.train.validation.DRAWN", DRAWN)
        yield


@pytest.fixture(scope="session", autouse=True)
def _clouds_are_read_once() -> Iterator[None]:
    """A fifth of an export of a tiny product, which reads each of its clouds some twenty times.
    Files of the same bytes are the same cloud, whose arrays cannot be changed in place; what is
    refused or told of is read anew.
    """
    known: dict[bytes, Cloud] = {}

    def read_once(path: Path) -> Cloud:
        if not path.is_file():
            return read_cloud(path)
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest not in known:
            cloud = read_cloud(path)
            if cloud.notes:
                return cloud
            for values in (cloud.z, cloud.rays):
                if values is not None:
                    values.setflags(write=False)
            if len(known) == MOST_CLOUDS:
                known.clear()
            known[digest] = cloud
        return known[digest]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.frames.sample.read_cloud", read_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _models_are_initialized_once() -> Iterator[None]:
    """timm fills a backbone with random numbers, which weights then replace: half of what building
    a detector of a test's size takes. From one state of torch's generator they are always the same,
    so that they are copied, and the generator is left as it would have been.
    """
    create = timm.create_model

    @lru_cache(MOST_MODELS)
    def created(name: str, _state: bytes) -> tuple[nn.Module, torch.Tensor]:
        return create(name, pretrained=False), torch.get_rng_state()

    def create_once(name: str, *given: Any, **options: Any) -> nn.Module:
        if given or options != {"pretrained": False}:
            return create(name, *given, **options)
        model, state_after = created(name, torch.get_rng_state().numpy().tobytes())
        torch.set_rng_state(state_after)
        return copy.deepcopy(model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", create_once)
        yield
