"""The jobs of a campaign: the commands of each, its folder, and what its result depends on."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edge.bundle.key_files import load_signer
from edge.errors import ConfigError, EdgeError
from edge.frames.dataset import find_products, open_dataset
from trainer.benchmark.plan import ways
from trainer.campaign.file import CampaignFile, ExportWish, place_of
from trainer.campaign.inputs import Inputs
from trainer.export.request import precisions_of, require_name
from trainer.runner.protocol import Task
from trainer.runner.work import SCRATCH
from trainer.synthetic.textures import Textures
from trainer.systems.registry import find_system
from trainer.systems.seam import require_preset, require_weights

Naming = Callable[[str], AbstractContextManager[None]]  # puts a key before errors
JOBS, RUN, BUNDLE = "jobs", "run", "product.bundle"  # folders of a campaign and of a job


@dataclass(frozen=True)
class Job:
    """One training with what follows it.

    task: its commands. column: system, preset and whether depth is used, for the table.
    """

    product: str
    column: str
    seed: int
    task: Task

    @property
    def landing(self) -> Path:
        """Its folder, once it is done."""
        assert self.task.landing is not None
        return self.task.landing


@dataclass(frozen=True)
class _Product:
    name: str
    folder: Path
    has_depth: bool
    digest: str


@dataclass(frozen=True)
class _Choice:
    """What distinguishes the jobs of a product."""

    system: str
    preset: str
    with_depth: bool
    seed: int

    @property
    def column(self) -> str:
        preset = "" if self.preset == "compact" else f" {self.preset}"
        return f"{self.system}{preset}{'' if self.with_depth else ' color'}"

    @property
    def name(self) -> str:
        kind = "depth" if self.with_depth else "color"
        return f"{self.system}-{self.preset}-{kind}-{self.seed}"


def plan(wish: CampaignFile, file: Path, out: Path, inputs: Inputs) -> list[Job]:
    """Every job, seed by seed, so that a campaign that ends early has whole rows first.

    wish: of `file`, which errors name. out: the campaign's folder, absolute.
    Raises: ConfigError naming the key of what cannot be done.
    """
    text = file.read_text(encoding="utf-8-sig")

    @contextmanager
    def naming(key: str) -> Iterator[None]:
        try:
            yield
        except EdgeError as error:
            raise ConfigError(f"{place_of(file, text, key)}: {error}") from error

    _check_systems(wish, naming)
    _check_export(wish.export, naming)
    with naming("products"):
        found = _found(wish.products)
        if wish.export is not None:
            for name in found:
                require_name("name of a product", name)
        products = [_product(name, folder, out, inputs) for name, folder in found.items()]
    shared = _shared_inputs(wish, inputs)
    return [
        _job(wish, product, _Choice(system, preset, with_depth, seed), out, shared)
        for seed in wish.seeds
        for product in products
        for preset in wish.presets
        for with_depth in ways(product.has_depth, wish.depth)
        for system in wish.systems
    ]


def _check_systems(wish: CampaignFile, naming: Naming) -> None:
    """Whatever shows before an image is read. Raises: ConfigError."""
    for name in wish.systems:
        with naming("systems"):
            system = find_system(name)
        for preset in wish.presets:
            with naming("presets"):
                require_preset(system, preset)
            with naming("weights"):
                require_weights(system, preset, wish.weights, wish.pretrained.get(name))
    for name in wish.pretrained:
        with naming("pretrained"):
            if name not in wish.systems or find_system(name).pretrains is None:
                raise ConfigError(f"{name} is not among the systems, or has nothing pretrained")
    with naming("textures"):
        Textures(wish.textures)


def _check_export(wish: ExportWish | None, naming: Naming) -> None:
    """What `trainer export` would refuse once a job has trained for hours. Raises: ConfigError."""
    if wish is None:
        return
    with naming("export.key"):
        if not wish.key.is_file():
            raise ConfigError(f"there is no file {wish.key}: `trainer keygen` makes one")
        load_signer(wish.key)
    with naming("export.version"):
        require_name("version", wish.version)
    with naming("export.precision"):
        precisions_of(wish.precision)


def _found(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders of products by name. Raises: ConfigError."""
    named: dict[str, Path] = {}
    for folder in folders:
        found = find_products(folder) if folder.is_dir() else []
        if not found:
            raise ConfigError(f"{folder} is no product and no folder of products: check the path")
        for product in found:
            other = named.setdefault(product.name, product)
            if other is product:
                continue
            if other.samefile(product):
                raise ConfigError(f"{product} is named twice: name each product once")
            raise ConfigError(f"{product} and {other} have one name: rename one of them")
    return named


