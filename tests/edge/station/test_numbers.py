"""Numbers of products: the first free one at the installation, unique, whole, written down."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.cli import app
from edge.errors import BundleError, ConfigError
from edge.runtime.active import fingerprint_of
from edge.schema import PRODUCT_NUMBERS
from edge.station.audit import read_audit
from edge.station.numbers import number_new, number_product, numbers_file, product_of, read_numbers
from edge.station.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two products as far as names go."""
    store = Store(tmp_path)
    for product in ("washer", "screw"):
        folder = store.products_folder / product
        (folder / "slots/1.0.0-0123456789ab").mkdir(parents=True)
        (folder / "current").symlink_to("slots/1.0.0-0123456789ab")
        number_new(store, product)
    store.activate("screw")
    return store


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["products", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_each_new_product_gets_the_first_free_number(store: Store) -> None:
    assert read_numbers(store) == {"washer": 1, "screw": 2}
    number_product(store, "washer", 9)
    number_new(store, "nut")
    assert read_numbers(store) == {"washer": 9, "screw": 2, "nut": 1}
    number_new(store, "washer")
    assert read_numbers(store)["washer"] == 9
    assert product_of(store, 2) == "screw"
    assert product_of(store, 1) is None, "nut is not installed"


def test_a_number_is_given_once_and_written_down(store: Store) -> None:
    before = fingerprint_of(store)
    number_product(store, "washer", PRODUCT_NUMBERS[1], who="somebody")
    assert fingerprint_of(store) != before, "a running station notices"
    (row,) = read_audit(store.root)
    assert (row.act, row.who) == ("number", "somebody")
    assert row.detail == {"product": "washer", "number": PRODUCT_NUMBERS[1]}
    number_product(store, "washer", PRODUCT_NUMBERS[1])
    assert len(read_audit(store.root)) == 1
    with pytest.raises(ConfigError, match="65535 is the number of washer: give that product"):
        number_product(store, "screw", PRODUCT_NUMBERS[1])


@pytest.mark.parametrize("number", [0, -1, 65_536])
def test_a_number_out_of_bounds_is_refused(store: Store, number: int) -> None:
    with pytest.raises(ConfigError, match="1 to 65535"):
        number_product(store, "washer", number)


def test_a_product_that_is_not_installed_is_refused_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="installed products: none"):
        number_product(Store(tmp_path / "mistyped"), "washer", 1)
    assert not (tmp_path / "mistyped").exists()


@pytest.mark.parametrize(
    "damage", ["", "[]", '{"washer": 1, "screw": 1}', '{"washer": true}', '{"washer": 70000}', "{"]
)
def test_a_damaged_file_is_refused_with_what_to_do(store: Store, damage: str) -> None:
    numbers_file(store).write_text(damage)
    with pytest.raises(ConfigError, match=r"numbers\.json is damaged: remove it, then number"):
        read_numbers(store)


def test_the_command_line_lists_and_numbers(store: Store) -> None:
    root = ("--root", str(store.root))
    assert run(*root) == ("      1 washer 1.0.0-0123456789ab\n*     2 screw 1.0.0-0123456789ab\n")
    assert run("number", "washer", "7", *root) == "washer has number 7\n"
    assert run(*root).splitlines()[1] == "      7 washer 1.0.0-0123456789ab"
    empty = store.root / "empty"
    empty.mkdir()
    assert run("--root", str(empty)) == f"no bundle is installed under {empty}\n"
