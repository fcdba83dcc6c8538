"""Where a guided calibration meets the person: it tells its state, and takes orders.

Orders come as JSON lines from `edge run`, which starts it; their end is the end of the station.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from calibration.shown_parts import PartRefused
from edge.control.guide import GuideBegin, GuideOrder, GuideState, Order, PartTold, Phase, Refusal
from edge.files import make_folder, write_atomically

LEFT_S = 600.0  # without a decision, and without a part that is taken, a step ends
LOOK_S = 0.2
REFUSED = "refused.jpg"


class Stopped(Exception):
    """The step ends, with nothing changed. why: as GuideState.why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class GuideDesk:
    """The person's side of one step. Used from one thread."""

    def __init__(self, begun: GuideBegin, orders: TextIO, out: TextIO, folder: Path) -> None:
        """orders: are read from now on. out: takes the states. folder: for pictures."""
        self.state = GuideState(what=begun.what, who=begun.who)
        self._out, self._folder = out, folder
        self._orders: queue.Queue[GuideOrder | None] = queue.Queue()
        self._taken_s = time.monotonic()  # when the last part was
        self._reader = threading.Thread(
            target=self._read, args=(orders,), name="orders", daemon=True
        )
        self._reader.start()

    def tell(self, **changed: Any) -> None:
        """The state with these fields changed."""
        known = {**self.state.model_dump(), **changed, "version": self.state.version + 1}
        self.state = GuideState.model_validate(known)
        print(self.state.model_dump_json(), file=self._out, flush=True)

    def show(self, number: int, picture: bytes, role: str = "shown", score: Any = None) -> None:
        """One more part was taken in. picture: JPEG."""
        name = f"part-{number:02d}.jpg"
        self._keep(name, picture)
        part = PartTold(number=number, picture=name, role=role, score=score)
        self.tell(shown=(*self.state.shown, part), refusal=None)
        self._taken_s = time.monotonic()

    def refuse(self, refused: PartRefused, phase: Phase) -> None:
        """A part was not taken, or stands apart. phase: what follows."""
        self._keep(REFUSED, refused.picture)
        refusal = Refusal(
            why=refused.why, text=str(refused), numbers=refused.numbers, picture=REFUSED
        )
        self.tell(phase=phase, refusal=refusal)

    def attend(self) -> None:
        """Whether somebody wants to stop; other orders mean nothing now. Raises: Stopped."""
        while not self._orders.empty():
            self._require_going(self._orders.get())

    def require_parts(self) -> None:
        """Parts that are refused one after the other, such as those of a belt that nobody attends,
        keep no line waiting. Raises: Stopped if none was taken in for LEFT_S.
        """
        if time.monotonic() > self._taken_s + LEFT_S:
            raise Stopped("left")

    def wait(self, wanted: Collection[Order]) -> GuideOrder:
        """The next order of these; earlier ones were meant for something else. Raises: Stopped."""
        self.attend()
        end_s = time.monotonic() + LEFT_S
        while time.monotonic() < end_s:
            try:
                order = self._require_going(self._orders.get(timeout=LOOK_S))
            except queue.Empty:
                continue
            if order.order in wanted:
                return order
        raise Stopped("left")

    def _require_going(self, order: GuideOrder | None) -> GuideOrder:
        if order is None:
            raise Stopped("interrupted")
        if order.order == "stop":
            raise Stopped("stopped")
        return order

    def _keep(self, name: str, picture: bytes) -> None:
        make_folder(self._folder)
        write_atomically(self._folder / name, picture)

    def _read(self, orders: TextIO) -> None:
        for line in orders:
            try:
                self._orders.put(GuideOrder.model_validate_json(line))
            except ValidationError:  # of another version: not understood, so not carried out
                continue
        self._orders.put(None)
