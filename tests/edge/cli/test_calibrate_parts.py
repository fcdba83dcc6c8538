"""`edge calibrate parts`, `challenge`, `undo` and what `threshold` does after them, as a technician
uses them: on a station whose camera plays files, with a bundle that can be adapted.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from calibration import station as calibration_station
from calibration.site_threshold import TrainerScores, site_threshold
from edge.camera.factory import make_camera
from edge.cli import app
from edge.errors import CalibrationError, ConfigError, EdgeError
from edge.install.install import install_bundle
from edge.station.audit import read_audit
from edge.station.commissioning import (
    Commissioning,
    aside_folder,
    pictures_folder,
    read_commissioning,
)
from edge.station.site import ModelState
from tests.support.root import snapshot
from tests.support.site_parts import TRAINED, SitePart, normal_parts, write_parts, write_shown
from tests.support.station import HEIGHT, SERIAL, WIDTH, StationRoot, make_station
from tests.support.tiny_bundle import SPARE, Adapts, make_tiny_bundle

pytestmark = pytest.mark.timeout(600)

BRIGHTER = 1.3  # red of a normal part is then 130 to 157: every one scores above the threshold


def made(
    folder: Path, adapts: Adapts | None, presence: bool = True, **camera: object
) -> StationRoot:
    return make_station(folder, True, presence, TRAINED, adapts, **camera)


@pytest.fixture(scope="module")
def made_adapting(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    """To copy from; nothing may change it."""
    return made(tmp_path_factory.mktemp("made") / "station", Adapts())


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The camera plays files in this process, which takes a fifth of the time."""
    monkeypatch.setattr(calibration_station, "supervised_camera", make_camera)


@pytest.fixture
def station(made_adapting: StationRoot, tmp_path: Path) -> StationRoot:
    return configured(made_adapting.copied_to(tmp_path / "station"), tmp_path)


def configured(station: StationRoot, folder: Path) -> StationRoot:
    station.configure("folder", folder / "belt")
    return station


