"""From a run folder to a signed bundle: export, quantize, prove, compile, seal.

It appears whole or not at all.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from edge.bundle.archive import list_files, pack, seal
from edge.bundle.manifest import Manifest, NormalParts, Provenance, ScoreSpread
from edge.bundle.signature import sign_manifest
from edge.camera.contract import CameraContract
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.errors import ConfigError, DataError, EngineError
from edge.files import require_file_target
from edge.frames.dataset import Dataset
from edge.proof.certificate import NAMED_NOISE, Certificate, PrecisionSection
from edge.proof.compare import Count, spread_of
from edge.proof.golden import NormalIndex
from edge.proof.threshold import Threshold, threshold_from_normals
from edge.schema import Name, Precision, TensorSpec
from trainer.data.choose import spread
from trainer.data.defects import require_defects_folder
from trainer.evaluate.evaluation import evaluate_run
from trainer.evaluate.files import own_evaluation, write_evaluation
from trainer.evaluate.judged import Judged, data_folder, open_own
from trainer.evaluate.report import add_verdicts
from trainer.export.onnx_file import check_compiles, export_checked
from trainer.export.proof import Proof, Shown, answered, by_falling_score, gather
from trainer.export.proof_frames import (
    LEAST_TO_QUANTIZE,
    carry,
    check_names,
    feeds_of,
    open_outliers,
    proof_frames,
)
from trainer.graph.operators import check_operators
from trainer.quantize import Quantized, quantize
from trainer.train.operating_points import operating_points
from trainer.train.outliers import Outlier
from trainer.train.run_folder import REPORT
from trainer.train.run_info import RunInfo, read_info
from trainer.train.trained_run import TrainedRun, load_run

log = logging.getLogger(__name__)

ORDER: tuple[Precision, ...] = ("int8", "fp16", "fp32")  # the order in which a station tries them
QUANTIZED: tuple[Precision, ...] = ("fp16", "int8")
MOST_CALIBRATION = 24  # normal training parts that set INT8's scales
NOTE = (
    "Provisional: onnxruntime's arithmetic of these same files on a CPU, float16 results rounded"
    " after every node. `edge install` on the station measures its own engine's threshold, and"
    " compares it with this."
)

Tell = Callable[[str], None]
Frames = list[dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    precisions: besides fp32, always there. data: where the images are now, None: as trained.
    false_rejects: the rate that the thresholds keep, None: the run's. left_out, kept: names of
    normal validation parts whose scores stand apart, and that the user declared not normal, or
    normal. defects: a folder of defective images that count too,
    None: the one that the evaluation or the training named.
    """

    run: Path
    product: str
    version: str
    precisions: tuple[Precision, ...]
    key: Path
    out: Path
    data: Path | None = None
    false_rejects: float | None = None
    left_out: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    defects: Path | None = None


@dataclass(frozen=True, eq=False)
class Exported:
    """A finished bundle. certificate: with the refused precisions too.

    compiler: None if none is installed.
    """

    path: Path
    certificate: Certificate
    manifest: Manifest
    shipped: tuple[Precision, ...]
    compiler: str | None


@dataclass(frozen=True, eq=False)
class _Normals:
    """The n normal validation parts by falling score of the float32 file, and each precision's
    scores in that order.
    """

    frames: list[Shown]
    scores: dict[Precision, NDArray[np.float32]]


