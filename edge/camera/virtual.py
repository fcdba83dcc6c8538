"""A virtual RealSense: any folder of images through librealsense's software device, syncer and
align.

Runs on any machine with pyrealsense2 (tested: 2.59.1, x86-64). Only a camera's optics and USB are
missing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.camera.contract import CameraContract, reading_of
from edge.camera.device import DeviceFacts
from edge.camera.protocol import EndOfFrames, NewImage, Pace
from edge.camera.realsense import REMEDY, RealSenseCamera, as_camera_error
from edge.errors import CameraLost, DataError
from edge.frames.camera_info import CameraInfo, unnamed_serial
from edge.frames.dataset import Dataset, open_dataset, open_images
from edge.optional import optional_module
from edge.types import Frame, Intrinsics

FPS = 30  # of the stream inside librealsense; the pace of the replay is another setting
RECORD_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class DepthView:
    """The depth camera: its pinhole, and the transformation from its coordinates to the color
    camera's, p_color = R p_depth + t.

    rotation: R, 9 values, column by column as in librealsense. translation: t, 3 values in meters.
    """

    intrinsics: Intrinsics
    rotation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    translation: tuple[float, ...] = (0.0, 0.0, 0.0)


class SoftwareDevice:
    """librealsense's software device with a color and, unless depth is None, a depth sensor."""

    def __init__(
        self,
        rs: Any,
        color: Intrinsics,
        depth: DepthView | None,
        unit: float,
        fps: int,
        model: str,
        serial: str,
    ) -> None:
        self._rs, self._unit, self._fps = rs, unit, fps
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.name, model)
        self.device.register_info(rs.camera_info.serial_number, serial)
        self._depth_sensor: Any = None
        self._depth_profile: Any = None
        if depth is not None:
            self._depth_sensor = self.device.add_sensor("Depth")
            stream = self._stream(rs.stream.depth, 1, rs.format.z16, 2, depth.intrinsics, fps)
            self._depth_profile = self._depth_sensor.add_video_stream(stream)
            self._depth_sensor.add_read_only_option(rs.option.depth_units, unit)
        self._color_sensor = self.device.add_sensor("Color")
        self._color_profile = self._color_sensor.add_video_stream(
            self._stream(rs.stream.color, 2, rs.format.rgb8, 3, color, fps)
        )
        if depth is not None:
            to_color = rs.extrinsics()  # all zeros until set: align then finds no depth
            to_color.rotation = list(depth.rotation)
            to_color.translation = list(depth.translation)
            self._depth_profile.register_extrinsics_to(self._color_profile, to_color)
        self.device.create_matcher(rs.matchers.dlr_c if depth is not None else rs.matchers.default)

    def prime(self, color: NDArray[np.uint8]) -> None:
        """Send the syncer one color image without depth, number 0 at time 0, before the first pair.

        The syncer waits only for streams it has already seen, and takes one that is 7 frame times
        late for lost. It pairs every color image with its depth only if both streams' clocks start
        at 0 and advance by 1 / fps.
        """
        if self._depth_sensor is not None:
            self._color_sensor.on_video_frame(self._video(self._color_profile, color, 0))

    def push(self, frame: Frame, number: int) -> None:
        """Deliver one view as the camera would: depth, then color, of the same time and number
        (from 1).
        """
        rs = self._rs
        for value, key in (
            (frame.exposure_us, rs.frame_metadata_value.actual_exposure),
            (frame.gain, rs.frame_metadata_value.gain_level),
        ):
            if value is not None:
                self._color_sensor.set_metadata(key, int(value))
        if self._depth_sensor is not None and frame.depth is not None:
            self._depth_sensor.on_video_frame(self._video(self._depth_profile, frame.depth, number))
        self._color_sensor.on_video_frame(self._video(self._color_profile, frame.color, number))

    def _stream(
        self, kind: Any, uid: int, pixel_format: Any, bytes_per_pixel: int, i: Intrinsics, fps: int
    ) -> Any:
        rs = self._rs
        stream, model = rs.video_stream(), rs.intrinsics()
        model.width, model.height, model.fx, model.fy, model.ppx, model.ppy = (
            i.width,
            i.height,
            i.fx,
            i.fy,
            i.cx,
            i.cy,
        )
        model.model, model.coeffs = rs.distortion.none, [0.0] * 5
        stream.type, stream.index, stream.uid, stream.fmt, stream.bpp = (
            kind,
            0,
            uid,
            pixel_format,
            bytes_per_pixel,
        )
        stream.width, stream.height, stream.fps, stream.intrinsics = i.width, i.height, fps, model
        return stream

    def _video(self, profile: Any, pixels: NDArray[Any], number: int) -> Any:
        rs, timestamp_ms = self._rs, number * 1000.0 / self._fps
        video = rs.software_video_frame()
        bytes_per_pixel = pixels.itemsize * (pixels.shape[2] if pixels.ndim == 3 else 1)
        video.pixels = np.ascontiguousarray(pixels)
        video.bpp, video.stride = bytes_per_pixel, pixels.shape[1] * bytes_per_pixel
        video.timestamp, video.domain, video.frame_number = (
            timestamp_ms,
            rs.timestamp_domain.hardware_clock,
            number,
        )
        video.profile = profile.as_video_stream_profile()
        if pixels.dtype == np.uint16:
            video.depth_units = self._unit
        return video


