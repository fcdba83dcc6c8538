"""The guided calibration of the page: who may do what, in which words, and what is refused. The
station is at work in this process, and its steps in children of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from edge.archive.acts import ActFilter, read_acts
from edge.control.guide import FOLDER
from edge.page import sessions as sessions_module
from edge.page.calibrate import CalibrationNow
from edge.page.records import ok_acts
from edge.page.roles import Role
from edge.page.station_guide import LEAST_S
from tests.support.broker import wait_until
from tests.support.patience import HANG_S
from tests.support.served_page import Client, add_user, served_page
from tests.support.site_parts import TRAINED
from tests.support.socketed import Socketed, socketed
from tests.support.station import Shot, StationRoot, make_station
from tests.support.tiny_bundle import Adapts

MORE = "[page]\nenabled = true\ntls = false\n"


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    folder = tmp_path_factory.mktemp("made") / "station"
    made = make_station(folder, defects=TRAINED, adapts=Adapts())
    made.configure("realsense", None, more=MORE)
    for name, role in (("carl", Role.CALIBRATE), ("lena", Role.LOOK)):
        add_user(made.root, name, role)
    return made


@pytest.fixture(scope="module")
def port(station: StationRoot) -> Iterator[int]:
    with served_page(station.root) as port:
        yield port


@pytest.fixture
def cell(station: StationRoot) -> Iterator[Socketed]:
    with socketed(station) as cell:
        wait_until(lambda: cell.state["ready"], HANG_S, "not ready")
        time.sleep(LEAST_S)  # the page may still tell of the station of the test before
        yield cell


@pytest.fixture
def carl(port: int) -> Client:
    client = Client(port)
    client.log_in("carl")
    return client


def now_of(client: Client) -> CalibrationNow:
    return CalibrationNow.model_validate(client.api("/api/v1/calibration").json)


def reaches(client: Client, phase: str) -> CalibrationNow:
    def is_there() -> bool:
        state = now_of(client).guide
        return state is not None and state.phase == phase

    wait_until(is_there, HANG_S, f"not {phase}")
    return now_of(client)


def seen_by(client: Client) -> str:
    """What the form to sign on this client's page says that it has shown."""
    forms = re.findall(r'name="seen" value="(\w*)"', client.get("/calibrate").text)
    return str(forms[0])


def sign(client: Client) -> None:
    client.post("/calibrate/sign", seen=seen_by(client))


def show_normal(cell: Socketed, client: Client, count: int) -> None:
    for number in range(count):
        cell.pass_part(Shot(part=True, defect=TRAINED[-1] / count * (number + 0.5)))

        def is_taken(wanted: int = number + 1) -> bool:
            state = now_of(client).guide
            return state is not None and len(state.shown) == wanted

        wait_until(is_taken, HANG_S, "not taken in")


def test_who_may_only_look_is_refused(port: int, station: StationRoot) -> None:
    lena = Client(port)
    lena.log_in("lena")
    for path in ("/calibrate", "/calibrate/now", "/calibrate/pictures/part-01.jpg"):
        assert lena.get(path).status == 403
    for path in ("begin", "sign", "decide"):
        assert lena.post(f"/calibrate/{path}", what="plane", order="sign").status == 403
    assert "/calibrate" not in lena.get("/").text


def test_without_a_station_it_says_so(carl: Client) -> None:
    assert "The inspection is not running" in carl.get("/calibrate").text
    assert now_of(carl) == CalibrationNow(guide=None, site=None)
    assert "no `edge run` is at work" in carl.post("/calibrate/begin", what="parts").text


