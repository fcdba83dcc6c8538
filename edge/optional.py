"""Optional libraries are imported here, at the moment of use."""

from __future__ import annotations

import importlib
from types import ModuleType

from edge.errors import MissingDependency


def optional_module(name: str, remedy: str) -> ModuleType:
    """Import `name` now, so that `import edge` works on a laptop without it.

    Raises: MissingDependency with the remedy if it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except (
        ImportError,
        OSError,
        RuntimeError,
        AttributeError,
    ) as error:  # a driver or a library of another version
        why = " ".join(str(error).split())
        raise MissingDependency(f"cannot import {name} ({why}). {remedy}") from error
