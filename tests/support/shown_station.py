"""The `edge` command with the camera of tests/support/shown_camera.py in place of its own."""

from __future__ import annotations

from edge.__main__ import main
from edge.camera import process

if __name__ == "__main__":
    process.CHILD = ("-m", "tests.support.shown_camera")
    main()