def export_bundle(request: ExportRequest, tell: Tell = log.info) -> Exported:
    """Make a bundle of a trained run.

    Raises: ConfigError for a name, version or key that cannot be, DataError for a run or data that
        are not complete, or for an outlier among the normal parts that nobody has decided on,
        EngineError for a graph that breaks the contract, needs an operator TensorRT does not know,
        or does not compile.
    """
    info = _checked_info(request)
    run = load_run(request.run)
    judged = _judged(info, request)
    for line in (*judged.notes, *_plane_lines(info)):
        tell(line)
    frames = proof_frames(run, judged, request.left_out)
    page = _report_page(run, judged, tell)
    with TemporaryDirectory(prefix="bundle-") as temporary:
        folder = Path(temporary)
        (folder / "model").mkdir()
        exact = folder / "model" / "fp32.onnx"
        tell("exporting float32")
        export_checked(
            run.deployed,
            exact,
            [frame.source() for frame in spread(frames.normal, 4)],
            compiled=False,
        )
        if frames.set_aside:
            tell(
                f"{len(frames.good)} normal validation parts are set aside to count false rejects"
                " on: there is no other good part"
            )
        tell(f"judging {len(frames.normal)} normal validation parts")
        engine = OnnxCpuEngine(exact)
        normal = by_falling_score(answered(engine.run, frames.normal))
        _stop_at_outliers(open_outliers(normal, request.kept), request)
        threshold = _threshold(run, request, normal)
        tell(f"threshold {threshold.value:.6g}: {threshold.guarantee}")
        tell("choosing golden frames and drawing defects")
        proof = gather(run.deployed, engine.run, normal, frames.good, frames.real, threshold)
        engine.close()
        made = _write_quantized(
            run, judged.dataset, proof, exact, _wanted(request.precisions, normal, tell), tell
        )
        shipped = tuple(name for name in ORDER if name in made and made[name].section.passed)
        compiler = _compile_all(folder / "model", shipped, tell)
        certificate = _certificate(proof, made)
        (folder / "parity.json").write_text(certificate.to_json())
        proof.write_golden(folder / "golden")
        normals = _normals(proof, normal, made, shipped)
        index = _carry(run, folder, normals, threshold.rank, tell)
        (folder / REPORT).write_text(
            add_verdicts(page, *parity_rows(certificate)), encoding="utf-8"
        )
        manifest = _manifest(run, request, judged.folder, folder, normals, made, index)
        seal(folder, manifest, request.key)
        return Exported(pack(folder, request.out), certificate, manifest, shipped, compiler)


def _checked_info(request: ExportRequest) -> RunInfo:
    """run.json.

    Raises: ConfigError or DataError for every mistake that shows before an image is read.
    """
    _check_names(request)
    sign_manifest(b"", request.key)
    _check_out(request.out)
    info = read_info(request.run)
    check_names("--keep", request.kept, info.validation)
    check_names("--leave-out", request.left_out, info.validation)
    require_defects_folder(request.defects)
    data_folder(info, request.data, "with --data")
    return info


def _judged(info: RunInfo, request: ExportRequest) -> Judged:
    """The run's own images, with the defective ones that this command, the evaluation or the
    training named.
    """
    if request.defects is not None:
        return open_own(info, request.data, request.defects)
    evaluated = own_evaluation(request.run, info)
    named = (
        Path(evaluated.defects) if evaluated is not None and evaluated.defects is not None else None
    )
    return open_own(info, request.data, named)


def _report_page(run: TrainedRun, judged: Judged, tell: Tell) -> str:
    """The run's report of these very images, made now if there is none."""
    evaluated = own_evaluation(run.folder, run.info)
    defects = None if judged.defects is None else str(judged.defects)
    if evaluated is None or (evaluated.data, evaluated.defects) != (str(judged.folder), defects):
        tell(f"{judged.sentence()}: the run has no report of them")
        write_evaluation(run, judged, evaluate_run(run, judged))
    return (run.folder / REPORT).read_text(encoding="utf-8")


def _plane_lines(info: RunInfo) -> list[str]:
    """A warning where training had what a station has not."""
    if info.fixed or not info.with_depth:
        return []
    return [
        "the background plane differs from image to image, and each was trained with its own: a"
        " station judges with the one that `edge calibrate plane` measures, so its camera and table"
        " must not move"
    ]


def _stop_at_outliers(outliers: Sequence[Outlier], request: ExportRequest) -> None:
    """Raises: DataError naming the first that nobody has decided on, and both ways on."""
    if not outliers:
        return
    first = outliers[0]
    more = f" ({len(outliers) - 1} more like it)" if len(outliers) > 1 else ""
    raise DataError(
        f"the normal part {first.name} scores {first.score:.4g}, the next {first.next_score:.4g},"
        f" the median {first.median:.4g}{more}: look at {request.run / 'outliers'}. Is it a defect"
        f" or a damaged file, add --leave-out {first.name}; is it a rare kind of normal part, add"
        f" --keep {first.name}"
    )


