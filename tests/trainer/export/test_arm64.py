"""Every precision of an exported bundle in an arm64 root, under qemu-user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.bundle.key_files import generate_key
from edge.install.proof_file import read_proof
from edge.install.rootfs import prepare_rootfs
from edge.proof.certificate import SAME_SHIFT
from edge.station.store import Store
from tests.benchmarks.arm64 import proof_here, proof_in
from tests.support.debian_roots import debian_root, find_package
from tests.support.standin_run import MODULE, write_product, write_standin_run
from trainer.export.bundle import export_bundle
from trainer.export.request import ExportRequest
from trainer.systems import registry

pytestmark = pytest.mark.long


@pytest.fixture
def root() -> Iterator[Path]:
    with debian_root("arm64") as root:
        yield root


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A bundle in three precisions, and the key that its signature is checked with."""
    monkeypatch.setitem(registry.SYSTEM_MODULES, "standin", MODULE)
    private, public = generate_key(tmp_path / "line")
    run = write_standin_run(tmp_path / "run", write_product(tmp_path / "product"))
    out = tmp_path / "washer-1.0.0.bundle"
    request = ExportRequest(run, "washer", "1.0.0", ("fp16", "int8"), private, out)
    return export_bundle(request).path, public


def test_every_precision_decides_on_arm64_as_on_this_machine(
    root: Path, exported: tuple[Path, Path]
) -> None:
    package = find_package("arm64")
    prepare_rootfs(root, package, exported[0], [exported[1]], None)
    prepared = Store(root)
    pending = read_proof(prepared, prepared.active())
    assert pending is not None
    assert pending.state == "pending", "the board proves it, not this machine"
    store, here = proof_here(*exported)
    there = proof_in(root, *exported)
    spread = store.active().manifest.normal_spread
    assert [entry.precision for entry in there.engines] == ["fp32", "fp16", "int8"]
    for mine, other in zip(here.engines, there.engines, strict=True):
        assert other.is_proven, f"{other.name}: {other.why_not}"
        assert mine.section is not None
        assert other.section is not None
        apart = abs(other.section.threshold.value - mine.section.threshold.value)
        assert apart <= SAME_SHIFT * spread[mine.precision].spread, mine.precision
