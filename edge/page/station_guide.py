"""Asks `edge run` about the calibration that a person is guided through, over its control socket.

Each question has a connection of its own, which is closed at once: the station serves few clients
at a time. What is only looked at is asked once for all tabs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from edge.control.guide import GuideBegin, GuideLook, GuideOrder, GuideState, SiteTold
from edge.errors import CalibrationError, ControlError
from edge.page.station_source import SOCKET, connected, next_line, next_picture

ANSWER_S = 5.0
LEAST_S = 0.3  # between two looks, whatever the number of tabs
WHOLE = b'{"do":"live","whole":true}\n'
STRANGE = "`edge run` does not answer as this page expects: install the same version for both"


@dataclass(frozen=True)
class GuideView:
    """How far the calibration is. state: of the last step; None before any. site: what is
    calibrated; None where no station is at work.
    """

    state: GuideState | None = None
    site: SiteTold | None = None

    @property
    def seen(self) -> str:
        """Stands for everything that the state says, so that nobody signs what they did not see;
        empty before any step.
        """
        if self.state is None:
            return ""
        return hashlib.blake2b(self.state.model_dump_json().encode(), digest_size=8).hexdigest()


class StationGuide:
    """The station under one root. Of one event loop."""

    def __init__(self, root: Path) -> None:
        """Nobody is asked before the first question."""
        self._path = root / SOCKET
        self._lock = asyncio.Lock()
        self._view, self._at_s = GuideView(), -LEAST_S
        self._image: bytes | None = None
        self._imaged_s = -LEAST_S

    async def look(self) -> GuideView:
        """Now. Raises: ControlError if the station says something strange."""
        async with self._lock:
            if time.monotonic() - self._at_s >= LEAST_S:
                self._view = await self._asked(GuideLook())
                self._at_s = time.monotonic()
            return self._view

    async def tell(self, request: GuideBegin | GuideOrder, seen: str | None = None) -> None:
        """Begin a step, or decide in it. seen: of the view that was decided about; None: any.

        Raises: CalibrationError with the sentence of a station that refuses, or if the step has
            gone on since; ControlError.
        """
        async with self._lock:
            if seen is not None and seen != (await self._asked(GuideLook())).seen:
                raise CalibrationError(
                    "the calibration has gone on since this page was shown: look at it again, then"
                    " decide"
                )
            view = await self._asked(request)
            if view.site is None:
                raise ControlError("no `edge run` is at work: start it with `systemctl start edge`")
            self._view, self._at_s = view, time.monotonic()

    async def whole_image(self) -> bytes | None:
        """The newest whole color image as JPEG, at most LEAST_S old; None where there is none."""
        async with self._lock:
            if time.monotonic() - self._imaged_s >= LEAST_S:
                self._image = await self._newest_image()
                self._imaged_s = time.monotonic()
            return self._image

    async def _newest_image(self) -> bytes | None:
        try:
            return await asyncio.wait_for(self._image_answered(), ANSWER_S)
        except (OSError, EOFError, ValueError, TypeError, asyncio.TimeoutError):
            return None

    async def _image_answered(self) -> bytes | None:
        reader, writer = await connected(self._path)
        try:
            writer.write(WHOLE)
            await writer.drain()
            return await next_picture(reader, json.loads(await next_line(reader)))
        finally:
            writer.close()

    async def _asked(self, request: GuideBegin | GuideOrder | GuideLook) -> GuideView:
        try:
            line = await asyncio.wait_for(self._answer(request.model_dump_json()), ANSWER_S)
        except (OSError, EOFError, asyncio.TimeoutError):
            return GuideView()
        try:
            said = json.loads(line)
            if said["ok"] is not True:
                raise CalibrationError(str(said["text"]))
            guide = said["guide"]
            return GuideView(
                None if guide is None else GuideState.model_validate(guide),
                SiteTold.model_validate(said["site"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ControlError(STRANGE) from error

    async def _answer(self, line: str) -> bytes:
        reader, writer = await connected(self._path)
        try:
            writer.write(f"{line}\n".encode("ascii"))
            await writer.drain()
            return await next_line(reader)
        finally:
            writer.close()
