"""The real package in roots of Debian 12 that do not run, before they are flashed or booted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import read_config
from edge.errors import StorageError
from edge.install.remote import Order, install_remotely
from edge.install.rootfs import prepare_rootfs
from edge.install.ssh import Ssh
from edge.station.store import Store
from tests.support.debian_roots import debian_root, find_package, mounts_below, run_inside
from tests.support.package import make_package
from tests.support.patience import patience_s
from tests.support.root import Bundles
from tests.support.sshd import running_sshd
from tests.support.tiny_bundle import KeyPair

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def root(request: pytest.FixtureRequest) -> Iterator[Path]:
    is_long = request.node.get_closest_marker("long") is not None
    with debian_root("amd64", make=is_long) as root:
        yield root


@pytest.mark.long
def test_the_package_and_a_bundle_are_ready_in_a_root_that_never_ran(
    root: Path, bundles: Bundles, key: KeyPair
) -> None:
    said: list[str] = []
    prepare_rootfs(root, find_package("amd64"), bundles(), [key.public], "cell7", said.append)
    assert mounts_below(root) == []
    data = Store(root).data.stat()
    account = run_inside(root, "id", "-u", "edge").stdout.strip()
    assert str(data.st_uid) == account, "the service's account owns the station's data"
    assert read_config(root).station.station == "cell7"
    verified = run_inside(root, "edge", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "verify passed" in verified.stdout
    enabled = run_inside(root, "systemctl", "is-enabled", "edge.service", "edge-page.service")
    assert enabled.stdout.split() == ["enabled", "disabled"]


def test_a_killed_preparation_leaves_no_mount_and_is_gone_on_with(
    root: Path, tmp_path: Path, bundles: Bundles, key: KeyPair
) -> None:
    slow = "touch /var/lib/begun; [ -e /var/lib/go-on ] || sleep 600"
    package = make_package(tmp_path, postinst=slow, files={"opt/edge/bin/edge": "#!/bin/sh\n"})
    words = ["install", bundles(), "--rootfs", root, "--package", package, "--trust", key.public]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge", *map(str, words)], cwd=REPOSITORY, start_new_session=True
    )
    wait_for(root / "var/lib/begun")
    assert mounts_below(root) == [], "mounts are seen by the installation alone"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not Store(root).products()
    (root / "var/lib/go-on").touch()
    prepare_rootfs(root, package, bundles(), [key.public], None)
    assert Store(root).products() == ["washer"]
    status = run_inside(root, "dpkg-query", "--show", "--showformat=${Status}", "edge-station")
    assert status.stdout == "install ok installed"


def test_a_package_that_fails_is_one_sentence_and_no_bundle_is_installed(
    root: Path, tmp_path: Path, bundles: Bundles, key: KeyPair
) -> None:
    package = make_package(tmp_path, postinst="echo the disk is upside down; exit 3")
    with pytest.raises(StorageError, match="is not installed under"):
        prepare_rootfs(root, package, bundles(), [key.public], None)
    assert mounts_below(root) == []
    assert not Store(root).products()


@pytest.mark.long
def test_a_machine_over_ssh_gets_the_package_first(
    root: Path, tmp_path: Path, bundles: Bundles, key: KeyPair
) -> None:
    """Sessions of the server are in the root, as on a machine of its own."""
    mounts = f"mount -t proc proc {root}/proc; mount --rbind /dev {root}/dev"
    around = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mounts}; exec "$@"']
    environment = "/usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/root"
    inside = f'ForceCommand chroot {root} {environment} sh -c "$SSH_ORIGINAL_COMMAND"'
    said: list[str] = []
    package = find_package("amd64")
    with (
        running_sshd(tmp_path / "sshd", "", [*around, "sh"], [inside]) as sshd,
        Ssh(sshd.host, sshd.options()) as ssh,
    ):
        order = Order(bundles(), "/", package, [key.public], "cell7")
        assert install_remotely(ssh, order, said.append) == 0, "\n".join(said)
        again: list[str] = []
        assert install_remotely(ssh, order, again.append) == 0
    assert "verify passed" in "\n".join(said)
    assert any("is not newer" in line for line in again)
    assert read_config(root).station.station == "cell7"
    assert not any(line.startswith(f"copied {package.name}") for line in again)


def wait_for(path: Path) -> None:
    end_s = time.monotonic() + patience_s(60)
    while not path.exists():
        assert time.monotonic() < end_s, f"{path} does not appear"
        time.sleep(0.05)
