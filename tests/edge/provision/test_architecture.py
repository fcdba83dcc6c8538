"""The processor of a root file system, read from its programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.provision.architecture import architecture, file_inside, is_of_this_machine
from tests.support.root import lay_foreign_system


@pytest.mark.parametrize(
    ("order", "machine", "expected"),
    [(1, 183, "aarch64"), (1, 62, "x86_64"), (2, 183, "aarch64"), (1, 9999, "unknown")],
)
def test_the_header_of_a_program_names_the_processor(
    tmp_path: Path, order: int, machine: int, expected: str
) -> None:
    number = machine.to_bytes(2, "little" if order == 1 else "big")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").write_bytes(
        b"\x7fELF\x02" + bytes([order]) + bytes(10) + b"\0\0" + number
    )
    assert architecture(tmp_path) == expected


def test_a_root_without_a_system_is_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").write_text("#!/bin/true")
    assert architecture(tmp_path) is None
    assert is_of_this_machine(tmp_path)


def test_a_foreign_system_is_not_of_this_machine(tmp_path: Path) -> None:
    lay_foreign_system(tmp_path)
    assert not is_of_this_machine(tmp_path)


def test_a_link_out_of_the_root_leads_to_no_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").write_text("of this machine")
    (root / "etc").symlink_to("/etc")
    (root / "inside").write_text("of the root")
    (root / "link").symlink_to("inside")
    (root / "out").symlink_to("../outside")
    assert file_inside(root, "link") == root / "inside"
    assert [file_inside(root, name) for name in ("out", "etc/passwd", "absent")] == [None] * 3
