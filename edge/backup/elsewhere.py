"""Files that station.toml names outside the station's own folders: they are not in its backup."""

from __future__ import annotations

from pathlib import Path

from edge.backup.contents import ETC
from edge.config import EdgeConfig, read_config
from edge.station.root import DATA


def files_elsewhere(root: Path) -> list[Path]:
    """Raises: ConfigError if station.toml is not what it should be."""
    own = [(root / place).resolve() for place in (ETC, DATA)]
    named = [root / text for text in _texts_of(read_config(root)) if "/" in text]
    return [
        path
        for path in dict.fromkeys(named)
        if path.exists() and not any(place in path.resolve().parents for place in own)
    ]


def _texts_of(config: EdgeConfig) -> list[str]:
    sections = [getattr(config, name) for name in EdgeConfig.model_fields]
    values = [value for section in sections for value in section.model_dump().values()]
    return [value for value in values if isinstance(value, str)]
