"""The package edge-station on this machine, as dpkg has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import UpdateError
from edge.files import make_folder, remove_tree
from edge.provision.package import PACKAGE, STATUS, read_package

RELEASE = "etc/os-release"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "md5sums")
NOT_PACKED = ("Status", "Conffiles", "Config-Version")  # what dpkg's own record adds to `control`
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
LAST_LINES, LINE_LIMIT = 3, 300  # of what dpkg says, for the sentence


@dataclass(frozen=True)
class Installed:
    """status: as dpkg names it, such as installed or half-configured."""

    status: str
    version: str

    @property
    def is_whole(self) -> bool:
        """Whether its installation has ended well."""
        return self.status == "installed"


class Dpkg:
    """dpkg under one root."""

    def __init__(self, root: Path) -> None:
        """root: "/" on a device. Nothing is asked yet."""
        self._root = root
        is_other = root != Path("/")
        self._where = [f"--root={root}"] if is_other else []
        self._admin = [f"--admindir={root / STATUS}"] if is_other else []

    def installed(self) -> Installed | None:
        """The package edge-station; None where it is not installed, or there is no dpkg."""
        if shutil.which("dpkg-query") is None:
            return None
        form = "--showformat=${db:Status-Status} ${Version}"
        said = self._told(["dpkg-query", *self._admin, form, "--show", PACKAGE]).stdout.split()
        if len(said) != 2 or said[0] in ("not-installed", "config-files"):
            return None
        return Installed(*said)

    def installed_bytes(self) -> int:
        """Of the package edge-station, as it says itself; 0 where it does not."""
        form = "--showformat=${Installed-Size}"  # KiB
        said = self._told(["dpkg-query", *self._admin, form, "--show", PACKAGE]).stdout.strip()
        return int(said) << 10 if said.isdecimal() else 0

    def codename(self) -> str:
        """Of the distribution, such as bookworm; empty where it does not say so."""
        try:
            lines = (self._root / RELEASE).read_text().splitlines()
        except OSError:
            return ""
        said = dict(line.split("=", 1) for line in lines if "=" in line)
        return said.get("VERSION_CODENAME", "").strip("\"'")

    def processor(self) -> str:
        """As Debian names it, such as arm64."""
        return self._told(["dpkg", "--print-architecture"]).stdout.strip()

    def is_newer(self, version: str, than: str) -> bool:
        """Whether dpkg takes a version for higher than another."""
        return not self._told(["dpkg", "--compare-versions", version, "gt", than]).returncode

    def install(self, package: Path, downgrade: bool = False) -> str:
        """Install a file; why it did not work, empty where it did."""
        more = {"EDGE_DOWNGRADE": "yes"} if downgrade else {}
        return self._act(["--install", str(package)], more)

    def finish(self) -> str:
        """End what was interrupted; as `install`."""
        return self._act(["--configure", PACKAGE], {})

    def keep(self, version: str, folder: Path) -> Path:
        """Make the package of what is installed again, as a file in `folder`, after every file of
        it was compared with the digest that dpkg has.

        Raises: UpdateError if a file was changed, or dpkg-deb fails; OSError.
        """
        changed = self._told(["dpkg", *self._where, "--verify", PACKAGE])
        if changed.returncode or changed.stdout.strip():
            raise UpdateError(
                f"the installed {PACKAGE} {version} is not as its package was, so that there would"
                " be nothing to go back to: install its file again; `dpkg --verify edge-station`"
                " names what was changed"
            )
        make_folder(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".packed-") as place:
            tree, new = Path(place) / "tree", Path(place) / f"{PACKAGE}_{version}.deb"
            self._lay_out(tree)
            words = ["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(new)]
            made = self._told(words)
            if made.returncode or read_package(new).version != version:
                raise UpdateError(f"{PACKAGE} {version} cannot be kept: {_end(made.stderr)}")
            descriptor = os.open(new, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
            for other in folder.glob("*.deb"):
                remove_tree(other)
            return new.rename(folder / new.name)

    def _lay_out(self, tree: Path) -> None:
        listed = self._told(["dpkg-query", *self._admin, "--listfiles", PACKAGE]).stdout
        tree.mkdir(mode=0o755)
        for name in listed.splitlines():
            source, target = self._root / name.lstrip("/"), tree / name.lstrip("/")
            if source.is_symlink():
                target.symlink_to(source.readlink())
            elif source.is_dir():
                target.mkdir(mode=source.stat().st_mode & 0o777, parents=True, exist_ok=True)
            else:
                shutil.copy2(source, target)
        (tree / "DEBIAN").mkdir(mode=0o755)
        (tree / "DEBIAN/control").write_text(self._control())
        for script in SCRIPTS:
            source = self._root / STATUS / "info" / f"{PACKAGE}.{script}"
            if source.is_file():
                shutil.copy2(source, tree / "DEBIAN" / script)

    def _control(self) -> str:
        """What dpkg's record has of the package's `control`."""
        record = self._told(["dpkg-query", *self._admin, "--status", PACKAGE]).stdout
        lines, is_kept = list[str](), True
        for line in record.splitlines():
            if not line.startswith(" "):
                is_kept = line.partition(":")[0] not in NOT_PACKED
            if is_kept and line:
                lines.append(line)
        return "\n".join(lines) + "\n"

    def _act(self, words: Sequence[str], more: dict[str, str]) -> str:
        done = self._told(["dpkg", *self._where, *words], more)
        return "" if done.returncode == 0 else _end(f"{done.stdout}\n{done.stderr}")

    def _told(
        self, words: Sequence[str], more: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return subprocess.run(
            words,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # what compilers and scripts say may be anything
            stdin=subprocess.DEVNULL,
            env=clean | (more or {}),
        )


def _end(said: str) -> str:
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    return "; ".join(line[:LINE_LIMIT] for line in lines[-LAST_LINES:]) or "dpkg says nothing"
