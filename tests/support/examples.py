"""The examples of CONTRIBUTING.md as modules, as if they lay where the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"


def example_module(example: str, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The fenced example of that name, importable as `name` until the test ends."""
    text = PAGE.read_text(encoding="utf-8")
    (source,) = re.findall(rf"```python {example}\n(.*?)```", text, flags=re.DOTALL)
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(source, f"{PAGE.name}, {example}", "exec"), module.__dict__)
    return module
