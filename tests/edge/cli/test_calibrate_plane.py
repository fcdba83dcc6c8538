"""`edge calibrate plane` as a technician uses it, on a station whose camera plays files through
librealsense.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
from tiny_bundle import FOCAL, PLANE, TABLE_M, UNIT, draw_part, make_key, make_tiny_bundle

from edge.camera.supervised import supervised_camera
from edge.cli import app
from edge.config import EdgeConfig, render_config
from edge.errors import CalibrationError, CameraError, CameraMismatch
from edge.install.install import install_bundle
from edge.runtime.active import ActiveBundle
from edge.runtime.capture import Capture
from edge.runtime.inspection import opened_active
from edge.runtime.mailbox import Lost, Mailbox
from edge.sections import CameraConfig
from edge.station.store import Store
from edge.station.trust import trust

pytest.importorskip("pyrealsense2", reason="the virtual camera needs pyrealsense2")
pytestmark = pytest.mark.timeout(600)

SERIAL = "virtual-washer"


def write_frames(
    folder: Path, count: int, part: bool, focal: float = FOCAL, unit: float = UNIT
) -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        color, depth = draw_part(seed=index, part=part)
        cv2.imwrite(str(folder / f"{index:04d}_color.png"), color[..., ::-1])
        cv2.imwrite(str(folder / f"{index:04d}_depth.png"), depth)
    info = {
        "width": 128,
        "height": 96,
        "depth_unit_m": unit,
        "fx": focal,
        "fy": focal,
        "cx": 63.5,
        "cy": 47.5,
    }
    (folder / "intrinsics.json").write_text(json.dumps(info))
    camera = {"model": "virtual", "serial": SERIAL, "width": 128, "height": 96}
    (folder / "camera.json").write_text(json.dumps(camera))
    return folder


@pytest.fixture
def station(tmp_path: Path) -> Path:
    """A root with the tiny bundle and a virtual camera whose table is empty."""
    root = tmp_path / "root"
    key = make_key(tmp_path)
    trust(Store(root), key.public)
    install_bundle(make_tiny_bundle(tmp_path, key), root)
    belt = write_frames(tmp_path / "belt", 2, part=True)
    empty = write_frames(tmp_path / "empty", 10, part=False)
    config = EdgeConfig(camera=CameraConfig(kind="virtual", path=str(belt), empty=str(empty)))
    (root / "etc/edge/station.toml").write_text(render_config(config))
    return root


def calibrate(root: Path, *more: str) -> str:
    result = CliRunner().invoke(
        app, ["calibrate", "plane", "--root", str(root), *more], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_empty_table_becomes_the_plane_of_this_product_and_camera(station: Path) -> None:
    printed = calibrate(station, "--frames", "10")
    assert SERIAL in printed
    assert "500.0 mm" in printed
    geometry = Store(station).geometry("washer", SERIAL)
    assert geometry is not None
    assert geometry.plane == pytest.approx(PLANE, abs=2e-4)
    record = Store(station).geometry_record("washer", SERIAL)
    assert record is not None
    assert (record.version, record.frames, record.crop_x, record.crop_y) == (1, 10, 0, 0)
    assert record.residual_m == pytest.approx(0.0003, rel=0.2)
    assert record.who
    assert record.when.endswith("Z")


def test_every_calibration_is_a_new_version_with_an_audit_row(station: Path) -> None:
    calibrate(station, "--frames", "5")
    calibrate(station, "--frames", "5")
    record = Store(station).geometry_record("washer", SERIAL)
    assert record is not None
    assert record.version == 2
    with sqlite3.connect(station / "var/lib/edge/line.sqlite") as database:
        acts = [row[0] for row in database.execute("select act from audit")]
    assert acts.count("calibrate geometry") == 2


def test_part_on_the_table_is_refused_and_the_plane_kept(station: Path, tmp_path: Path) -> None:
    calibrate(station, "--frames", "5")
    before = Store(station).geometry_record("washer", SERIAL)
    occupied = write_frames(tmp_path / "occupied", 5, part=True)
    with pytest.raises(CalibrationError, match="something stands on the table"):
        calibrate(station, "--frames", "5", "--source", str(occupied))
    assert Store(station).geometry_record("washer", SERIAL) == before


def test_another_lens_is_refused(station: Path, tmp_path: Path) -> None:
    other = write_frames(tmp_path / "other", 5, part=False, focal=FOCAL * 1.05)
    with pytest.raises(CameraMismatch, match="focal length"):
        calibrate(station, "--frames", "5", "--source", str(other))


def test_another_depth_unit_is_refused(station: Path, tmp_path: Path) -> None:
    other = write_frames(tmp_path / "other", 5, part=False, unit=0.001)
    with pytest.raises(CameraMismatch, match=r"0\.001 m"):
        calibrate(station, "--frames", "5", "--source", str(other))


def test_too_few_frames_are_refused_with_what_there_is(station: Path) -> None:
    with pytest.raises(CalibrationError, match="--frames 10"):
        calibrate(station)


def test_crop_outside_the_image_is_refused(station: Path) -> None:
    with pytest.raises(CalibrationError, match="--crop-x"):
        calibrate(station, "--frames", "2", "--crop-x", "40")


def test_tilted_table_gives_its_tilt(station: Path, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "tilted", 5, part=False)
    v, u = np.mgrid[:96, :128]
    normal = np.array([np.sin(np.radians(4)), 0, np.cos(np.radians(4))])
    rays = np.stack([(u - 63.5) / FOCAL, (v - 47.5) / FOCAL, np.ones(u.shape)], -1)
    for path in folder.glob("*_depth.png"):
        cv2.imwrite(str(path), np.rint(TABLE_M / (rays @ normal) / UNIT).astype(np.uint16))
    assert "tilt         4.00 degrees" in calibrate(
        station, "--frames", "5", "--source", str(folder)
    )


CALIBRATED = """
import os
from edge.camera import child
from edge.camera.device import DeviceFacts
from edge.camera.virtual import VirtualCamera
VirtualCamera.device_facts = lambda self: DeviceFacts(calibration=os.environ["TABLE"])
child.main()
"""


def test_the_cameras_own_calibration_is_kept_with_the_plane_and_compared_when_it_opens(
    station: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child.py"
    child.write_text(CALIBRATED)
    monkeypatch.setattr("edge.camera.process.CHILD", (str(child),))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    monkeypatch.setenv("TABLE", "a" * 64)
    calibrate(station, "--frames", "5")
    record = Store(station).geometry_record("washer", SERIAL)
    assert record is not None
    assert record.calibration == "a" * 64
    with opened_active(station) as active:
        assert refusal_of(active, station) is None
        monkeypatch.setenv("TABLE", "b" * 64)  # it was calibrated anew
        assert isinstance(refusal_of(active, station), CameraMismatch)
        calibrate(station, "--frames", "5")
        assert refusal_of(active, station) is None


def refusal_of(active: ActiveBundle, root: Path) -> CameraError | None:
    """Why the capture thread of `edge run` refuses the camera; None if it takes its frames."""
    stopping = threading.Event()

    class First(Mailbox):
        def put(self, item: object) -> None:
            items.append(item)
            stopping.set()

    items: list[object] = []
    config = CameraConfig(kind="virtual", path=str(root.parent / "belt"), fps=120)
    camera = supervised_camera(config, root, loop=True, live=True)
    Capture(lambda _: camera, lambda: active, First(), stopping).run()
    return items[0].error if isinstance(items[0], Lost) else None
