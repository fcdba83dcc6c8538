"""What judges on a station, with which threshold and which guarantee: from the station's files,
also while no service runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge.bundle.manifest import Manifest, OperatingPoint
from edge.config import read_config
from edge.errors import EdgeError
from edge.install.engine_entry import EngineEntry
from edge.install.proof_file import read_proof
from edge.station.commissioning import read_commissioning
from edge.station.numbers import read_numbers
from edge.station.site import CameraGeometry, ExpectedState, ModelState
from edge.station.standing import standing_lines
from edge.station.store import Installed, Store

# what a product in a fixed pose does without an expected silhouette
OUTLINE_ONLY = "missing material is found by its outline only, run `edge calibrate expected`"


def status_lines(store: Store) -> list[str]:
    """What judges.

    Raises: BundleError if a manifest is damaged, ConfigError if station.toml, numbers.json
        or site state is.
    """
    product = store.active_product()
    if product is None:
        return [
            f"no bundle is installed under {store.root}: run `edge install BUNDLE --root"
            f" {store.root}`"
        ]
    bundle, known = store.installed(product), read_numbers(store).get(product)
    m, number = bundle.manifest, "" if known is None else f", number {known}"
    return [
        f"product      {m.product} {m.version}, system {m.system} {m.preset}{number}",
        f"bundle       {bundle.slot}",
        *(f"plane        {line}" for line in plane_lines(m)),
        *engine_lines(store, bundle),
        *(f"calibration  {line}" for line in unsettled_lines(store, bundle)),
        *_other_engines(store, bundle),
        *(f"expected     {line}" for line in expected_lines(m, store.geometry_records(product))),
    ]


def operating_lines(store: Store) -> list[str]:
    """The table that the user chose the threshold from; nothing where no bundle is installed.

    Raises: as status_lines.
    """
    product = store.active_product()
    return [] if product is None else _operating_points(store, store.installed(product))


def plane_lines(manifest: Manifest) -> list[str]:
    """A warning where training had a background plane for each image, which no station has; else
    nothing.
    """
    if manifest.camera.fixed or not manifest.presence:
        return []
    return [
        "the product was trained with a plane fitted to each image; this station judges with its"
        " one calibrated plane, so heights may differ from those in training: look at normal"
        " parts with `edge inspect`"
    ]


def expected_lines(manifest: Manifest, cameras: Mapping[str, CameraGeometry]) -> list[str]:
    """Whether an expected silhouette is set, one line per camera; nothing for a color-only product.

    cameras: the product's geometry by serial. A product in a fixed pose without one is told what
    that costs.
    """
    if not manifest.presence:
        return []
    fixed = manifest.camera.fixed_pose
    known = {serial: one.expected for serial, one in cameras.items()}
    if not any(known.values()):
        return [f"not set: {OUTLINE_ONLY}" if fixed else "not set: only a fixed pose needs it"]
    return [
        f"camera {serial}: {expected_line(state)}"
        if state is not None
        else f"camera {serial}: not set" + (f": {OUTLINE_ONLY}" if fixed else "")
        for serial, state in known.items()
    ]


def expected_line(state: ExpectedState) -> str:
    """From how many parts an expected silhouette was made, its margin, by whom and when."""
    return (
        f"from {state.parts} parts, margin {state.margin_px:.1f} px, by {state.who}, {state.when}"
    )


def engine_lines(store: Store, bundle: Installed) -> list[str]:
    """Which engine judges, with which threshold; or why none does yet."""
    judge, why = find_judge(store, bundle)
    if judge is None or judge.section is None:
        return [f"engine       {why}"]
    state = store.model_state(bundle, judge.precision, judge.runtime)
    return [
        (
            f"engine       {judge.name} on {judge.section.board}, {judge.section.time_ms:.2f} ms:"
            f" {why}"
        ),
        *_threshold_lines(judge, state),
    ]


def unsettled_lines(store: Store, bundle: Installed) -> list[str]:
    """What was shown on this station and does not stand any more, one sentence each.

    Raises: ConfigError if a file of the site state is damaged.
    """
    judge, _ = find_judge(store, bundle)
    state = None if judge is None else store.model_state(bundle, judge.precision, judge.runtime)
    evidence = read_commissioning(store, bundle.product)
    return standing_lines(state, evidence, store.geometry_records(bundle.product))


def find_judge(store: Store, bundle: Installed) -> tuple[EngineEntry | None, str]:
    """(the engine that judges by what is kept, why it), or (None, why there is none)."""
    proof = read_proof(store, bundle)
    if proof is None or proof.state == "pending":
        what = "pending" if proof else "not proven on this root"
        return (
            None,
            f"{what}: the first `edge run --root {store.root}` on the station builds and proves it",
        )
    wanted = read_config(store.root).runtime.precision
    try:
        judge = proof.judge(bundle.manifest, wanted)
    except EdgeError as error:
        return None, str(error)
    return judge, proof.why if wanted == "auto" else "station.toml names it"


def _threshold_lines(judge: EngineEntry, state: ModelState | None) -> list[str]:
    if state is not None and state.threshold is not None:
        calibrated = (
            f"calibrated on this station, version {state.version} by {state.who}, {state.when}"
        )
        return [
            f"threshold    {state.threshold:.6g}, {calibrated}",
            f"             {state.guarantee}".rstrip(),
        ]
    assert judge.section is not None
    own = judge.section.threshold
    measured = f"measured on this engine, {judge.section.proven_at}"
    return [f"threshold    {own.value:.6g}, {measured}", f"             {own.guarantee}"]


def _other_engines(store: Store, bundle: Installed) -> list[str]:
    proof, (judge, _) = read_proof(store, bundle), find_judge(store, bundle)
    lines = []
    for entry in proof.engines if proof is not None else ():
        if entry == judge:
            continue
        if entry.section is not None and entry.is_proven:
            lines.append(f"also proven  {entry.name}, {entry.section.time_ms:.2f} ms")
        else:
            lines.append(f"not proven   {entry.name}: {entry.why_not}")
    return lines


def _operating_points(store: Store, bundle: Installed) -> list[str]:
    """The table that the user chose from, of float32's scores; `*` marks the rank that judges."""
    points = bundle.manifest.operating_points
    if not points:
        return []
    judge, _ = find_judge(store, bundle)
    state = None if judge is None else store.model_state(bundle, judge.precision, judge.runtime)
    calibrated = state is not None and state.threshold is not None
    chosen = (
        state.rank if state is not None and calibrated else bundle.manifest.thresholds["fp32"].rank
    )
    head = f"  {'rank':>4} {'threshold':>10} {'rejected':>9} {'at most':>8}  defects found"
    return [
        "operating points (float32's scores in the bundle):",
        head,
        *(_point(point, chosen) for point in points),
    ]


def _point(point: OperatingPoint, chosen: int | None) -> str:
    t = point.threshold
    found = ", ".join(f"{count} {what}" for what, count in point.found.items()) or "-"
    mark = "*" if t.rank == chosen else " "
    return f"{mark} {t.rank:>4} {t.value:>10.6g} {t.expected:>9.1%} {t.bound:>8.1%}  {found}"
