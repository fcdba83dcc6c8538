"""Which remedy is next for a camera that gives no frames. Pure: no device, no clock.

    failures 1, 2       its process was ended and is started again
    then `resets` more  hardware_reset, each in a process of its own with a time limit
    one more            the USB port, by a unit that runs as root
    from then on        fault: the process is started again for as long as the station runs

A frame that came through puts the ladder back to its first rung.
"""

from __future__ import annotations

from enum import Enum

RESPAWNS = 2  # in vain before the hardware is reset


class Rung(str, Enum):
    """One remedy, as the audit table names it."""

    RESPAWN = "respawn"
    HARDWARE_RESET = "hardware reset"
    USB_PORT = "usb port"
    FAULT = "fault"


class Ladder:
    """Counts failures since the last frame. resets: at most so many of the hardware; 0 leaves
    hardware and port alone.
    """

    def __init__(self, resets: int) -> None:
        self.resets, self.failures = resets, 0

    def climb(self) -> Rung:
        """The camera has failed once more: what is done about it."""
        self.failures += 1
        beyond = self.failures - RESPAWNS
        if beyond <= 0:
            return Rung.RESPAWN
        if beyond <= self.resets:
            return Rung.HARDWARE_RESET
        return Rung.USB_PORT if self.resets and beyond == self.resets + 1 else Rung.FAULT

    @property
    def number(self) -> int:
        """Of the rung climbed last among those of its kind, from 1."""
        beyond = self.failures - RESPAWNS
        if beyond <= 0:
            return self.failures
        return beyond if beyond <= self.resets else 1

    def start_anew(self) -> None:
        """A frame came through."""
        self.failures = 0
