"""`edge capture`: a data set from the station's camera."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.cli.options import root_option
from edge.usage import example

if TYPE_CHECKING:
    from edge.camera.protocol import Camera

EXAMPLE = example(
    "edge capture monday --empty",
    "edge capture monday --count 40 --ask",
    "edge capture monday --class scratch --count 10 --ask",
    "edge capture belt --seconds 20 --every 0.5",
)


def capture(
    out: Path = typer.Argument(
        ..., help="Folder of the data set; a second time adds to it.", metavar="FOLDER"
    ),
    root: Path = root_option(),
    count: int | None = typer.Option(
        None, min=1, help="Number of frames; default: 20, or all of --seconds.", metavar="N"
    ),
    seconds: float | None = typer.Option(
        None, min=0.1, max=86_400, help="Record for so long.", metavar="S"
    ),
    every: float = typer.Option(
        0.0, min=0.0, max=3600, help="Least seconds between two frames.", metavar="S"
    ),
    ask: bool = typer.Option(
        False, "--ask", help="Wait for Enter before each frame: lay the next part down first."
    ),
    kind: str = typer.Option(
        "good", "--class", help="What the parts are: good, or a type of defect.", metavar="NAME"
    ),
    empty: bool = typer.Option(
        False, "--empty", help="Record the empty table, for a virtual camera's plane."
    ),
) -> None:
    """Record frames as a data set that `trainer train`, `trainer evaluate` and `edge inspect` read:
    color, depth as counts, and camera.json.

    The camera has the settings of the active bundle, if there is one. Where `edge run` has the
    camera, it hands out the frames, and judges no part meanwhile. The disk keeps min_free_gb of
    [retention] free.
    """
    from edge.config import read_config
    from edge.errors import ConfigError
    from edge.files import require_folder_target
    from edge.frames.writing import EMPTY, FrameWriter
    from edge.runtime.recording import Wanted, record_frames

    if empty and kind != "good":
        raise ConfigError("--empty records no parts: leave --class out")
    if kind == EMPTY:
        raise ConfigError("--class empty: say --empty for the empty table")
    require_folder_target(out, "FOLDER")
    config = read_config(root)
    if count is None and seconds is None:
        count = 20
    least_free = 1e9 * config.retention.min_free_gb
    done = record_frames(
        _camera(root, empty),
        FrameWriter(out, EMPTY if empty else kind, least_free),
        Wanted(count, seconds, every, config.camera.is_live),
        _ask if ask else None,
        lambda path: print(path, flush=True),
    )
    print(f"{done} frames in {out}; next: `trainer train {out}` on the workstation")


def _camera(root: Path, empty: bool) -> Camera:
    """The station's camera, not open yet: a real one can be opened once, by `edge run` where that
    is at work.
    """
    from calibration.remote import find_camera
    from edge.camera.supervised import supervised_camera
    from edge.config import read_config
    from edge.runtime.recording import settings_of

    config = read_config(root).camera
    remote = find_camera(root, "capture") if config.is_live else None
    return remote or supervised_camera(config, root, settings_of(root), empty=empty)


def _ask(number: int) -> None:
    from edge.errors import ConfigError

    try:
        input(f"frame {number + 1}: lay the part down, then press Enter. ")
    except EOFError as error:
        raise ConfigError("nobody answers --ask: run this in a terminal") from error
