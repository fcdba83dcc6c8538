"""Evaluations and a PatchCore beside each other become one table, which says what falls short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.groups import COLUMNS, different_folders, entry_of, read_patchcore, read_runs

METRICS = ("image_auroc", "aupro_30", "aupro_05", "aupro_01")


def row(name: str, *shares: float | None) -> dict[str, Any]:
    counts = {"normal": 20, "defective": 40}
    return {"name": name, **counts, **dict(zip(METRICS, shares, strict=False))}


def write_run(
    folder: Path, system: str, seed: int, dent: dict[str, Any], depth: bool = True
) -> None:
    folder.mkdir(parents=True)
    summary = {
        "run": {"system": system, "seed": seed, "with_depth": depth},
        "data": "/data/held-out/washer",
        "groups": [dent],
        "rows": [row("bump", 0.1, 0.1, 0.1, 0.1), row("all", 0.99, 0.98, 0.9, 0.8)],
    }
    (folder / "evaluate.json").write_text(json.dumps(summary))


def write_patchcore(file: Path, product: str, *rows: dict[str, Any]) -> Path:
    rows = rows or (row("relief", 0.9, 0.9, 0.9, 0.9),)
    result = {"product": product, "system": "PatchCore", "seed": 0, "data": f"/data/{product}"}
    result |= {"groups": rows, "rows": [row("all", 0.5, 0.5, 0.5, 0.5)]}
    file.write_text(json.dumps(result))
    return file


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    write_run(folder / "a", "m3dm", 0, row("relief", 0.99, 0.99, 0.99, 0.99))
    write_run(folder / "b", "mats", 1, row("relief", 0.96, 0.98, 0.9, 0.2))
    write_run(folder / "c", "mats", 0, row("relief", 0.92, 0.96, 0.7))  # of before AUPRO 0.01
    return folder


def made(runs: Path, *patchcore: Path) -> list[dict[str, Any]]:
    entry = entry_of(read_runs([runs]), read_patchcore(patchcore))
    cells = ("mean", "lowest", "patchcore")
    names = [*COLUMNS[:4], *(f"{key} {cell}" for key in METRICS for cell in cells), COLUMNS[-1]]
    return [dict(zip(names, values, strict=True)) for values in entry["rows"]]


def test_a_row_is_the_mean_and_the_lowest_of_the_seeds_beside_patchcore(
    runs: Path, tmp_path: Path
) -> None:
    rows = made(runs, write_patchcore(tmp_path / "p.json", "washer"))
    assert [(one["system"], one["group"], one["seeds"]) for one in rows] == [
        ("MATS", "relief", 2),
        ("MATS", "all", 2),
        ("M3DM", "relief", 1),
        ("M3DM", "all", 1),
    ]
    first = rows[0]
    assert first["image_auroc mean"] == pytest.approx(94)
    assert first["image_auroc lowest"] == pytest.approx(92)
    assert first["aupro_30 mean"] == pytest.approx(97)
    assert first["aupro_01 mean"] == pytest.approx(20)  # of the one seed that has it
    assert first["image_auroc patchcore"] == pytest.approx(90)
    assert rows[1]["aupro_05 patchcore"] == pytest.approx(50)


def test_what_is_below_the_goal_or_patchcore_is_named(runs: Path, tmp_path: Path) -> None:
    rows = made(runs, write_patchcore(tmp_path / "p.json", "washer"))
    assert rows[0]["short of"] == "95 I-AUROC, PatchCore AUPRO 0.05, PatchCore AUPRO 0.01"
    assert [one["short of"] for one in rows[1:]] == ["-", "-", "-"]
    exact = row("relief", 0.94, 0.971, None, None)
    rows = made(runs, write_patchcore(tmp_path / "p.json", "washer", exact))
    assert rows[0]["short of"] == "95 I-AUROC, PatchCore AUPRO 0.3"


def test_the_mean_counts_and_not_the_lowest_seed(runs: Path) -> None:
    write_run(runs / "d", "mats", 2, row("relief", 0.98, 0.98, 0.9, 0.2))
    assert made(runs)[0]["image_auroc lowest"] == pytest.approx(92)
    assert made(runs)[0]["short of"] == "-"


def test_patchcore_of_another_product_counts_for_nothing(runs: Path, tmp_path: Path) -> None:
    rows = made(runs, write_patchcore(tmp_path / "p.json", "gear"))
    assert rows[0]["image_auroc patchcore"] is None
    assert rows[0]["short of"] == "95 I-AUROC"


def test_other_images_than_patchcores_are_refused_or_told(runs: Path, tmp_path: Path) -> None:
    file = write_patchcore(tmp_path / "p.json", "washer")
    told = different_folders(read_runs([runs]), read_patchcore([file]))
    assert len(told) == 3
    assert "judged /data/held-out/washer" in told[0]
    assert "/data/washer" in told[0]
    file.write_text(file.read_text().replace('"defective": 40', '"defective": 41'))
    with pytest.raises(SystemExit, match=r"\(20, 40\) .*p\.json \(20, 41\): measure both"):
        made(runs, file)


def test_color_only_runs_are_a_system_of_their_own(runs: Path) -> None:
    write_run(runs / "flat", "mats", 0, row("relief", 0.5, 0.5), depth=False)
    rows = made(runs)
    assert [one["system"] for one in rows[::2]] == ["MATS", "MATS, color only", "M3DM"]


def test_two_evaluations_of_one_seed_and_none_at_all_are_refused(
    runs: Path, tmp_path: Path
) -> None:
    write_run(runs / "again", "mats", 0, row("relief", 0.5, 0.5))
    with pytest.raises(SystemExit, match=r"again.* and .*c.* both MATS, seed 0, on washer"):
        read_runs([runs])
    with pytest.raises(SystemExit, match=r"no evaluate\.json"):
        read_runs([tmp_path / "elsewhere"])
