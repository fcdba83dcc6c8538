"""`edge run` with brokers of other makers, and with one that refuses by its access list."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.broker import MOSQUITTO, Broker, wait_until
from tests.support.brokers import Ejabberd, ErlangBroker, Mosquitto, RabbitMq
from tests.support.fakes import committed
from tests.support.plant import Archive, Plc
from tests.support.proxy import Proxy
from tests.support.station import belt, make_station, write_belt
from tests.support.supervisor import Supervisor

pytestmark = pytest.mark.endurance
WAIT_S = 10.0
NAMES = '[station]\nsite = "plant"\nline = "north"\nstation = "cell7"\n'
TOPIC = "edge/plant/north/cell7"


class Plant:
    """A station that decides three parts a second, a link that can be cut, and who listens at the
    broker.
    """

    def __init__(self, folder: Path, port: int, protocol: str = "5", user: str = "") -> None:
        self.station = make_station(folder / "station")
        self.proxy = Proxy(port)
        self.proxy.start()
        self.archive, self.plc = Archive(port, protocol, user), Plc(port, protocol, user)
        self._configure(
            write_belt(folder / "belt", belt([6, 6, 6], gap=4, bad=[1])), protocol, user
        )
        self.log = folder / "log"
        self.supervisor = Supervisor(self.station.root, self.log, restart_s=0.3)

    def _configure(self, path: Path, protocol: str, user: str) -> None:
        broker = f'[broker]\nhost = "127.0.0.1"\nport = {self.proxy.port}\n'
        if protocol != "5":
            broker += f'protocol = "{protocol}"\n'
        if user:
            password = self.station.root / "etc/edge/password"
            password.write_text("any\n")
            password.chmod(0o600)
            broker += f'username = "{user}"\npassword_file = "etc/edge/password"\n'
        camera = f'[camera]\nkind = "folder"\npath = "{path}"\nfps = 30\n'
        (self.station.root / "etc/edge/station.toml").write_text(NAMES + broker + camera)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        try:
            wait_until(condition, WAIT_S, what)
        except AssertionError as error:
            raise AssertionError(
                f"{what}: {self.plc.state}\n{self.supervisor.last_words()}"
            ) from error

    def numbers(self) -> list[int]:
        return [record["seq"] for record in committed(self.station.root)]

    def words(self) -> list[str]:
        """Lines of the station's log."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def state_is(self, name: str, reason: str = "") -> bool:
        return (self.plc.state.get("state"), self.plc.state.get("reason")) == (name, reason)

    def stop(self) -> None:
        self.supervisor.stop()
        self.proxy.stop()
        self.plc.stop()
        self.archive.stop()


@contextmanager
def plant_before(
    folder: Path, broker: Broker | ErlangBroker, protocol: str = "5", user: str = ""
) -> Iterator[Plant]:
    broker.start()
    try:
        plant = Plant(folder, broker.port, protocol, user)
        try:
            yield plant
        finally:
            plant.stop()
    finally:
        broker.stop()


@pytest.mark.parametrize("maker", [Ejabberd, RabbitMq])
def test_verdicts_records_and_state_arrive_through_an_outage_and_a_kill(
    tmp_path: Path, maker: type[ErlangBroker]
) -> None:
    maker.skip_where_absent()
    with plant_before(tmp_path, maker(tmp_path / "broker"), maker.protocol, maker.user) as plant:
        plant.supervisor.start()
        plant.wait(
            lambda: len(plant.plc.of("verdict")) >= 3 and plant.state_is("online"), "no verdicts"
        )
        plant.proxy.refuse()
        before = len(plant.numbers())
        plant.wait(
            lambda: len(plant.numbers()) > before + 3, "it does not judge while the broker is away"
        )
        missed = plant.numbers()[-2]
        plant.proxy.heal()
        plant.wait(
            lambda: plant.plc.of("verdict")[-1].json["seq"] > missed, "no verdicts after the outage"
        )
        plant.supervisor.hold()
        plant.supervisor.signal(signal.SIGKILL)
        plant.wait(lambda: plant.state_is("offline", "connection lost"), "no last will")
        plant.supervisor.release()
        plant.wait(lambda: plant.state_is("online"), "not online after it was killed")
        plant.supervisor.stop()
        plant.wait(lambda: plant.state_is("offline", "stopped"), "no goodbye")
        _assert_all_is_told(plant, missed)


def _assert_all_is_told(plant: Plant, missed: int) -> None:
    """What was waiting when the station was stopped stays there for its next start; everything
    before is archived.
    """
    told = {message.json["seq"]: message.json for message in plant.plc.of("verdict")}
    archived = plant.archive.kept
    assert plant.archive.order == list(range(1, len(archived) + 1))
    assert (plant.archive.doubled, plant.archive.changed) == ([], [])
    assert missed in archived
    assert missed not in told, "a verdict was sent after the outage in which its part had passed"
    for seq in told.keys() & archived.keys():
        assert all(
            told[seq][key] == archived[seq][key]
            for key in ("id", "part", "code", "reason", "score", "thr")
        )
    codes = [message.payload.decode() for message in plant.plc.of("verdict/code")]
    assert codes == [f"{verdict['code']} {seq} {verdict['part']}" for seq, verdict in told.items()]


def acl_without(topic: str) -> str:
    """mosquitto's access list for clients without a name: they read everything and may not write
    `topic`.
    """
    others = {"verdict", "verdict/code", "record", "state", "heartbeat"} - {topic}
    return "\n".join(
        ["topic read #", *(f"topic write edge/+/+/+/{other}" for other in sorted(others))]
    )


@pytest.mark.parametrize(
    "topic", ["verdict", "record", pytest.param("state", marks=pytest.mark.long)]
)
def test_a_topic_that_the_broker_refuses_is_said_and_nothing_counts_as_sent(
    tmp_path: Path, topic: str
) -> None:
    if not Path(MOSQUITTO).exists():
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    broker = Mosquitto(tmp_path / "broker", acl_without(topic))
    with plant_before(tmp_path, broker) as plant:
        plant.supervisor.start()
        plant.wait(
            lambda: any(f"{TOPIC}/{topic}" in line for line in plant.words()),
            f"the log does not name {topic}",
        )
        plant.wait(lambda: len(plant.numbers()) >= 3, "it does not judge")
        if topic == "state":
            assert plant.plc.of("state") == []
        else:
            plant.wait(
                lambda: plant.plc.state["state"] == "degraded" and plant.plc.state["reason"],
                "nothing is said",
            )
            assert plant.plc.state["ready"] is (topic == "record"), (
                "the PLC gets verdicts, the archive nothing"
            )
            assert plant.plc.of(topic) == []
        complaints = [line for line in plant.words() if f"{TOPIC}/{topic}" in line]
        assert len(complaints) <= 3, "a refusal is repeated again and again"
        plant.proxy.reset()  # a refusal outlives the connection on which it was said
        plant.wait(lambda: len(plant.numbers()) >= 6, "it does not judge")
        broker.allow("topic readwrite #")
        since = time.time()
        plant.wait(
            lambda: plant.plc.of(topic) and plant.plc.of(topic)[-1].at_s > since,
            "it does not try again",
        )
        plant.wait(
            lambda: plant.state_is("online") and plant.plc.state["ready"], "it stays refused"
        )
        plant.wait(lambda: plant.archive.order[:3] == [1, 2, 3], "records are lost")
