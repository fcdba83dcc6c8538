"""Sets the power mode and the clocks of a Jetson by NVIDIA's own programs, and believes neither:
what the board says afterwards counts.

A mode with another number of processor cores needs a reboot. nvpmodel then asks a question, and
without an answer it changes nothing and ends with success.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge.board.clocks import are_pinned
from edge.board.power import Clocks
from edge.board.power_modes import PROGRAM, PowerMode, current_mode, find_mode, power_modes
from edge.board.reading import run_program
from edge.errors import ConfigError

CLOCKS_PROGRAM = "usr/bin/jetson_clocks"
# how the clocks were before, until the next boot, which forgets both
BEFORE = "/run/edge-clocks.conf"


def require_mode(machine: Path, name: str) -> PowerMode:
    """The board's mode of this name.

    Raises: ConfigError that lists the names which it has.
    """
    mode = find_mode(machine, name)
    if mode is None:
        known = ", ".join(one.name for one in power_modes(machine))
        raise ConfigError(
            f"--power-mode {name}: this board has no such mode: name one of {known}"
            if known
            else f"--power-mode {name}: this board tells no modes: leave it out, or set the mode by"
            " hand and install again"
        )
    return mode


def set_mode(machine: Path, mode: PowerMode) -> None:
    """Let the board change to a mode, now and for the boots to come.

    Raises: ConfigError if it stays in another.
    """
    if current_mode(machine) == mode.name:
        return
    answer = run_program(machine, PROGRAM, "-m", str(mode.number))
    if current_mode(machine) == mode.name:
        return
    by_hand = f"run `sudo nvpmodel -m {mode.number}` at the board's console"
    if os.geteuid() != 0:
        raise ConfigError(
            f"setting the power mode needs the rights of root: {by_hand}, or use sudo"
        )
    if answer is not None and answer[0] == 0:
        raise ConfigError(
            f"the board stays in its power mode, {mode.name} needs a reboot: {by_hand}, say yes to"
            " the reboot, then install again"
        )
    raise ConfigError(f"nvpmodel does not set {mode.name}: {by_hand} and see what it says")


def set_clocks(machine: Path, clocks: Clocks) -> None:
    """Let the clocks stay at their highest until the next boot, or follow the load again.

    Raises: ConfigError if the kernel says that they do not.
    """
    if clocks == "max":
        run_program(machine, CLOCKS_PROGRAM, "--store", BEFORE)
        run_program(machine, CLOCKS_PROGRAM)
        if are_pinned(machine) is not False:
            return
        raise ConfigError(
            "jetson_clocks leaves clocks below their highest: run `sudo jetson_clocks` and see what"
            " it says"
        )
    if are_pinned(machine):
        run_program(machine, CLOCKS_PROGRAM, "--restore", BEFORE)
        if are_pinned(machine):
            raise ConfigError(
                "the clocks stay at their highest until the board is started again: reboot it, then"
                " install again"
            )
