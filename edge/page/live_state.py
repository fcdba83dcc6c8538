"""What the live view shows, as the API gives it: from a look at the station to one flat object."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.page.live_source import Look, SharedLook
from edge.page.shift import Shift, ShiftCounts


class LastVerdict(BaseModel):
    """The last part that was decided."""

    model_config = ConfigDict(frozen=True)

    seq: int = Field(description="number of the part on this station")
    part: str = Field(description="its name")
    code: Literal[1, 2, 3] = Field(description="1 OK, 2 NG, 3 UNKNOWN")
    reason: str = Field(description="why: one of the reasons of docs/mqtt.md")
    score: float | None = Field(description="null where nothing was judged")
    threshold: float | None
    judged_at: str | None = Field(description="UTC, ISO 8601")


class LiveState(BaseModel):
    """The station at this moment."""

    model_config = ConfigDict(frozen=True)

    station: Literal["online", "degraded", "fault", "stopped", "starting", "silent"]
    ready: bool = Field(description="a part would be judged now and its verdict told")
    reason: str = Field(description='why it is not online; "" if it is')
    why: str = Field(description="the same in a sentence of the station's own, where it has one")
    product: str
    bundle: str
    engine: str
    precision: str
    ok: int = Field(description="parts since the start of `edge run`")
    ng: int
    unknown: int
    shift: Shift | None = Field(description="null without shifts in [page]")
    last: LastVerdict | None
    version: str = Field(description="changes whenever anything above does")


STATIONS = ("online", "degraded", "fault", "stopped", "starting", "silent")


@dataclass(frozen=True, eq=False)
class Seen:
    """What everybody is shown who asks now. etag: of the picture, empty without one."""

    state: LiveState
    picture: bytes | None
    etag: str


class LiveView:
    """From looks to what is shown, once for each look. Of one event loop."""

    def __init__(self, live: SharedLook, shift: ShiftCounts) -> None:
        """Nobody is asked before the first get()."""
        self._live, self._shift = live, shift
        self._look: Look | None = None
        self._seen: Seen | None = None

    async def get(self) -> Seen:
        """Now."""
        look = await self._live.get()
        if self._seen is None or look is not self._look:
            state = state_of(look, await self._shift.of(look.said))
            self._look, self._seen = look, Seen(state, look.picture, _etag_of(look.picture))
        return self._seen


def _etag_of(picture: bytes | None) -> str:
    return "" if picture is None else f'"{hashlib.blake2b(picture, digest_size=8).hexdigest()}"'


def state_of(look: Look, shift: Shift | None = None) -> LiveState:
    """What one look has shown. What the station says is checked: anything else than it should be
    becomes empty.
    """
    said = look.said
    fields: dict[str, Any] = {
        "station": look.station if look.station in STATIONS else "silent",
        "ready": said.get("ready") is True,
        "reason": _text(said, "reason"),
        "why": _text(said, "why"),
        **{key: _text(said, key) for key in ("product", "bundle", "engine", "precision")},
        **{key: _count(said, key) for key in ("ok", "ng", "unknown")},
        "shift": shift,
        "last": _verdict_of(look.last),
    }
    version = hashlib.sha256(repr(fields).encode()).hexdigest()[:16]
    return LiveState(**fields, version=version)


def _verdict_of(last: Mapping[str, Any] | None) -> LastVerdict | None:
    if last is None or last.get("code") not in (1, 2, 3):
        return None
    return LastVerdict(
        seq=_count(last, "seq"),
        part=_text(last, "part"),
        code=last["code"],
        reason=_text(last, "reason"),
        score=_number(last.get("score")),
        threshold=_number(last.get("thr")),
        judged_at=_text(last, "judged_at") or None,
    )


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    return value if isinstance(value, str) else ""


def _count(said: Mapping[str, Any], key: str) -> int:
    value = said.get(key)
    return value if type(value) is int and value >= 0 else 0


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]
