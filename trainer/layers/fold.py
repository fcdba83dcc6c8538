"""What is several operations while training and one at run time: exact rewriting for export."""

from __future__ import annotations

import copy
from typing import Protocol, TypeVar, runtime_checkable

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


@runtime_checkable
class Foldable(Protocol):
    """A module that computes the same function in fewer operations once its weights are fixed."""

    def fold(self) -> None:
        """Rewrite the module in place; it cannot be trained or loaded from a checkpoint
        afterwards.
        """
        ...


def folded_copy(model: Model) -> Model:
    """Return a copy in evaluation mode in which every `Foldable` module is folded.

    The same function in fewer operations; `model` itself keeps the names of its state for training.
    """
    folded = copy.deepcopy(model).eval()
    for module in list(folded.modules()):
        if isinstance(module, Foldable):
            module.fold()
    return folded