class VirtualCamera:
    """Plays every image of a data set through librealsense, paced by fps or as fast as consumed.

    depth_view None: depth is already aligned to color, as in files. Otherwise the depth images
    belong to a depth camera at that place, and librealsense aligns them to the color camera.
    """

    def __init__(
        self,
        path: Path,
        fps: float | None = None,
        loop: bool = False,
        serial: str | None = None,
        depth_view: DepthView | None = None,
        contract: CameraContract | None = None,
    ) -> None:
        self.path, self._loop, self._wanted_serial = path, loop, serial
        self._depth_view, self._contract = depth_view, contract
        self._pace = Pace(fps)
        self._dataset: Dataset | None = None
        self._source: SoftwareDevice | None = None
        self._camera: RealSenseCamera | None = None
        self._next, self._pushed = 0, 0
        self._new_image: NewImage = np.empty

    def copy_into(self, new_image: NewImage) -> None:
        """See edge.camera.protocol.CopiesOut. For a camera that is not open yet."""
        self._new_image = new_image

    @property
    def serial(self) -> str:
        """The camera that took the images."""
        return self._opened()[2].serial

    @property
    def info(self) -> CameraInfo:
        """The camera's data as librealsense reads them back from the software device."""
        return self._opened()[2].info

    def device_facts(self) -> DeviceFacts:
        """As librealsense tells them of the software device."""
        return self._opened()[2].device_facts()

    def open(self) -> None:
        """Find the images, build the device and start it.

        Raises: DataError, CameraError, MissingDependency.
        """
        rs = optional_module("pyrealsense2", REMEDY)
        dataset = open_images(self.path, reading_of(self._contract))
        first = dataset.samples[0].load()
        source = software_device_for(rs, dataset, self._wanted_serial, self._depth_view)
        contract = self._contract or _contract_of(dataset.camera, dataset.has_depth)
        camera = RealSenseCamera(contract=contract, find_device=lambda _rs, _serial: source.device)
        camera.copy_into(self._new_image)
        camera.open()
        self._dataset, self._source, self._camera = dataset, source, camera
        self._next, self._pushed = 0, 0
        with as_camera_error(self.serial):
            source.prime(first.color)

    def next_frame(self, timeout_s: float) -> Frame:
        """The next image, synchronized and aligned. Raises: EndOfFrames, CameraLost, DataError."""
        dataset, _, camera = self._opened()
        if self._next == len(dataset.samples):
            if not self._loop:
                raise EndOfFrames(f"{self.path} has been played to its end, {self._next} frames")
            self._next = 0
        self._pace.wait(timeout_s)
        frame = dataset.samples[self._next].load()
        self._next += 1
        self._push(frame)
        return camera.next_frame(timeout_s)

    def close(self) -> None:
        """Stop the device and forget the images."""
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()
        self._dataset = self._source = None

    def _push(self, frame: Frame) -> None:
        source = self._opened()[1]
        with as_camera_error(self.serial):
            source.push(frame, self._pushed + 1)
        self._pushed += 1

    def _opened(self) -> tuple[Dataset, SoftwareDevice, RealSenseCamera]:
        if self._dataset is None or self._source is None or self._camera is None:
            raise CameraLost(f"{self.path} is not open")
        return self._dataset, self._source, self._camera