def _threshold(run: TrainedRun, request: ExportRequest, normal: Sequence[Shown]) -> Threshold:
    """float32's, of onnxruntime's scores."""
    rate = run.info.false_rejects if request.false_rejects is None else request.false_rejects
    return threshold_from_normals([frame.value for frame in normal], rate, len(request.left_out))


def _wanted(
    precisions: Sequence[Precision], normal: Sequence[Shown], tell: Tell
) -> list[Precision]:
    """float32, and what was asked for, unless the parts are too few to tell whether it may be
    shipped.
    """
    asked = [name for name in QUANTIZED if name in precisions]
    if asked and len(normal) < LEAST_TO_QUANTIZE:
        tell(
            f"only fp32: {len(normal)} normal validation parts cannot tell how"
            f" {' and '.join(asked)} decide, {LEAST_TO_QUANTIZE} are needed"
        )
        return ["fp32"]
    return ["fp32", *asked]


def _normals(
    proof: Proof,
    normal: Sequence[Shown],
    made: Mapping[Precision, Quantized],
    shipped: Sequence[Precision],
) -> _Normals:
    """Every shipped precision's scores of all n parts, in the order of the float32 file's."""
    row_of = {frame.name: row for row, frame in enumerate(proof.frames)}
    rows = np.array([row_of[frame.name] for frame in normal])
    order = np.argsort(-made["fp32"].responses.scores[rows], kind="stable")
    scores = {name: made[name].responses.scores[rows][order] for name in shipped}
    return _Normals([normal[place] for place in order], scores)


def _carry(run: TrainedRun, folder: Path, normals: _Normals, rank: int, tell: Tell) -> NormalIndex:
    inputs = [_with_default(spec, run.info) for spec in run.deployed.inputs]
    index = carry(folder / "normal", normals.frames, normals.scores, rank, inputs)
    size = sum(path.stat().st_size for path in (folder / "normal").iterdir())
    tell(
        f"carrying {len(index.frames)} of {index.parts} normal frames, {size / 1e6:.1f} MB: the"
        " station measures its threshold on them"
    )
    return index


def _check_names(request: ExportRequest) -> None:
    for option, value in (("--product", request.product), ("--version", request.version)):
        try:
            TypeAdapter(Name).validate_python(value)
        except ValidationError as error:
            allowed = (
                "letters, digits, dots, dashes and underscores, a letter or digit first, at most 64"
            )
            raise ConfigError(f"{option} {value!r}: use {allowed}") from error


def _check_out(out: Path) -> None:
    require_file_target(out, "--out")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}, make it first")


# --- models
# --------------------------------------------------------------------------------------------------


def _write_quantized(
    run: TrainedRun,
    dataset: Dataset,
    proof: Proof,
    exact: Path,
    precisions: Sequence[Precision],
    tell: Tell,
) -> dict[Precision, Quantized]:
    """Beside the float32 file, one for each precision that passed.

    Raises: EngineError if float32 itself fails.
    """
    model = onnx.load(str(exact))
    calibration = _calibration(run, dataset) if "int8" in precisions else []
    tell(f"making and measuring {', '.join(precisions)} on {len(proof.frames)} frames")
    made = quantize(model, precisions, calibration, proof.evidence())
    if not made["fp32"].section.passed:
        raise EngineError(
            f"float32 in onnxruntime is not what torch computes: {made['fp32'].section.reasons[0]}"
        )
    for name, result in made.items():
        if name != "fp32" and result.section.passed:
            check_operators(result.model)
            (exact.parent / f"{name}.onnx").write_bytes(result.model.SerializeToString())
    return made


def _calibration(run: TrainedRun, dataset: Dataset) -> Frames:
    by_name = {sample.name: sample for sample in dataset.samples}
    return [feeds_of(run, by_name[name]) for name in spread(run.info.train, MOST_CALIBRATION)]


