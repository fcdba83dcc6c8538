"""The frames of a bundle: reference frames with float32's outputs ("golden" in names of files), and
normal frames on which thresholds are measured.

golden/NNNN.npz        every graph input by name, `map` (1, 1, h, w) and `score` (1,) of float32
                       torch
normal/index.json      NormalIndex: the frames, their ranks and their small graph inputs
normal/NNNN_color.png  RGB, 8 bit; _depth.png 16-bit counts; _NAME.png 8 bit for region and
                       expected, unless they have the default
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal
from zipfile import ZipFile

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError

from edge.errors import BundleError
from edge.files import read_bytes
from edge.schema import ELEMENTS_LIMIT, Strict, TensorSpec, holds, parse_json

INDEX = "index.json"
INDEX_LIMIT = 16 << 20  # bytes
GOLDEN_MOST = 64  # reference frames, which are all in memory at once
HEADER_ROOM = 16 << 10  # bytes of an .npz for the headers of each array
CARRY_ALL = 64  # up to this number, all normal parts are in the bundle
CARRY_HIGHEST = 48  # beyond it, at least this many with the highest scores
CARRY_RANKS = 3  # ... and at least this multiple of the threshold's rank
CARRY_SPREAD = 16  # ... and this many, evenly spread over the other ranks
IMAGES = ("color", "depth", "region", "expected")  # graph inputs that are stored as PNG

Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class GoldenFrame:
    """One reference frame.

    feeds: every graph input by name. map (1, 1, h, w), score (1,): float32, from torch.
    """

    name: str
    feeds: Feeds
    map: NDArray[np.float32]
    score: NDArray[np.float32]


class NormalEntry(Strict):
    """One normal frame of the bundle.

    rank: 1 for the highest float32 score of all n. inputs: graph inputs that are not images, as
    flat numbers, if they differ from the manifest's default.
    """

    name: str = Field(max_length=200)
    rank: int = Field(ge=1)
    inputs: dict[str, tuple[float, ...]]


class NormalIndex(Strict):
    """normal/index.json.

    parts: n, the number of normal parts from which these frames are taken. highest: the bundle
    holds all ranks up to this one.
    """

    schema_: Literal[1] = Field(alias="schema", default=1)
    parts: int = Field(ge=1)
    highest: int = Field(ge=1)
    frames: tuple[NormalEntry, ...] = Field(min_length=1)

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    @property
    def largest_rank(self) -> int:
        """The largest rank that a threshold can have: n if the bundle holds every part."""
        return self.parts if self.highest == self.parts else max(1, self.highest // CARRY_RANKS)


@dataclass(frozen=True)
class NormalFrames:
    """The normal frames of a bundle, read one at a time: the k-th is `index.frames[k]`."""

    folder: Path
    index: NormalIndex
    inputs: tuple[TensorSpec, ...]

    def __len__(self) -> int:
        return len(self.index.frames)

    @property
    def ranks(self) -> list[int]:
        """The rank of every frame among all n float32 scores, 1 for the highest."""
        return [entry.rank for entry in self.index.frames]

    def feeds(self) -> Iterator[Feeds]:
        """Every graph input by name, frame by frame. Raises: BundleError if a frame is damaged."""
        for number, entry in enumerate(self.index.frames):
            yield _read_normal(self.folder, number, entry, self.inputs)


def carried_ranks(parts: int, rank: int, more: int = 0) -> tuple[list[int], int]:
    """(ranks for the bundle, highest): all ranks up to CARRY_ALL parts; beyond it the highest, and
    some spread over the others.

    more: additional high ranks, if another precision orders the parts differently.
    """
    highest = max(CARRY_HIGHEST, CARRY_RANKS * rank) + more
    if parts <= CARRY_ALL or highest + CARRY_SPREAD >= parts:
        return list(range(1, parts + 1)), parts
    rest = np.linspace(highest + 1, parts, CARRY_SPREAD).round().astype(int)
    return [*range(1, highest + 1), *(int(value) for value in rest)], highest


def write_normal(
    folder: Path,
    frames: Sequence[tuple[str, int, Callable[[], Mapping[str, NDArray[Any]]]]],
    parts: int,
    highest: int,
    inputs: Sequence[TensorSpec],
) -> NormalIndex:
    """Write normal/: images as lossless PNG, other inputs into the index, values equal to the
    default not at all.

    Args:
        frames: (name, rank, function that reads the graph inputs) of every frame.
        parts, highest: as in NormalIndex. inputs: of the graph, with the manifest's defaults.
    Raises: OSError if the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, (name, rank, load) in enumerate(frames):
        feeds = load()
        given = {
            spec.name: feeds[spec.name]
            for spec in inputs
            if not _is_neutral(spec, feeds[spec.name])
        }
        for kind in [kind for kind in IMAGES if kind in given]:
            (folder / f"{number:04d}_{kind}.png").write_bytes(_png_of(kind, given.pop(kind)))
        flat = {
            key: tuple(float(number) for number in values.ravel()) for key, values in given.items()
        }
        entries.append(NormalEntry(name=name, rank=rank, inputs=flat))
    index = NormalIndex(parts=parts, highest=highest, frames=tuple(entries))
    text = json.dumps(index.model_dump(mode="json", by_alias=True), allow_nan=False)
    (folder / INDEX).write_text(text + "\n")
    return index


