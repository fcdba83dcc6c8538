"""The file of a campaign: TOML, every key checked before a job starts."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from edge.errors import ConfigError
from edge.files import read_text
from trainer.benchmark.plan import DepthChoice

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SIZE_LIMIT = 1 << 20
Whole = Annotated[int, Field(strict=True, ge=1)]  # neither "3" nor true
Seed = Annotated[int, Field(strict=True, ge=0)]
LISTS = ("products", "systems", "presets", "seeds")
REMEDIES = {  # by pydantic's name of the error
    "tuple_type": "needs a list: put it into square brackets",
    "too_short": "is an empty list: name at least one",
    "dict_type": "is a section with keys of its own: see docs/scale.md",
    "model_type": "is a section with keys of its own: see docs/scale.md",
}


class ExportWish(BaseModel, extra="forbid", frozen=True):
    """[export]: a signed bundle of each run, as `trainer export` makes it. key: that signs it."""

    key: Path
    version: str = "1.0.0"
    precision: str = "fp16,int8"


class CampaignFile(BaseModel, extra="forbid", frozen=True):
    """What the file says. Paths are relative to the file.

    products: each a product, or a folder of products. depth: of products with depth. epochs: None
    takes the preset's. threads: of each job; results depend on it. weights, textures, pretrained
    (by system), device: as `trainer train` takes them. memory_mb: expected peak of a job, in MiB,
    where none has been measured yet. cache: folder for features, which jobs of one product share;
    None: each job has its own, removed at its end.
    """

    products: tuple[Path, ...] = Field(min_length=1)
    systems: tuple[str, ...] = Field(min_length=1)
    presets: tuple[str, ...] = Field(default=("compact",), min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    depth: DepthChoice = "with"
    epochs: Whole | None = None
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda)$")
    threads: Whole = 1
    weights: Path | None = None
    textures: Path | None = None
    pretrained: dict[str, Path] = {}
    memory_mb: Whole | None = None
    cache: Path | None = None
    export: ExportWish | None = None


def read_campaign(path: Path) -> CampaignFile:
    """The file, its paths made absolute.

    Raises: ConfigError naming the line and the key.
    """
    text = read_text(path, limit=SIZE_LIMIT)
    try:
        found = CampaignFile.model_validate(tomllib.loads(text))
    except (RecursionError, tomllib.TOMLDecodeError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"{path} is not TOML: {why}: correct it there") from error
    except ValidationError as error:
        raise ConfigError(_complaint(path, text, error)) from error
    for key in LISTS:
        values = getattr(found, key)
        if len(set(values)) != len(values):
            raise ConfigError(f"{place_of(path, text, key)}: name each once")
    return _absolute(found, path.resolve().parent)


def place_of(path: Path, text: str, key: str) -> str:
    """File, line and key, for the beginning of a sentence. key: may be `export.key`."""
    section, _, last = key.rpartition(".")
    inside = not section
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]*)\]", line):
            inside = header[1].strip() == section
            if header[1].strip() == key:
                return f"{path}, line {number}: [{key}]"
        elif inside and re.match(rf"""\s*["']?{re.escape(last)}["']?\s*=""", line):
            return f"{path}, line {number}: {key}"
    return f"{path}: {key}"


def _complaint(path: Path, text: str, error: ValidationError) -> str:
    """The first thing that is wrong, with its place and what to do."""
    found = error.errors(include_url=False)
    unknown = [one for one in found if one["type"] == "extra_forbidden"]
    first = (unknown or found)[0]  # a key that is written wrong is missing besides
    names = [str(part) for part in first["loc"] if isinstance(part, str)]
    where = place_of(path, text, ".".join(names))
    if first["type"] == "extra_forbidden":
        model = ExportWish if len(names) > 1 else CampaignFile
        return f"{where}: there is no such key; there are {', '.join(model.model_fields)}"
    if first["type"] == "missing":
        return f"{where} is missing: write {names[-1]} = ..."
    numbers = [part + 1 for part in first["loc"] if isinstance(part, int)]
    which = f", entry {numbers[-1]}" if numbers else ""
    if first["type"] in REMEDIES:
        return f"{where}{which} {REMEDIES[first['type']]}"
    return f"{where}{which}: {first['msg']}: correct it"


def _absolute(found: CampaignFile, base: Path) -> CampaignFile:
    """With every path relative to `base` made absolute."""

    def placed(path: Path | None) -> Path | None:
        return None if path is None else base / path.expanduser()

    changed: dict[str, object] = {
        name: placed(getattr(found, name)) for name in ("weights", "textures", "cache")
    }
    changed["products"] = tuple(placed(product) for product in found.products)
    changed["pretrained"] = {name: placed(file) for name, file in found.pretrained.items()}
    if found.export is not None:
        changed["export"] = found.export.model_copy(update={"key": placed(found.export.key)})
    return found.model_copy(update=changed)
