"""docs/gpio.md: its station.toml is one, and its timing diagrams are what the lines do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.config import parse_config
from edge.dialect_sections import GPIO_OUTPUTS
from edge.line.gpio_cycle import Cycle, Told
from edge.types import Code

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "gpio.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(?:toml|text) (\S+)\n(.*?)\n```", PAGE, flags=re.DOTALL))
COLUMNS, PULSE = 55, 10  # of 10 ms each
EDGES = {1: 1, 27: 2, 32: 3}  # column: number
ACCEPTED = {2: 1, 28: 2}
VERDICTS = {11: (1, Code.OK), 40: (2, Code.UNKNOWN)}
KEYS = ("busy", "ok", "ng", "unknown", "valid")


def diagram(is_level: bool) -> str:
    """What the outputs do, one character for each 10 ms."""
    cycle, shown = Cycle(PULSE, is_level, is_triggered=True), []
    for now in range(COLUMNS):
        cycle.pass_time(now)
        if now in EDGES:
            assert cycle.begin(EDGES[now], now, now + 6, now + 80, now) == (EDGES[now] < 3)
        if now in ACCEPTED:
            cycle.acknowledge(ACCEPTED[now], is_accepted=True)
        if now in VERDICTS:
            n, code = VERDICTS[now]
            assert cycle.tell(Told(n, code, now + 10), now)
        shown.append({*cycle.active, *(["trigger"] if now in EDGES else [])})
    return "\n".join(
        f"{key:<9}" + "".join("#" if key in one else "_" for one in shown)
        for key in ("trigger", *KEYS)
    )


@pytest.mark.parametrize("mode", ["pulse", "level"])
def test_the_timing_is_what_the_lines_do(mode: str) -> None:
    assert BLOCKS[f"timing-{mode}"] == diagram(mode == "level")


def test_its_station_toml_is_taken() -> None:
    config = parse_config(BLOCKS["gpio"])
    assert config.decision.is_triggered
    assert config.gpio.brings_triggers
    assert list(config.gpio.outputs) == ["ready", "ok", "ng", "busy", "valid"]


def test_every_line_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (in|out) \|", PAGE, flags=re.MULTILINE)
    assert sorted(key for key, way in rows if way == "out") == sorted(GPIO_OUTPUTS)
    assert [key for key, way in rows if way == "in"] == ["trigger"]


def test_every_problem_of_the_lines_is_in_the_table() -> None:
    root = Path(__file__).resolve().parents[2]
    source = " ".join(
        (root / f"edge/line/gpio{name}.py").read_text(encoding="utf-8") for name in ("", "_chip")
    )
    plain = re.sub(r'"\s*\n?\s*f?"', "", source)
    rows = re.findall(
        r"^\| ((?:`[^|]*`[, ]*)+) \| ", PAGE.split("## When it does")[1], re.MULTILINE
    )
    words = [word for row in rows for word in re.findall(r"`([^`]+)`", row)]
    assert len(words) == 12
    assert [word for word in words if word not in plain] == []
