"""From a folder to a .bundle file, on the workstation: list the files, sign the manifest, pack."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from edge.bundle.manifest import MANIFEST, SIGNATURE, Manifest, compare_lists
from edge.bundle.signature import sign_manifest
from edge.bundle.tar import check_name
from edge.files import sha256_of, sync_directory
from edge.schema import canonical_json


def seal(folder: Path, manifest: Manifest, *keys: Path) -> bytes:
    """Write manifest.json and signature.json of a folder whose other files the manifest lists.

    Returns: the manifest's bytes, whose SHA-256 is the bundle's digest.
    Raises: BundleError if the folder's files are not those of the manifest.
    """
    found = {
        p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()
    }
    compare_lists(
        manifest, {name: size for name, size in found.items() if name not in (MANIFEST, SIGNATURE)}
    )
    data = canonical_json(manifest.model_dump(by_alias=True, mode="json"))
    (folder / MANIFEST).write_bytes(data)
    (folder / SIGNATURE).write_bytes(sign_manifest(data, *keys))
    return data


def list_files(folder: Path) -> dict[str, dict[str, object]]:
    """The manifest's `files` of a folder: digest and size of every file but manifest.json and
    signature.json.
    """
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {
        name: {"sha256": sha256_of(path), "size": path.stat().st_size}
        for name, path in files.items()
        if name not in (MANIFEST, SIGNATURE)
    }


def pack(folder: Path, out: Path) -> Path:
    """Pack a sealed folder into one tar file and return its path `out`.

    The same content gives the same bytes: names are sorted, times and owners left out.
    """
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    # manifest first, so that a reader can identify the file
    names.sort(key=lambda name: (name not in (MANIFEST, SIGNATURE), name))
    temporary = out.with_name(f".{out.name}.new")
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        temporary.open("wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in names:
            info = tarfile.TarInfo(check_name(name))
            info.size, info.mode = (folder / name).stat().st_size, 0o644
            with (folder / name).open("rb") as source:
                tar.addfile(info, source)
    with temporary.open("rb") as packed:
        os.fsync(packed.fileno())
    temporary.replace(out)
    sync_directory(out.parent)
    return out
