"""A recording made through librealsense comes back frame by frame."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import DataError
from edge.frames.dataset import open_dataset
from edge.frames.recording import play

rs = pytest.importorskip("pyrealsense2", reason="recordings need pyrealsense2")
WIDTH, HEIGHT, FOCAL, UNIT = 64, 48, 60.0, 0.0001
FRAMES = 6


def color_of(number: int) -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0], image[..., 2] = 20 * number, 200
    return image


def depth_of(number: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), 3000 + 10 * number, np.uint16)


def stream(kind: Any, uid: int, form: Any, bytes_per_pixel: int) -> Any:
    lens = rs.intrinsics()
    lens.width, lens.height, lens.ppx, lens.ppy, lens.fx, lens.fy = (
        WIDTH,
        HEIGHT,
        WIDTH / 2,
        HEIGHT / 2,
        FOCAL,
        FOCAL,
    )
    lens.model, lens.coeffs = rs.distortion.none, [0.0] * 5
    made = rs.video_stream()
    made.type, made.index, made.uid, made.fmt, made.bpp = kind, 0, uid, form, bytes_per_pixel
    made.width, made.height, made.fps, made.intrinsics = WIDTH, HEIGHT, 30, lens
    return made


def software_frame(profile: Any, pixels: np.ndarray, number: int) -> Any:
    made = rs.software_video_frame()
    bytes_per_pixel = pixels.dtype.itemsize * (pixels.shape[2] if pixels.ndim == 3 else 1)
    made.pixels, made.stride, made.bpp = pixels, WIDTH * bytes_per_pixel, bytes_per_pixel
    made.timestamp, made.domain, made.frame_number = (
        1000 + number * 33.3,
        rs.timestamp_domain.hardware_clock,
        number,
    )
    made.profile = profile.as_video_stream_profile()
    if bytes_per_pixel == 2:
        made.depth_units = UNIT
    return made


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of a software device, recorded by librealsense."""
    path = tmp_path_factory.mktemp("recording") / "line.db3"
    device = rs.software_device()
    depth_sensor, color_sensor = device.add_sensor("Depth"), device.add_sensor("Color")
    depth = depth_sensor.add_video_stream(stream(rs.stream.depth, 1, rs.format.z16, 2))
    color = color_sensor.add_video_stream(stream(rs.stream.color, 2, rs.format.rgb8, 3))
    depth_sensor.add_read_only_option(rs.option.depth_units, UNIT)
    identity = rs.extrinsics()
    identity.rotation, identity.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
    depth.register_extrinsics_to(color, identity)
    device.create_matcher(rs.matchers.dlr_c)
    recorder, sink = rs.recorder(str(path), device), rs.frame_queue(50)
    sensors = recorder.query_sensors()
    for sensor in sensors:
        sensor.open(sensor.get_stream_profiles()[0])
        sensor.start(sink)
    for number in range(1, FRAMES + 1):
        depth_sensor.on_video_frame(software_frame(depth, depth_of(number), number))
        color_sensor.on_video_frame(software_frame(color, color_of(number), number))
        time.sleep(0.02)
    time.sleep(0.3)
    for sensor in sensors:
        sensor.stop()
        sensor.close()
    return path


def test_every_frame_comes_back_aligned_in_color_and_depth(recording: Path) -> None:
    frames = list(play(recording))
    assert [frame.frame_number for frame in frames] == list(range(1, FRAMES + 1))
    for frame in frames:
        np.testing.assert_array_equal(frame.color, color_of(frame.frame_number))
        assert frame.depth is not None
        read = frame.depth > 0
        assert read.mean() > 0.95  # librealsense's align leaves a few columns out by rounding
        np.testing.assert_array_equal(frame.depth[read], depth_of(frame.frame_number)[read])
        assert frame.unit == pytest.approx(UNIT)
        assert frame.intrinsics.fx == pytest.approx(FOCAL)


def test_a_suffix_in_capitals_is_a_recording_too(recording: Path, tmp_path: Path) -> None:
    shouted = tmp_path / "LINE.DB3"
    shouted.write_bytes(recording.read_bytes())
    dataset = open_dataset(shouted)
    assert (dataset.layout, len(dataset.samples)) == ("recording", FRAMES)


def test_a_recording_opens_as_a_data_set_and_can_be_read_backwards(recording: Path) -> None:
    dataset = open_dataset(recording)
    assert (dataset.layout, dataset.product, dataset.has_depth) == ("recording", "line", True)
    forward = [sample.load().frame_number for sample in dataset.samples]
    backward = [sample.load().frame_number for sample in reversed(dataset.samples[-2:])]
    assert forward == sorted(forward)
    assert backward == forward[:-3:-1]


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.db3"
    path.write_bytes(b"not a recording")
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    assert str(path) in str(caught.value)
