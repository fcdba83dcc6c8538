"""The command refuses what it cannot make before it writes anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.errors import ConfigError
from edge.frames.dataset import open_dataset
from trainer.cli import app
from trainer.cli.synthesize import synthesize
from trainer.synthetic.products import PRODUCTS, write
from trainer.synthetic.scene_change import parse_scene


@pytest.mark.parametrize("products", ["washer,spoon", "", " , "])
def test_unknown_products_are_refused_with_the_known_ones(tmp_path: Path, products: str) -> None:
    with pytest.raises(ConfigError) as caught:
        synthesize(
            tmp_path / "parts",
            products,
            train=1,
            validation=1,
            test=1,
            per_defect=1,
            belt=0,
            seed=0,
            scene=None,
        )
    assert all(name in str(caught.value) for name in PRODUCTS)
    assert not (tmp_path / "parts").exists()


def test_without_a_choice_every_product_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def noted(name: str, folder: Path, amounts: object, seed: int, change: object) -> Iterator[str]:
        drawn.append(name)
        return iter(())

    monkeypatch.setattr(write, "write_product", noted)
    result = CliRunner().invoke(
        app, ["synthesize", str(tmp_path / "parts")], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert drawn == list(PRODUCTS)
    assert f"wrote {len(PRODUCTS)} products into" in result.output


def test_a_product_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthesize(
        tmp_path / "parts",
        "connector",
        train=2,
        validation=1,
        test=1,
        per_defect=1,
        belt=0,
        seed=0,
        scene=None,
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2].startswith("wrote 1 product into")
    product = tmp_path / "parts/connector"
    assert printed[-1] == f"next: trainer train mats {product} --out runs/connector"
    assert len(open_dataset(tmp_path / "parts" / "connector").samples) == 19


@pytest.mark.parametrize("scene", ["lamp=40", "exposure=9", ""])
def test_a_scene_that_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, scene: str
) -> None:
    words = ["synthesize", str(tmp_path / "parts"), "--scene", scene]
    with pytest.raises(ConfigError, match="--scene"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert not (tmp_path / "parts").exists()


def test_a_scene_reaches_every_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def noted(name: str, folder: Path, amounts: object, seed: int, change: object) -> Iterator[str]:
        seen[name] = change
        return iter(())

    monkeypatch.setattr(write, "write_product", noted)
    words = ["synthesize", str(tmp_path / "parts"), "--scene", "light=40,gain"]
    CliRunner().invoke(app, [*words, "--products", "washer,gear"], catch_exceptions=False)
    assert seen == dict.fromkeys(("washer", "gear"), parse_scene("light=40,gain"))
