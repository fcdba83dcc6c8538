"""`edge install --to` and `--rootfs`: another machine, and a system that is not running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ConfigError


@dataclass(frozen=True)
class Elsewhere:
    """The options that say where else, and what is taken along."""

    to: str | None
    rootfs: Path | None
    package: Path | None
    trust: Sequence[Path]
    ssh_options: Sequence[str]

    def is_meant(self, root: Path) -> bool:
        """Whether they name another place than `root` of this machine.

        Raises: ConfigError if they contradict each other.
        """
        if self.to is not None and self.rootfs is not None:
            raise ConfigError("--to and --rootfs are two places: give one of them")
        if self.rootfs is not None and root != Path("/"):
            raise ConfigError("--rootfs is the root of a station itself: leave --root out")
        if self.ssh_options and self.to is None:
            raise ConfigError("--ssh-option goes with --to: name the machine too")
        if self.to is None and self.rootfs is None and (self.package or self.trust):
            raise ConfigError(
                "--package and --trust go with --to or --rootfs: on this machine use `apt install"
                " ./FILE.deb` and `edge trust FILE`"
            )
        return self.to is not None or self.rootfs is not None

    def install(
        self, bundle: Path, root: Path, station: str | None, allow_downgrade: bool, dry_run: bool
    ) -> int:
        """Install there and print what is done; returns the exit code."""
        if self.to is not None:
            from edge.install.remote import Order, install_remotely
            from edge.install.ssh import Ssh

            order = Order(bundle, str(root), self.package, self.trust, station, allow_downgrade)
            with Ssh(self.to, self.ssh_options) as ssh:
                return install_remotely(ssh, order, say, dry_run)
        assert self.rootfs is not None
        from edge.install.rootfs import check_rootfs, prepare_rootfs

        rest = (self.rootfs, self.package, bundle, self.trust, station)
        if dry_run:
            for line in check_rootfs(*rest):
                say(line)
            say(f"would install under {self.rootfs}; nothing is changed")
        else:
            prepare_rootfs(*rest, say, allow_downgrade)
        return 0


def say(line: str) -> None:
    """Print a line at once, also into a pipe: what is done elsewhere takes minutes."""
    print(line, flush=True)
