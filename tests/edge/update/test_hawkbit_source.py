"""hawkBit's DDI API as a source: what is asked, taken and told, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge.config import parse_config
from edge.errors import BundleError, ConfigError, StorageError, UpdateError
from edge.install.install import SPARE_BYTES, install_bundle
from edge.station.store import Store
from edge.update.apply import update_once
from edge.update.factory import make_source
from edge.update.hawkbit_source import HawkbitSource
from edge.update.source import Offer, Outcome, Source
from edge.update.state import read_update_state
from edge.update_sections import UpdateConfig
from tests.support.ddi_server import DdiServer, ddi_server
from tests.support.root import Bundles
from tests.support.swu import ABOUT, END, entry

CONTENT = bytes(range(256)) * 5000


@pytest.fixture
def server() -> Iterator[DdiServer]:
    with ddi_server() as made:
        made.file = CONTENT
        yield made


@pytest.fixture
def source(server: DdiServer) -> HawkbitSource:
    return HawkbitSource("plant:l1:s1", server.address)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fetched").mkdir()
    return tmp_path / "fetched"


def taken(source: Source, folder: Path) -> Path:
    (offer,) = source.find({})
    return source.fetch(offer, folder)


def test_a_plain_bundle(server: DdiServer, source: HawkbitSource, folder: Path) -> None:
    (offer,) = source.find({})
    digest = server.answer("deploymentBase/7")["deployment"]["chunks"][0]["artifacts"][0]["hashes"]
    assert offer == Offer("washer", "2.0.0", len(CONTENT), digest["sha256"], "7")
    path = source.fetch(offer, folder)
    assert (path.name, path.read_bytes()) == ("washer-2.0.0.bundle", CONTENT)
    assert [one.name for one in folder.iterdir()] == [path.name]
    assert server.told[-1][1]["status"]["execution"] == "proceeding"
    assert server.closed() == []


def test_a_wrapped_bundle(server: DdiServer, source: HawkbitSource, folder: Path) -> None:
    server.name, server.file = "washer-2.0.0.swu", ABOUT + entry(b"w.bundle", CONTENT) + END
    (offer,) = source.find({})
    assert offer == Offer("washer", "2.0.0", None, None, "7")  # what it wraps is not known yet
    assert source.fetch(offer, folder).read_bytes() == CONTENT
    assert [one.name for one in folder.iterdir()] == ["washer-2.0.0.bundle"]
    server.file = ABOUT + END
    (offer,) = source.find({})
    with pytest.raises(BundleError, match="wrap the bundle again"):
        source.fetch(offer, folder)
    assert not list(folder.glob("*.part"))


def test_the_server_asks_what_the_station_is(
    server: DdiServer, source: HawkbitSource, store: Store, bundles: Bundles
) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    server.links = {"configData": "configData"}
    assert source.find({"washer": store.installed("washer")}) == []
    ((path, body),) = server.told
    assert (path, body["mode"]) == ("configData", "merge")
    assert body["data"]["sw_version"] == body["data"]["product.washer"] == "1.0.0"


def test_an_order_is_withdrawn(server: DdiServer, source: HawkbitSource) -> None:
    server.links = {"cancelAction": "cancelAction/9"}
    assert source.find({}) == []
    ((path, body),) = server.told
    assert path == "cancelAction/9/feedback"
    assert body["status"]["result"]["finished"] == "success"


@pytest.mark.parametrize("how", [{"window": "unavailable"}, {"download": "skip"}])
def test_an_order_that_is_kept_back(
    server: DdiServer, source: HawkbitSource, how: dict[str, str]
) -> None:
    vars(server).update(how)
    (offer,) = source.find({})
    assert offer.halt


@pytest.mark.parametrize(
    ("outcome", "execution", "finished"),
    [
        ("installed", "closed", "success"),
        ("refused", "closed", "failure"),
        ("rolled_back", "closed", "failure"),
        ("failed", "proceeding", "none"),
    ],
)
def test_what_is_told(
    server: DdiServer, source: HawkbitSource, outcome: Outcome, execution: str, finished: str
) -> None:
    offer = Offer("washer", "2.0.0", action="7")
    source.report(offer, outcome, ["x" * 2000])
    ((path, body),) = server.told
    assert path == "deploymentBase/7/feedback"
    assert body["status"] == {
        "execution": execution,
        "result": {"finished": finished},
        "details": ["x" * 400],
    }
    server.status["deploymentBase/7/feedback"] = 410  # it was closed there meanwhile
    source.report(offer, outcome, ["a"])
    server.status["deploymentBase/7/feedback"] = 503
    with pytest.raises(UpdateError, match="503"):
        source.report(offer, outcome, ["a"])


def test_a_whole_bundle_that_could_not_be_installed_is_not_fetched_again(
    server: DdiServer, source: HawkbitSource, folder: Path
) -> None:
    path = taken(source, folder)
    asked = len([one for one, _ in server.asked if "softwaremodules" in one])
    assert taken(source, folder) == path
    assert len([one for one, _ in server.asked if "softwaremodules" in one]) == asked == 1
    path.write_bytes(bytes(len(CONTENT)))
    with pytest.raises(UpdateError, match="came damaged"):
        taken(source, folder)
    assert taken(source, folder).read_bytes() == CONTENT


def test_a_download_goes_on_where_it_broke_off(
    server: DdiServer, source: HawkbitSource, folder: Path
) -> None:
    server.cut_after = 600_000
    with pytest.raises(UpdateError, match=r"ended after|does not answer|cannot be reached"):
        taken(source, folder)
    (half,) = folder.iterdir()
    there = half.stat().st_size
    assert 0 < there <= 600_000
    assert taken(source, folder).read_bytes() == CONTENT
    assert server.asked[-1][1]["Range"] == f"bytes={there}-"


def test_a_wrapped_bundle_needs_room_twice(
    server: DdiServer, source: HawkbitSource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = ABOUT + entry(b"w.bundle", CONTENT) + END
    free = SPARE_BYTES + len(wrapped) + len(CONTENT) // 2
    told = SimpleNamespace(free=free)
    monkeypatch.setattr("edge.update.hawkbit_source.shutil.disk_usage", lambda _: told)
    server.name, server.file = "washer-2.0.0.swu", wrapped
    with pytest.raises(StorageError, match=r"needs .* MB are free: make room"):
        taken(source, folder)
    assert list(folder.iterdir()) == []
    server.name, server.file = "washer-2.0.0.bundle", CONTENT
    assert taken(source, folder).read_bytes() == CONTENT


def test_a_proxy_may_change_host_and_scheme_of_the_links(
    server: DdiServer, source: HawkbitSource, folder: Path
) -> None:
    server.shown = "https://elsewhere.example:1/behind"
    assert taken(source, folder).read_bytes() == CONTENT


def test_a_store_beside_the_server_gets_no_token(server: DdiServer, folder: Path) -> None:
    server.token = "TargetToken abc"
    source = HawkbitSource("plant:l1:s1", server.address, secret=server.token)
    server.file_link = f"{server.shown}/store/other.bundle"
    assert taken(source, folder).read_bytes() == CONTENT
    assert "Authorization" not in server.asked[-1][1]
    assert all("Authorization" in headers for _, headers in server.asked[:-1])
    for link in ("file:///etc/passwd", "ftp://127.0.0.1/x", "nonsense"):
        server.file_link = link
        with pytest.raises(UpdateError, match="no address"):
            taken(source, folder)


LIES = {
    "no JSON": lambda server: setattr(server, "answer", lambda _: b"<html>"),
    "endless": lambda server: setattr(server, "answer", lambda _: b"[" * (2 << 20)),
    "another API": lambda server: setattr(server, "answer", lambda path: {"id": 1} if path else []),
    "an order of another station": lambda server: server.links.update(
        deploymentBase="../plant:l1:s2/deploymentBase/7"
    ),
    "an order somewhere else": lambda server: setattr(
        server, "link", lambda path: f"{server.address}/{path}"
    ),
    "an absurd size": lambda server: setattr(server, "size", 1 << 50),
    "no size": lambda server: setattr(server, "size", -1),
    "an order with a strange name": lambda server: setattr(
        server, "answer", renamed(server.answer, "../../up")
    ),
}


def renamed(answer, name: str):
    return lambda path: {**answer(path), "id": name} if path else answer(path)


@pytest.mark.parametrize("how", LIES)
def test_a_server_that_lies(server: DdiServer, source: HawkbitSource, how: str) -> None:
    LIES[how](server)
    with pytest.raises(UpdateError):
        source.find({})
    assert server.closed() == []


@pytest.mark.parametrize("how", ["another digest", "more bytes", "fewer bytes"])
def test_a_file_that_is_not_what_was_offered(
    server: DdiServer, source: HawkbitSource, folder: Path, how: str
) -> None:
    (offer,) = source.find({})
    source.find({})
    server.file = {
        "another digest": CONTENT[:-1] + b"x",
        "more bytes": CONTENT + b"x",
        "fewer bytes": CONTENT[:-1],
    }[how]
    with pytest.raises(UpdateError):
        source.fetch(offer, folder)
    assert not list(folder.glob("*.bundle"))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"artifacts": 0}, "0 bundles"),
        ({"artifacts": 2}, "2 bundles"),
        ({"name": "washer.txt"}, "0 bundles"),
        ({"name": "wash er.bundle", "version": "x"}, "not named PRODUCT-VERSION"),
        ({"name": "nothing.bundle"}, "not named PRODUCT-VERSION"),
    ],
)
def test_an_order_that_no_station_can_carry_out_is_answered(
    server: DdiServer, source: HawkbitSource, changed: dict[str, object], says: str
) -> None:
    vars(server).update(changed)
    assert source.find({}) == []
    ((result, details),) = server.closed()
    assert result == "failure"
    assert says in details[0]


def test_a_version_of_the_servers_own_does_not_count(
    server: DdiServer, source: HawkbitSource
) -> None:
    server.version, server.name = "build 7", "left-door-2.1.bundle"
    (offer,) = source.find({})
    assert (offer.product, offer.version) == ("left-door", "2.1")


def test_a_server_that_does_not_know_the_station(
    server: DdiServer, source: HawkbitSource, store: Store
) -> None:
    server.status[""] = 404
    with pytest.raises(UpdateError, match="knows no station plant:l1:s1, or does not accept"):
        source.find({})
    server.status[""] = 401
    with pytest.raises(UpdateError, match="401"):
        source.find({})


TOML = '[station]\nsite = "plant"\nline = "l1"\nstation = "s1"\n[update]\nsource = "hawkbit"\n'


@pytest.mark.parametrize(
    ("line", "header"),
    [("abc\n", "TargetToken abc"), ("GatewayToken  xyz\nmore", "GatewayToken xyz")],
)
def test_by_station_toml(store: Store, server: DdiServer, line: str, header: str) -> None:
    token = store.root / "etc/edge/fleet.token"
    token.write_text(line)
    server.token, server.links = header, {}
    text = f'{TOML}url = "{server.address}/"\ntoken_file = "etc/edge/fleet.token"\n'
    (store.root / "etc/edge/station.toml").write_text(text)
    source = make_source(store, parse_config(text).update)
    assert source.find({}) == []
    for wrong in ("", "three words here", "b\x07d"):
        token.write_text(wrong)
        with pytest.raises(ConfigError, match="is no token"):
            make_source(store, parse_config(text).update)


def test_a_credential_of_systemd(
    store: Store, server: DdiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fleet-token").write_text("abc")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    server.token, server.links = "TargetToken abc", {}
    text = f'{TOML}url = "{server.address}"\ntoken_file = "credential:fleet-token"\n'
    (store.root / "etc/edge/station.toml").write_text(text)
    assert make_source(store, parse_config(text).update).find({}) == []


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('source = "hawkbit"', "source is hawkbit, and url is no address"),
        ('source = "tuf"\nurl = "https://a/b"\ntoken_file = "t"', "source is not hawkbit"),
    ],
)
def test_settings_that_do_not_go_together(keys: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config(f"[update]\n{keys}\n")


def test_a_station_without_a_name(store: Store) -> None:
    config = UpdateConfig(source="hawkbit", url="http://127.0.0.1:1/DEFAULT")
    with pytest.raises(ConfigError, match="no name yet"):
        make_source(store, config)


def test_the_bundles_own_signature_decides(
    server: DdiServer, source: HawkbitSource, store: Store, bundles: Bundles
) -> None:
    """Everything that the server says of the file is right, and the file is not what was signed."""
    install_bundle(bundles("washer", "1.0.0"), store.root)
    data = bytearray(bundles("washer", "2.0.0").read_bytes())
    data[data.index(b'"product": "washer"') + 14] ^= 1
    server.file = bytes(data)
    config = UpdateConfig(source="hawkbit", url=server.address)
    (decided,) = update_once(store, source, config, lambda _: None)
    assert decided.outcome == "refused"
    assert store.active().manifest.version == "1.0.0"
    ((result, details),) = server.closed()
    assert result == "failure"
    assert "signature" in details[0]
    assert read_update_state(store).waiting == ()


def test_a_package_is_refused_in_one_sentence(
    server: DdiServer, source: HawkbitSource, store: Store
) -> None:
    server.name = "edge-station_0.2.0_jammy_arm64.deb"
    assert list(source.find({})) == []
    ((result, details),) = server.closed()
    assert result == "failure"
    assert "from a repository of `trainer release` or by apt" in details[0]
    with pytest.raises(ValueError, match="source hawkbit has bundles only"):
        UpdateConfig(source="hawkbit", url=server.address, package=True)
