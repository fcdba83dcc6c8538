"""A bundle comes out of a .swu as it went in, or not at all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge.errors import BundleError
from edge.update.swu import is_swu, unwrap
from tests.support.swu import ABOUT, END, entry

CONTENT = bytes(range(256)) * 37 + b"end"


def unwrapped(folder: Path, data: bytes) -> bytes:
    (folder / "washer-2.0.0.swu").write_bytes(data)
    unwrap(folder / "washer-2.0.0.swu", folder / "out.bundle")
    return (folder / "out.bundle").read_bytes()


@pytest.mark.parametrize("magic", [b"070701", b"070702"])
def test_of_both_formats(tmp_path: Path, magic: bytes) -> None:
    data = ABOUT + entry(b"washer-2.0.0.bundle", CONTENT, magic) + END
    assert unwrapped(tmp_path, data) == CONTENT
    assert is_swu(tmp_path / "washer-2.0.0.swu")
    assert not is_swu(tmp_path / "out.bundle")


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio is not installed")
@pytest.mark.parametrize("form", ["crc", "newc"])
def test_as_cpio_makes_it(tmp_path: Path, form: str) -> None:
    (tmp_path / "sw-description").write_text("software: {}")
    (tmp_path / "washer-2.0.0.bundle").write_bytes(CONTENT)
    names = b"sw-description\nwasher-2.0.0.bundle\n"
    words = ["cpio", "-o", "-H", form, "--quiet"]
    done = subprocess.run(words, input=names, capture_output=True, cwd=tmp_path, check=True)
    assert unwrapped(tmp_path, done.stdout) == CONTENT


BUNDLE = entry(b"a.bundle", CONTENT)
BAD = {
    "empty": b"",
    "no archive": b"<html>" * 100,
    "ends in the header": ABOUT + BUNDLE[:60],
    "ends in the file": ABOUT + BUNDLE[:4000],
    "ends before its end": ABOUT,
    "no bundle": ABOUT + END,
    "two bundles": BUNDLE + BUNDLE + END,
    "another byte": ABOUT + BUNDLE.replace(b"end", b"eng") + END,
    "another length": ABOUT + entry(b"a.bundle", CONTENT, size=5) + END,
    "an absurd length": ABOUT + entry(b"a.bundle", b"", size=0xFFFFFFFF) + END,
    "an absurd name": ABOUT + entry(b"a.bundle", b"", namesize=0xFFFFFFF0) + END,
    "no name": ABOUT + entry(b"", b"", namesize=0) + END,
    "no number": ABOUT + BUNDLE.replace(b"0", b"x", 1) + END,
    "a link": ABOUT + entry(b"a.bundle", b"/etc/passwd", mode=0o120777) + END,
    "endless": entry(b"x", b"") * 100_000,
}


@pytest.mark.parametrize("how", BAD)
def test_anything_else_is_refused_in_a_sentence(tmp_path: Path, how: str) -> None:
    with pytest.raises(BundleError, match=r"washer-2\.0\.0\.swu .*: wrap the bundle again"):
        unwrapped(tmp_path, BAD[how])
    assert not (tmp_path / "out.bundle").exists()