def edge(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def calibrate(station: StationRoot, what: str, *more: object) -> str:
    return edge("calibrate", what, "--root", station.root, *more)


def refused(station: StationRoot, sentence: str, *words: object) -> str:
    """With this sentence, and nothing changed but the picture; returns what was said."""
    picture = pictures_folder(station.store, "washer") / "refused.jpg"
    picture.unlink(missing_ok=True)

    def kept() -> dict[str, object]:
        return {
            name: about
            for name, about in snapshot(station.root).items()
            if "commissioning" not in name and not name.endswith("/site")
        }

    before = kept()
    with pytest.raises(EdgeError, match=sentence) as error:
        calibrate(station, *words)
    assert kept() == before
    assert read_commissioning(station.store, "washer") is None
    said = str(error.value)
    if picture.exists():
        assert said.endswith(f"Its picture: {picture}")
        assert cv2.imread(str(picture)) is not None
    return said


def state_of(station: StationRoot) -> ModelState | None:
    states = station.store.model_states(station.store.active())
    return states[-1] if states else None


def evidence_of(station: StationRoot) -> Commissioning:
    found = read_commissioning(station.store, "washer")
    assert found is not None
    return found


def verdicts(station: StationRoot, folder: Path, parts: list[SitePart]) -> list[str]:
    write_parts(folder, parts)
    said = edge("inspect", folder, "--root", station.root, "--out", folder / "overlays")
    return re.findall(r"^\d+ .* (OK|NG|UNKNOWN) ", said, re.MULTILINE)


# --- it adapts ---


def test_in_another_light_normal_parts_are_accepted_again_and_defects_found(
    station: StationRoot, tmp_path: Path
) -> None:
    later = normal_parts(20, BRIGHTER, seed=9)
    bad = [replace(part, defect=part.defect + 40) for part in later[:5]]
    assert verdicts(station, tmp_path / "before", later).count("NG") == 20
    folder = write_parts(tmp_path / "parts", normal_parts(10, BRIGHTER))
    said = calibrate(station, "parts", "--count", 10, "--source", folder)
    assert verdicts(station, tmp_path / "after", later).count("NG") <= 3
    assert verdicts(station, tmp_path / "bad", bad) == ["NG"] * 5

    state, kept = state_of(station), evidence_of(station)
    assert state is not None
    assert state.shown is not None
    assert kept.is_of(state)
    assert (state.version, state.parts, kept.count, kept.channels) == (1, 10, 10, 3)
    assert state.arrays()["scale"][0] == pytest.approx(1 / BRIGHTER, rel=0.2)
    trainer = TrainerScores.of(station.store.active().manifest.normal_scores["fp32"])
    own = site_threshold(state.shown.scores, trainer, 0.05)
    assert (state.threshold, kept.threshold) == (own.value, own.value)
    assert not state.shown.is_proven
    assert "Measured, not proven: at most 25.9% of normal parts are rejected" in state.guarantee
    for line in (
        "part 10 of 10: frame ",
        "adapted      shift and scale of 3 channels, fitted on 10 parts\n",
        f"guarantee    {state.guarantee}\n",
        f"             {kept.next_parts}\n",
        "             Normal parts that fit nothing: 59 prove 5%, 299 prove 1%, 2,995 prove 0.1%\n",
        f"saved        version 1, by {state.who}, {state.when}\n",
    ):
        assert line in said
    assert "about 91 false rejects by these 10 alone (90%: 206)" in kept.next_parts


def test_the_evidence_has_every_part_with_its_picture(station: StationRoot, tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "parts", normal_parts(5))
    calibrate(station, "parts", "--count", 5, "--source", folder)
    kept, state = evidence_of(station), state_of(station)
    assert state is not None
    assert state.shown is not None
    assert [part.number for part in kept.parts] == [1, 2, 3, 4, 5]
    assert tuple(part.score for part in kept.parts) == state.shown.scores
    assert {part.role for part in kept.parts} == {"scored"}
    assert (kept.serial, kept.digest) == (SERIAL, station.store.active().digest)
    assert kept.geometry_version == 1
    pictures = pictures_folder(station.store, "washer")
    assert sorted(path.name for path in pictures.iterdir()) == [
        f"{number:02d}.jpg" for number in range(1, 6)
    ]
    assert cv2.imread(str(pictures / "03.jpg")).shape[1] == 4 * WIDTH  # four panels
    row = read_audit(station.root)[-1]
    assert (row.act, row.detail["threshold"]) == ("calibrate model", state.threshold)
    assert row.detail["shown"]["scores"] == list(state.shown.scores)
    # fewer parts the next time: no picture of the first ones is left
    folder = write_parts(tmp_path / "three", normal_parts(3, seed=2))
    calibrate(station, "parts", "--count", 3, "--source", folder)
    assert len(list(pictures.iterdir())) == 3
    assert evidence_of(station).is_of(state_of(station))


def test_parts_are_scored_as_the_gate_of_production_sees_them(
    station: StationRoot, tmp_path: Path
) -> None:
    """Each in several frames, of which its score is the median."""
    write_shown(tmp_path / "belt", normal_parts(4, BRIGHTER))
    said = calibrate(station, "parts", "--count", 4)
    assert re.search(r"part 4 of 4: frame \d+\n", said)
    state = state_of(station)
    assert state is not None
    assert state.shown is not None
    assert max(state.shown.scores) < 40


def test_half_of_the_parts_fit_and_the_other_half_prove(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = write_parts(tmp_path / "parts", normal_parts(10, BRIGHTER))
    said = calibrate(station, "parts", "--split", "--false-rejects", "20%", "--source", folder)
    kept = evidence_of(station)
    assert (kept.count, kept.is_proven) == (5, True)
    assert [part.role for part in kept.parts] == ["fitted", "scored"] * 5
    assert all((part.score is None) == (part.role == "fitted") for part in kept.parts)
    assert "With 95% confidence at most 45.1% of normal parts are rejected, 16.7% on" in said
    assert "5 normal parts shown on site, which fitted nothing" in said
    assert "shift and scale of 3 channels, fitted on 5 parts" in said


def test_memory_banks_get_rows_of_the_parts(tmp_path: Path) -> None:
    station = configured(made(tmp_path / "bank", Adapts(spare=True)), tmp_path)
    folder = write_parts(tmp_path / "parts", normal_parts(6, BRIGHTER))
    said = calibrate(station, "parts", "--count", 6, "--source", folder)
    state = state_of(station)
    assert state is not None
    assert f"fitted on 6 parts, {SPARE} rows for the memory banks" in said
    tensors = state.arrays()
    assert tensors["spare_valid"].tolist() == [1] * SPARE
    red = tensors["spare"][:, 0]
    # as the features are after shift and scale
    assert 80 < red.min() < red.max() < 140
    assert state.shown is not None
    assert max(state.shown.scores) > 0.5  # no part is compared with its own rows
    assert "note         these parts score lower, or more alike, than normal parts in" in said
    assert evidence_of(station).note


@pytest.mark.parametrize("adapts", [None, Adapts(known=False)])
def test_a_bundle_of_before_is_calibrated_by_its_threshold_alone(
    tmp_path: Path, adapts: Adapts | None
) -> None:
    station = configured(made(tmp_path / "older", adapts), tmp_path)
    folder = write_parts(tmp_path / "parts", normal_parts(10))
    said = calibrate(station, "parts", "--source", folder)
    state = state_of(station)
    assert state is not None
    assert state.tensors == {}
    assert "adapted      the threshold alone: this bundle has no statistics of its" in said
    assert "which fitted nothing" in state.guarantee  # so that it is proven
    assert evidence_of(station).channels == 0
    other = write_parts(tmp_path / "bright", normal_parts(10, BRIGHTER))
    with pytest.raises(CalibrationError, match="no statistics of its channels to adapt it by"):
        calibrate(station, "parts", "--source", other)


def test_a_color_only_product_takes_images(tmp_path: Path) -> None:
    station = configured(
        made(tmp_path / "color", Adapts(), presence=False, unit=None, max_area=1.0), tmp_path
    )
    folder = write_parts(tmp_path / "parts", normal_parts(5))
    for path in folder.glob("*_depth.png"):
        path.unlink()
    calibrate(station, "parts", "--count", 5, "--source", folder)
    assert evidence_of(station).geometry_version == 1


# --- it refuses ---


def test_a_defective_part_is_named_also_among_those_that_fit(
    station: StationRoot, tmp_path: Path
) -> None:
    shown = normal_parts(10, BRIGHTER)
    shown[4] = replace(shown[4], defect=90)  # the third of the five that fit
    folder = write_parts(tmp_path / "parts", shown)
    refused(station, "^part 5: it looks defective", "parts", "--split", "--source", folder)


def test_a_part_that_looks_defective_is_named_and_can_be_left_out(
    station: StationRoot, tmp_path: Path
) -> None:
    shown = normal_parts(10, BRIGHTER)
    shown[6] = replace(shown[6], defect=90)
    folder = write_parts(tmp_path / "parts", shown)
    said = refused(station, "^part 7: it looks defective", "parts", "--source", folder)
    assert "show the same parts again with --leave-out 7; if it is normal, with --keep 7" in said
    again = calibrate(station, "parts", "--source", folder, "--leave-out", 7)
    assert "part 7 of 10: frame 7, left out" in again
    assert "if the 1 left out were normal" in again
    kept = evidence_of(station)
    assert (kept.count, kept.parts[6].role, kept.parts[6].score) == (9, "left out", None)
    assert (pictures_folder(station.store, "washer") / "07.jpg").is_file()
    calibrate(station, "parts", "--source", folder, "--keep", 7)
    kept = evidence_of(station)
    assert (kept.count, kept.kept) == (10, (7,))
    assert kept.threshold == max(part.score or 0 for part in kept.parts)


def test_another_product_is_refused_also_after_adaptation(
    station: StationRoot, tmp_path: Path
) -> None:
    shown = [replace(part, stripes=70) for part in normal_parts(10)]
    folder = write_parts(tmp_path / "parts", shown)
    said = refused(station, r"score \d.* times as high as normal", "parts", "--source", folder)
    assert "also after the features were brought back to where they were in training" in said
    assert "Its picture: " in said


def test_a_part_that_is_shown_twice_is_refused(station: StationRoot, tmp_path: Path) -> None:
    shown = normal_parts(4)
    folder = write_parts(tmp_path / "files", [*shown, shown[1]])
    words = "parts", "--count", 5, "--source", folder
    refused(station, "^part 5: it is part 2 again, the same picture at the same place", *words)
    write_shown(tmp_path / "belt", [*shown, shown[3]])
    refused(station, "^part 5: it is part 4 again", "parts", "--count", 5)


def test_too_little_depth_is_refused(station: StationRoot, tmp_path: Path) -> None:
    shown = normal_parts(4)
    shown[2] = replace(shown[2], holes=0.9)
    folder = write_parts(tmp_path / "parts", shown)
    sentence = "^part 3: too few of its pixels have a depth reading: .*, and repeat. Its picture"
    refused(station, sentence, "parts", "--count", 4, "--source", folder)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--count", 6], "only 4 parts were shown, 6 are needed"),
        (["--count", 4, "--leave-out", 5], "there is no part 5 of 4"),
        (["--count", 4, "--leave-out", 1, "--leave-out", 2], "4 parts with 2 left out are too few"),
        (["--count", 3, "--split"], "3 parts with 0 left out are too few, at least 4"),
        (["--false-rejects", "5"], "write a rate above 0"),
    ],
)
def test_what_cannot_be_meant(
    station: StationRoot, tmp_path: Path, words: list[object], sentence: str
) -> None:
    folder = write_parts(tmp_path / "parts", normal_parts(4))
    refused(station, sentence, "parts", *words, "--source", folder)


