"""Wheels and source archives with hardly anything in them, for tests of what installs them."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# a build backend without requirements, which packs one module
BACKEND = """
import zipfile
def get_requires_for_build_wheel(config_settings=None): return []
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        for path, text in {files!r}.items(): wheel.writestr(path, text)
    return name
"""


def wheel_files(
    name: str,
    version: str = "1.0",
    modules: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    scripts: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What a wheel contains, by path. modules: text by path; one empty module by default. scripts:
    "module:function" by name of the command.
    """
    info = f"{name}-{version}.dist-info"
    entries = "".join(f"{command} = {target}\n" for command, target in (scripts or {}).items())
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n"
    files = dict(modules if modules is not None else {f"{name}.py": ""})
    files |= {
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {one}\n" for one in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{entries}",
    }
    record = "".join(f"{path},{_digest(text)},{len(text)}\n" for path, text in files.items())
    return files | {f"{info}/RECORD": record + f"{info}/RECORD,,\n"}


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    tag: str = "py3-none-any",
    modules: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    scripts: Mapping[str, str] | None = None,
) -> Path:
    """Write a wheel into `folder`; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in wheel_files(name, version, modules, requires, scripts).items():
            wheel.writestr(member, text)
    return path


def make_sdist(folder: Path, name: str, version: str = "1.0", broken: bool = False) -> Path:
    """Write a source archive that pip builds without any other package; its path.

    broken: the build fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    backend = BACKEND.format(name=name, version=version, files=wheel_files(name, version))
    members = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "own"\n'
        'backend-path = ["."]\n',
        "own.py": "raise SystemExit('no CUDA')\n" if broken else backend,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, text in members.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{member}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path
