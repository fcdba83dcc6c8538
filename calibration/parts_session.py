"""`edge calibrate parts`, from the camera to the state that is saved and its evidence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from calibration.parts import Asked, PartsResult, PartsSession, require_possible
from calibration.plausible import are_lower
from calibration.sentences import (
    guarantee_of,
    lower_sentence,
    next_parts_sentence,
    to_prove_sentence,
)
from calibration.site_threshold import TrainerScores
from calibration.station import CalibrationStation, open_station
from calibration.statistics import proven_rate
from edge.config import EdgeConfig
from edge.proof.threshold import expected_rate
from edge.runtime.pipeline import SiteState, site_state
from edge.runtime.run import require_normal_source
from edge.station import audit
from edge.station.commissioning import (
    Commissioning,
    Picture,
    Role,
    keep_commissioning,
    keep_refused,
)
from edge.station.site import ModelState, ShownParts
from edge.station.store import Installed, Store


@dataclass(frozen=True, eq=False)
class PartsCalibration:
    """What a calibration with parts found, and what it saved.

    before: the threshold that judged until now. trainer: the scores that the estimate rests on.
    """

    result: PartsResult
    before: float
    trainer: TrainerScores
    saved: ModelState
    evidence: Commissioning


def calibrate_station_parts(
    store: Store,
    installed: Installed,
    config: EdgeConfig,
    asked: Asked,
    source: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> PartsCalibration:
    """Show normal parts to the station, and save what they set: threshold and site inputs.

    Args:
        source: a folder of images, each of which shows one part, or a recording, in place of the
            camera.
        tell: is given one line for each part.
    Raises: CalibrationError if a part or all of them are refused; CameraError, EngineError,
        StorageError. Nothing is changed then.
    """
    store.require_writable()
    require_possible(asked)
    require_normal_source(source, installed)
    with closing(open_station(store, installed, config, source)) as station:
        session = new_session(store, installed, config, station, asked)
        while len(session.shown) < asked.count:
            part = session.show()
            frame = part.sight.window.frame_number
            out = ", left out" if part.number in asked.left_out else ""
            tell(f"part {part.number} of {asked.count}: frame {frame}{out}")
        return save_parts(store, installed, station, session, session.finish())


def new_session(
    store: Store,
    installed: Installed,
    config: EdgeConfig,
    station: CalibrationStation,
    asked: Asked,
) -> PartsSession:
    """A session with an open station."""
    return PartsSession(
        station,
        installed.manifest,
        site_of(store, installed, station.serial),
        config.decision.aggregate,
        asked,
        lambda picture: keep_refused(store, installed.product, picture),
    )


def site_of(store: Store, installed: Installed, serial: str) -> SiteState:
    """The site inputs that this camera's geometry gives."""
    return site_state(installed.manifest, store.geometry(installed.product, serial))


def save_parts(
    store: Store,
    installed: Installed,
    station: CalibrationStation,
    session: PartsSession,
    result: PartsResult,
    who: str | None = None,
) -> PartsCalibration:
    """Save what the parts set as the model state of the engine that judges, then its evidence.

    who: for the audit, where it is not the account that runs this.
    Raises: StorageError, BusyError, ConfigError.
    """
    own, trainer = result.threshold, session.trainer
    left_out = len(session.shown) - len(set(result.scored) | set(result.fitted))
    who, when = who or audit.current_user(), audit.now_utc()
    saved = store.save_model_state(
        installed,
        station.precision,
        station.engine,
        own.parts,
        own.value,
        guarantee_of(own, result.is_proven, len(trainer.scores), left_out),
        result.tensors,
        who=who,
        rank=own.rank if own.is_rank else None,
        shown=ShownParts(
            scores=tuple(float(score) for score in result.scores),
            is_proven=result.is_proven,
            left_out=left_out,
            serial=station.serial,
            who=who,
            when=when,
        ),
    )
    evidence = _evidence(store, installed, station, session, result, saved)
    pictures = {one.picture: session.shown[one.number - 1].picture for one in evidence.parts}
    keep_commissioning(store, evidence, pictures)
    return PartsCalibration(result, session.judged_by, trainer, saved, evidence)


def _evidence(
    store: Store,
    installed: Installed,
    station: CalibrationStation,
    session: PartsSession,
    result: PartsResult,
    saved: ModelState,
) -> Commissioning:
    own, shown = result.threshold, saved.shown
    assert shown is not None  # what was saved
    geometry = store.geometry_record(installed.product, station.serial)
    return Commissioning(
        product=installed.product,
        bundle=installed.slot,
        digest=installed.digest,
        engine=station.engine,
        precision=station.precision,
        serial=station.serial,
        who=shown.who,
        when=shown.when,
        count=own.parts,
        false_rejects=own.false_rejects,
        is_proven=result.is_proven,
        channels=result.channels,
        spare_rows=result.spare_rows,
        threshold=own.value,
        rank=saved.rank,
        proven=proven_rate(own.parts, own.rank),
        on_average=expected_rate(own.parts, own.rank),
        expected=own.expected,
        guarantee=saved.guarantee,
        next_parts=next_parts_sentence(own),
        to_prove=to_prove_sentence(),
        parts=_pictures(session, result),
        kept=session.kept,
        note=lower_sentence() if are_lower(result.scores, session.trainer) else "",
        geometry_version=None if geometry is None else geometry.version,
        plane_residual_m=None if geometry is None else geometry.residual_m,
    )


def _pictures(session: PartsSession, result: PartsResult) -> tuple[Picture, ...]:
    scores = dict(zip(result.scored, (float(score) for score in result.scores), strict=True))
    roles: dict[int, Role] = {
        **dict.fromkeys(result.fitted, "fitted"),
        **dict.fromkeys(result.scored, "scored"),
    }
    return tuple(
        Picture(
            number=part.number,
            role=roles.get(part.number, "left out"),
            score=scores.get(part.number),
            frame_number=part.sight.window.frame_number,
            picture=f"{part.number:02d}.jpg",
        )
        for part in session.shown
    )
