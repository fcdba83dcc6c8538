"""From a run folder to a signed bundle: export, quantise, prove, compile, seal. It appears whole or not at all."""

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
from edge.bundle.manifest import CameraContract, Manifest, Name, Precision, Provenance, TensorSpec, Threshold
from edge.bundle.signature import sign_manifest
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.engine.parity import Certificate
from edge.errors import ConfigError, DataError, EngineError
from edge.frames.dataset import Dataset, Sample, open_dataset
from trainer.export import check_compiles, export_checked
from trainer.graph.deploy import Deployed
from trainer.graph.operators import check_operators
from trainer.proof import Proof, Shown, gather, in_turn, spread
from trainer.quantise import Quantised, quantise
from trainer.run import RunInfo, TrainedRun, load_run

log = logging.getLogger(__name__)

ORDER: tuple[Precision, ...] = ("int8", "fp16", "fp32")     # the order in which a station tries them
REPORT = "report.html"
MOST_CALIBRATION = 24      # normal training parts that set INT8's scales
MOST_REAL = 24             # defects of the test split that are looked at for golden frames
NOTE = (
    "Provisional: onnxruntime's arithmetic of these same files on a CPU, float16 results rounded after every node. "
    "`edge verify` on the station adds what its own engine gives on the golden frames."
)

