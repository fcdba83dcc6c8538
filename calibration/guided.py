"""One step of a calibration that a person is guided through by the page: the same sessions as
`edge calibrate`, with the person's decisions between them. A part that is refused is shown again;
nothing is saved before somebody has signed it, but the plane, whose beginning is its signature.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, TextIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from calibration.challenge import ChallengedPart, keep_challenge, next_challenged
from calibration.guide_desk import GuideDesk, Stopped
from calibration.parts import Asked, PartsResult, PartsSession, require_possible
from calibration.parts_session import new_session, save_parts, site_of
from calibration.plane_session import Crop, calibrate_station_plane, table_camera
from calibration.plausible import are_lower
from calibration.sentences import NEXT_PARTS, guarantee_of, lower_sentence
from calibration.shown_parts import PartRefused, Sight
from calibration.station import CalibrationStation, open_station
from calibration.statistics import false_rejects_among, proven_rate
from calibration.threshold_session import propose_threshold, save_threshold
from calibration.undo import undo_calibration
from edge.camera.contract import CameraContract
from edge.camera.protocol import FrameOverdue
from edge.config import EdgeConfig, read_config
from edge.control.guide import FOLDER, GuideBegin, Order, Refusal, Step, Told
from edge.decide.gate import Part
from edge.errors import BusyError, EdgeError
from edge.proof.threshold import expected_rate
from edge.schema import Precision
from edge.station.store import Installed, Store
from edge.types import Frame

TABLE_FRAMES = 30
BETWEEN_S = 30.0  # a part that is open, or another client, is waited for this long
LOOK_S = 0.5
SIGN: tuple[Order, ...] = ("sign",)
APART: tuple[Order, ...] = ("leave_out", "keep")

Made = TypeVar("Made")


def guide(store: Store, orders: TextIO, out: TextIO) -> None:
    """Carry out the step that the first line of `orders` asks for, to its end.

    What is refused is told, as everything is, and no exception.
    """
    begun = GuideBegin.model_validate_json(orders.readline())
    desk = GuideDesk(begun, orders, out, store.data / FOLDER)
    try:
        installed, config = store.active(), read_config(store.root)
        STEPS[begun.what](_Guided(desk, begun, store, installed, config))
    except Stopped as stopped:
        desk.tell(phase="ended", why=stopped.why)
    except PartRefused as refused:
        desk.refuse(refused, "refused")
    except EdgeError as error:
        refusal = Refusal(why=type(error).__name__, text=str(error))
        desk.tell(phase="refused", refusal=refusal)


class _Guided:
    """What every step needs."""

    def __init__(
        self,
        desk: GuideDesk,
        begun: GuideBegin,
        store: Store,
        installed: Installed,
        config: EdgeConfig,
    ) -> None:
        self.desk, self.begun, self.store = desk, begun, store
        self.installed, self.config = installed, config

    def open(self) -> CalibrationStation:
        """The camera and the engine that judge, for this step."""
        station = self.between_parts(
            lambda: open_station(
                self.store, self.installed, self.config, what=self.begun.what, who=self.begun.who
            )
        )
        return _Attended(station, self.desk)

    def between_parts(self, act: Callable[[], Made]) -> Made:
        """What `act` gives, once no part is open. Raises: BusyError, Stopped, and as `act`."""
        end_s = time.monotonic() + BETWEEN_S
        while True:
            self.desk.attend()
            try:
                return act()
            except BusyError:
                if time.monotonic() > end_s:
                    raise
                time.sleep(LOOK_S)


class _Attended:
    """A station whose parts are awaited for as long as some are taken in, and nobody stops. See
    calibration.station.CalibrationStation.
    """

    def __init__(self, station: CalibrationStation, desk: GuideDesk) -> None:
        self._station, self._desk = station, desk

    @property
    def serial(self) -> str:
        return self._station.serial

    @property
    def engine(self) -> str:
        return self._station.engine

    @property
    def precision(self) -> Precision:
        return self._station.precision

    def next_part(self, timeout_s: float) -> Part[Sight]:  # noqa: ARG002  a person takes longer
        while True:
            self._desk.attend()
            self._desk.require_parts()
            with suppress(FrameOverdue):
                return self._station.next_part(LOOK_S)

    def score(
        self,
        windows: Sequence[Frame],
        tensors: Mapping[str, NDArray[np.float32]],
        outputs: Collection[str] | None = None,
    ) -> list[dict[str, NDArray[Any]]]:
        self._desk.attend()
        return self._station.score(windows, tensors, outputs)

    def frames(self, count: int) -> list[Frame]:
        return self._station.frames(count)

    def close(self) -> None:
        self._station.close()


def _plane(on: _Guided) -> None:
    """The empty table; the order to begin is the signature."""
    contract, who = on.installed.manifest.camera, on.begun.who
    x, y = on.begun.crop or (None, None)
    on.desk.tell(phase="showing")
    done = on.between_parts(
        lambda: calibrate_station_plane(
            on.store,
            on.installed,
            table_camera(on.config.camera, on.store.root, contract, who=who),
            TABLE_FRAMES,
            Crop(x, y, _pixels_of(on.begun, contract)),
            who,
        )
    )
    result = {
        "residual_mm": 1000 * done.fit.rms_m,
        "flat": done.fit.inlier_share,
        "drops_expected": done.dropped is not None,
    }
    on.desk.tell(phase="done", result=result)


def _pixels_of(begun: GuideBegin, contract: CameraContract) -> tuple[int, int, int, int] | None:
    """The region of interest in pixels of the crop; None: as it is now."""
    if begun.region is None:
        return None
    left, top, width, height = begun.region
    x, y = round(left * contract.crop_width), round(top * contract.crop_height)
    right, bottom = (left + width) * contract.crop_width, (top + height) * contract.crop_height
    return x, y, round(right) - x, round(bottom) - y


def _parts(on: _Guided) -> None:
    """Normal parts, each shown once; then the person signs what they prove."""
    begun, desk = on.begun, on.desk
    asked = Asked(begun.count, begun.false_rejects, begun.split)
    require_possible(asked)
    with closing(on.open()) as station:
        session = new_session(on.store, on.installed, on.config, station, asked)
        desk.tell(phase="showing", count=asked.count)
        while len(session.shown) < asked.count:
            try:
                part = session.show()
            except PartRefused as refused:
                desk.refuse(refused, "showing")
            else:
                desk.show(part.number, part.picture)
        result = _settled(on.desk, session)
        desk.tell(phase="signing", refusal=None, result=_told_of(session, result))
        signed = desk.wait(SIGN)
        done = save_parts(on.store, on.installed, station, session, result, signed.who)
    desk.tell(phase="done", result={**desk.state.result, "who": done.saved.who})


def _settled(desk: GuideDesk, session: PartsSession) -> PartsResult:
    """What the parts prove, once the person has decided about each that stands apart.

    Raises: PartRefused if they are no parts of this product, CalibrationError if too few are left.
    """
    left_out: set[int] = set()
    kept: set[int] = set()
    while True:
        try:
            return session.finish(left_out, kept)
        except PartRefused as refused:
            if refused.why != "defective":
                raise
            desk.refuse(refused, "deciding")
            order = desk.wait(APART)
            (kept if order.order == "keep" else left_out).update(refused.numbers)


def _told_of(session: PartsSession, result: PartsResult) -> dict[str, Told]:
    """What the person signs: the threshold and both of its sentences, as numbers too."""
    own, trainer = result.threshold, session.trainer
    left_out = len(session.shown) - len(set(result.scored) | set(result.fitted))
    among = false_rejects_among(NEXT_PARTS, own.parts, own.rank)
    return {
        "threshold": own.value,
        "before": session.judged_by,
        "parts": own.parts,
        "is_proven": result.is_proven,
        "proven": proven_rate(own.parts, own.rank),
        "on_average": expected_rate(own.parts, own.rank),
        "expected": own.expected,
        "next_parts": NEXT_PARTS,
        "next_rejects": among.expected,
        "next_most": among.upper,
        "next_estimate": NEXT_PARTS * own.expected,
        "left_out": left_out,
        "channels": result.channels,
        "spare_rows": result.spare_rows,
        "guarantee": guarantee_of(own, result.is_proven, len(trainer.scores), left_out),
        "note": lower_sentence() if are_lower(result.scores, trainer) else "",
    }


def _challenge(on: _Guided) -> None:
    """Known-bad parts, judged as the station judges now: nothing about that is changed."""
    desk, count = on.desk, on.begun.count
    with closing(on.open()) as station:
        site = site_of(on.store, on.installed, station.serial)
        parts: list[ChallengedPart] = []
        desk.tell(phase="showing", count=count)
        while len(parts) < count:
            try:
                part = next_challenged(
                    on.store, on.installed, station, on.config, site, len(parts), count
                )
            except PartRefused as refused:
                desk.refuse(refused, "showing")
                continue
            parts.append(part)
            role = "caught" if part.is_caught else "missed"
            desk.show(part.number, part.picture, role, part.score)
        done = keep_challenge(on.store, on.installed, station, parts, on.begun.who).challenge
    result: dict[str, Told] = {
        "caught": done.caught,
        "parts": len(parts),
        "detection": done.detection,
        "guarantee": done.sentence,
    }
    desk.tell(phase="done", result=result)


def _threshold(on: _Guided) -> None:
    """Another rate of false rejects, as far as the parts that are known can say it."""
    proposed = propose_threshold(on.store, on.installed, on.begun.false_rejects, on.config.runtime)
    result: dict[str, Told] = {
        "threshold": proposed.value,
        "before": proposed.before,
        "parts": proposed.parts,
        "false_rejects": on.begun.false_rejects,
        "guarantee": proposed.guarantee,
    }
    on.desk.tell(phase="signing", result=result)
    signed = on.desk.wait(SIGN)
    save_threshold(on.store, on.installed, proposed, signed.who)
    on.desk.tell(phase="done")


def _undo(on: _Guided) -> None:
    """Back to what the last calibration with parts, or threshold, replaced."""
    state = undo_calibration(on.store, on.installed, on.begun.who)
    on.desk.tell(phase="done", result={"threshold": state.threshold})


STEPS: Mapping[Step, Callable[[_Guided], None]] = {
    "plane": _plane,
    "parts": _parts,
    "challenge": _challenge,
    "threshold": _threshold,
    "undo": _undo,
}
