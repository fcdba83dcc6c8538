"""Lines of the kernel's GPIO chips by libgpiod 2 (package gpiod), found by their names. Imported
only where [gpio] is enabled.

Never executed on a real line: the tests put a stand-in in the place of gpiod.Chip.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import gpiod
from gpiod.line import Clock, Direction, Value
from gpiod.line import Edge as Detected

from edge.dialect_sections import GpioConfig
from edge.line.gpio_lines import Edge, Lines, LinesLost

CONSUMER = "edge"  # as gpioinfo shows who holds a line
EDGES_LIMIT = 64  # that the kernel keeps; of more, the oldest are lost, and counted by their number
DEVICES = Path("/dev")
PAGE = "see docs/gpio.md"


@dataclass(frozen=True)
class Place:
    """Where a line is. offset: within the chip. user: who holds it, empty if it is free."""

    chip: str
    offset: int
    user: str


class ChipLines:
    """Held lines: one request for the outputs and one for the trigger, which may be on another
    chip. See edge.line.gpio_lines.Lines.
    """

    def __init__(
        self,
        outputs: gpiod.LineRequest,
        offsets: Mapping[str, int],
        trigger: gpiod.LineRequest | None,
    ) -> None:
        self._outputs, self._offsets, self._trigger = outputs, offsets, trigger

    @property
    def fd(self) -> int | None:
        """Of the trigger's request."""
        return None if self._trigger is None else self._trigger.fd

    def read_edges(self) -> Sequence[Edge]:
        """The edges that wait, oldest first. Raises: LinesLost."""
        if self._trigger is None:
            return []
        try:
            events = self._trigger.read_edge_events(EDGES_LIMIT)
        except OSError as error:
            raise LinesLost(f"the GPIO chip of the trigger is gone: {error.strerror}") from error
        return [Edge(one.timestamp_ns, one.line_seqno) for one in events]

    def set(self, values: Mapping[str, bool]) -> None:
        """Make outputs active or inactive in one call of the kernel. Raises: LinesLost."""
        levels: dict[int | str, Value] = {
            self._offsets[key]: Value.ACTIVE if value else Value.INACTIVE
            for key, value in values.items()
        }
        try:
            self._outputs.set_values(levels)
        except OSError as error:
            raise LinesLost(f"the GPIO chip of the outputs is gone: {error.strerror}") from error

    def release(self) -> None:
        """The kernel returns the lines to what they are without a user."""
        for request in (self._outputs, self._trigger):
            if request is not None:
                with contextlib.suppress(OSError):
                    request.release()


def open_lines(config: GpioConfig, has_trigger: bool) -> Lines:
    """Hold the lines that [gpio] names, every output inactive. has_trigger: also its input.

    Raises: LinesLost.
    """
    outputs = config.outputs
    wanted = [*outputs.values(), *([config.trigger] if has_trigger else [])]
    places = find_places(config.chip, wanted)
    chips = {places[name].chip for name in outputs.values()}
    if len(chips) > 1:
        raise LinesLost(f"the outputs of [gpio] lie on {' and '.join(sorted(chips))}: all must lie"
                        " on one chip, so that they change together")  # fmt: skip
    offsets = {key: places[name].offset for key, name in outputs.items()}
    held = _request(
        chips.pop(), {places[name]: line_settings(config, key) for key, name in outputs.items()}
    )
    if not has_trigger:
        return ChipLines(held, offsets, None)
    try:
        at = places[config.trigger]
        trigger = _request(at.chip, {at: line_settings(config, "trigger")})
    except LinesLost:
        held.release()
        raise
    return ChipLines(held, offsets, trigger)


def line_settings(config: GpioConfig, key: str) -> gpiod.LineSettings:
    """What the kernel is asked for: an output begins inactive; of the trigger, the edges on which
    it becomes active, dated by the monotonic clock.
    """
    is_low = key in config.active_low
    if key != "trigger":
        return gpiod.LineSettings(
            direction=Direction.OUTPUT, active_low=is_low, output_value=Value.INACTIVE
        )
    return gpiod.LineSettings(
        direction=Direction.INPUT,
        edge_detection=Detected.RISING,
        active_low=is_low,
        debounce_period=timedelta(microseconds=config.debounce_us),
        event_clock=Clock.MONOTONIC,
    )


def find_places(chip: str, names: Sequence[str]) -> dict[str, Place]:
    """Where the lines of these names are. chip: label or device; empty: whichever has them.

    Raises: LinesLost if one is not there, or there twice.
    """
    found: dict[str, Place] = {}
    for path in chip_paths():
        for name, place in _lines_of(path, chip):
            if name not in names:
                continue
            if name in found:
                raise LinesLost(
                    f"two GPIO lines are named {name}, on {found[name].chip} and {path}: set chip"
                    f" in [gpio]; {PAGE}"
                )
            found[name] = place
    if missing := [name for name in names if name not in found]:
        where = f"on a GPIO chip {chip}" if chip else "on any GPIO chip"
        raise LinesLost(
            f"there is no line {missing[0]} {where}: take the names from gpioinfo; {PAGE}"
        )
    return found


def chip_paths() -> list[str]:
    """The GPIO chips of this machine, each once. Raises: LinesLost if there is none."""
    paths = [str(path) for path in sorted(DEVICES.glob("gpiochip*")) if not path.is_symlink()]
    chips = [path for path in paths if gpiod.is_gpiochip_device(path)]
    if not chips:
        raise LinesLost(f"this machine has no GPIO chip ({DEVICES}/gpiochip*): {PAGE}")
    return chips


def _lines_of(path: str, wanted: str) -> list[tuple[str, Place]]:
    """Every line of the chip that has a name; none if the chip is not the wanted one."""
    try:
        with gpiod.Chip(path) as chip:
            info = chip.get_info()
            if wanted not in ("", path, info.name, info.label):
                return []
            lines = [chip.get_line_info(offset) for offset in range(info.num_lines)]
    except PermissionError as error:
        raise LinesLost(
            f"no right to open {path}: let the service's user be in the group that owns it; {PAGE}"
        ) from error
    except OSError as error:
        raise LinesLost(f"{path} cannot be read: {error.strerror}; {PAGE}") from error
    return [
        (one.name, Place(path, one.offset, one.consumer if one.used else ""))
        for one in lines
        if one.name
    ]


def _request(path: str, settings: Mapping[Place, gpiod.LineSettings]) -> gpiod.LineRequest:
    try:
        return gpiod.request_lines(
            path,
            {place.offset: one for place, one in settings.items()},
            consumer=CONSUMER,
            event_buffer_size=EDGES_LIMIT,
        )
    except OSError as error:
        if error.errno == errno.EBUSY:
            users = ", ".join(sorted({place.user for place in settings if place.user}))
            raise LinesLost(
                f"lines of [gpio] on {path} are in use by {users or 'another program'}: end it, or"
                f" name other lines; {PAGE}"
            ) from error
        raise LinesLost(
            f"lines of [gpio] on {path} cannot be requested: {error.strerror}; {PAGE}"
        ) from error
