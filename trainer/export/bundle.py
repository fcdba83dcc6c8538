"""From a run folder to a signed bundle.

export_bundle reads from top to bottom; each step has a module:

request             what the user asks for, and what is refused before an image is read
own_report          the run's own images, and the report of them
proof_frames        which of them are judged
onnx_file           the float32 file
proof               the frames on which every precision is compared with float32
precisions          the quantized files, and the compiler
certificate         how they compare
normal_frames       the frames on which a station measures its threshold
channels            where the features of normal parts lie
manifest            what the station must know

The bundle appears whole or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edge.bundle.manifest import Manifest
from edge.bundle.pack import pack, seal
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.errors import DataError
from edge.proof.certificate import Certificate
from edge.proof.golden import NormalIndex
from edge.proof.threshold import Threshold, threshold_from_normals
from edge.schema import Precision
from trainer.data.choose import spread
from trainer.evaluate.report import add_verdicts
from trainer.export.certificate import make_certificate, parity_rows
from trainer.export.manifest import inputs_of, make_manifest
from trainer.export.normal_frames import RankedNormals, ranked_normals, write_normal_frames
from trainer.export.onnx_file import export_checked
from trainer.export.own_report import judged_images, report_page
from trainer.export.precisions import compile_all, shipped_of, wanted_precisions, write_precisions
from trainer.export.proof import Proof, gather
from trainer.export.proof_frames import ProofFrames, open_outliers, proof_frames
from trainer.export.request import ExportRequest, checked_info
from trainer.export.shown import Shown, answered_slowly, by_falling_score
from trainer.train.operating_points import threshold_line
from trainer.train.outliers import Outlier
from trainer.train.run_folder import OUTLIERS, REPORT
from trainer.train.run_info import RunInfo
from trainer.train.trained_run import TrainedRun, load_run
from trainer.train.validation import counted_parts

log = logging.getLogger(__name__)

AGREEMENT_FRAMES = 4  # normal parts on which torch and onnxruntime are compared

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Exported:
    """A finished bundle.

    certificate: with the refused precisions too. compiler: None if none is installed.
    """

    path: Path
    certificate: Certificate
    manifest: Manifest
    shipped: tuple[Precision, ...]
    compiler: str | None


def export_bundle(request: ExportRequest, tell: Tell = log.info) -> Exported:
    """Make a bundle of a trained run.

    Raises: ConfigError for a name, version or key that cannot be, DataError for a run or data that
        are not complete, or for an outlier among the normal parts without a decision of the user,
        EngineError for a graph that breaks the contract, needs an operator TensorRT does not know,
        or does not compile.
    """
    info = checked_info(request)
    run = load_run(request.run)
    judged = judged_images(info, request)
    for line in (*judged.notes, *_plane_lines(info)):
        tell(line)
    frames = proof_frames(run, judged, request.left_out)
    page = report_page(run, judged, tell)
    with TemporaryDirectory(prefix="bundle-") as temporary:
        folder = Path(temporary)
        exact = _write_float32(run, frames, folder, tell)
        normal, proof = _judge_float32(run, request, frames, exact, tell)
        wanted = wanted_precisions(request.precisions, normal, tell)
        made = write_precisions(run, judged.dataset, proof, exact, wanted, tell)
        shipped = shipped_of(made)
        compiler = compile_all(exact.parent, shipped, tell)
        certificate = make_certificate(proof, made)
        (folder / "parity.json").write_text(certificate.to_json())
        proof.write_golden(folder / "golden")
        normals = ranked_normals(proof, normal, made, shipped)
        index = _carry(run, folder, normals, proof.rule.rank, tell)
        report = add_verdicts(page, *parity_rows(certificate))
        (folder / REPORT).write_text(report, encoding="utf-8")
        manifest = make_manifest(run, request, judged, folder, normals, made, index)
        seal(folder, manifest, request.key)
        return Exported(pack(folder, request.out), certificate, manifest, shipped, compiler)


def _write_float32(run: TrainedRun, frames: ProofFrames, folder: Path, tell: Tell) -> Path:
    """model/fp32.onnx, compared with torch on a few normal parts."""
    (folder / "model").mkdir()
    exact = folder / "model" / "fp32.onnx"
    tell("exporting float32")
    compared = [frame.source() for frame in spread(frames.normal, AGREEMENT_FRAMES)]
    export_checked(run.deployed, exact, compared, compiled=False)
    return exact


def _judge_float32(
    run: TrainedRun, request: ExportRequest, frames: ProofFrames, exact: Path, tell: Tell
) -> tuple[list[Shown], Proof]:
    """(the normal parts as the float32 file answers them, by falling score; the frames on which the
    precisions are compared).

    Raises: DataError for an outlier without a decision of the user, or a model that rejects
        nothing.
    """
    if frames.set_aside:
        tell(
            f"{counted_parts(len(frames.good), 'is are')} set aside to count false rejects on:"
            " there is no other good part"
        )
    tell(f"judging {counted_parts(len(frames.normal))}")
    engine = OnnxCpuEngine(exact)
    what = "judging the normal validation parts"
    normal = by_falling_score(answered_slowly(engine.run, frames.normal, what))
    _stop_at_outliers(open_outliers(normal, request.kept), request)
    threshold = _threshold(run, request, normal)
    tell(threshold_line(threshold))
    tell("choosing reference frames and drawing synthetic defects")
    proof = gather(run.deployed, engine.run, normal, frames.good, frames.real, threshold)
    engine.close()
    return normal, proof


def _carry(
    run: TrainedRun, folder: Path, normals: RankedNormals, rank: int, tell: Tell
) -> NormalIndex:
    """normal/, with the frames that every shipped precision needs to find its threshold."""
    normal = folder / "normal"
    index = write_normal_frames(normal, normals.frames, normals.scores, rank, inputs_of(run))
    size = sum(path.stat().st_size for path in normal.iterdir())
    tell(
        f"the bundle contains {len(index.frames)} of {index.parts} normal validation frames"
        f" ({size / 1e6:.1f} MB): the station measures its threshold on them"
    )
    return index


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
    """Raises: DataError naming the first without a decision of the user, and both options."""
    if not outliers:
        return
    first = outliers[0]
    more = f" ({len(outliers) - 1} more like it)" if len(outliers) > 1 else ""
    raise DataError(
        f"the normal part {first.name} scores {first.score:.4g}, the next {first.next_score:.4g},"
        f" the median {first.median:.4g}{more}: look at {request.run / OUTLIERS}. Is it a defect"
        f" or a damaged file, add --leave-out {first.name}; is it a rare kind of normal part, add"
        f" --keep {first.name}"
    )


def _threshold(run: TrainedRun, request: ExportRequest, normal: Sequence[Shown]) -> Threshold:
    """float32's, of onnxruntime's scores."""
    rate = run.info.false_rejects if request.false_rejects is None else request.false_rejects
    return threshold_from_normals([frame.value for frame in normal], rate, len(request.left_out))
