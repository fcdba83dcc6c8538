"""The command refuses what it cannot draw before it writes anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.frames.dataset import open_dataset
from trainer.cli.synthesize import synthesize
from trainer.synthetic.products import PRODUCTS


@pytest.mark.parametrize("products", ["washer,spoon", "", " , "])
def test_unknown_products_are_refused_with_the_known_ones(tmp_path: Path, products: str) -> None:
    with pytest.raises(ConfigError) as caught:
        synthesize(tmp_path / "parts", products, train=1, validation=1, test=1, per_defect=1, belt=0, seed=0)
    assert all(name in str(caught.value) for name in PRODUCTS)
    assert not (tmp_path / "parts").exists()


def test_a_product_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthesize(tmp_path / "parts", "connector", train=2, validation=1, test=1, per_defect=1, belt=0, seed=0)
    assert "wrote 1 product into" in capsys.readouterr().out
    assert len(open_dataset(tmp_path / "parts" / "connector").samples) == 14
