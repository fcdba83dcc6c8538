"""Memory of a running station with every adapter of its own process, before a model is loaded.

python -m tests.support.memory run --root ROOT    as `edge run`, with an engine that is no model
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.config import EdgeConfig
from edge.line.factory import DIALECTS, SECTIONS

REPOSITORY = Path(__file__).resolve().parents[2]
# dialects whose section has keys without a usable default; all others are switched on as they are
NEEDED: Mapping[str, str] = {
    "broker": 'host = "127.0.0.1"\nport = 9\n',
    "gpio": 'ok = "NO_SUCH_LINE"\n',
}
OF_ITS_OWN = ("opcua",)  # runs in a process of its own


@dataclass(frozen=True)
class Memory:
    """Of one process, in MB (10^6 bytes). rss: pages that are shared with others count in full;
    pss: each by its share.
    """

    rss: float
    pss: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        pairs = (line.partition(":")[::2] for line in rollup.splitlines()[1:])
        kb = {key: int(rest.split()[0]) for key, rest in pairs}
        return cls(kb["Rss"] * 1024 / 1e6, kb["Pss"] * 1024 / 1e6)

    def __str__(self) -> str:
        return f"RSS {self.rss:.1f} MB, PSS {self.pss:.1f} MB"


def every_adapter() -> tuple[tuple[str, ...], str]:
    """The dialects that run in the station's process, and their sections of station.toml, each
    enabled.
    """
    names = tuple(name for name in DIALECTS if name not in OF_ITS_OWN)
    sections = [SECTIONS[name] for name in names]
    assert all("enabled" in type(getattr(EdgeConfig(), one)).model_fields for one in sections)
    texts = [f"[{one}]\nenabled = true\n{NEEDED.get(one, '')}" for one in sections]
    return names, "\n".join(texts)


@contextmanager
def station_without_model(root: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`edge run` with an engine that is no model; killed at the end."""
    words = [sys.executable, "-m", "tests.support.memory", "run", "--root", str(root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("ab") as stderr:
        process = subprocess.Popen(words, cwd=REPOSITORY, stderr=stderr, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


class NoModel:
    """Finds one normal part in every frame. See edge.engine.protocol.Engine."""

    name, precision = "none", "fp32"
    inputs: Mapping[str, Any] = {}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        values = {"score": 1.0, "area": 0.3, "valid": 1.0}
        place = np.array([[64, 48, 30, 30, 0, 0]], np.float32)
        heat = np.full((1, 1, 12, 16), 0.5, np.float32)
        told = {name: np.array([value], np.float32) for name, value in values.items()}
        return {"map": heat, "place": place, **told}

    def close(self) -> None:
        pass


def _run() -> None:
    import edge.__main__
    from edge.install.proven import ProvenEngine
    from edge.runtime import run

    def open_none(_: object, bundle: Any, *__: object) -> ProvenEngine:
        return ProvenEngine(NoModel(), bundle.manifest.thresholds["fp32"])

    run.open_proven_engine = open_none
    edge.__main__.main()


if __name__ == "__main__":
    _run()