def test_without_a_plane_nothing_is_seen(station: StationRoot, tmp_path: Path) -> None:
    (station.store.site_folder("washer") / "geometry.json").unlink()
    folder = write_parts(tmp_path / "parts", normal_parts(4))
    words = "parts", "--count", 4, "--source", folder
    refused(station, f"no background plane for washer and camera {SERIAL}: run", *words)


# --- known-bad parts ---


def test_known_bad_parts_prove_how_many_are_caught(station: StationRoot, tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "parts", normal_parts(10, BRIGHTER))
    calibrate(station, "parts", "--source", folder)
    bad = [replace(part, defect=70) for part in normal_parts(3, BRIGHTER, seed=3)]
    said = calibrate(
        station, "challenge", "--count", 3, "--source", write_parts(tmp_path / "bad", bad)
    )
    assert "part 3 of 3: caught, score " in said
    assert "3 of 3 known-bad parts caught: with 95% confidence at least 36.8% of parts" in said
    challenge = evidence_of(station).challenge
    assert challenge is not None
    assert (challenge.caught, challenge.version) == (3, 1)
    assert challenge.detection == pytest.approx(0.05 ** (1 / 3))
    names = {path.name for path in pictures_folder(station.store, "washer").iterdir()}
    assert {"01.jpg", "10.jpg", "challenge-03.jpg"} <= names


