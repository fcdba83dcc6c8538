"""A technician's calibration, with the commands alone, as the commissioning report shows it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibration import station as calibration_station
from edge.camera.factory import make_camera
from edge.cli import app
from edge.report.seal import verify_report
from tests.support.reported import read_page
from tests.support.site_parts import TRAINED, normal_parts, write_parts
from tests.support.station import make_station
from tests.support.tiny_bundle import Adapts


def edge(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_parts_and_challenge_are_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_station, "supervised_camera", make_camera)
    station = make_station(tmp_path / "station", True, True, TRAINED, Adapts())
    station.configure("folder", tmp_path / "belt")
    good = normal_parts(10)
    bad = [replace(part, defect=part.defect + 40) for part in good[:3]]
    root, page = ("--root", station.root), tmp_path / "washer.html"
    edge("calibrate", "parts", "--count", 10, "--source", write_parts(tmp_path / "good", good),
         *root)  # fmt: skip
    edge("calibrate", "challenge", "--count", 3, "--source", write_parts(tmp_path / "bad", bad),
         *root)  # fmt: skip
    edge("report", "commissioning", page, *root)
    data = page.read_bytes()
    assert verify_report(data).about.kind == "commissioning"
    said = read_page(data).text
    for words in (
        "at most 25.9% of normal parts are rejected (measured, not proven",
        "an estimate with the trainer's scores",
        "Parts whose scores set the threshold 10",
        "10: scored score",
        "Caught 3 of 3",
        "3: caught score",
        "calibrate challenge",
        "calibrate model",
    ):
        assert words in said, words
    assert "Look at this first" not in said
    assert len(re.findall('<img src="data:image/jpeg', data.decode())) == 13
    edge("calibrate", "undo", *root)
    edge("report", "commissioning", page, *root)
    assert "under another bundle, engine or threshold" in read_page(page.read_bytes()).text
