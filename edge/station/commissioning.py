"""The evidence of a calibration with normal parts: who showed what, when, and what it proves. For
reports; what judges is the model state (edge/station/site.py).

    site/commissioning.json          of the last `edge calibrate parts` of this product
    site/commissioning/NN.jpg        part NN as it was shown; challenge-NN.jpg: a known-bad part
    site/commissioning/refused.jpg   the part that the last refusal names
    site/commissioning-before/       the same of the calibration before, for `edge calibrate undo`
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from edge.errors import StorageError
from edge.files import make_folder, remove_tree, sentence_of, write_atomically
from edge.schema import Name, Precision, Sha256, Strict
from edge.station.links import require_plain
from edge.station.root import RootFolder
from edge.station.site import ModelState, read_state, write_state

PICTURES, ASIDE = "commissioning", "commissioning-before"
RECORD, REFUSED = "commissioning.json", "refused.jpg"

Role = Literal["scored", "fitted", "left out", "caught", "missed"]


class Picture(Strict):
    """One part that was shown.

    number: in the order shown, from 1. score: raw units, as the part set the threshold or was
    challenged; None for a part that fitted the site inputs only, or was left out. role: what the
    part was used for. frame_number: of the camera, or of the image. picture: file in
    site/commissioning.
    """

    number: int = Field(ge=1)
    role: Role
    score: float | None = None
    frame_number: int
    picture: str = Field(pattern=r"^[a-z0-9-]{1,32}\.jpg$")


class Challenge(Strict):
    """Known-bad parts that were shown afterwards.

    version, threshold: of the model state that judged them. detection: rate that they prove, 0..1.
    geometry_version: of the camera's geometry that judged them; None where there was none, or it
    was not noted.
    """

    version: int = Field(ge=0)
    threshold: float
    caught: int = Field(ge=0)
    detection: float = Field(ge=0, le=1)
    sentence: str
    parts: tuple[Picture, ...] = Field(min_length=1)
    geometry_version: int | None = None
    who: str
    when: str


class Commissioning(Strict):
    """site/commissioning.json.

    bundle: VERSION-DIGEST12. engine: runtime with its version. count: parts whose scores set the
    threshold. is_proven: they fitted nothing. channels: adapted by shift and scale, 0: the
    threshold alone was set. false_rejects: the rate that was asked for. proven, on_average: rates
    of false rejects that the parts alone say; expected: by the trainer's scores. guarantee,
    next_parts, to_prove: the same as sentences. kept: numbers of parts that somebody declared
    normal although their scores stand apart. note: what to look at, in a sentence.
    geometry_version, plane_residual_m: of the camera's geometry under which the parts were seen,
    None for a product without a plane. who, when: of the parts; a model state that rests on them
    names the same (`is_of`).
    """

    schema_: Literal[1] = Field(alias="schema", default=1)
    product: Name
    bundle: str
    digest: Sha256
    engine: str
    precision: Precision
    serial: str
    who: str
    when: str  # UTC, ISO 8601
    count: int = Field(ge=1)
    false_rejects: float = Field(gt=0, le=0.5)
    is_proven: bool
    channels: int = Field(ge=0)
    spare_rows: int = Field(default=0, ge=0)
    threshold: float
    rank: int | None = Field(default=None, ge=1)
    proven: float = Field(ge=0, le=1)
    on_average: float = Field(ge=0, le=1)
    expected: float = Field(ge=0, le=1)
    guarantee: str
    next_parts: str
    to_prove: str
    parts: tuple[Picture, ...] = Field(min_length=1)
    kept: tuple[int, ...] = ()
    note: str = ""
    geometry_version: int | None = None
    plane_residual_m: float | None = None
    challenge: Challenge | None = None

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    def is_of(self, state: ModelState | None) -> bool:
        """Whether this is the evidence for a model state, also after its threshold was set for
        another rate; not so after `edge calibrate undo`, or once the bundle is another.
        """
        if state is None or state.shown is None:
            return False
        engine = (self.digest, self.precision, self.engine)
        shown = (state.shown.who, state.shown.when)
        return engine == (state.digest, state.precision, state.runtime) and shown == (
            self.who,
            self.when,
        )


def commissioning_file(station: RootFolder, product: str) -> Path:
    """site/commissioning.json of a product."""
    return station.site_folder(product) / RECORD


def pictures_folder(station: RootFolder, product: str) -> Path:
    """Where the pictures lie that commissioning.json names."""
    return station.site_folder(product) / PICTURES


def aside_folder(station: RootFolder, product: str) -> Path:
    """The same of the calibration before, with its commissioning.json."""
    return station.site_folder(product) / ASIDE


def read_commissioning(station: RootFolder, product: str) -> Commissioning | None:
    """The evidence of the last calibration with parts; None before any.

    Raises: ConfigError if the file is damaged.
    """
    return read_state(commissioning_file(station, product), Commissioning)


def keep_commissioning(
    station: RootFolder, record: Commissioning, pictures: Mapping[str, bytes]
) -> None:
    """Replace the evidence of a product: its pictures first, then the file that names them; last,
    pictures that it does not name are removed. The evidence of other parts is put aside, so that
    `restore_commissioning` can bring it back.

    pictures: JPEG by file name.
    Raises: BusyError if another command changes this root, StorageError if the disk refuses.
    """
    challenged = () if record.challenge is None else record.challenge.parts
    named = {one.picture for one in (*record.parts, *challenged)}
    folder = pictures_folder(station, record.product)
    try:
        with station.change("edge calibrate"):
            known = read_commissioning(station, record.product)
            if known is not None and known.when != record.when:
                _put_aside(station, known)
            keep_pictures(station, record.product, pictures)
            write_state(commissioning_file(station, record.product), record)
            for path in folder.glob("*.jpg"):
                if path.name not in named:
                    remove_tree(path)
    except OSError as error:
        raise StorageError(sentence_of(error)) from error


def restore_commissioning(station: RootFolder, product: str, state: ModelState) -> None:
    """Bring back the evidence that was put aside, if it is that of this state and what is there is
    not.

    Raises: BusyError, ConfigError; StorageError if the disk refuses.
    """
    aside, folder = aside_folder(station, product), pictures_folder(station, product)
    try:
        with station.change("edge calibrate undo"):
            known = read_commissioning(station, product)
            before = read_state(aside / RECORD, Commissioning)
            if before is None or not before.is_of(state) or (known and known.is_of(state)):
                return
            remove_tree(folder)
            aside.rename(folder)
            write_state(commissioning_file(station, product), before)
            remove_tree(folder / RECORD)
    except OSError as error:
        raise StorageError(sentence_of(error)) from error


def _put_aside(station: RootFolder, known: Commissioning) -> None:
    """The caller holds the change lock."""
    aside, folder = (place(station, known.product) for place in (aside_folder, pictures_folder))
    remove_tree(aside)
    make_folder(folder)
    folder.rename(aside)
    write_state(aside / RECORD, known)


def keep_pictures(station: RootFolder, product: str, pictures: Mapping[str, bytes]) -> None:
    """Write pictures into site/commissioning.

    pictures: JPEG by file name.
    Raises: StorageError if the disk refuses, or the folder is not the station's own.
    """
    folder = pictures_folder(station, product)
    try:
        with station.inside():
            require_plain(folders=[folder], files=[folder / name for name in pictures])
            make_folder(folder)
            for name, picture in pictures.items():
                write_atomically(folder / name, picture)
    except OSError as error:
        raise StorageError(sentence_of(error)) from error


def keep_refused(station: RootFolder, product: str, picture: bytes) -> Path:
    """Keep the picture of a part that was refused, in place of the one before; returns its path.

    picture: JPEG. Raises: as keep_pictures.
    """
    keep_pictures(station, product, {REFUSED: picture})
    return pictures_folder(station, product) / REFUSED
