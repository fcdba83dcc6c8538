"""The edge-station package, unpacked and configured inside a root file system that is not running.

What runs in there (apt, dpkg, the package's own scripts) gets mount and process namespaces of its
own: when they end, however they end, the kernel takes every mount back and kills what was left.
Programs of another processor run by qemu-user, which the kernel starts for them (binfmt_misc).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from edge.errors import ConfigError, MissingDependency, StorageError
from edge.provision.architecture import architecture
from edge.provision.package import read_package

LAST_LINES = 5  # of a failed command's output that its error repeats

NAMESPACES = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
# $1: the root, $2: the package. /run of a system that is not running is empty: nothing in there
# believes that it may start services
ENTER = """
set -eu
root=$1 package=$2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root/run/systemd/resolve" "$root/run/edge-install"
cp "$package" "$root/run/edge-install/edge-station.deb"
if [ -f /etc/resolv.conf ]; then
    cp /etc/resolv.conf "$root/run/systemd/resolve/stub-resolv.conf"
    [ -L "$root/etc/resolv.conf" ] || [ ! -f "$root/etc/resolv.conf" ] ||
        mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
fi
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \\
    DEBIAN_FRONTEND=noninteractive /bin/sh -euc '
dpkg --configure -a || true
apt-get --yes --no-install-recommends -o APT::Sandbox::User=root \\
    install /run/edge-install/edge-station.deb
'
"""


def check_package(rootfs: Path, package: Path) -> str:
    """Check that the package can be installed under `rootfs` by this account; returns its name and
    version.

    Raises: ConfigError if it is no edge-station package or one for another system, or this is not
        root; MissingDependency if this machine cannot run the programs of `rootfs`.
    """
    read = read_package(package)
    read.require_fits_root(rootfs)
    if os.geteuid() != 0:
        raise ConfigError(f"a package is installed under {rootfs} by root only: use sudo")
    _require_runs(rootfs, architecture(rootfs))
    return f"{read.name} {read.version} ({read.processor})"


def install_package(rootfs: Path, package: Path) -> None:
    """Install the package with what it depends on, as its own system would.

    An installation that was interrupted is finished first. Services are not started.
    Raises: StorageError with the end of apt's output if it fails; the same command goes on then.
    """
    script = [*NAMESPACES, "sh", "-c", ENTER, "sh", str(rootfs.resolve()), str(package.resolve())]
    done = subprocess.run(
        script, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        raise StorageError(
            f"{package.name} is not installed under {rootfs} ({_end_of(done.stdout)}): mend that"
            " and give the same command again"
        )


def _require_runs(rootfs: Path, machine: str | None) -> None:
    """Raises: MissingDependency if a program of `rootfs` does not run here."""
    try:
        tried = subprocess.run(
            [*NAMESPACES, "chroot", str(rootfs.resolve()), "/usr/bin/env", "true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise MissingDependency("unshare is not installed: apt-get install util-linux") from error
    if tried.returncode != 0:
        raise MissingDependency(
            f"a program of {rootfs} ({machine}) does not run on this machine"
            f" ({_end_of(tried.stdout)}): apt-get install qemu-user-static, and see that"
            f" /proc/sys/fs/binfmt_misc has qemu-{machine}"
        )


def _end_of(output: bytes) -> str:
    """The last lines of a program's output, as one."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines()]
    return "; ".join([line for line in lines if line][-LAST_LINES:]) or "it says nothing"