def software_device_for(
    rs: Any, dataset: Dataset, serial: str | None, depth_view: DepthView | None = None
) -> SoftwareDevice:
    """A software device with the streams of a data set.

    Raises: DataError for an image whose pixels are not a multiple of eight, which librealsense's
    align cannot take.
    """
    info = dataset.camera
    color = info.pinhole()
    if (color.width * color.height) % 8:
        raise DataError(
            f"{dataset.root}: {color.width}x{color.height} pixels are not a multiple of 8: crop the"
            " images"
        )
    view = (depth_view or DepthView(_nudged(color))) if dataset.has_depth else None
    unit = info.unit or 0.001
    serial = serial or info.serial or unnamed_serial(dataset.product)
    return SoftwareDevice(rs, color, view, unit, FPS, info.model, serial)


def _nudged(color: Intrinsics) -> Intrinsics:
    """Intrinsics for depth that is already aligned, with which librealsense's align leaves every
    pixel in place.

    Its align truncates projected pixel corners. With equal intrinsics they are whole numbers, and
    rounding would move 3 % of the pixels to a neighbor: a shift of a hundredth of a pixel avoids
    that. The slightly longer focal length keeps align in its mode for depth that is no coarser than
    color (one target pixel for each depth pixel).
    """
    return Intrinsics(
        color.width,
        color.height,
        color.fx * (1 + 1e-5),
        color.fy * (1 + 1e-5),
        color.cx - 0.01,
        color.cy - 0.01,
    )


def record(source: Path, target: Path) -> int:
    """Record the images of a data set as a RealSense would, into a .db3 file; returns how many
    frames it holds.

    Raises: DataError if the target is not named .db3; CameraLost if librealsense does not write a
    frame within 5 s.
    """
    if target.suffix.lower() != ".db3":
        raise DataError(f"{target}: a recording must be named .db3")
    rs = optional_module("pyrealsense2", REMEDY)
    dataset = open_dataset(source)
    device = software_device_for(rs, dataset, None)
    target.unlink(missing_ok=True)
    with as_camera_error(unnamed_serial(dataset.product)):
        recorder, written = rs.recorder(str(target), device.device), rs.frame_queue(4)
        sensors = recorder.query_sensors()
        for sensor in sensors:
            sensor.open(sensor.get_stream_profiles()[0])
            sensor.start(written)
        device.prime(dataset.samples[0].load().color)
        for number, sample in enumerate(dataset.samples, start=1):
            device.push(sample.load(), number)
            for _ in sensors:
                arrived, _frame = written.try_wait_for_frame(round(1000 * RECORD_TIMEOUT_S))
                if not arrived:
                    raise CameraLost(
                        f"{target}: librealsense did not take frame {number}: check the disk"
                    )
        time.sleep(0.3)  # the recorder does not drain its queue when stopped
        for sensor in sensors:
            sensor.stop()
            sensor.close()
    return len(dataset.samples)


def _contract_of(info: CameraInfo, has_depth: bool) -> CameraContract:
    """A contract that requires only the stream of the files themselves."""
    return CameraContract(
        model=info.model,
        width=info.width,
        height=info.height,
        fps=FPS,
        unit=(info.unit or 0.001) if has_depth else None,
        crop_width=info.width,
        crop_height=info.height,
        crop_x=0,
        crop_y=0,
        min_area=0.0,
        max_area=1.0,
        min_valid=0.0,
    )
