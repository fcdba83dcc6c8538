"""A Debian root that systemd boots, by systemd-nspawn: units run there under their real
restrictions, as their real users.

It is a stand-in for a board. Not enforced on machines whose control groups are not delegated to
it: MemoryMax, CPUWeight, TasksMax, IPAddressDeny and DevicePolicy. The network is this machine's,
unless a root is booted without one.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from tests.support.broker import wait_until
from tests.support.patience import patience_s

REPOSITORY = Path(__file__).resolve().parents[2]
# roots that were made once; EDGE_TEST_ROOTS names another folder with a root amd64
ROOTS = Path(os.environ.get("EDGE_TEST_ROOTS", REPOSITORY / ".venv/roots"))
SUITE, ARCH = "bookworm", "amd64"
INSIDE = (  # besides Debian's minimal base
    "systemd systemd-sysv dbus python3 python3-venv ca-certificates udev iproute2 procps"
    " libusb-1.0-0"
)
LIBUSB = "usr/lib/x86_64-linux-gnu/libusb-1.0.so.0"  # the newest of INSIDE
BOOT_S, COMMAND_S = 20.0, 60.0  # on a quiet machine
ASKS_FOR_REBOOT = 133  # exit status of systemd-nspawn, as its unit has in RestartForceExitStatus=
NUMBERS = count()  # of roots that this process has booted


def require_nspawn() -> None:
    """Skip, saying so, where no root can be booted."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a root with systemd-nspawn")
    for program, package in (("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {package}")
    machine = os.uname().machine
    if machine != "x86_64":
        pytest.skip(f"the root is of {ARCH}, and this machine is {machine}")


def debian_root() -> Path:
    """The root that all others begin with, made once for all runs. Nobody writes into it."""
    require_nspawn()
    root = made_root(ARCH)
    if not (root / LIBUSB).exists():
        pytest.skip(f"{root} was made without libusb-1.0-0: remove it, and it is made anew")
    return root


def made_root(arch: str) -> Path:
    """The root of an architecture; made where there is none yet, which takes minutes. Nobody writes
    into it. Skips, saying so, where it cannot be made.
    """
    root = ROOTS / arch
    with only_one(ROOTS / f"{arch}.lock"):
        if not (root / "etc/debian_version").exists():
            _make_debian(root, arch)
    return root


def _make_debian(root: Path, arch: str) -> None:
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed: apt-get install mmdebstrap")
    debian, older = Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")
    source = debian if debian.exists() else older
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        new = Path(folder) / "root"
        options = ["--variant=minbase", f"--arch={arch}", f"--include={INSIDE.replace(' ', ',')}"]
        words = ["mmdebstrap", *options, SUITE, str(new), str(source)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mmdebstrap could make no root: {done.stderr.strip().splitlines()[-1]}")
        new.rename(root)


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """One process at a time, of all that run tests here."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def layered(lower: Sequence[Path], folder: Path) -> Iterator[Path]:
    """A root whose files are those of `lower`, the uppermost first. What changes is written into
    folder/upper; `lower` stays as it is.
    """
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    layers = ":".join(map(str, lower))
    options = f"lowerdir={layers},upperdir={folder}/upper,workdir={folder}/work"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(folder / "root")]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine mounts no overlay: {done.stderr.strip()}")
    try:
        # every installed machine knows this name; a minimal root does not
        (folder / "root/etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        yield folder / "root"
    finally:
        subprocess.run(["umount", "-l", folder / "root"], check=True)


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A disk of that size at `place`, in memory."""
    place.mkdir(parents=True)
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


class BootedRoot:
    """One machine: a root, and systemd as its process 1 while it is on.

    root: its files, as this machine sees them.
    """

    def __init__(self, root: Path, networked: bool = True) -> None:
        """networked: with the network of this machine; without, it has a loopback of its own."""
        self.root = root
        self._networked = networked
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._first: int | None = None  # its process 1, by our number

    def __enter__(self) -> BootedRoot:
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def boot(self) -> None:
        """Switch it on, and wait until every unit of the boot has started or failed."""
        name = f"edge-test-{os.getpid()}-{next(NUMBERS)}"
        words = ["systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine={name}"]
        options = ["--boot", "--register=no", "--keep-unit", "--console=pipe", "--link-journal=no"]
        network = [] if self._networked else ["--private-network"]
        self._nspawn = subprocess.Popen(
            [*words, *options, *network, "--resolv-conf=off"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(self._find_first, BOOT_S, "systemd-nspawn started nothing")
        wait_until(
            lambda: self._state() in ("running", "degraded"), BOOT_S, "systemd did not come up"
        )

    def _find_first(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, "systemd-nspawn has ended"
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        for pid in map(int, children.read_text().split()):
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    self._first = pid
        return self._first is not None

    def _state(self) -> str:
        return self.run("systemctl is-system-running", check=False).stdout.strip()

    def run(
        self, command: str, check: bool = True, timeout_s: float = COMMAND_S, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """A command line of its shell, as root. timeout_s: on a quiet machine.

        Raises: AssertionError with what it printed and the journal's end, if `check` and it fails.
        """
        done = subprocess.run(
            self.words(command, **variables),
            capture_output=True, text=True, timeout=patience_s(timeout_s),
        )  # fmt: skip
        if check and done.returncode:
            journal = self.run("journalctl -b -n 30 -o cat --no-pager", check=False).stdout
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}{journal}")
        return done

    def start(self, command: str, **variables: str) -> subprocess.Popen[bytes]:
        """The same, which runs on by itself; what it prints is dropped."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            self.words(command, **variables), stdin=quiet, stdout=quiet, stderr=quiet
        )

    def words(self, command: str, **variables: str) -> list[str]:
        """The command line of this machine that runs `command` in it."""
        assert self._first is not None, "it is off"
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        known = [f"{name}={value}" for name, value in (clean | variables).items()]
        inside = ["nsenter", "-t", str(self._first), "-a", "env", "-i", *known]
        return [*inside, "sh", "-c", command]

    def show(self, unit: str, name: str) -> str:
        """One property of a unit, as `systemctl show` has it."""
        return self.run(f"systemctl show -P {name} {shlex.quote(unit)}").stdout.strip()

    def journal(self, unit: str) -> str:
        """What a unit has said since the boot."""
        return self.run(f"journalctl -b -u {shlex.quote(unit)} -o cat --no-pager").stdout

    def main_process(self, unit: str) -> int:
        """The number, on this machine, of a unit's main process."""
        inner = self.show(unit, "MainPID")
        return next(outer for outer, number in self._numbers() if number == inner)

    def _numbers(self) -> Iterator[tuple[int, str]]:
        """Every process of it: its number here, and there."""
        space = Path(f"/proc/{self._first}/ns/pid").readlink()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "ns/pid").readlink() == space:
                    status = (folder / "status").read_text()
                    numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
                    yield int(folder.name), numbers[-1]

    def kill(self) -> None:
        """Switch it off as a kill of its process 1 does: everything in it dies with SIGKILL. What
        was written stays, as in the cache of a kernel that runs on: no power cut.
        """
        if self._first is not None:
            with suppress(ProcessLookupError):
                os.kill(self._first, signal.SIGKILL)
        if self._nspawn is not None:
            self._nspawn.wait(patience_s(BOOT_S))
        self._first = self._nspawn = None

    def reboot(self) -> None:
        """Off as `kill`, and on again."""
        self.kill()
        self.boot()

    def await_reboot(self) -> None:
        """Wait until it has switched itself off in order to start again, and switch it on."""
        assert self._nspawn is not None
        assert self._nspawn.wait(patience_s(BOOT_S)) == ASKS_FOR_REBOOT
        self._first = None
        self.boot()


def installed_layer(package: Path, digest: str) -> Path:
    """What installing a package adds to Debian's root, as a lower layer; made once per package, and
    that of an earlier package is removed.
    """
    folder = ROOTS / f"installed-{digest[:12]}"
    with only_one(ROOTS / "installed.lock"):
        if not (folder / "whole").exists():
            for earlier in ROOTS.glob("installed-*"):
                shutil.rmtree(earlier)
            with layered([debian_root()], folder) as root, BootedRoot(root) as booted:
                shutil.copy(package, root / "srv/station.deb")
                booted.run("dpkg -i /srv/station.deb && rm /srv/station.deb && sync", timeout_s=120)
            (folder / "whole").touch()
    return folder / "upper"


@contextmanager
def booted_copy(
    lower: Sequence[Path], folder: Path, networked: bool = True
) -> Iterator[BootedRoot]:
    """A machine of its own whose root begins as `lower`."""
    with ExitStack() as stack:
        root = stack.enter_context(layered(lower, folder))
        yield stack.enter_context(BootedRoot(root, networked))


def wait_s(booted: BootedRoot, unit: str, state: str, limit_s: float = COMMAND_S) -> float:
    """Wait until a unit is in that state; the seconds that took."""
    started_s = time.monotonic()
    wait_until(lambda: booted.show(unit, "ActiveState") == state, limit_s, f"{unit} is not {state}")
    return time.monotonic() - started_s
