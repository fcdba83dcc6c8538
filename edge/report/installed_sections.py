"""The part of a commissioning report that says what is installed: station, camera, bundle,
certificate, plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from edge.bundle.manifest import MANIFEST, MANIFEST_LIMIT, SIGNATURE
from edge.bundle.signature import verify_signature
from edge.config import read_config
from edge.engine.machine import this_machine
from edge.errors import BundleError, EdgeError
from edge.files import is_there, read_bytes
from edge.geometry import tilt_deg
from edge.install.proof_file import certificate_path
from edge.proof.certificate import BoardSection, Certificate, PrecisionSection, read_certificate
from edge.report.document import NOT_MEASURED, Fact, Section, Table, fact
from edge.report.known import Known
from edge.runtime.status_file import read_live
from edge.station.numbers import read_numbers
from edge.station.site import CameraGeometry
from edge.types import Intrinsics

PASSED = {True: "passed", False: "not passed"}


def station_section(known: Known) -> Section:
    """Its names, machine and software."""
    names, store = read_config(known.store.root).station, known.store
    number = read_numbers(store).get(known.bundle.product)
    active = store.active_product()
    judged = "yes" if active == known.bundle.product else f"no, {active or 'none'} is"
    return Section(
        "Station",
        facts=[
            fact("Site, line, station", f"{names.site} / {names.line} / {names.station}"),
            fact("Machine", this_machine()),
            fact("Software", f"edge {metadata.version('rgbd-inspection')}"),
            fact("Product", known.bundle.product),
            Fact("Its number for the PLC", "none" if number is None else str(number)),
            Fact("Is it judged now", judged, is_warning=judged != "yes"),
        ],
    )


def camera_section(known: Known) -> Section:
    """The cameras that were calibrated for this product, and what it was trained on."""
    contract, live = known.bundle.manifest.camera, read_live(known.store)
    serial = None if live is None else live.said.get("camera")
    trained = ", ".join(
        [
            f"{contract.model}, {contract.width} x {contract.height} px",
            *_told("at", contract.fps, "frames a second"),
            *_told("exposure", contract.exposure_us, "us"),
            *_told("gain", contract.gain, ""),
        ]
    )
    facts = [Fact("At work now", str(serial) if serial else "`edge run` is not at work")]
    for name, geometry in known.cameras.items():
        facts += [
            fact("Serial", name),
            Fact("Its calibration table (SHA-256)", geometry.calibration or "not told"),
            fact("Stream", f"{geometry.stream_width} x {geometry.stream_height} px"),
            fact("Focal lengths", "{:.1f}, {:.1f} px".format(*geometry.intrinsics[:2])),
        ]
    if not known.cameras:
        facts.append(fact("Serial", None, is_warning=True))
    return Section("Camera", facts=[*facts, fact("Trained on", trained)])


def bundle_section(known: Known) -> Section:
    """What is installed, who signed it, and what it was trained on."""
    m, made = known.bundle.manifest, known.bundle.manifest.provenance
    signer = _signer(known)
    return Section(
        "Bundle",
        facts=[
            fact("Product, version", f"{m.product} {m.version}"),
            fact("System", f"{m.system} {m.preset}"),
            fact("Judged by", m.judged_by),
            fact("Digest (SHA-256 of its manifest)", known.bundle.digest),
            signer,
            fact("Trained on", f"{made.train_parts} normal parts of {made.data}"),
            fact("Images (SHA-256)", made.data_sha256),
            fact("Validated with", f"{m.normal.parts} other normal parts"),
            fact("Made", f"{made.created_at} by {made.code}"),
        ],
    )


def certificate_section(known: Known) -> Section:
    """Whether what judges here decides as the trained model did."""
    certificate = _certificate(known)
    judge = known.judge
    said = (
        [f"No engine judges yet: {known.why}."]
        if judge is None or judge.section is None
        else [f"{judge.name} judges on {judge.section.board}: {known.why}."]
    )
    files = Table(
        (
            "File", "Threshold", "Normal parts rejected", "Defects missed", "Unlike float32",
            "Noise (s)", "Certificate",
        ),
        [_file_row(section) for section in certificate.sections],
        frozenset({1, 5}),
    )  # fmt: skip
    boards = Table(
        ("Engine here", "ms", "Threshold", "Unlike float32", "Noise (s)", "Proven (UTC)", "Result"),
        [_board_row(board) for board in certificate.boards],
        frozenset({1, 2, 4}),
        frozenset({5}),
    )
    return Section(
        "Certificate",
        said=said,
        tables=[files, boards] if certificate.boards else [files],
        notes=[
            "s: half the spread of float32's normal scores. Counts are of the frames in the bundle;"
            " normal parts: of those that were used for no choice."
        ],
    )


def plane_section(known: Known) -> Section:
    """The calibrated planes, by camera."""
    if not known.bundle.manifest.presence:
        return Section("Plane", said=["A product of color images alone has no plane."])
    if not known.cameras:
        return Section("Plane", facts=[fact("Plane", None, is_warning=True)])
    facts: list[Fact] = []
    for serial, geometry in known.cameras.items():
        facts += _plane_facts(known, serial, geometry)
    return Section("Plane", facts=facts)


def _told(name: str, value: float | None, unit: str) -> list[str]:
    return [] if value is None else [f"{name} {value:g} {unit}".rstrip()]


def _signer(known: Known) -> Fact:
    """The trusted key that signed the manifest, checked now."""
    name, folder = "Signed with key", known.bundle.folder
    try:
        manifest, signature = (
            read_bytes(folder / file, BundleError, MANIFEST_LIMIT) for file in (MANIFEST, SIGNATURE)
        )
        return fact(name, verify_signature(manifest, signature, known.store.keys.all()).keyid)
    except EdgeError as error:
        return Fact(name, f"not verified: {error}", is_warning=True)


def _certificate(known: Known) -> Certificate:
    completed = certificate_path(known.store, known.bundle)
    return read_certificate(completed if is_there(completed) else known.bundle.certificate)


def _file_row(section: PrecisionSection) -> Sequence[str]:
    verdicts = section.verdicts
    return (
        section.precision,
        f"{section.threshold.value:.6g}",
        NOT_MEASURED if verdicts.good is None else str(verdicts.good),
        str(verdicts.missed),
        str(verdicts.unlike),
        f"{section.noise.rms:.2f}",
        PASSED[section.passed],
    )


def _board_row(board: BoardSection) -> Sequence[str]:
    return (
        f"{board.runtime} {board.precision}",
        f"{board.time_ms:.2f}",
        f"{board.threshold.value:.6g}",
        str(board.golden_unlike),
        f"{board.noise.rms:.2f}",
        board.proven_at[:19].replace("T", " "),
        PASSED[board.passed],
    )


def _plane_facts(known: Known, serial: str, geometry: CameraGeometry) -> list[Fact]:
    contract = known.bundle.manifest.camera
    size = (contract.crop_width, contract.crop_height)
    whole = Intrinsics(geometry.stream_width, geometry.stream_height, *geometry.intrinsics)
    lens = whole.cropped(geometry.crop_x, geometry.crop_y, *size)
    plane, residual, expected = geometry.plane, geometry.residual_m, geometry.expected
    return [
        fact("Camera", serial),
        fact("Distance", None if plane is None else plane[3] * 1000, "mm", plane is None),
        fact("Tilt", None if plane is None else tilt_deg(plane, lens), "degrees"),
        fact("Residual (root mean square)", None if residual is None else residual * 1000, "mm"),
        fact("Frames", geometry.frames or None),
        fact("Crop", f"{size[0]} x {size[1]} px at {geometry.crop_x}, {geometry.crop_y}"),
        Fact("Region of interest", "the whole crop" if geometry.region is None else "set"),
        Fact(
            "Expected silhouette",
            "not set"
            if expected is None
            else f"from {expected.parts} parts, by {expected.who}, {expected.when}",
        ),
        fact("Version, by whom, when", f"{geometry.version}, {geometry.who}, {geometry.when}"),
    ]
