"""A station at work that speaks Sparkplug: its parts arrive, and Sparkplug's troubles are not its
own.
"""

from __future__ import annotations

from edge.config import EdgeConfig
from edge.runtime.service import Service
from tests.support.broker import Broker, wait_until
from tests.support.fakes import Step, committed, frames_of
from tests.support.service import new_service
from tests.support.sparkplug import Host
from tests.support.station import StationRoot, belt

SECTION = '[sparkplug]\nenabled = true\nhost = "127.0.0.1"\nport = {port}\n{more}'


def config_of(station: StationRoot, port: int, more: str = "") -> EdgeConfig:
    return station.configure("folder", None, more=SECTION.format(port=port, more=more))


def test_every_part_of_a_belt_arrives(station: StationRoot, broker: Broker) -> None:
    host = Host(broker.port)
    service = new_service(
        station, frames_of(belt([6, 6, 6], gap=4, bad=[1])), config=config_of(station, broker.port)
    )
    service.run()
    host.wait("NDEATH", 1)
    host.stop()
    stored = committed(station.root)
    assert len(stored) == 3
    assert [one.values["seq"] for one in host.records()] == [one["seq"] for one in stored]
    assert [one.values["code"] for one in host.records()] == [one["code"] for one in stored]
    assert host.of("NBIRTH")[0].topic == "spBv1.0/site/NBIRTH/line:s1"


def test_a_primary_host_that_is_away_leaves_the_station_ready(
    station: StationRoot, broker: Broker
) -> None:
    more = 'primary_host = "scada"\n'
    told: list[tuple[bool, str]] = []

    def look() -> None:
        wait_until(lambda: state_of(service)[1] == "archive", 20, "it was not told")
        told.append(state_of(service))
        service.stop()

    script: list[Step] = [*frames_of(belt([6], gap=4)), look]
    service = new_service(station, script, config=config_of(station, broker.port, more))
    service.run()
    assert told == [(True, "archive")]
    assert len(committed(station.root)) == 1


def state_of(service: Service) -> tuple[bool, str]:
    state = service.at_work.report.state()
    return state.ready, state.reason
