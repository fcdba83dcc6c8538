"""What is compiled by which version of tensorrt_rtx, and that what is left out is said."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainer.export import precisions
from trainer.export.precisions import compile_all


@pytest.mark.parametrize(
    ("version", "compiled", "compiler"),
    [
        ("1.7.1.116", ["int8", "fp16"], "tensorrt_rtx 1.7.1.116"),
        ("1.10.0", ["int8", "fp16"], "tensorrt_rtx 1.10.0"),
        ("1.6.1.120", ["fp16"], "tensorrt_rtx 1.6.1.120, but for int8"),
    ],
)
def test_int8_is_left_to_versions_that_take_it(
    version: str, compiled: list[str], compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.6.1 stands beside torch-tensorrt; an export must not fail for it."""
    seen: list[str] = []

    def check(path: Path) -> SimpleNamespace:
        seen.append(path.stem)
        return SimpleNamespace(layers=1, seconds=0.0)

    monkeypatch.setattr(precisions, "check_compiles", check)
    monkeypatch.setattr(metadata, "version", lambda _: version)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    told: list[str] = []
    assert compile_all(Path("nowhere"), ("int8", "fp16"), told.append) == compiler
    assert seen == compiled
    assert any("int8: not compiled" in line for line in told) == ("int8" not in compiled)
