"""A board that was flashed together with others finds its line at its first start, under the unit's
own restrictions. The file that stands for the module's serial number is a stand-in: this machine
has no device tree.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from jetson.first_boot import STATIONS, UNIT, write_stations
from jetson.fleet import StationLine
from jetson.power import write_unit
from tests.support.booted import COMMAND_S, booted_copy
from tests.support.broker import wait_until

pytestmark = pytest.mark.long

SERIAL_ELSEWHERE = """\
[Service]
ExecStart=
ExecStart=/opt/edge/bin/python -I -c "import sys; from pathlib import Path; \
from jetson import first_boot; first_boot.SERIAL = Path('etc/serial-number'); \
sys.exit(first_boot.main())"
"""


def test_a_board_takes_its_line_and_starts_again_with_its_name(
    installed: list[Path], tmp_path: Path
) -> None:
    with booted_copy(installed, tmp_path / "machine") as booted:
        root = booted.root
        (root / "etc/edge/station.toml").write_text('[station]\nstation = "station"\n')
        (root / "etc/serial-number").write_bytes(b"1422\0")
        write_unit(root, UNIT)
        drop_in = root / f"etc/systemd/system/{UNIT}.d/serial.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(SERIAL_ELSEWHERE)
        booted.run(f"systemctl daemon-reload && systemctl start {UNIT}")
        assert booted.show(UNIT, "ConditionResult") == "no"  # there are no lines to choose from
        lines = [StationLine(name="cell1", serial="1421"), StationLine(name="cell2", serial="1499")]
        write_stations(root, lines)
        failed = booted.run(f"systemctl start {UNIT}", check=False)
        assert failed.returncode != 0
        assert "serial number '1422' is in no line" in booted.journal(UNIT)
        assert (root / STATIONS).exists()
        write_stations(root, [*lines[:1], lines[1].model_copy(update={"serial": "1422"})])
        booted.run(f"systemctl start --no-block {UNIT}", check=False)
        wait_until(lambda: not (root / STATIONS).exists(), COMMAND_S, "it takes no line")
        assert 'station = "cell2"' in (root / "etc/edge/station.toml").read_text()
        assert (root / "etc/hostname").read_text() == "cell2\n"
        booted.await_reboot()
        assert booted.run("cat /proc/sys/kernel/hostname").stdout == "cell2\n"
        assert booted.show(UNIT, "ConditionResult") == "no"
