"""What judging depth costs: the time of the whole graph of a system's compact-rgbd over that of its
compact.

    python tests/benchmarks/rgbd_speed.py ntsnet --write

Both untrained, for products with depth, measured as in tests/benchmarks/adaptation_speed.py: in
turn, in one process, by the processor time of one thread. --write: as the entry SYSTEM_speed into
docs/figures/rgbd.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.adaptation_speed import TITLES, deployed_graph, ratios_of, runner
from tests.benchmarks.figures import how, write_entry
from trainer.export.onnx_file import export_onnx

PRESETS = ("compact-rgbd", "compact")


def main() -> None:
    """Print the ratio; with --write, write the entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", choices=sorted(TITLES))
    parser.add_argument("--write", action="store_true", help="into docs/figures/rgbd.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runners = [
            runner(
                export_onnx(
                    deployed_graph(arguments.system, depth=True, preset=preset),
                    Path(folder) / f"{preset}.onnx",
                )
            )
            for preset in PRESETS
        ]
        ratio, parts = ratios_of(runners)
    print(f"{arguments.system}: ratio {ratio:.2f}, part by part {parts}")
    if arguments.write:
        entry = {**how(), "values": {"time, multiple of compact": round(ratio, 2)}}
        write_entry("rgbd.json", f"{arguments.system}_speed", entry)


if __name__ == "__main__":
    main()
