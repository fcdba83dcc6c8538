"""What the user may ask of an export, and what is refused before an image is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter, ValidationError

from edge.bundle.signature import sign_manifest
from edge.errors import ConfigError, DataError
from edge.files import require_file_target
from edge.schema import Name, Precision
from trainer.data.defects import require_defects_folder
from trainer.evaluate.judged import data_folder
from trainer.train.operating_points import ALONE, LEAST_TO_EXPORT
from trainer.train.run_info import RunInfo, read_info
from trainer.train.validation import counted_parts


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Args:
        run: the run folder. product, version: of the bundle. key: private key that signs it.
        precisions: besides fp32, which is always there.
        out: the bundle file.
        data: where the images are now; None: as trained.
        false_rejects: the rate that the thresholds keep, 0..1; None: the run's.
        left_out, kept: names of normal validation parts whose scores stand apart, and that the user
            declared not to be normal, or to be normal.
        defects: a folder of defective images that count too; None: the one that the evaluation or
            the training named.
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


def checked_info(request: ExportRequest) -> RunInfo:
    """run.json of the run that is exported.

    Raises: ConfigError or DataError for every mistake that shows before an image is read.
    """
    require_name("--product", request.product)
    require_name("--version", request.version)
    sign_manifest(b"", request.key)
    require_file_target(request.out, "--out")
    if not request.out.parent.is_dir():
        raise ConfigError(
            f"--out {request.out}: there is no folder {request.out.parent}, make it first"
        )
    info = read_info(request.run)
    require_validation_parts("--keep", request.kept, info.validation)
    require_validation_parts("--leave-out", request.left_out, info.validation)
    _require_several(request, info)
    require_defects_folder(request.defects)
    data_folder(info, request.data, "with --data")
    return info


def require_validation_parts(option: str, names: Sequence[str], validation: Sequence[str]) -> None:
    """Raises: ConfigError for a name that is no normal validation part of the run."""
    for name in names:
        if name not in validation:
            raise ConfigError(
                f"{option} {name}: no normal validation part of this run has that name; they are"
                f" called {validation[0]} and so on"
            )


def _require_several(request: ExportRequest, info: RunInfo) -> None:
    """Raises: DataError if too few validation parts are there to tell how much normal parts
    differ.
    """
    count = len(set(info.validation) - set(request.left_out))
    if count < LEAST_TO_EXPORT:
        raise DataError(f"{request.run} has {counted_parts(count)} to set the threshold: {ALONE}")


def precisions_of(text: str) -> tuple[Precision, ...]:
    """Those of a list such as `fp16,int8`. Raises: ConfigError for a name that is none."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in ("fp32", "fp16", "int8")]
    if unknown:
        raise ConfigError(f"--precision {unknown[0]!r}: there are fp32, fp16 and int8")
    return cast("tuple[Precision, ...]", names)


def require_name(option: str, value: str) -> None:
    """Raises: ConfigError for a name or version that no bundle may have; option: who gave it."""
    try:
        TypeAdapter(Name).validate_python(value)
    except ValidationError as error:
        raise ConfigError(
            f"{option} {value!r}: use letters, digits, dots, dashes and underscores, a letter or"
            " digit first, at most 64"
        ) from error
