"""Campaigns of tiny products as processes, and what of their results must be the same."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.tiny_product import write_tiny_product
from trainer.runner.work import DONE

REPOSITORY = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """For a process that finds this repository."""
    path = os.pathsep.join([str(REPOSITORY), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    return {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}


def campaign_file(folder: Path, systems: Sequence[str], seeds: int) -> Path:
    """Short trainings on one product of color images."""
    write_tiny_product(folder / "flat", with_depth=False)
    file = folder / "many.toml"
    file.write_text(
        f"products = ['flat']\nsystems = {list(systems)}\nseeds = {list(range(seeds))}\n"
        "epochs = 1\n"
    )
    return file


def command(file: Path, out: Path, runner: str) -> list[str]:
    """The command line."""
    words = ["campaign", str(file), "--out", str(out), "--runner", runner]
    return [sys.executable, "-m", "trainer", *words]


def results_of(out: Path) -> dict[str, Any]:
    """By job that has landed: its weights, its threshold and all that was judged, to the bit."""
    found = {}
    for marker in out.glob(f"jobs/*/*/{DONE}"):
        run = marker.parent / "run"
        judged = json.loads((run / "evaluate.json").read_text())
        kept = {name: judged[name] for name in ("threshold", "rows", "groups", "images")}
        weights = (run / "model.safetensors").read_bytes()
        found[marker.parent.name] = (weights, kept, (run / "curves.json").read_bytes())
    return found