def read_normal(folder: Path, inputs: Sequence[TensorSpec]) -> NormalFrames:
    """The normal frames in a bundle's folder normal/. inputs: of its manifest.

    Raises: BundleError if the index is missing or damaged.
    """
    path = folder / INDEX
    index = _read_index(path)
    ranks = [entry.rank for entry in index.frames]
    if (
        sorted(set(ranks)) != sorted(ranks)
        or max(ranks) > index.parts
        or index.highest > index.parts
    ):
        raise BundleError(
            f"{path}: ranks are doubled or beyond the {index.parts} parts. Export the bundle again"
        )
    if len({entry.name for entry in index.frames}) != len(ranks):
        raise BundleError(f"{path}: two frames have one name. Export the bundle again")
    if not set(range(1, index.highest + 1)) <= set(ranks):
        raise BundleError(
            f"{path}: the {index.highest} highest are not all there. Export the bundle again"
        )
    unknown = {name for entry in index.frames for name in entry.inputs} - {
        spec.name for spec in inputs
    }
    if unknown:
        raise BundleError(
            f"{path}: the graph has no input {min(unknown)!r}. Export the bundle again"
        )
    return NormalFrames(folder, index, tuple(inputs))


def _read_index(path: Path) -> NormalIndex:
    try:
        data = read_bytes(path, BundleError, INDEX_LIMIT)
        parse_json(data)
        return NormalIndex.model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"]) or "the file"
        raise BundleError(f"{path}: {where}: {first['msg']}. Export the bundle again") from error
    except ValueError as error:
        raise BundleError(f"{path}: not JSON ({error}). Export the bundle again") from error


