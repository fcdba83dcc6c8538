"""What a type checker has to be told: lists that remember the kind of their modules, and optional
values that are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar, cast

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)
Value = TypeVar("Value")


class Modules(nn.ModuleList, Generic[Layer]):
    """nn.ModuleList, the same at run time and in the state dict, whose items keep their type."""

    def __init__(self, modules: Iterable[Layer]) -> None:
        super().__init__(modules)

    def __iter__(self) -> Iterator[Layer]:
        return cast(Iterator[Layer], super().__iter__())

    def __getitem__(self, index: int) -> Layer:  # type: ignore[override]  # no slices here
        return cast(Layer, super().__getitem__(index))


def required(value: Value | None) -> Value:
    """The value itself, where the caller knows that there is one."""
    assert value is not None
    return value
