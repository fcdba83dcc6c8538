"""What a station holds in memory with every adapter that lives in its process, before a model."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from edge.config import parse_config
from edge.line.factory import dialects_of
from edge.runtime.status_file import read_live
from tests.support.broker import wait_until
from tests.support.memory import Memory, every_adapter, station_without_model
from tests.support.station import GOOD, StationRoot, write_belt

LIMIT_MB = 170.0


@pytest.mark.endurance
def test_every_adapter_in_the_process_takes_under_170_mb_before_a_model_is_loaded(
    station: StationRoot, tmp_path: Path
) -> None:
    names, sections = every_adapter()
    belt = write_belt(tmp_path / "belt", [GOOD] * 8)
    text = f'[station]\nstation = "s1"\n[camera]\nkind = "folder"\npath = "{belt}"\n{sections}'
    assert dialects_of(parse_config(text)) == names
    (station.root / "etc/edge/station.toml").write_text(text)
    with station_without_model(station.root, tmp_path / "log") as process:

        def frames() -> int:
            assert process.poll() is None, (tmp_path / "log").read_text()
            live = read_live(station.store)
            return 0 if live is None else live.said.get("frames", 0)

        wait_until(lambda: frames() > 20, 20, (tmp_path / "log").read_text())
        held = Memory.of(process.pid)
        modules = Path(f"/proc/{process.pid}/maps").read_text()
        (camera,) = psutil.Process(process.pid).children()
        print(f"\n{', '.join(names)}: {held}; the camera's process: {Memory.of(camera.pid)}")
    assert "onnxruntime" not in modules
    assert held.rss < LIMIT_MB