def _product(name: str, folder: Path, out: Path, inputs: Inputs) -> _Product:
    """Raises: ConfigError, DataError."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"--out {out} lies in the product {folder}: jobs would change the product, name a"
            " folder outside it"
        )
    return _Product(name, folder, open_dataset(folder).has_depth, inputs.digest(folder))


def _shared_inputs(wish: CampaignFile, inputs: Inputs) -> dict[str, str]:
    """Digests by name of what does not depend on the product."""
    named = {"weights": wish.weights, "textures": wish.textures}
    named |= {f"pretrained {system}": path for system, path in wish.pretrained.items()}
    if wish.export is not None:
        named["key"] = wish.export.key.with_suffix(".pub")
    return {
        name: inputs.digest(path)
        for name, path in named.items()
        if path is not None and path.exists()
    }


def _job(
    wish: CampaignFile, product: _Product, choice: _Choice, out: Path, shared: dict[str, str]
) -> Job:
    read = {"product": product.digest, **_read_by(choice, wish, shared)}
    parts = (wish.epochs, wish.device, wish.threads)
    export = None if wish.export is None else (wish.export.version, wish.export.precision)
    depends = [metadata.version("rgbd-inspection"), choice.name, *parts, export, read]
    identity = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    landing = out / JOBS / product.name / f"{choice.name}-{identity[:10]}"
    place = landing.with_name(f"{landing.name}.part")
    steps = _steps(wish, product, choice, place)
    commands = [shown(step) for step in steps]
    task = Task(
        name=f"{product.name} {choice.column} seed {choice.seed}",
        kind=choice.column,
        steps=tuple(steps),
        place=place,
        landing=landing,
        record={"identity": identity, "commands": commands, "inputs": read},
        threads=wish.threads,
        gpus=1 if wish.device == "cuda" else 0,
        memory_mb=wish.memory_mb,
    )
    return Job(product.name, choice.column, choice.seed, task)


def _read_by(choice: _Choice, wish: CampaignFile, shared: dict[str, str]) -> dict[str, str]:
    """Of the shared inputs those that this job reads."""
    encoder = f"pretrained {choice.system}" if _encoder(choice, wish) else None
    return {
        name: digest
        for name, digest in shared.items()
        if not name.startswith("pretrained") or name == encoder
    }


def _encoder(choice: _Choice, wish: CampaignFile) -> Path | None:
    """The pretrained file that a job can use."""
    uses = choice.with_depth or find_system(choice.system).pretrains == "color"
    return wish.pretrained.get(choice.system) if uses else None


def _steps(
    wish: CampaignFile, product: _Product, choice: _Choice, place: Path
) -> list[tuple[str, ...]]:
    """Arguments of Python: train, evaluate, and export if asked for."""
    run = str(place / RUN)
    cache = wish.cache or place / SCRATCH / "cache"
    train = ["train", choice.system, str(product.folder), "--out", run, "--overwrite"]
    train += ["--preset", choice.preset, "--seed", str(choice.seed), "--device", wish.device]
    train += ["--cache", str(cache)]
    train += [] if choice.with_depth else ["--no-depth"]
    given = {
        "--epochs": wish.epochs,
        "--weights": wish.weights,
        "--textures": wish.textures,
        "--pretrained": _encoder(choice, wish),
    }
    for option, value in given.items():
        train += [] if value is None else [option, str(value)]
    commands = [train, ["evaluate", run]]
    if (asked := wish.export) is not None:
        export = ["export", run, "--product", product.name, "--version", asked.version]
        export += ["--key", str(asked.key), "--out", str(place / BUNDLE)]
        commands.append([*export, "--precision", asked.precision])
    return [("-m", "trainer", *command) for command in commands]


def shown(step: Sequence[str]) -> str:
    """A step as one would type it."""
    return shlex.join(["trainer", *step[2:]] if step[:2] == ("-m", "trainer") else step)
