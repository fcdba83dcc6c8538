"""Tables are of several kinds, and none is of the part's color."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.synthetic import tables
from trainer.synthetic.tables import table_albedo

DARK, BRIGHT = (0.06, 0.07, 0.09), (0.50, 0.30, 0.13)


@pytest.mark.parametrize("part", [DARK, BRIGHT])
def test_a_table_stands_out_from_the_part(part: tuple[float, float, float]) -> None:
    for seed in range(40):
        table = table_albedo(part, 24, 32, np.random.default_rng(seed))
        assert table.shape == (24, 32, 3)
        assert 0 < table.min() <= table.max() < 1
        shown, own = (np.power(color, 1 / 2.2) for color in (np.median(table, (0, 1)), part))
        assert np.linalg.norm(shown - own) > 0.2


def test_tables_differ_in_color_and_in_texture_and_a_seed_repeats_its_own() -> None:
    made = [table_albedo(BRIGHT, 24, 32, np.random.default_rng(seed)) for seed in range(12)]
    means = np.array([table.mean((0, 1)) for table in made])
    assert np.ptp(means.mean(axis=1)) > 0.1
    rough = [float((table / table.mean((0, 1))).std()) for table in made]
    assert max(rough) > 1.5 * min(rough)
    again = table_albedo(BRIGHT, 24, 32, np.random.default_rng(0))
    np.testing.assert_array_equal(again, made[0])


def test_a_part_that_no_table_stands_out_from_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LEAST_CONTRAST", 2.0)
    with pytest.raises(RuntimeError, match="no table stands out"):
        table_albedo(DARK, 24, 32, np.random.default_rng(0))
