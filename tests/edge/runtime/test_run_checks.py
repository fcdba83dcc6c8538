"""`edge run` checks the whole of [station] and [broker] before it opens anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.runtime.plan import RunPlan
from edge.runtime.run import plan_for, run_station
from tests.support.station import GOOD, StationRoot, make_station, write_belt

TRIGGERED = '[decision]\nmode = "triggered"\n'


@pytest.fixture
def belt_folder(tmp_path: Path) -> Path:
    return write_belt(tmp_path / "belt", [GOOD] * 3)


def refuse(station: StationRoot, text: str) -> str:
    (station.root / "etc/edge/station.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        run_station(station.root, once=True)
    assert not (station.root / "var/lib/edge/line.seq").exists()  # what the outbox lays down
    return str(error.value)


def test_a_station_without_a_name_of_its_own_does_not_start(
    station: StationRoot, belt_folder: Path
) -> None:
    camera = f'[camera]\nkind = "folder"\npath = "{belt_folder}"\n'
    said = refuse(station, f"[broker]\nport = 1\n{camera}")
    assert (
        said
        == f"{station.root}/etc/edge/station.toml: this station has no name yet: set site, line and"
        " station in [station] so that no other station has the same three (or enabled = false"
        " in [broker] and [sparkplug])"
    )
    (station.root / "etc/edge/station.toml").write_text(f"[broker]\nenabled = false\n{camera}")
    run_station(station.root, once=True)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('tls = true\nca_file = "ours.pem"', "broker.ca_file: {root}/ours.pem does not exist"),
        (
            'username = "edge"\npassword_file = "etc/edge/password"',
            "broker.password_file: {root}/etc/edge/password",
        ),
        (
            'tls = true\ncert_file = "a.pem"\nkey_file = "a.key"',
            "broker.cert_file: {root}/a.pem does not exist",
        ),
    ],
)
def test_a_file_that_is_not_there_stops_it_before_the_outbox_is_opened(
    station: StationRoot, belt_folder: Path, keys: str, words: str
) -> None:
    camera = f'[camera]\nkind = "folder"\npath = "{belt_folder}"\n'
    said = refuse(station, f'[station]\nstation = "s1"\n[broker]\n{keys}\n{camera}')
    assert words.format(root=station.root) in said


@pytest.mark.parametrize("kind", ["virtual", "folder", "recording"])
def test_files_that_nobody_named_are_not_looked_for_in_the_root(
    station: StationRoot, kind: str
) -> None:
    said = refuse(
        station,
        f'[station]\nstation = "s1"\n[broker]\nenabled = false\n[camera]\nkind = "{kind}"\n',
    )
    assert said.startswith("station.toml: camera.path is empty: ")


def test_a_product_that_cannot_see_a_part_arrive_needs_triggers(tmp_path: Path) -> None:
    station = make_station(tmp_path / "made", presence=False)
    free = station.configure("realsense", None, port=1)
    active = station.store.active()
    with pytest.raises(ConfigError, match="cannot see a part arrive: it needs triggers"):
        plan_for(free, active, station.root, None)
    triggered = station.configure("realsense", None, port=1, more=TRIGGERED)
    assert plan_for(triggered, active, station.root, 7) == RunPlan(max_parts=7)


def test_files_are_played_as_a_camera_where_triggers_say_which_frame(
    station: StationRoot, belt_folder: Path
) -> None:
    config = station.configure("folder", belt_folder, port=1, more=TRIGGERED)
    plan = plan_for(config, station.store.active(), station.root, None)
    assert (plan.lossless, plan.each_frame) == (False, False)


def test_triggers_without_a_broker_are_refused(station: StationRoot, belt_folder: Path) -> None:
    camera = f'[camera]\nkind = "folder"\npath = "{belt_folder}"\n'
    names = '[station]\nstation = "s1"\n[broker]\nenabled = false\n'
    said = refuse(station, f"{names}{camera}{TRIGGERED}")
    assert said.startswith("mode is triggered in [decision] of station.toml, and enabled is false")
