"""What `trainer synthesize` wrote about the defects of a synthetic product."""

from __future__ import annotations

import json
from pathlib import Path

from edge.errors import DataError
from trainer.evaluate.report import KnownDefect
from trainer.synthetic.scene_defects import group_called


def known_defects(root: Path) -> list[KnownDefect]:
    """defects.json of a synthetic product; empty elsewhere. Raises: DataError if it is damaged."""
    path = root / "defects.json"
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [
            KnownDefect(
                entry["name"],
                group_called(entry["group"]),
                entry["defect"],
                entry["area_share"],
                entry.get("height_sigma"),
            )
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not what `trainer synthesize` writes ({error}): make the product again"
        ) from error
