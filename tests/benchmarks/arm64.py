"""Whether a bundle decides on arm64 as it does on x86-64, with onnxruntime on the CPU of both.

    python tests/benchmarks/arm64.py BUNDLE KEY.pub ROOT           print what was measured
    python tests/benchmarks/arm64.py BUNDLE KEY.pub ROOT --write   write docs/figures/arm64.json

ROOT is an arm64 root with the package (`edge install --rootfs`). `edge install` proves the bundle
twice: on this machine, and in ROOT under qemu-user, into a station of its own. Both proofs say how
far every precision is from the certificate, and both measure a threshold. qemu computes what the
processor's instructions say, so the figures are those of arm64; times are not.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.install.install import install_bundle
from edge.install.proof_file import ProofFile, read_proof
from edge.proof.certificate import read_certificate
from edge.station.store import Store
from edge.station.trust import trust
from tests.benchmarks.figures import how, write_entry

FILE, PLACE = "arm64.json", Path("srv/parity")  # of the station in ROOT
COLUMNS = (
    "precision",
    "proven on x86-64",
    "proven on arm64",
    {"title": "map error of x86-64", "digits": 6},
    {"title": "map error of arm64", "digits": 6},
    {"title": "noise of x86-64 (s)", "digits": 4},
    {"title": "noise of arm64 (s)", "digits": 4},
    {"title": "thresholds differ by (s)", "digits": 4},
)


def proof_here(bundle: Path, key: Path) -> tuple[Store, ProofFile]:
    """The proof of this machine. The station lies in a temporary folder that stays."""
    store = Store(Path(tempfile.mkdtemp(prefix="edge-parity-")))
    trust(store, key)
    install_bundle(bundle, store.root)
    return store, _proof(store)


def proof_in(root: Path, bundle: Path, key: Path) -> ProofFile:
    """The proof of the edge that is installed in `root`."""
    station = root / PLACE
    shutil.rmtree(station, ignore_errors=True)
    station.mkdir(parents=True)
    for path, name in ((bundle, bundle.name), (key, key.name)):
        shutil.copy(path, station / name)
    for words in (["trust", key.name], ["install", bundle.name]):
        inside = [f"/{PLACE / words[1]}", "--root", f"/{PLACE}"]
        subprocess.run(["chroot", root, "/usr/bin/edge", words[0], *inside], check=True)
    return _proof(Store(station))


def rows(store: Store, here: ProofFile, there: ProofFile) -> Iterator[list[Any]]:
    """A row per precision, the most exact first."""
    active = store.active()
    certificate = read_certificate(active.certificate)
    for mine in here.engines:
        other = there.find(mine.precision)
        if mine.section is None or other is None or other.section is None:
            yield [mine.precision, _yes(mine.is_proven), "no", None, None, None, None, None]
            continue
        apart = other.section.threshold.value - mine.section.threshold.value
        yield [
            mine.precision,
            _yes(mine.is_proven),
            _yes(other.is_proven),
            mine.section.mean_map_error,
            other.section.mean_map_error,
            mine.section.noise.rms,
            other.section.noise.rms,
            abs(apart) / certificate.spread,
        ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _proof(store: Store) -> ProofFile:
    proof = read_proof(store, store.active())
    assert proof is not None
    return proof


def main() -> None:
    """Measure, print, and write the entry if that is asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("key", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    store, here = proof_here(asked.bundle, asked.key)
    there = proof_in(asked.root, asked.bundle, asked.key)
    table = list(rows(store, here, there))
    for row in table:
        print(*row)
    for entry in there.engines:
        print(entry.name, entry.why_not or "is proven")
    if asked.write:
        write_entry(FILE, "parity", _entry(store, there, table))


def _entry(store: Store, there: ProofFile, table: list[list[Any]]) -> dict[str, Any]:
    manifest = store.active().manifest
    runtime = there.engines[0].runtime
    return {
        **how(),
        "command": "python tests/benchmarks/arm64.py BUNDLE KEY.pub ROOT --write",
        "conditions": (
            f"`{manifest.system}`, {manifest.normal.parts} normal parts; `{runtime}` on both;"
            " arm64 is Debian 12 under qemu-user. Map errors are shares of the map's range, against"
            " the trained model; s is half the spread of float32's normal scores."
        ),
        "columns": list(COLUMNS),
        "rows": table,
    }


if __name__ == "__main__":
    main()