def test_a_bad_part_that_is_missed_is_named_with_its_picture(
    station: StationRoot, tmp_path: Path
) -> None:
    bad = [replace(part, defect=70) for part in normal_parts(4, seed=4)]
    bad[1] = replace(bad[1], defect=10)
    before = snapshot(station.store.site_folder("washer"))
    said = calibrate(
        station, "challenge", "--count", 4, "--source", write_parts(tmp_path / "bad", bad)
    )
    found = re.search(r"MISSED       part 2, score \d+\.\d+: (.*)\n", said)
    assert found is not None
    assert cv2.imread(found[1]) is not None
    assert "3 of 4 known-bad parts caught" in said
    row = read_audit(station.root)[-1]
    assert (row.act, row.detail["missed"], row.detail["shown"]) == ("calibrate challenge", [2], 4)
    # nothing about the judging is changed, and there is no calibration whose evidence it would be
    after = snapshot(station.store.site_folder("washer"))
    assert {name: after[name] for name in before if name != "."} == before
    assert read_commissioning(station.store, "washer") is None


def test_a_bad_part_that_is_not_judged_proves_nothing(station: StationRoot, tmp_path: Path) -> None:
    bad = [replace(part, defect=70, holes=0.9) for part in normal_parts(1)]
    folder = write_parts(tmp_path / "bad", bad)
    refused(
        station, "^part 1: too few of its pixels", "challenge", "--count", 1, "--source", folder
    )


# --- back, and another rate ---


def test_undo_goes_back_once(station: StationRoot, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="nothing was calibrated for washer"):
        calibrate(station, "undo")
    calibrate(station, "threshold", "--false-rejects", "20%")
    before = state_of(station)
    folder = write_parts(tmp_path / "parts", normal_parts(5, BRIGHTER))
    calibrate(station, "parts", "--count", 5, "--source", folder)
    adapted = state_of(station)
    said = calibrate(station, "undo")
    now = state_of(station)
    assert before is not None
    assert adapted is not None
    assert now is not None
    assert (now.threshold, now.tensors, now.guarantee, now.shown) == (
        before.threshold, {}, before.guarantee, None,
    )  # fmt: skip
    assert (adapted.version, now.version) == (2, 3)
    assert f"threshold    {now.threshold:.6g}\n" in said
    assert not evidence_of(station).is_of(now)
    acts = [(row.act, row.detail["version"]) for row in read_audit(station.root)[-2:]]
    assert acts == [("calibrate model", 2), ("calibrate undo", 3)]
    assert read_audit(station.root)[-2].detail["tensors"] == {
        name: tensor.model_dump(mode="json") for name, tensor in adapted.tensors.items()
    }
    with pytest.raises(CalibrationError, match="an undo cannot be undone: calibrate again"):
        calibrate(station, "undo")
    assert state_of(station) == now