def test_parts_are_shown_signed_and_taken_back(
    carl: Client, cell: Socketed, station: StationRoot
) -> None:
    store = station.store
    text = carl.get("/calibrate").text
    assert "Empty table<span" in text, "done before"
    assert 'data-step="parts" data-phase="idle"' in text, "what comes next"
    assert carl.post("/calibrate/begin", what="parts", count="3", rate="0.1").place == "/calibrate"
    reaches(carl, "showing")
    show_normal(cell, carl, 3)
    reaches(carl, "signing")
    carl.cookies["language"] = "de"
    fragment = carl.get("/calibrate/now")
    assert "Gemessen, nicht bewiesen: höchstens" in fragment.text
    assert "Unterschreiben als carl" in fragment.text
    again = carl.get("/calibrate/now", if_none_match=fragment.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    picture = carl.get("/calibrate/pictures/part-02.jpg")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.body == (store.data / FOLDER / "part-02.jpg").read_bytes()
    assert store.model_states(store.active()) == ()
    sign(carl)
    reaches(carl, "done")
    assert store.model_states(store.active())[-1].who == "carl (page)"
    carl.post("/calibrate/begin", what="undo")
    reaches(carl, "done")
    assert store.model_states(store.active()) == ()


def test_a_limit_is_proposed_for_a_rate_signed_and_kept_in_the_audit(
    carl: Client, cell: Socketed, station: StationRoot
) -> None:
    store = station.store
    assert 'name="what" value="threshold"' in carl.get("/engineer").text
    carl.post("/calibrate/begin", what="threshold", rate="0.2")
    state = reaches(carl, "signing").guide
    assert state is not None
    text = carl.get("/calibrate").text
    assert "Asked for: 20 % false rejects" in text
    assert str(state.result["guarantee"]) in text
    assert f"/engineer?at={state.result['threshold']:.9g}#threshold" in text
    assert store.model_states(store.active()) == (), "nothing is set before it is signed"
    sign(carl)
    reaches(carl, "done")
    saved = store.model_states(store.active())[-1]
    assert saved.threshold == pytest.approx(state.result["threshold"])
    row = read_acts(station.root, ActFilter(acts=ok_acts()))[0]
    assert (row.who, row.act) == ("carl (page)", "calibrate model")
    assert row.detail["guarantee"] == state.result["guarantee"]
    carl.post("/calibrate/begin", what="undo")
    reaches(carl, "done")
    assert "Taken back" in carl.get("/calibrate").text
    assert store.model_states(store.active()) == ()


def test_what_changes_what_ok_means_asks_for_the_password_again(
    carl: Client, cell: Socketed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "PROVED_S", 0.0)
    for path in ("begin", "sign"):
        assert carl.post(f"/calibrate/{path}", what="plane").place.startswith("/again?next=")
    assert now_of(carl).guide is None


def test_nobody_signs_what_their_page_has_not_shown(
    carl: Client, cell: Socketed, station: StationRoot
) -> None:
    store = station.store
    carl.post("/calibrate/begin", what="threshold", rate="0.2")
    reaches(carl, "signing")
    old = seen_by(carl)
    carl.post("/calibrate/decide", order="stop")
    reaches(carl, "ended")
    carl.post("/calibrate/begin", what="threshold", rate="0.5")
    reaches(carl, "signing")
    for seen in (old, ""):
        assert "has gone on since" in carl.post("/calibrate/sign", seen=seen).text
    assert store.model_states(store.active()) == ()
    carl.post("/calibrate/decide", order="stop")
    reaches(carl, "ended")


def test_a_decision_is_no_way_around_the_password_of_a_signature(
    carl: Client, cell: Socketed, station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = station.store
    carl.post("/calibrate/begin", what="threshold", rate="0.2")
    reaches(carl, "signing")
    seen = seen_by(carl)
    monkeypatch.setattr(sessions_module, "PROVED_S", 0.0)
    answer = carl.post("/calibrate/decide", order="sign", seen=seen)
    assert answer.status == 400
    assert "there is no such decision" in answer.text
    carl.post("/calibrate/decide", order="stop")
    reaches(carl, "ended")
    assert store.model_states(store.active()) == ()


def test_a_step_that_is_refused_says_why_in_both_languages(carl: Client, cell: Socketed) -> None:
    carl.post("/calibrate/begin", what="parts", count="1")
    state = reaches(carl, "refused").guide
    assert state is not None
    assert state.refusal is not None
    assert "ask for a larger --count" in state.refusal.text
    assert "Nothing was changed." in carl.get("/calibrate").text
    carl.cookies["language"] = "de"
    assert "Nichts wurde geändert." in carl.get("/calibrate").text


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"what": "everything"}, "what: Input should be"),
        ({"what": "parts", "count": "1000"}, "count: Input should be less than"),
        ({"what": "parts", "rate": "0.9"}, "false_rejects: Input should be less than"),
        ({}, "what: Field required"),
    ],
)
def test_what_makes_no_sense_begins_nothing(
    carl: Client, cell: Socketed, form: dict[str, str], words: str
) -> None:
    answer = carl.post("/calibrate/begin", **form)
    assert answer.status == 400
    assert words in answer.text
    assert carl.post("/calibrate/decide", order="anything").status == 400
    assert "no calibration is at work any more" in carl.post("/calibrate/sign").text
    assert now_of(carl).guide is None


@pytest.mark.parametrize("name", ["..%2fbegun.jpg", "begun.json", "part-01.png", "x" * 40 + ".jpg"])
def test_no_other_file_is_given_away(carl: Client, station: StationRoot, name: str) -> None:
    (station.store.data / FOLDER).mkdir(exist_ok=True)
    (station.store.data / FOLDER / "begun.json").write_text("{}")
    assert carl.get(f"/calibrate/pictures/{name}").status == 404
    (station.store.data / FOLDER / "begun.json").unlink()
