"""`edge calibrate challenge`: known-bad parts in front of the station as it judges now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from calibration.parts_session import site_of
from calibration.pictures import picture_of
from calibration.sentences import challenge_sentence
from calibration.shown_parts import (
    PartRefused,
    Sight,
    best_sight,
    find_obstacle,
    next_of,
    remedy_of,
)
from calibration.station import CalibrationStation, open_station
from calibration.statistics import detection_rate
from edge.config import EdgeConfig
from edge.decide.aggregate import COMBINE, aggregate
from edge.runtime.pipeline import SiteState
from edge.station import audit
from edge.station.commissioning import (
    Challenge,
    Picture,
    keep_commissioning,
    keep_pictures,
    keep_refused,
    pictures_folder,
    read_commissioning,
)
from edge.station.store import Installed, Store
from edge.types import Code


@dataclass(frozen=True, eq=False)
class ChallengedPart:
    """One known-bad part. is_caught: it is NG. score: raw units. picture: JPEG."""

    number: int
    is_caught: bool
    score: float
    sight: Sight
    picture: bytes

    @property
    def file(self) -> str:
        """Of its picture."""
        return f"challenge-{self.number:02d}.jpg"


@dataclass(frozen=True, eq=False)
class ChallengeResult:
    """What known-bad parts prove. missed: those that would have been accepted, with the path of
    the picture of each.
    """

    challenge: Challenge
    missed: tuple[tuple[ChallengedPart, Path], ...]


def challenge_station(
    store: Store,
    installed: Installed,
    config: EdgeConfig,
    count: int,
    source: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> ChallengeResult:
    """Show known-bad parts to the station as it judges now, and keep what came of it.

    Args:
        count: parts, shown one after the other. source: as `calibrate_station_parts` takes it.
        tell: is given one line for each part.
    Raises: CalibrationError if a part is not seen as one whole part; CameraError, EngineError,
        StorageError.
    """
    store.require_writable()
    with closing(open_station(store, installed, config, source, "challenge")) as station:
        site, parts = site_of(store, installed, station.serial), []
        for shown in range(count):
            part = next_challenged(store, installed, station, config, site, shown, count)
            parts.append(part)
            what = "caught" if part.is_caught else "MISSED"
            tell(f"part {part.number} of {count}: {what}, score {part.score:.4g}")
        return keep_challenge(store, installed, station, parts)


def next_challenged(
    store: Store,
    installed: Installed,
    station: CalibrationStation,
    config: EdgeConfig,
    site: SiteState,
    shown: int,
    count: int,
) -> ChallengedPart:
    """Wait for the next known-bad part, of which `shown` were seen.

    site: of the station's camera, for the picture.
    Raises: CalibrationError if none comes; PartRefused for a part that is not judged: it proves
        nothing about detection.
    """
    part, number = next_of(station, shown, count), shown + 1
    obstacle = find_obstacle(part)
    if obstacle is not None:
        sight = part.frames[len(part.frames) // 2]
        picture = picture_of(sight, site, f"part {number}, refused")
        path = keep_refused(store, installed.product, picture)
        sentence = f"part {number}: {remedy_of(obstacle)}, and repeat. Its picture: {path}"
        raise PartRefused(sentence, obstacle.value, [number], picture)
    judgment = aggregate([one.judgment for one in part.frames], COMBINE[config.decision.aggregate])
    decided, best = judgment.judgment, best_sight(part)
    title = f"known-bad part {number}"
    return ChallengedPart(
        number,
        decided.code is Code.NG,
        float(decided.score or 0.0),
        best,
        picture_of(best, site, title),
    )


def keep_challenge(
    store: Store,
    installed: Installed,
    station: CalibrationStation,
    parts: Sequence[ChallengedPart],
    who: str | None = None,
) -> ChallengeResult:
    """The row of the audit table, the pictures, and the evidence beside that of the calibration
    with parts whose state judged, where there is one.

    who: for the audit, where it is not the account that runs this.
    Raises: StorageError, BusyError, ConfigError.
    """
    state = store.model_state(installed, station.precision, station.engine)
    threshold = parts[0].sight.judgment.threshold
    caught = sum(part.is_caught for part in parts)
    geometry = store.geometry_record(installed.product, station.serial)
    challenge = Challenge(
        version=0 if state is None else state.version,
        threshold=0.0 if threshold is None else float(threshold),
        caught=caught,
        detection=detection_rate(caught, len(parts)),
        sentence=challenge_sentence(caught, len(parts)),
        parts=tuple(_picture(part) for part in parts),
        geometry_version=None if geometry is None else geometry.version,
        who=who or audit.current_user(),
        when=audit.now_utc(),
    )
    about = {
        "product": installed.product,
        "digest": installed.digest,
        "serial": station.serial,
        "precision": station.precision,
        "runtime": station.engine,
        "shown": len(parts),
        "missed": [part.number for part in parts if not part.is_caught],
        **challenge.model_dump(include={"version", "threshold", "caught", "detection"}),
    }
    audit.append_audit(store.root, "calibrate challenge", about, challenge.who)
    pictures = {part.file: part.picture for part in parts}
    known = read_commissioning(store, installed.product)
    if known is not None and known.is_of(state):
        keep_commissioning(store, known.model_copy(update={"challenge": challenge}), pictures)
    else:
        keep_pictures(store, installed.product, pictures)
    folder = pictures_folder(store, installed.product)
    missed = tuple((part, folder / part.file) for part in parts if not part.is_caught)
    return ChallengeResult(challenge, missed)


def _picture(part: ChallengedPart) -> Picture:
    return Picture(
        number=part.number,
        role="caught" if part.is_caught else "missed",
        score=part.score,
        frame_number=part.sight.window.frame_number,
        picture=part.file,
    )
