"""The files of the wanted precisions: made, compared with float32, written, compiled."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import onnx

from edge.errors import EngineError
from edge.frames.dataset import Dataset
from edge.schema import Precision
from trainer.data.choose import spread
from trainer.export.onnx_file import check_compiles
from trainer.export.proof import Proof
from trainer.export.proof_frames import LEAST_TO_QUANTIZE, feeds_of
from trainer.export.shown import Shown
from trainer.graph.operators import check_operators
from trainer.quantize import Quantized, quantize
from trainer.quantize.evidence import Feeds
from trainer.train.trained_run import TrainedRun
from trainer.train.validation import counted_parts

Tell = Callable[[str], None]

ORDER: tuple[Precision, ...] = ("int8", "fp16", "fp32")  # the order in which a station tries them
QUANTIZED: tuple[Precision, ...] = ("fp16", "int8")
COMPILES_INT8 = (1, 7)  # tensorrt_rtx 1.6.1, which torch-tensorrt asks for, refuses Q/DQ on a CPU
MOST_CALIBRATION = 24  # normal training parts that set INT8's scales


def wanted_precisions(
    precisions: Sequence[Precision], normal: Sequence[Shown], tell: Tell
) -> list[Precision]:
    """float32, and what was asked for, unless the parts are too few to tell whether it may be
    shipped; `tell` takes that sentence.
    """
    asked = [name for name in QUANTIZED if name in precisions]
    if asked and len(normal) < LEAST_TO_QUANTIZE:
        tell(
            f"only fp32: {counted_parts(len(normal), 'is are')} too few to compare"
            f" {' and '.join(asked)} with it, {LEAST_TO_QUANTIZE} are needed"
        )
        return ["fp32"]
    return ["fp32", *asked]


def write_precisions(
    run: TrainedRun,
    dataset: Dataset,
    proof: Proof,
    exact: Path,
    precisions: Sequence[Precision],
    tell: Tell,
) -> dict[Precision, Quantized]:
    """Make every wanted precision, and write a file for each that passed.

    Args:
        exact: the float32 file; the others are written beside it.
    Raises: EngineError if float32 itself fails.
    """
    model = onnx.load(str(exact))
    calibration = _calibration(run, dataset) if "int8" in precisions else []
    tell(f"comparing {', '.join(precisions)} with the trained model on {len(proof.frames)} frames")
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


def _calibration(run: TrainedRun, dataset: Dataset) -> list[Feeds]:
    """Graph inputs of normal training parts, evenly over all."""
    by_name = {sample.name: sample for sample in dataset.samples}
    return [feeds_of(run, by_name[name]) for name in spread(run.info.train, MOST_CALIBRATION)]


def shipped_of(made: Mapping[Precision, Quantized]) -> tuple[Precision, ...]:
    """The precisions that go into the bundle, in the order in which a station tries them."""
    return tuple(name for name in ORDER if name in made and made[name].section.passed)


def compile_all(folder: Path, shipped: Sequence[Precision], tell: Tell) -> str | None:
    """Compile every file with tensorrt_rtx where it is installed.

    Returns: the compiler's name, None without one.
    """
    if importlib.util.find_spec("tensorrt_rtx") is None:
        tell("tensorrt_rtx is not installed: no file was compiled (pip install tensorrt-rtx)")
        return None
    # it warns of every scale; its errors are raised anyway
    logging.getLogger("tensorrt").setLevel(logging.ERROR)
    version = metadata.version("tensorrt_rtx")
    for name in shipped:
        if name == "int8" and not compiles_int8(version):
            tell(
                f"int8: not compiled: tensorrt_rtx {version} refuses it without a GPU, 1.7 does not"
            )
            continue
        built = check_compiles(folder / f"{name}.onnx")
        tell(f"{name}: compiled by tensorrt_rtx, {built.layers} layers in {built.seconds:.1f} s")
    all_but = "" if "int8" not in shipped or compiles_int8(version) else ", but for int8"
    return f"tensorrt_rtx {version}{all_but}"


def compiles_int8(version: str) -> bool:
    """Whether this version of tensorrt_rtx compiles INT8 graphs on a machine without a GPU."""
    return tuple(int(part) for part in version.split(".")[:2]) >= COMPILES_INT8