def _compile_all(folder: Path, shipped: Sequence[Precision], tell: Tell) -> str | None:
    """Compile every file with tensorrt_rtx where it is installed.

    Returns: the compiler's name, None without one.
    """
    if importlib.util.find_spec("tensorrt_rtx") is None:
        tell("tensorrt_rtx is not installed: no file was compiled (pip install tensorrt-rtx)")
        return None
    logging.getLogger("tensorrt").setLevel(
        logging.ERROR
    )  # it warns of every scale; its errors are raised anyway
    for name in shipped:
        built = check_compiles(folder / f"{name}.onnx")
        tell(f"{name}: compiled by tensorrt_rtx, {built.layers} layers in {built.seconds:.1f} s")
    return f"tensorrt_rtx {metadata.version('tensorrt_rtx')}"


def _certificate(proof: Proof, made: Mapping[Precision, Quantized]) -> Certificate:
    frames = proof.frames
    maps = np.concatenate([frame.map.ravel() for frame in frames if frame.kind != "near"])
    kinds = [frame.kind for frame in frames]
    return Certificate(
        note=NOTE,
        spread=proof.rule.spread,
        map_low=float(maps.min()),
        map_high=float(maps.max()),
        normal_frames=kinds.count("normal"),
        good_frames=kinds.count("good"),
        real_frames=kinds.count("real"),
        drawn_frames=kinds.count("drawn"),
        near_frames=kinds.count("near"),
        golden_frames=len(proof.golden),
        sections=tuple(made[name].section for name in ORDER if name in made),
    )


# --- manifest
# --------------------------------------------------------------------------------------------------


def _manifest(
    run: TrainedRun,
    request: ExportRequest,
    data: Path,
    folder: Path,
    normals: _Normals,
    made: Mapping[Precision, Quantized],
    index: NormalIndex,
) -> Manifest:
    info = run.info
    thresholds = {name: made[name].section.threshold for name in normals.scores}
    exact = thresholds["fp32"]
    return Manifest(
        product=request.product,
        version=request.version,
        system=info.system,
        preset=info.preset,
        presence=info.with_depth,
        camera=_camera(info, data),
        inputs=tuple(_with_default(spec, info) for spec in run.deployed.inputs),
        outputs=_outputs(folder / "model" / "fp32.onnx"),
        precisions=tuple(normals.scores),
        normal=NormalParts(parts=index.parts, highest=index.highest, left_out=request.left_out,
        kept=request.kept),
        normal_scores={name: tuple(float(score) for score in scores) for name,
        scores in normals.scores.items()},
        normal_spread={name: _spread(scores) for name, scores in normals.scores.items()},
        thresholds=thresholds,
        verdicts={name: made[name].section.verdicts for name in normals.scores},
        operating_points=tuple(operating_points(
            [float(score) for score in normals.scores["fp32"]], exact.rank, exact.false_rejects,
            info.defect_scores,
            exact.left_out,
        )),
        plane=info.plane,
        provenance=_provenance(info),
        files=TypeAdapter(dict).validate_python(list_files(folder)),
    )  # fmt: skip


def _spread(scores: NDArray[np.float32]) -> ScoreSpread:
    values = scores.astype(np.float64)
    return ScoreSpread(
        median=float(np.median(values)), mean=float(values.mean()),
        deviation=float(values.std(ddof=1)),
        spread=spread_of(values),
    )  # fmt: skip


def _with_default(spec: TensorSpec, info: RunInfo) -> TensorSpec:
    """Lift belongs to the product, not to the site: the manifest carries it as that input's
    default.
    """
    if spec.name != "lift" or info.lift is None:
        return spec
    return spec.model_copy(update={"default": float(np.float32(info.lift))})


def _outputs(path: Path) -> tuple[TensorSpec, ...]:
    values = onnx.load(str(path), load_external_data=False).graph.output
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in values
    }
    return tuple(
        TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in shapes.items()
    )


