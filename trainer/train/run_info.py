"""run.json: what a training was asked for, what it found, and the scores that its threshold follows
from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edge.bundle.manifest import OperatingPoint
from edge.decide.clipping import NormalBrightness
from edge.errors import DataError
from edge.files import read_bytes, without_mark
from edge.frames.camera_info import CameraInfo
from edge.frames.reading import Reading
from edge.proof.threshold import Threshold
from edge.schema import Strict
from edge.station.site import PackedMask
from trainer.data.scene import Scene
from trainer.train.defect_scores import DefectScores
from trainer.train.operating_points import operating_points
from trainer.train.outliers import Outlier, find_named_outliers
from trainer.train.run_folder import RUN_FILE
from trainer.train.suspects import Suspect

SCHEMA: Literal[2] = 2


class RunInfo(Strict):
    """run.json.

    switches: components of the system that were turned on or off. backbone_weights, pretrained:
    sha256 of the user's files. backbone: timm's name, if it is not the preset's.
    crop: x, y, width, height in the stream. working, depth_working: (h, w) of the color and of the
    height image. plane: of the crop; null where each image has its own. lift: height threshold of
    the foreground, meters. speck: share of the view around a cell below which it stands alone.
    expected: where all training parts had material; null where they lie in different poses.
    turned: the detector saw the parts at any angle.
    top_k: share of the foreground averaged into the score; top_k_why: in words.
    min_area, max_area, min_valid, max_border: limits of one whole part, from the normal validation
    parts.
    normal_scores: of the normal validation parts, raw units, in the order of `validation`.
    false_rejects: the rate that was asked for. threshold: of all these scores.
    defect_scores: for the table of operating points only.
    train, validation: sample names. digests: of the pixels of each, train first.
    size, color_bits: how the files are read (edge.frames.reading.Reading). defects: folder of
    defective images that the user named beside the data.
    suspects: normal images that do not look like the others. brightness: of normal validation
    parts.
    """

    schema_: Literal[2] = SCHEMA
    system: str
    preset: str
    product: str
    data: str
    data_sha256: str
    with_depth: bool
    seed: int
    epochs: int | None
    switches: dict[str, bool] = Field(default_factory=dict)
    backbone_weights: str | None = None
    pretrained: str | None = None
    backbone: str | None = None
    camera: CameraInfo
    crop: tuple[int, int, int, int]
    working: tuple[int, int]
    depth_working: tuple[int, int] | None
    fixed: bool
    plane: tuple[float, float, float, float] | None
    lift: float | None
    speck: float = 0.0
    expected: PackedMask | None = None
    top_k: float
    top_k_why: str
    min_area: float
    max_area: float
    min_valid: float
    max_border: float = 1.0
    normal_scores: list[float]
    turned: bool = False
    false_rejects: float
    threshold: Threshold
    defect_scores: DefectScores
    train: list[str]
    validation: list[str]
    digests: list[str] = Field(default_factory=list)
    size: tuple[int, int] | None = None
    color_bits: int | None = None
    defects: str | None = None
    suspects: list[Suspect] = Field(default_factory=list)
    brightness: NormalBrightness | None = None
    train_seconds: float
    packages: dict[str, str]
    created_at: str

    def reading(self) -> Reading:
        """How this run's images, and every image it is to judge, are read."""
        return Reading(self.size, self.color_bits)

    def scene(self) -> Scene:
        """Crop, plane and height threshold, ready to make graph inputs."""
        expected = None if self.expected is None else self.expected.unpack("expected silhouette")
        return Scene(
            self.crop, self.with_depth, self.fixed, self.plane, self.lift, self.speck, expected
        )

    def outliers(self) -> list[Outlier]:
        """Normal validation parts whose score stands apart, the highest first."""
        return find_named_outliers(self.validation, self.normal_scores)

    def operating_points(self, defects: DefectScores | None = None) -> list[OperatingPoint]:
        """The table that the threshold is chosen from.

        defects: None takes those measured at the training's end.
        """
        return operating_points(
            self.normal_scores,
            self.threshold.rank,
            self.false_rejects,
            defects or self.defect_scores,
        )


def read_info(path: Path) -> RunInfo:
    """run.json of a run folder.

    Raises: DataError naming the file and the schema or key that is wrong.
    """
    file = path / RUN_FILE
    if not file.is_file():
        raise DataError(
            f"{path} is not a finished run: there is no {RUN_FILE}. Make one with `trainer train`"
        )
    try:
        return RunInfo.model_validate_json(
            without_mark(read_bytes(file, DataError), file, DataError)
        )
    except ValidationError as error:
        raise DataError(f"{file} {_complaint(error)}: train again with this version") from error


def _complaint(error: ValidationError) -> str:
    """Another schema before all else: then other keys differ too."""
    first = error.errors()[0]
    for one in error.errors():
        if one["loc"] == ("schema_",):
            return f"has schema {one['input']}, this version reads schema {SCHEMA}"
    if not first["loc"]:
        return "is damaged or empty, it is not the JSON of a run"
    return f"has a wrong {'.'.join(map(str, first['loc']))} ({first['msg']})"
