"""What looks at parts while a station is calibrated: this process's own camera and engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration import station as calibration_station
from calibration.parts import FRAMES_OF_A_PART, thinned
from calibration.shown_parts import judged_of
from calibration.station import LocalStation, open_station
from edge.camera.factory import make_camera
from edge.camera.protocol import EndOfFrames, FrameOverdue
from edge.config import EdgeConfig, read_config
from edge.errors import CalibrationError, CameraMismatch, ConfigError
from edge.install.proof_file import read_proof
from edge.types import Code
from tests.support.fakes import ScriptedCamera, frames_of
from tests.support.site_parts import TRAINED, SitePart, normal_parts, write_parts
from tests.support.station import (
    EMPTY,
    HEIGHT,
    SERIAL,
    WIDTH,
    Shot,
    StationRoot,
    make_station,
    write_belt,
)
from tests.support.tiny_bundle import Adapts

PART = SitePart(defect=30.0, at=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    """To copy from; nothing may change it."""
    return make_station(
        tmp_path_factory.mktemp("made") / "station", defects=TRAINED, adapts=Adapts()
    )


@pytest.fixture
def station(made: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StationRoot:
    monkeypatch.setattr(calibration_station, "supervised_camera", make_camera)
    station = made.copied_to(tmp_path / "station")
    station.configure("folder", tmp_path / "belt")
    return station


@pytest.fixture
def looking(station: StationRoot, tmp_path: Path) -> Iterator[LocalStation]:
    """At a folder with one part."""
    folder = write_parts(tmp_path / "parts", [PART])
    store = station.store
    with closing(LocalStation(store, store.active(), read_config(station.root), folder)) as one:
        yield one


def set_inputs(station: StationRoot, shift: float) -> None:
    """As an earlier calibration left them."""
    store, installed = station.store, station.store.active()
    proof = read_proof(store, installed)
    assert proof is not None
    runtime = proof.judge(installed.manifest).runtime
    tensors = {"shift": np.float32([shift, 0, 0]), "scale": np.ones(3, np.float32)}
    store.save_model_state(installed, "fp32", runtime, 10, 5.0, tensors=tensors)


def test_it_judges_as_production_does_and_scores_what_is_proposed(
    station: StationRoot, tmp_path: Path
) -> None:
    set_inputs(station, shift=30.0)
    folder = write_parts(tmp_path / "parts", [PART])
    config = read_config(station.root)
    with closing(open_station(station.store, station.store.active(), config, folder)) as looking:
        part = looking.next_part(5.0)
        (sight,) = part.frames
        assert sight.judgment.code is Code.OK  # under the site inputs that are in effect
        assert sight.judgment.threshold == 5.0
        (plain,) = looking.score([sight.window], {})
        assert float(plain["score"][0]) == pytest.approx(30, abs=1)
        halved = {"scale": np.float32([0.5, 1, 1]), "shift": np.float32([-70.0, 0, 0])}
        (proposed,) = looking.score([sight.window], halved)
        assert float(proposed["score"][0]) == pytest.approx(abs((130 + 70) / 2 - 100), abs=1)
        np.testing.assert_array_equal(plain["moments"], proposed["moments"])
        assert plain["moments"][0, 0].tolist() == pytest.approx([130, 90, 80], abs=1)
        (wanted,) = looking.score([sight.window], {}, ("score", "features"))
        assert wanted.keys() == {"score"}  # this graph has no features
        with pytest.raises(EndOfFrames):
            looking.next_part(5.0)
    looking.close()  # may be called twice


def test_it_says_who_looks(looking: LocalStation) -> None:
    assert looking.serial == SERIAL
    assert looking.engine.startswith("onnxruntime ")
    assert looking.precision == "fp32"


def test_frames_of_the_whole_stream_are_fresh_and_as_the_product_needs(
    station: StationRoot, tmp_path: Path
) -> None:
    write_belt(tmp_path / "belt", [EMPTY] * 6)
    config, store = read_config(station.root), station.store
    with closing(LocalStation(store, store.active(), config)) as looking:
        frames = looking.frames(4)
    assert [frame.color.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * 4
    assert len({frame.frame_number for frame in frames}) == 4


def test_no_part_in_time_is_told_from_no_frame(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scripted(*script: object) -> LocalStation:
        monkeypatch.setattr(
            calibration_station, "supervised_camera", lambda *_: ScriptedCamera(list(script))
        )
        store = station.store
        return LocalStation(store, store.active(), EdgeConfig())

    empty = frames_of([EMPTY] * 200)
    with closing(scripted(*empty)) as looking, pytest.raises(FrameOverdue, match="no further part"):
        looking.next_part(0.2)
    with (
        closing(scripted(FrameOverdue("no frame within 5 s"))) as looking,
        pytest.raises(Exception, match="no frame within 5 s: check the USB 3 cable") as lost,
    ):
        looking.next_part(0.2)
    assert not isinstance(lost.value, FrameOverdue)
    other = replace(empty[0], unit=0.01)
    with closing(scripted(other)) as looking, pytest.raises(CameraMismatch, match="counts depth"):
        looking.next_part(0.2)


def test_what_keeps_it_from_looking_leaves_nothing_open(
    station: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    class Closing(ScriptedCamera):
        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(calibration_station, "supervised_camera", lambda *_: Closing([]))
    geometry = station.store.site_folder("washer") / "geometry.json"
    geometry.unlink()
    store = station.store
    with pytest.raises(CalibrationError, match="no background plane"):
        LocalStation(store, store.active(), EdgeConfig())
    assert closed
    color = make_station(tmp_path / "color", calibrated=False, presence=False)
    live = color.configure("realsense", None, more='[decision]\nmode = "triggered"\n')
    live = live.model_copy(update={"broker": live.broker.model_copy(update={"enabled": True})})
    with pytest.raises(ConfigError, match="cannot see a part arrive: show images with --source"):
        LocalStation(color.store, color.store.active(), live)


def test_a_window_does_not_keep_the_rest_of_the_image_in_memory(looking: LocalStation) -> None:
    (sight,) = looking.next_part(5.0).frames
    assert sight.window.color.base is None or sight.window.color.shape[1] == WIDTH


def test_of_many_frames_those_are_kept_that_keep_median_and_highest(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = [Shot(part=True, defect=float(defect)) for defect in range(30)]
    script = frames_of([*[EMPTY] * 3, *shots, *[EMPTY] * 3])
    monkeypatch.setattr(calibration_station, "supervised_camera", lambda *_: ScriptedCamera(script))
    store = station.store
    with closing(LocalStation(store, store.active(), EdgeConfig())) as looking:
        sights = judged_of(looking.next_part(5.0))
        kept = thinned(sights)
        scores = [float(one["score"][0]) for one in looking.score(kept, {})]
    every = [float(one.judgment.score or 0) for one in sights]
    assert (len(sights), len(kept)) == (30, FRAMES_OF_A_PART)
    assert max(scores) == max(every)
    assert np.median(scores) == pytest.approx(np.median(every), abs=1.5)
    numbers = [window.frame_number for window in kept]
    assert numbers == sorted(numbers)
    assert thinned(sights[:4]) == tuple(one.window for one in sights[:4])


def test_normal_parts_of_the_site_are_those_of_the_training() -> None:
    """What the other tests rely on."""
    assert min(part.defect for part in normal_parts(50)) >= TRAINED[0]
    assert max(part.defect for part in normal_parts(50)) <= TRAINED[-1]