def _camera(info: RunInfo, data: Path) -> CameraContract:
    camera = info.camera
    x, y, width, height = info.crop

    def folder(name: str | None) -> str | None:
        return str((data / name).resolve()) if name and (data / name).is_dir() else None

    return CameraContract(
        **camera.model_dump(include={
            "model", "serial", "width", "height", "intrinsics", "unit", "exposure_us", "gain",
            "white_balance", "laser",
        }),
        fps=None if camera.fps is None else round(camera.fps),
        filters=None if camera.filters is None else tuple(camera.filters),
        crop_x=x,
        crop_y=y,
        crop_width=width,
        crop_height=height,
        min_area=info.min_area,
        max_area=info.max_area,
        max_border=info.max_border,
        min_valid=info.min_valid,
        empty=folder(camera.empty),
        belt=folder(camera.belt),
        fixed=info.fixed,
        letterbox=info.size is not None,
        color_bits=info.color_bits,
        brightness=info.brightness,
    )  # fmt: skip


def _provenance(info: RunInfo) -> Provenance:
    return Provenance(
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        data="/".join(Path(info.data).parts[-2:]),
        data_sha256=info.data_sha256,
        train_parts=len(info.train),
        validation_parts=len(info.validation),
        seed=info.seed,
        code=_code_version(),
        packages={
            **info.packages,
            **{name: metadata.version(name) for name in ("onnx", "onnxruntime")},
        },
    )


def _code_version() -> str:
    """The version of this package and, in a checkout, its commit."""
    version = metadata.version("rgbd-inspection")
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return version
    told = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
    )
    return f"{version} {told.stdout.strip()}".strip()


# --- what the user reads
# ----------------------------------------------------------------------------------------------


def parity_table(certificate: Certificate) -> list[str]:
    """The certificate as text: a row per precision, what is left out and why, and whose figures
    they are.
    """
    rows, lines = parity_rows(certificate)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*table, *lines]


def parity_rows(certificate: Certificate) -> tuple[list[tuple[str, ...]], list[str]]:
    """(a row per precision, their titles first; sentences below the table)."""
    head: tuple[str, ...] = (
        "precision", "good rejected", "defects missed", "unlike fp32", "near", "noise", "map error",
        "rank corr",
        "dI-AUROC", "dAUPRO", "MACs int8/fp16/fp32", "verdict",
    )  # fmt: skip
    lines = [
        f"{s.precision} is left out: {'; '.join(s.reasons)}"
        for s in certificate.sections
        if not s.passed
    ]
    lines += [
        f"{s.precision}: the noise of its normal scores is {s.noise.rms:.2f} s (s: half the spread"
        " of normal scores)"
        for s in certificate.sections
        if s.passed and s.noise.rms > NAMED_NOISE
    ]
    c = certificate
    lines.append(
        f"each with its own threshold, of {c.normal_frames} normal validation parts; counted on"
        f" {c.good_frames} good parts that nothing was chosen on, {c.real_frames} real defects,"
        f" {c.drawn_frames} synthetic ones and {c.near_frames} near the threshold;"
        f" {c.golden_frames} frames are golden"
    )
    return [head, *(_row(section) for section in certificate.sections)], [*lines, certificate.note]


def _row(section: PrecisionSection) -> tuple[str, ...]:
    s, v = section, section.verdicts
    good = f"not measured; expected {v.expected:.1%}" if v.good is None else str(v.good)
    shares = " / ".join(f"{share:.0%}" for share in (s.macs.int8, s.macs.fp16, s.macs.fp32))
    changes = [_points(value) for value in (s.change.i_auroc, s.change.aupro)]
    return (
        s.precision, good, _missed(v.real, v.drawn), str(v.unlike), str(v.near),
        f"{s.noise.rms:.2f} s",
        f"{s.mean_map_error:.3%}", f"{s.rank_correlation:.4f}", *changes, shares,
        "in the bundle" if s.passed else "left out",
    )  # fmt: skip


def _missed(real: Count, drawn: Count) -> str:
    """Real and synthetic defects apart: the synthetic ones begin at barely there."""
    synthetic = f"{drawn} synthetic"
    return f"{real} real, {synthetic}" if real.of else synthetic


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
