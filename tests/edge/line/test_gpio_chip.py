"""Lines by name: over chips that stand in, and as far as the real library goes without one."""

from __future__ import annotations

import errno
from datetime import timedelta
from pathlib import Path

import gpiod
import pytest
from gpiod._ext import LineConfig
from gpiod.line import Clock, Direction, Edge, Value
from gpiod.line_settings import _line_settings_to_ext

from edge.dialect_sections import GpioConfig
from edge.line import gpio_chip
from edge.line.gpio_chip import ChipLines, chip_paths, line_settings, open_lines
from edge.line.gpio_lines import LinesLost
from tests.support.fake_gpio import NAMES, PATH, SETTINGS, fake_board

ALL = GpioConfig(enabled=True, active_low=["trigger", "ok"], debounce_us=3000, **SETTINGS)
OTHER = "/dev/gpiochip1"
HERE = Path("/dev")


def test_every_line_is_held_by_its_name_and_begins_released() -> None:
    with fake_board({OTHER: ["", "X", *reversed(NAMES)], PATH: ["Y"]}) as board:
        lines = open_lines(ALL, has_trigger=True)
        assert board.active == frozenset()
        assert board.line("DIO_OK").is_high  # active low: released is high
        assert {line.user for line in board.lines[OTHER]} == {"", "edge"}
        lines.set({"ok": True, "busy": True})
        assert board.active == {"ok", "busy"}
        assert not board.line("DIO_OK").is_high
        board.pulse(at_ns=123)
        board.pulse(at_ns=456)
        assert [(one.moment_ns, one.number) for one in lines.read_edges()] == [(123, 1), (456, 2)]
        lines.release()
        lines.release()
        assert not any(line.user for line in board.lines[OTHER])


def test_the_real_library_takes_the_settings() -> None:
    config = LineConfig()
    for offset, role in enumerate(SETTINGS):
        config.add_line_settings([offset], _line_settings_to_ext(line_settings(ALL, role)))
    trigger, ok, ng = (line_settings(ALL, role) for role in ("trigger", "ok", "ng"))
    assert (trigger.direction, trigger.edge_detection) == (Direction.INPUT, Edge.RISING)
    assert (trigger.active_low, trigger.event_clock) == (True, Clock.MONOTONIC)
    assert trigger.debounce_period == timedelta(milliseconds=3)
    assert (ok.direction, ok.active_low, ok.output_value) == (
        Direction.OUTPUT,
        True,
        Value.INACTIVE,
    )
    assert not ng.active_low


@pytest.mark.skipif(any(HERE.glob("gpiochip*")), reason="this machine has a GPIO chip")
def test_a_machine_without_a_chip_says_so_in_one_sentence() -> None:
    with pytest.raises(LinesLost, match=r"^this machine has no GPIO chip \(/dev/gpiochip\*\): see"):
        open_lines(ALL, has_trigger=True)


def test_what_is_no_chip_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpiochip0").write_text("a file")
    monkeypatch.setattr(gpio_chip, "DEVICES", tmp_path)
    with pytest.raises(LinesLost, match="no GPIO chip"):
        chip_paths()
    monkeypatch.setattr(gpiod, "is_gpiochip_device", lambda _: True)
    (tmp_path / "gpiochip9").symlink_to(tmp_path / "gpiochip0")
    assert chip_paths() == [str(tmp_path / "gpiochip0")]
    with pytest.raises(LinesLost, match=r"gpiochip0 cannot be read: .*see docs/gpio.md"):
        open_lines(ALL, has_trigger=True)


@pytest.mark.parametrize(
    ("chips", "changes", "words"),
    [
        ({PATH: NAMES[1:]}, {}, "there is no line DIO_TRIGGER on any GPIO chip"),
        ({PATH: NAMES, OTHER: NAMES}, {}, "two GPIO lines are named DIO_.*set chip"),
        ({PATH: NAMES, OTHER: NAMES}, {"chip": "tegra"}, "no line DIO_.* on a GPIO chip tegra"),
        ({PATH: NAMES[:3], OTHER: NAMES[3:]}, {}, f"outputs of .gpio. lie on {PATH} and {OTHER}"),
    ],
)
def test_lines_that_cannot_be_found(
    chips: dict[str, list[str]], changes: dict[str, object], words: str
) -> None:
    with fake_board(chips), pytest.raises(LinesLost, match=words):
        open_lines(ALL.model_copy(update=changes), has_trigger=True)


@pytest.mark.parametrize("chip", [OTHER, "gpiochip1", "label of gpiochip1"])
def test_a_chip_is_named_by_device_or_label(chip: str) -> None:
    with fake_board({PATH: NAMES, OTHER: NAMES}) as board:
        open_lines(ALL.model_copy(update={"chip": chip}), has_trigger=True)
        assert [line.user for line in board.lines[PATH]] == [""] * len(NAMES)


def test_the_trigger_may_lie_on_another_chip() -> None:
    with fake_board({PATH: NAMES[:1], OTHER: NAMES[1:]}) as board:
        open_lines(ALL, has_trigger=True)
        assert [line.user for line in board.lines[PATH]] == ["edge"]


def test_lines_in_use_are_told_with_their_user() -> None:
    with fake_board() as board:
        board.line("DIO_TRIGGER").user = "button"
        with pytest.raises(LinesLost, match=f"on {PATH} are in use by button: end it"):
            open_lines(ALL, has_trigger=True)
        assert not board.line("DIO_OK").user  # the outputs were released again
        board.refuses = errno.EINVAL
        with pytest.raises(LinesLost, match="cannot be requested: Invalid argument"):
            open_lines(ALL, has_trigger=False)


def test_a_chip_that_may_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with fake_board():
        monkeypatch.setattr(gpiod, "Chip", refuse)
        with pytest.raises(LinesLost, match=f"no right to open {PATH}: let the service's user"):
            open_lines(ALL, has_trigger=True)


def test_a_chip_that_is_gone_is_told_by_every_call() -> None:
    with fake_board() as board:
        lines = open_lines(ALL, has_trigger=True)
        assert isinstance(lines, ChipLines)
        board.vanish()
        with pytest.raises(LinesLost, match="chip of the trigger is gone: No such device"):
            lines.read_edges()
        with pytest.raises(LinesLost, match="chip of the outputs is gone: No such device"):
            lines.set({"ok": True})