def read_golden(
    folder: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> list[GoldenFrame]:
    """Every reference frame in a bundle's folder golden/, by name. inputs, outputs: of its
    manifest.

    Raises: BundleError if there are none, or one is damaged or has other shapes or types.
    """
    paths = sorted(folder.glob("*.npz"))
    if not 0 < len(paths) <= GOLDEN_MOST:
        what = (
            f"{folder}: {len(paths) or 'no'} reference frames (*.npz) to prove an engine with, 1 to"
            f" {GOLDEN_MOST}"
        )
        raise BundleError(f"{what} are possible. Export the bundle again")
    answers = [spec for spec in outputs if spec.name in ("map", "score")]
    return [_read_frame(path, (*inputs, *answers)) for path in paths]


def _read_frame(path: Path, specs: Sequence[TensorSpec]) -> GoldenFrame:
    try:
        arrays = _read_arrays(path, specs)
        return GoldenFrame(
            path.stem, map=arrays.pop("map"), score=arrays.pop("score"), feeds=arrays
        )
    except Exception as error:
        why = str(error) or type(error).__name__
        raise BundleError(
            f"{path}: not a reference frame ({why}). Export the bundle again"
        ) from error


def _read_arrays(path: Path, specs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    """Exactly these arrays of an .npz; no more bytes are decompressed than they need.

    Raises: ValueError, or whatever a damaged archive raises.
    """
    room = sum(_bytes_of(spec) + HEADER_ROOM for spec in specs)
    if path.stat().st_size > room:
        raise ValueError(
            f"{path.stat().st_size} bytes, the graph's inputs and outputs take at most {room}"
        )
    with ZipFile(path) as archive:
        names, wanted = sorted(archive.namelist()), sorted(f"{spec.name}.npy" for spec in specs)
        if names != wanted:
            odd = sorted(set(names) ^ set(wanted)) or names
            raise ValueError(f"{odd[0]} is {'missing' if odd[0] in wanted else 'too many'}")
        arrays = {}
        for spec in specs:
            with archive.open(f"{spec.name}.npy") as member:
                arrays[spec.name] = _read_array(member, spec)
    return arrays


def _bytes_of(spec: TensorSpec) -> int:
    return int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize


def _read_array(member: IO[bytes], spec: TensorSpec) -> NDArray[Any]:
    """One array in numpy's format 1.0, whose header has at most 64 KiB; later formats may claim
    4 GiB.
    """
    if np.lib.format.read_magic(member) != (1, 0):
        raise ValueError(f"{spec.name} is not in numpy's format 1.0")
    shape, by_column, dtype = np.lib.format.read_array_header_1_0(member)
    if (shape, dtype) != (spec.shape, np.dtype(spec.dtype)):
        raise ValueError(
            f"{spec.name} is {dtype} {shape}, the manifest says {spec.dtype} {spec.shape}"
        )
    data = member.read(
        _bytes_of(spec) + 1
    )  # one byte more, because the checksum is compared at the end
    if len(data) != _bytes_of(spec):
        raise ValueError(f"{spec.name} has {len(data)} bytes of {_bytes_of(spec)}")
    values = np.frombuffer(data, dtype).reshape(shape, order="F" if by_column else "C")
    if not np.isfinite(values).all():
        raise ValueError(f"{spec.name} is not finite")
    # a writable copy, unlike the bytes
    return np.array(values, order="C")


def _png_of(kind: str, values: NDArray[Any]) -> bytes:
    """A graph input (1, H, W, C) uint8 as PNG: color as RGB, depth's two bytes as a 16-bit count,
    the others as gray.
    """
    image = values[0]
    if kind == "color":
        image = image[:, :, ::-1]
    elif kind == "depth":
        image = np.ascontiguousarray(image).view("<u2")[:, :, 0]
    else:
        image = image[:, :, 0]
    done, data = cv2.imencode(".png", np.ascontiguousarray(image))
    assert done  # with plain arrays only a lack of memory can fail, which raises
    return data.tobytes()


def _is_neutral(spec: TensorSpec, values: NDArray[Any]) -> bool:
    neutral = spec.neutral()
    return neutral is not None and np.array_equal(neutral, values)


def _read_normal(
    folder: Path, number: int, entry: NormalEntry, inputs: Sequence[TensorSpec]
) -> Feeds:
    feeds: Feeds = {}
    for spec in inputs:
        path, neutral = folder / f"{number:04d}_{spec.name}.png", spec.neutral()
        if spec.name in IMAGES and path.is_file():
            feeds[spec.name] = _image_of(path, spec)
        elif spec.name in entry.inputs:
            feeds[spec.name] = _numbers_of(folder, entry, spec)
        elif neutral is not None:
            feeds[spec.name] = neutral
        else:
            raise BundleError(
                f"{folder / INDEX}: {entry.name} has no {spec.name}. Export the bundle again"
            )
    return feeds


def _numbers_of(folder: Path, entry: NormalEntry, spec: TensorSpec) -> NDArray[Any]:
    given = entry.inputs[spec.name]
    what = ""
    if len(given) != int(np.prod(spec.shape)):
        what = f"{spec.name} of {entry.name} has {len(given)} values, the graph takes {spec.shape}"
    elif not all(holds(spec.dtype, value) for value in given):
        what = f"{spec.name} of {entry.name} has a value that is no {spec.dtype}"
    if what:
        raise BundleError(f"{folder / INDEX}: {what}. Export the bundle again")
    return np.array(given, spec.dtype).reshape(spec.shape)


def _image_of(path: Path, spec: TensorSpec) -> NDArray[Any]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if _is_small_png(path) else None
    wanted = {"color": (np.uint8, 3), "depth": (np.uint16, 2)}.get(spec.name, (np.uint8, 2))
    if image is None or (image.dtype, image.ndim) != wanted or image.shape[:2] != spec.shape[1:3]:
        found = "no picture" if image is None else f"{image.dtype} {image.shape}"
        size = "x".join(str(side) for side in spec.shape[2:0:-1])
        raise BundleError(
            f"{path}: {found}, where {spec.name} of {size} pixels is expected. Export the bundle"
            " again"
        )
    if spec.name == "color":
        return np.ascontiguousarray(image[:, :, ::-1])[None]
    if spec.name == "depth":
        return np.ascontiguousarray(image, "<u2").view(np.uint8).reshape(spec.shape)
    return np.ascontiguousarray(image)[None, :, :, None]


def _is_small_png(path: Path) -> bool:
    """Whether the file begins as a PNG of a plausible size, since a reader allocates the size in
    the header.
    """
    with path.open("rb") as file:
        start = file.read(24)
    if len(start) < 24 or not start.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    width, height = struct.unpack(">II", start[16:24])
    return bool(width * height <= ELEMENTS_LIMIT)
