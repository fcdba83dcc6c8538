"""What the tests of the trainer read or make again and again is made once in each process."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
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


@pytest.fixture(scope="session", autouse=True)
def _clouds_are_read_once() -> Iterator[None]:
    """A fifth of an export of a tiny product, which reads each of its clouds some twenty times. A
    file that was written anew is read anew; the arrays cannot be changed in place.
    """

    @lru_cache(MOST_CLOUDS)
    def read(path: Path, *_written: int) -> Cloud:
        cloud = read_cloud(path)
        cloud.z.setflags(write=False)
        if cloud.rays is not None:
            cloud.rays.setflags(write=False)
        return cloud

    def read_once(path: Path) -> Cloud:
        if not path.is_file():
            return read_cloud(path)
        at = path.stat()
        return replace(read(path, at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns))

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
