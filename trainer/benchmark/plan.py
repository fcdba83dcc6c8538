"""What a benchmark measures: which runs there are, where each one lies, and what it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

from edge.errors import ConfigError
from edge.files import sha256_of
from edge.frames.dataset import find_products, open_dataset
from trainer.device import require_device
from trainer.synthetic.textures import Textures
from trainer.systems.registry import find_system
from trainer.systems.seam import require_preset, require_weights

DepthChoice = Literal["with", "without", "both"]


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    data: folder by name of the data set, each a product or a folder of products. depth: of products
    that have it.
    epochs: None takes the preset's. weights, textures, device: as `trainer train` takes them.
    pretrained: files by system, for its runs that use what the file's encoder sees.
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
    used. identity: of everything the result depends on; another one never reuses the result.
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
        """The product's name, and whether depth was left out where there is some."""
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
    require_device(request.device)
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
    if len(set(request.seeds)) != len(request.seeds) or not request.seeds or min(request.seeds) < 0:
        raise ConfigError("--seeds: name each seed once, from 0 on, for example 0,1,2")
    if len(systems) != len(request.systems) or not systems:
        raise ConfigError("--systems: name each detector once, for example mats,ntsnet")
    for name, folder in request.data.items():
        if not folder.is_dir():
            raise ConfigError(f"--data {name}={folder}: there is no such folder, check the path")
    Textures(request.textures)
    for name, system in systems.items():
        require_weights(system, request.preset, request.weights, request.pretrained.get(name))
    common = json.dumps(
        [
            metadata.version("rgbd-inspection"),
            request.preset,
            request.epochs,
            None if request.weights is None else sha256_of(request.weights),
            None if request.textures is None else str(request.textures.resolve()),
            request.device,
        ]
    )
    products = [entry for name, folder in request.data.items() for entry in _products(name, folder)]
    encoders = {name: sha256_of(file) for name, file in request.pretrained.items()}

    def job(
        seed: int, product: tuple[str, Path, str, bool, str], with_depth: bool, name: str
    ) -> Job:
        data, folder, layout, _, digest = product
        sees = with_depth or systems[name].pretrains == "color"
        parts = f"{common} {digest} {name} {seed} {with_depth}"
        if sees and name in encoders:
            parts += f" {encoders[name]}"
        return Job(
            data, folder, layout, with_depth, name, request.preset, seed, request.epochs,
            request.weights,
            request.textures, request.device, request.pretrained.get(name) if sees else None,
            hashlib.sha256(parts.encode()).hexdigest(),
        )  # fmt: skip

    return [
        job(seed, product, with_depth, name)
        for seed in request.seeds
        for product in products
        for with_depth in _ways(product[3], request.depth)
        for name in request.systems
    ]


def _products(name: str, folder: Path) -> Iterator[tuple[str, Path, str, bool, str]]:
    """(data set, product folder, layout, has depth, digest of its files) of every product below
    `folder`.
    """
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
        yield name, product, dataset.layout, dataset.has_depth, digest


def _ways(has_depth: bool, choice: DepthChoice) -> list[bool]:
    if not has_depth or choice == "without":
        return [False]
    return [True, False] if choice == "both" else [True]
