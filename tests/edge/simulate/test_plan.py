"""Which parts come, what is right for them, and where the station is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import EdgeConfig, parse_config
from edge.errors import ConfigError
from edge.simulate.address import address_of
from edge.simulate.cell import Planned
from edge.simulate.link import LINKS, StationAddress, make_link
from edge.simulate.plan import first_number, from_file, known_code, made_up
from edge.types import Code

TRIGGERED = '[station]\nstation = "s1"\n[decision]\nmode = "triggered"\n'


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_says_what_is_right(tmp_path: Path) -> None:
    path = write(tmp_path / "parts.csv", "part,code\nA1,1\n\nB2, NG\n")
    a, b = Planned("A1", 10, Code.OK), Planned("B2", 11, Code.NG)
    assert from_file(path, None, 10) == [a, b]
    assert from_file(path, 3, 10) == [a, b, Planned("A1", 12, Code.OK)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A1,1\nB2,3\n", "line 2: write part,code"),
        ("A1\n", "line 1: write part,code"),
        ("A 1,1\n", "line 1: a part has 1 to 15 printable"),
        ("A123456789012345,1\n", "line 1: a part has 1 to 15 printable"),
        ("part,code\n", "names no part"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        from_file(write(tmp_path / "parts.csv", text), None)


def test_no_run_repeats_the_numbers_of_another() -> None:
    assert first_number(2_000.0) - first_number(1_000.0) == 100_000
    assert 1 <= first_number(1e9) < first_number(1e9 + 1) < 1 << 31
    assert [one.part for one in made_up(2, None, 7)] == ["P7", "P8"]


@pytest.mark.parametrize(
    ("kind", "path", "code"),
    [
        ("folder", "data/test/good", Code.OK),
        ("folder", "belts/OK", Code.OK),
        ("virtual", "data/test/scratch", Code.NG),
        ("folder", "belts/today", None),
        ("realsense", "", None),
    ],
)
def test_a_known_folder_says_what_is_right(kind: str, path: str, code: Code | None) -> None:
    config = parse_config(f'[camera]\nkind = "{kind}"\npath = "{path}"\n')
    assert known_code(config) is code


def test_the_address_is_that_of_station_toml_but_for_what_the_options_say(tmp_path: Path) -> None:
    write(tmp_path / "etc/edge/station.toml", TRIGGERED)
    plain = address_of(tmp_path, None, None, None, None, None)
    assert (plain.config.station.station, plain.host, plain.port) == ("s1", None, None)
    other = address_of(tmp_path, "10.0.0.5", 1884, "a/b/c", "plc", tmp_path / "secret")
    names = other.config.station
    assert (names.site, names.line, names.station) == ("a", "b", "c")
    assert (other.host, other.port) == ("10.0.0.5", 1884)
    assert other.config.broker.username == "plc"
    assert other.config.broker.password_file == str(tmp_path / "secret")


def test_a_station_without_triggers_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mode is free_run"):
        address_of(tmp_path, None, None, None, None, None)
    with pytest.raises(ConfigError, match="SITE/LINE/STATION"):
        address_of(tmp_path, None, None, "cell7", None, None)
    with pytest.raises(ConfigError, match="--username"):
        address_of(tmp_path, "h", None, None, None, tmp_path)


def test_a_dialect_that_does_not_exist_is_told() -> None:
    with pytest.raises(ConfigError, match="--dialect profinet: there are mqtt, modbus, opcua"):
        make_link("profinet", StationAddress(EdgeConfig()))
    assert "mqtt" in LINKS


def test_a_station_without_a_broker_has_no_mqtt() -> None:
    config = parse_config("[broker]\nenabled = false\n")
    with pytest.raises(ConfigError, match="enabled is false"):
        make_link("mqtt", StationAddress(config))
