"""The number of each product on this station, for a PLC that has no strings.

    var/lib/edge/numbers.json    {"washer": 1, "screw": 2}

`edge install` gives a new product the first free number; `edge products number` changes it. The
file is replaced by one rename.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel, ValidationError, model_validator

from edge.errors import BundleError, ConfigError
from edge.files import is_there, read_bytes, write_atomically
from edge.schema import PRODUCT_NUMBERS, Name, canonical_json, parse_json
from edge.station import audit
from edge.station.root import RootFolder

FILE = "numbers.json"
LIMIT = 4 << 20  # bytes
ACT = "number"  # row of the audit table

Number = Annotated[int, Field(ge=PRODUCT_NUMBERS[0], le=PRODUCT_NUMBERS[1], strict=True)]


class NumbersFile(RootModel[dict[Name, Number]]):
    """By product; each number once."""

    @model_validator(mode="after")
    def _each_once(self) -> NumbersFile:
        if len(set(self.root.values())) < len(self.root):
            raise ValueError("two products have the same number")
        return self


def numbers_file(station: RootFolder) -> Path:
    """Where they are kept."""
    return station.data / FILE


def read_numbers(station: RootFolder) -> Mapping[str, int]:
    """By product, also of products that are not installed any more; empty without the file.

    Raises: ConfigError if the file is damaged.
    """
    path = numbers_file(station)
    if not is_there(path):
        return {}
    try:
        return NumbersFile.model_validate(parse_json(read_bytes(path, limit=LIMIT))).root
    except (ValidationError, ValueError) as error:
        raise ConfigError(
            f"{path} is damaged: remove it, then number the products again with `edge products"
            " number`"
        ) from error


def number_product(station: RootFolder, product: str, number: int, who: str | None = None) -> None:
    """Give an installed product this number from now on.

    Raises: BundleError if it is not installed; ConfigError if the number is out of bounds or that
        of another product, or the file is damaged; BusyError if another command changes this root.
    """
    _require_installed(station, product)  # before anything is made under a root that is mistyped
    if not PRODUCT_NUMBERS[0] <= number <= PRODUCT_NUMBERS[1]:
        raise ConfigError(
            f"{number} is no number of a product: {PRODUCT_NUMBERS[0]} to {PRODUCT_NUMBERS[1]}"
        )
    with station.change("edge products number"):
        _require_installed(station, product)
        known = _of_installed(station)
        owner = next((name for name, taken in known.items() if taken == number), product)
        if owner != product:
            raise ConfigError(
                f"{number} is the number of {owner}: give that product another one first"
            )
        if known.get(product) != number:
            audit.append_audit(station.root, ACT, {"product": product, "number": number}, who)
            _save(station, {**known, product: number})


def number_new(station: RootFolder, product: str) -> None:
    """Give a product that has none the first free number, if there is one. The caller holds the
    change lock.

    Raises: ConfigError if the file is damaged.
    """
    known = _of_installed(station, product)
    free = next(
        (n for n in range(PRODUCT_NUMBERS[0], PRODUCT_NUMBERS[1] + 1) if n not in known.values()),
        None,
    )
    if product not in known and free is not None:
        _save(station, {**known, product: free})


def product_of(station: RootFolder, number: int) -> str | None:
    """The installed product of this number. Raises: ConfigError if the file is damaged."""
    known = _of_installed(station)
    return next((name for name, taken in known.items() if taken == number), None)


def _of_installed(station: RootFolder, besides: str = "") -> dict[str, int]:
    """What is not installed any more keeps no number."""
    there = {*station.products(), besides}
    return {name: number for name, number in read_numbers(station).items() if name in there}


def _require_installed(station: RootFolder, product: str) -> None:
    if product not in station.products():
        known = ", ".join(station.products()) or "none"
        raise BundleError(
            f"{product!r} is not installed under {station.root} (installed products: {known}):"
            " name one of those"
        )


def _save(station: RootFolder, numbers: Mapping[str, int]) -> None:
    write_atomically(numbers_file(station), canonical_json(dict(numbers)))
