"""`edge calibrate threshold`: another rate of false rejects for the engine that judges."""

from __future__ import annotations

from dataclasses import dataclass

from calibration.sentences import guarantee_of
from calibration.site_threshold import SiteThreshold, TrainerScores, site_threshold
from calibration.threshold import calibrate_threshold
from edge.engine.protocol import Engine
from edge.errors import CalibrationError
from edge.install.proven import open_proven_engine
from edge.proof.golden import read_normal
from edge.proof.threshold import Threshold
from edge.schema import Precision
from edge.sections import RuntimeConfig
from edge.station.site import ModelState, ShownParts
from edge.station.store import Installed, Store


@dataclass(frozen=True)
class ThresholdSession:
    """The engine that judges, its thresholds, and what was saved.

    of_bundle: at the rate that the bundle was exported with, on its own normal parts.
    """

    engine: str
    precision: Precision
    of_bundle: Threshold
    saved: ModelState


@dataclass(frozen=True)
class Proposal:
    """A threshold that may be saved, for one engine.

    rank: among the scores of `parts` parts, None where it is none of them. guarantee: what it
    promises. before: what judged until now. of_bundle: as ThresholdSession has it. kept: the model
    state whose site inputs stay.
    """

    engine: str
    precision: Precision
    value: float
    rank: int | None
    parts: int
    guarantee: str
    before: float
    of_bundle: Threshold
    kept: ModelState | None


@dataclass(frozen=True)
class _Chosen:
    """A threshold, and what it promises."""

    value: float
    rank: int | None
    parts: int
    guarantee: str


def calibrate_station_threshold(
    store: Store, installed: Installed, false_rejects: float, runtime: RuntimeConfig
) -> ThresholdSession:
    """Give the engine that judges the threshold for another rate of false rejects, and save it.

    Raises: as `propose_threshold` and `save_threshold`.
    """
    proposed = propose_threshold(store, installed, false_rejects, runtime)
    saved = save_threshold(store, installed, proposed)
    return ThresholdSession(proposed.engine, proposed.precision, proposed.of_bundle, saved)


def propose_threshold(
    store: Store, installed: Installed, false_rejects: float, runtime: RuntimeConfig
) -> Proposal:
    """The threshold of the engine that judges for another rate of false rejects; nothing is saved.

    After `edge calibrate parts` the scores of those parts set it, which are kept: the bundle's
    parts were seen in another light, under which this station's site inputs do not fit. Without
    them, the engine's own scores of the bundle's normal parts do. Site inputs stay.
    Raises: CalibrationError if the bundle does not carry enough normal parts for this rate;
        EngineError, StorageError.
    """
    store.require_writable()
    with store.inside():
        proven = open_proven_engine(store, installed, runtime.threads, runtime.precision)
    engine = proven.engine
    try:
        kept = store.model_state(installed, engine.precision, engine.name)
        shown = None if kept is None else kept.shown
        chosen = (
            _of_bundle(engine, installed, false_rejects, kept)
            if shown is None
            else _of_site(shown, installed, engine.precision, false_rejects)
        )
    finally:
        engine.close()
    own = proven.threshold
    judged_by = None if kept is None else kept.threshold
    return Proposal(
        engine.name,
        engine.precision,
        chosen.value,
        chosen.rank,
        chosen.parts,
        chosen.guarantee,
        before=float(own.value) if judged_by is None else judged_by,
        of_bundle=own,
        kept=kept,
    )


def save_threshold(
    store: Store, installed: Installed, proposed: Proposal, who: str | None = None
) -> ModelState:
    """Save what was proposed; returns the state that judges from now on.

    who: for the audit, where it is not the account that runs this.
    Raises: CalibrationError if the station was calibrated meanwhile; StorageError, BusyError.
    """
    kept = store.model_state(installed, proposed.precision, proposed.engine)
    if kept != proposed.kept:
        raise CalibrationError("the station was calibrated meanwhile: choose the threshold again")
    return store.save_model_state(
        installed,
        proposed.precision,
        proposed.engine,
        proposed.parts,
        proposed.value,
        proposed.guarantee,
        {} if kept is None else kept.arrays(),
        who=who,
        rank=proposed.rank,
        shown=None if kept is None else kept.shown,
    )


def _of_bundle(
    engine: Engine, installed: Installed, false_rejects: float, kept: ModelState | None
) -> _Chosen:
    """On the bundle's normal parts, under the site inputs that are kept."""
    manifest = installed.manifest
    own = calibrate_threshold(
        engine,
        read_normal(installed.normal, manifest.inputs),
        false_rejects,
        len(manifest.normal.left_out),
        {} if kept is None else kept.arrays(),
    )
    return _Chosen(own.value, own.rank, own.parts, own.guarantee)


def _of_site(
    shown: ShownParts, installed: Installed, precision: Precision, false_rejects: float
) -> _Chosen:
    """On the parts that were shown on site; the sentence says whose they are."""
    trainer = TrainerScores.of(installed.manifest.normal_scores[precision])
    own: SiteThreshold = site_threshold(shown.scores, trainer, false_rejects)
    said = guarantee_of(own, shown.is_proven, len(trainer.scores), shown.left_out)
    whose = f"Parts shown by {shown.who}, {shown.when}"
    rank = own.rank if own.is_rank else None
    return _Chosen(own.value, rank, own.parts, f"{said}. {whose}")
