"""What a benchmark measures: its runs, the folder of each, and what its result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from edge.errors import ConfigError
from edge.files import sha256_of
from edge.frames.dataset import find_products, open_dataset
from trainer.synthetic.textures import Textures
from trainer.systems.registry import find_system
from trainer.systems.seam import System, require_preset, require_weights

DepthChoice = Literal["with", "without", "both"]


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    data: folder by name of the data set, each a product or a folder of products. depth: for
    products that have depth.
    epochs: None takes the preset's. weights, textures, device: as `trainer train` takes them.
    pretrained: encoder files by system, for its runs that can use the encoder.
    """

    data: dict[str, Path]
    systems: Sequence[str]
    preset: str
    seeds: Sequence[int]
    depth: DepthChoice
    epochs: int | None = None
    weights: Path | None = None
    textures: Path | None = None
    device: str = "cpu"
    pretrained: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One training with its evaluation.

    data: name of the data set. product: folder. layout: of its files. with_depth: whether depth is
    used. identity: a digest of all that the result depends on: a job of another identity never
    reuses it.
    """

    data: str
    product: Path
    layout: str
    with_depth: bool
    system: str
    preset: str
    seed: int
    epochs: int | None
    weights: Path | None
    textures: Path | None
    device: str
    pretrained: Path | None
    identity: str

    @property
    def category(self) -> str:
        """The product's name."""
        return self.product.name

    def folder(self, out: Path) -> Path:
        """Where its run lies."""
        kind = "depth" if self.with_depth else "color"
        name = f"{self.system}-{self.preset}-{kind}-{self.seed}-{self.identity[:10]}"
        return out / "runs" / self.data / self.product.name / name

    def describe(self) -> str:
        """For a line of progress."""
        return (
            f"{self.data}/{self.category} {self.system}{'' if self.with_depth else ' color'} seed"
            f" {self.seed}"
        )


def plan(request: Request) -> list[Job]:
    """Every run, seed by seed, so that an interrupted benchmark has whole rows first.

    Raises: ConfigError for an unknown system or preset or a folder without products; DataError for
    weights that do not fit, and for a data set that cannot be opened at all. What needs no data is
    found before any is read.
    """
    systems = _checked_systems(request)
    products = [one for name, folder in request.data.items() for one in _products(name, folder)]
    identity = _Identity(request)

    def job(seed: int, product: _Product, with_depth: bool, name: str) -> Job:
        uses = with_depth or systems[name].pretrains == "color"
        encoder = request.pretrained.get(name) if uses else None
        return Job(
            product.data,
            product.folder,
            product.layout,
            with_depth,
            name,
            request.preset,
            seed,
            request.epochs,
            request.weights,
            request.textures,
            request.device,
            encoder,
            identity.of(product, name, seed, with_depth, encoder),
        )

    return [
        job(seed, product, with_depth, name)
        for seed in request.seeds
        for product in products
        for with_depth in ways(product.has_depth, request.depth)
        for name in systems
    ]


def _checked_systems(request: Request) -> dict[str, System[Any]]:
    """The systems by name, after every check that needs no data. Raises: as `plan`."""
    systems = {name: find_system(name) for name in request.systems}
    for system in systems.values():
        require_preset(system, request.preset)
    for name, file in request.pretrained.items():
        if name not in systems or systems[name].pretrains is None:
            raise ConfigError(
                f"--pretrained {name}={file}: {name} is not among the systems, or has nothing"
                " pretrained"
            )
        if not file.is_file():
            raise ConfigError(f"--pretrained {name}={file}: there is no such file, check the path")
    _require_names_once(request)
    for name, folder in request.data.items():
        if not folder.is_dir():
            raise ConfigError(f"--data {name}={folder}: there is no such folder, check the path")
    Textures(request.textures)
    for name, system in systems.items():
        require_weights(system, request.preset, request.weights, request.pretrained.get(name))
    return systems


def _require_names_once(request: Request) -> None:
    """Seeds and systems. Raises: ConfigError."""
    if len(set(request.seeds)) != len(request.seeds) or not request.seeds or min(request.seeds) < 0:
        raise ConfigError("--seeds: name each seed once, from 0 on, for example 0,1,2")
    if len(set(request.systems)) != len(request.systems) or not request.systems:
        raise ConfigError("--systems: name each detector once, for example mats,ntsnet")


@dataclass(frozen=True)
class _Product:
    """data: name of the data set. digest: of its files' names, sizes and times."""

    data: str
    folder: Path
    layout: str
    has_depth: bool
    digest: str


class _Identity:
    """Digests of all that the results of a request depend on."""

    def __init__(self, request: Request) -> None:
        self._common = json.dumps(
            [
                metadata.version("rgbd-inspection"),
                request.preset,
                request.epochs,
                None if request.weights is None else sha256_of(request.weights),
                None if request.textures is None else str(request.textures.resolve()),
                request.device,
            ]
        )
        self._encoders = {file: sha256_of(file) for file in request.pretrained.values()}

    def of(
        self, product: _Product, system: str, seed: int, with_depth: bool, encoder: Path | None
    ) -> str:
        """Of one job. encoder: the pretrained file that it uses."""
        described = f"{self._common} {product.digest} {system} {seed} {with_depth}"
        if encoder is not None:
            described += f" {self._encoders[encoder]}"
        return hashlib.sha256(described.encode()).hexdigest()


def _products(name: str, folder: Path) -> Iterator[_Product]:
    """Every product below `folder`. Raises: ConfigError without one."""
    found = find_products(folder)
    if not found:
        raise ConfigError(
            f"--data {name}={folder}: there is no product in it; name a folder of products, or one"
            " of it"
        )
    for product in found:
        dataset = open_dataset(product)
        files = sorted(path for path in product.rglob("*") if path.is_file())
        listed = [
            f"{path.relative_to(product)} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for path in files
        ]
        digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
        yield _Product(name, product, dataset.layout, dataset.has_depth, digest)


def ways(has_depth: bool, choice: DepthChoice) -> list[bool]:
    """Whether depth is used, for each run of a product."""
    if not has_depth or choice == "without":
        return [False]
    return [True, False] if choice == "both" else [True]