Tell = Callable[[str], None]
Frames = list[dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class ExportRequest:
    """What to export. precisions: besides fp32, always there. data: where the images are now, None: as trained."""

    run: Path
    product: str
    version: str
    precisions: tuple[Precision, ...]
    key: Path
    out: Path
    data: Path | None = None


@dataclass(frozen=True, eq=False)
class Exported:
    """A finished bundle. certificate: with the refused precisions too. compiler: None if none is installed."""

    path: Path
    certificate: Certificate
    shipped: tuple[Precision, ...]
    compiler: str | None


def export_bundle(request: ExportRequest, tell: Tell = log.info) -> Exported:
    """Make a bundle of a trained run.

    Raises: ConfigError for a name, version or key that cannot be, DataError for a run or data that are not complete,
        EngineError for a graph that breaks the contract, needs an operator TensorRT does not know, or does not compile.
    """
    _check_names(request)
    sign_manifest(b"", request.key)        # a wrong key is found now, not after the work
    run = load_run(request.run)
    if not (request.run / REPORT).is_file():
        raise DataError(f"{request.run} has no {REPORT}: run `trainer evaluate {request.run} {run.info.data}` first")
    dataset = open_dataset(request.data or Path(run.info.data))
    with TemporaryDirectory(prefix="bundle-") as temporary:
        folder = Path(temporary)
        (folder / "model").mkdir()
        exact = folder / "model" / "fp32.onnx"
        normal, real = _frames(run, dataset)
        tell("exporting float32")
        export_checked(run.deployed, exact, [frame.feeds for frame in spread(normal, 4)], compiled=False)
        tell("choosing golden frames and drawing defects")
        proof = gather(run.deployed, OnnxCpuEngine(exact).run, normal, real, run.info.threshold.value)
        made = _write_quantised(run, dataset, proof, exact, request.precisions, tell)
        shipped = tuple(name for name in ORDER if name in made and made[name].section.passed)
        compiler = _compile_all(folder / "model", shipped, tell)
        certificate = _certificate(proof, made)
        (folder / "parity.json").write_text(certificate.to_json())
        proof.write_golden(folder / "golden")
        shutil.copyfile(request.run / REPORT, folder / REPORT)
        seal(folder, _manifest(run, request, shipped, folder), request.key)
        return Exported(pack(folder, request.out), certificate, shipped, compiler)


def _check_names(request: ExportRequest) -> None:
    for option, value in (("--product", request.product), ("--version", request.version)):
        try:
            TypeAdapter(Name).validate_python(value)
        except ValidationError as error:
            allowed = "letters, digits, dots, dashes and underscores, a letter or digit first, at most 64"
            raise ConfigError(f"{option} {value!r}: use {allowed}") from error


# --- frames -----------------------------------------------------------------------------------------------------------


def _frames(run: TrainedRun, dataset: Dataset) -> tuple[list[Shown], list[Shown]]:
    """Normal validation parts, and test parts with defects of every kind."""
    by_name = {sample.name: sample for sample in dataset.samples}
    missing = [name for name in (*run.info.validation, *run.info.train) if name not in by_name]
    if missing:
        raise DataError(f"{dataset.root} lacks {missing[0]}, which the run was made with: name the data with --data")
    normal = [_shown(run, by_name[name]) for name in run.info.validation]
    defects = [sample for sample in dataset.split("test") if sample.is_defective]
    real = [_shown(run, sample) for sample in in_turn(defects, lambda sample: sample.defect, MOST_REAL)]
    return normal, real


def _shown(run: TrainedRun, sample: Sample) -> Shown:
    x, y, width, height = run.info.crop
    mask = sample.load_mask()
    truth = None if mask is None else mask[y : y + height, x : x + width]
    return Shown(sample.name, complete_feeds(run.deployed, run.feeds(sample)), sample.is_defective, truth)


def complete_feeds(deployed: Deployed, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Every graph input: those given, and the neutral defaults of the site tensors."""
    full: dict[str, NDArray[Any]] = {
        spec.name: np.full(spec.shape, spec.default, spec.dtype) for spec in deployed.inputs if spec.default is not None
    }
    return {**full, **feeds}


def _calibration(run: TrainedRun, dataset: Dataset) -> Frames:
    by_name = {sample.name: sample for sample in dataset.samples}
    names = spread(run.info.train, MOST_CALIBRATION)
    return [complete_feeds(run.deployed, run.feeds(by_name[name])) for name in names]


# --- models -----------------------------------------------------------------------------------------------------------


def _write_quantised(
    run: TrainedRun, dataset: Dataset, proof: Proof, exact: Path, precisions: Sequence[Precision], tell: Tell
) -> dict[Precision, Quantised]:
    """Beside the float32 file, one for each precision that passed. Raises: EngineError if float32 itself fails."""
    model = onnx.load(str(exact))
    wanted: list[Precision] = ["fp32", *(name for name in ("fp16", "int8") if name in precisions)]
    calibration = _calibration(run, dataset) if "int8" in wanted else []
    tell(f"making and measuring {', '.join(wanted)} on {len(proof.frames)} frames")
    made = quantise(model, wanted, calibration, proof.evidence())
    if not made["fp32"].section.passed:
        raise EngineError(f"float32 in onnxruntime is not what torch computes: {made['fp32'].section.reasons[0]}")
    for name, result in made.items():
        if name != "fp32" and result.section.passed:
            check_operators(result.model)
            (exact.parent / f"{name}.onnx").write_bytes(result.model.SerializeToString())
    return made


def _compile_all(folder: Path, shipped: Sequence[Precision], tell: Tell) -> str | None:
    """Compile every file with tensorrt_rtx where it is installed. Returns: the compiler's name, None without one."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        tell("tensorrt_rtx is not installed: no file was compiled (pip install tensorrt-rtx)")
        return None
    logging.getLogger("tensorrt").setLevel(logging.ERROR)   # it warns of every scale; its errors are raised anyway
    for name in shipped:
        built = check_compiles(folder / f"{name}.onnx")
        tell(f"{name}: compiled by tensorrt_rtx, {built.layers} layers in {built.seconds:.1f} s")
    return f"tensorrt_rtx {metadata.version('tensorrt_rtx')}"


def _certificate(proof: Proof, made: Mapping[Precision, Quantised]) -> Certificate:
    frames = proof.frames
    maps, scores = (np.concatenate([values.ravel() for values in column]) for column in
                    ([frame.map for frame in frames], [frame.score for frame in frames]))  # fmt: skip
    defects = [frame for frame in frames if frame.is_defect]
    return Certificate(
        note=NOTE,
        threshold=proof.threshold,
        score_low=float(scores.min()),
        score_high=float(scores.max()),
        map_low=float(maps.min()),
        map_high=float(maps.max()),
        normal_frames=len(frames) - len(defects),
        defect_frames=len(defects),
        drawn_frames=sum(frame.drawn for frame in frames),
        golden_frames=len(proof.golden),
        sections=tuple(made[name].section for name in ORDER if name in made),
    )


# --- manifest ---------------------------------------------------------------------------------------------------------


def _manifest(run: TrainedRun, request: ExportRequest, shipped: Sequence[Precision], folder: Path) -> Manifest:
    info = run.info
    return Manifest(
        product=request.product,
        version=request.version,
        system=info.system,
        preset=info.preset,
        presence=info.with_depth,
        camera=_camera(info, Path(request.data or info.data)),
        inputs=tuple(_with_default(spec, info) for spec in run.deployed.inputs),
        outputs=_outputs(folder / "model" / "fp32.onnx"),
        precisions=tuple(shipped),
        normal_scores=tuple(info.normal_scores),
        threshold=Threshold(**info.threshold.model_dump()),
        plane=info.plane,
        provenance=_provenance(info),
        files=TypeAdapter(dict).validate_python(list_files(folder)),
    )


def _with_default(spec: TensorSpec, info: RunInfo) -> TensorSpec:
    """Lift belongs to the product, not to the site: the manifest carries it as that input's default."""
    if spec.name != "lift" or info.lift is None:
        return spec
    return spec.model_copy(update={"default": float(np.float32(info.lift))})


def _outputs(path: Path) -> tuple[TensorSpec, ...]:
    values = onnx.load(str(path), load_external_data=False).graph.output
    shapes = {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values}
    return tuple(TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in shapes.items())


def _camera(info: RunInfo, data: Path) -> CameraContract:
    camera = info.camera
    x, y, width, height = info.crop

    def folder(name: str | None) -> str | None:
        return str((data / name).resolve()) if name and (data / name).is_dir() else None

    return CameraContract(
        **camera.model_dump(include={
            "model", "serial", "width", "height", "intrinsics", "unit", "exposure_us", "gain", "white_balance", "laser",
        }),
        fps=None if camera.fps is None else round(camera.fps),
        filters=None if camera.filters is None else tuple(camera.filters),
        crop_x=x,
        crop_y=y,
        crop_width=width,
        crop_height=height,
        min_area=info.min_area,
        max_area=info.max_area,
        min_valid=info.min_valid,
        empty=folder(camera.empty),
        belt=folder(camera.belt),
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
        packages={**info.packages, **{name: metadata.version(name) for name in ("onnx", "onnxruntime")}},
    )


def _code_version() -> str:
    """The version of this package and, in a checkout, its commit."""
    version = metadata.version("rgbd-inspection")
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return version
    told = subprocess.run(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    return f"{version} {told.stdout.strip()}".strip()


# --- what the user reads ----------------------------------------------------------------------------------------------


def parity_table(certificate: Certificate) -> list[str]:
    """The certificate as text: a row per precision, what is left out and why, and whose figures they are."""
    head: tuple[str, ...] = (
        "precision", "map error", "largest", "rank corr", "flips", "dI-AUROC", "dP-AUROC", "dAUPRO",
        "MACs int8/fp16/fp32", "backbone int8", "verdict",
    )  # fmt: skip
    rows = [head]
    for s in certificate.sections:
        shares = " / ".join(f"{share:.0%}" for share in (s.macs.int8, s.macs.fp16, s.macs.fp32))
        backbone = "-" if s.backbone_macs is None else f"{s.backbone_macs.int8:.0%}"
        changes = [_points(value) for value in (s.change.i_auroc, s.change.p_auroc, s.change.aupro)]
        rows.append((
            s.precision, f"{s.mean_map_error:.3%}", f"{s.largest_map_error:.2%}", f"{s.rank_correlation:.4f}",
            str(s.flips), *changes, shares, backbone, "in the bundle" if s.passed else "left out",
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{s.precision} is left out: {'; '.join(s.reasons)}" for s in certificate.sections if not s.passed]
    counted = f"{certificate.normal_frames} normal frames, {certificate.defect_frames} with a defect"
    lines.append(f"on {counted} ({certificate.drawn_frames} drawn), {certificate.golden_frames} of them golden")
    return [*lines, certificate.note]


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