def test_undo_of_the_first_calibration_leaves_the_bundle_alone(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = write_parts(tmp_path / "parts", normal_parts(5, BRIGHTER))
    calibrate(station, "parts", "--count", 5, "--source", folder)
    said = calibrate(station, "undo")
    assert "threshold    the one that was measured on the bundle's normal parts" in said
    assert state_of(station) is None
    later = normal_parts(5, seed=8)
    assert verdicts(station, tmp_path / "later", later).count("OK") >= 4
    calibrate(station, "parts", "--count", 5, "--source", folder)
    state = state_of(station)
    assert state is not None
    assert state.version == 3  # versions only grow


def test_undo_brings_the_evidence_of_the_parts_before_back(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = write_parts(tmp_path / "first", normal_parts(5, BRIGHTER))
    calibrate(station, "parts", "--count", 5, "--source", folder)
    pictures = pictures_folder(station.store, "washer")
    first = evidence_of(station), {path.name: path.read_bytes() for path in pictures.iterdir()}
    folder = write_parts(tmp_path / "second", normal_parts(3, seed=2))
    calibrate(station, "parts", "--count", 3, "--source", folder)
    assert evidence_of(station) != first[0]
    calibrate(station, "undo")
    assert evidence_of(station).is_of(state_of(station))
    assert evidence_of(station) == first[0]
    assert {path.name: path.read_bytes() for path in pictures.iterdir()} == first[1]
    assert not aside_folder(station.store, "washer").exists()


def test_another_rate_after_parts_is_of_the_same_parts_and_keeps_their_site_inputs(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = write_parts(tmp_path / "parts", normal_parts(10, BRIGHTER))
    calibrate(station, "parts", "--source", folder)
    first = state_of(station)
    said = calibrate(station, "threshold", "--false-rejects", "40%")
    now = state_of(station)
    assert first is not None
    assert first.shown is not None
    assert now is not None
    assert now.tensors == first.tensors
    assert now.shown == first.shown
    trainer = TrainerScores.of(station.store.active().manifest.normal_scores["fp32"])
    assert now.threshold == site_threshold(first.shown.scores, trainer, 0.4).value
    assert now.threshold < first.threshold
    assert f"Parts shown by {first.shown.who}, {first.shown.when}" in now.guarantee
    assert now.guarantee in said
    assert evidence_of(station).is_of(now)


def test_a_new_bundle_never_takes_what_was_calibrated_for_another(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = write_parts(tmp_path / "parts", normal_parts(5, BRIGHTER))
    calibrate(station, "parts", "--count", 5, "--source", folder)
    old = state_of(station)
    second = make_tiny_bundle(
        tmp_path, station.key, version="2.0.0", height=HEIGHT, width=WIDTH,
        defects=TRAINED, adapts=Adapts(),
    )  # fmt: skip
    install_bundle(second, station.root)
    assert state_of(station) is None
    assert not evidence_of(station).is_of(state_of(station))
    with pytest.raises(CalibrationError, match=r"nothing was calibrated for washer 2\.0\.0"):
        calibrate(station, "undo")
    assert verdicts(station, tmp_path / "later", normal_parts(5, BRIGHTER)).count("NG") == 5
    station.store.rollback("washer")
    assert state_of(station) == old


def test_a_damaged_record_of_the_evidence_is_refused(station: StationRoot, tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "parts", normal_parts(5))
    calibrate(station, "parts", "--count", 5, "--source", folder)
    path = station.store.site_folder("washer") / "commissioning.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "count": 0}))
    with pytest.raises(ConfigError, match=r"commissioning\.json: count: .*calibrate again"):
        read_commissioning(station.store, "washer")


def test_the_same_state_as_before_has_the_same_digest(station: StationRoot) -> None:
    """Without parts of the site the text of a state is what it was before they could be shown."""
    calibrate(station, "threshold", "--false-rejects", "20%")
    state = state_of(station)
    assert state is not None
    assert "shown" not in json.loads(state.model_dump_json())
    assert np.isfinite(state.threshold or np.nan)
