"""station.toml chooses the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import EdgeConfig
from edge.errors import ConfigError
from edge.line.base import Line, LineSetup
from edge.line.factory import make_line
from edge.line.message import StationState
from edge.line.mqtt import MqttLine
from edge.line.none import NoLine
from edge.line.outbox import Outbox
from edge.sections import BrokerConfig, DecisionConfig, StationConfig
from tests.support.broker import Broker, Subscriber, wait_until

ONLINE = StationState("cell7", "online", "", ready=True)


def line_for(outbox: Outbox, broker: BrokerConfig, root: Path = Path()) -> Line:
    config = EdgeConfig(
        station=StationConfig(site="site", line="line", station="cell7"),
        broker=broker,
        decision=DecisionConfig(deadline_ms=700),
    )
    return make_line(
        LineSetup(config, root, outbox, lambda: ONLINE, lambda: True, changed=lambda: None)
    )


def test_a_station_without_a_broker_has_no_line(outbox: Outbox) -> None:
    assert isinstance(line_for(outbox, BrokerConfig(enabled=False)), NoLine)


def test_a_station_with_a_broker_speaks_below_its_names(
    broker: Broker, archive: Subscriber, outbox: Outbox
) -> None:
    line = line_for(outbox, BrokerConfig(host="127.0.0.1", port=broker.port))
    assert isinstance(line, MqttLine)
    line.start()
    try:
        wait_until(lambda: archive.of("state"), 60, "no state")
        assert archive.of("state")[0].prefix == "edge/site/line/cell7"
    finally:
        line.stop()
    wait_until(lambda: archive.of("state")[-1].json["state"] == "offline", 60, "no goodbye")


def test_files_of_the_broker_lie_below_the_root(outbox: Outbox, tmp_path: Path) -> None:
    broker = BrokerConfig(username="cell7", password_file="etc/edge/password")
    with pytest.raises(ConfigError, match=str(tmp_path / "etc/edge/password")):
        line_for(outbox, broker, tmp_path)
