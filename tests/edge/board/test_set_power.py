"""Power mode and clocks set by NVIDIA's programs, of which stand-ins answer here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.board.apply import serve
from edge.board.clocks import are_pinned
from edge.board.power import PLACE, power_problem
from edge.board.power_modes import current_mode
from edge.board.set_power import BEFORE, require_mode, set_clocks, set_mode
from edge.errors import ConfigError
from tests.support.board_tree import asked, lay_board, put

RECORD = '{"schema": 1, "mode": "%s", "clocks": "%s", "who": "anna", "when": "2026-11-30"}'


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return lay_board(tmp_path)


def test_a_mode_is_set_once(board: Path) -> None:
    mode = require_mode(board, "15w")
    set_mode(board, mode)
    assert current_mode(board) == "15W"
    set_mode(board, mode)
    assert asked(board) == ["-m 0"]


def test_an_unknown_mode_names_those_that_there_are(board: Path) -> None:
    with pytest.raises(ConfigError, match="MAXN: this board has no such mode: name one of 15W"):
        require_mode(board, "MAXN")
    (board / "etc/nvpmodel.conf").unlink()
    with pytest.raises(ConfigError, match="tells no modes"):
        require_mode(board, "MAXN")


def test_a_mode_that_needs_a_reboot_is_not_believed(board: Path, monkeypatch) -> None:
    put(board, "reboot-needed", "")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ConfigError, match=r"stays .*15W needs a reboot: run `sudo nvpmodel -m 0`"):
        set_mode(board, require_mode(board, "15W"))
    assert current_mode(board) == "MAXN_SUPER"


def test_a_program_that_refuses_or_is_absent(board: Path, monkeypatch) -> None:
    mode = require_mode(board, "15W")
    put(board, "usr/sbin/nvpmodel", "#!/bin/sh\nexit 255\n")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ConfigError, match="nvpmodel does not set 15W"):
        set_mode(board, mode)
    (board / "usr/sbin/nvpmodel").unlink()
    with pytest.raises(ConfigError, match="nvpmodel does not set 15W"):
        set_mode(board, mode)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="rights of root"):
        set_mode(board, mode)


def test_clocks_are_pinned_and_follow_the_load_again(board: Path) -> None:
    set_clocks(board, "max")
    set_clocks(board, "max")  # what was stored before stays
    assert are_pinned(board) is True
    set_clocks(board, "default")
    assert are_pinned(board) is False
    assert asked(board)[-1] == f"clocks --restore {BEFORE}"
    set_clocks(board, "default")
    assert len(asked(board)) == 5


def test_clocks_that_do_not_move_are_not_believed(board: Path) -> None:
    program = put(board, "usr/bin/jetson_clocks", "#!/bin/sh\nexit 0\n")
    with pytest.raises(ConfigError, match="jetson_clocks leaves clocks below"):
        set_clocks(board, "max")
    program.write_text("#!/bin/sh\nexit 1\n")
    put(board, "sys/class/devfreq/17000000.gpu/min_freq", "1020000000")
    put(board, "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq", "1728000")
    with pytest.raises(ConfigError, match="until the board is started again"):
        set_clocks(board, "default")


def test_a_boot_brings_back_what_was_commissioned(board: Path, capsys) -> None:
    put(board, str(PLACE), RECORD % ("25W", "max"))
    assert "power mode MAXN_SUPER, this station was commissioned in 25W" in power_problem(board)
    assert serve(board) == 0
    assert (current_mode(board), are_pinned(board)) == ("25W", True)
    assert power_problem(board) == ""
    assert capsys.readouterr().err == "power mode 25W, clocks max\n"
    put(board, "usr/bin/jetson_clocks", "#!/bin/sh\nexit 1\n")
    put(board, "sys/class/devfreq/17000000.gpu/min_freq", "306000000")
    assert "clocks follow the load" in power_problem(board)
    assert serve(board) == 1
    assert "jetson_clocks leaves clocks" in capsys.readouterr().err


@pytest.mark.parametrize("record", ["{", RECORD % ("15W", "slow"), RECORD % ("15W\\n", "max")])
def test_a_damaged_record_sets_nothing(board: Path, capsys, record: str) -> None:
    put(board, str(PLACE), record)
    assert serve(board) == 1
    assert "power.json is damaged: remove it" in capsys.readouterr().err
    assert asked(board) == []


def test_without_a_record_or_a_jetson_there_is_nothing_to_compare(board: Path) -> None:
    assert power_problem(board) == ""
    assert serve(board) == 0
    put(board, str(PLACE), RECORD % ("15W", "default"))
    put(board, "usr/sbin/nvpmodel", "#!/bin/sh\nexit 1\n")
    (board / "var/lib/nvpmodel/status").unlink()
    assert power_problem(board) == ""  # the board does not tell its mode
    for place in ("etc/nv_tegra_release", "proc/device-tree/model"):
        (board / place).unlink()
    assert (power_problem(board), serve(board)) == ("", 0)
    assert asked(board) == []
