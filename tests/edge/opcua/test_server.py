"""What an OPC UA client sees of a station and asks of it."""

from __future__ import annotations

import math
import time

import pytest
from asyncua import ua

from edge.line.inbound import Refusal
from edge.line.message import StationState
from edge.opcua.names import EVENTS, MACHINE, METHODS, MODE, OF_VERDICT, RESULTS, VARIABLES
from edge.types import Code
from tests.edge.opcua.conftest import Cell
from tests.support.broker import wait_until
from tests.support.opcua import UaClient


def test_a_job_is_accepted_and_its_result_is_an_event(cell: Cell, plc: UaClient) -> None:
    job, error, reason = plc.start("A17", "deadline_ms=500", "frames=3", meas="7")
    assert (job, error, reason) == (str(cell.station.seq), 0, "")
    asked = cell.station.asked[-1].request
    assert (asked.part, asked.n, asked.deadline_ms, asked.frames) == ("A17", 7, 500, 3)
    result = plc.result("A17")
    assert (result.JobId, result.MeasId, result.N) == (job, "7", 7)
    assert (result.Code, result.Reason, result.ResultState) == (2, "anomaly", 1)
    assert (result.InternalRecipeId, result.ProductId) == ("washer-1.0.0", "washer")
    assert result.Score == pytest.approx(0.2)
    assert (result.IsPartial, result.IsSimulated) == (False, False)
    assert result.SourceName == "VisionSystem"
    time.sleep(0.1)
    assert len(plc.heard.of("A17")) == 1


def test_the_last_verdict_is_in_plain_variables(cell: Cell, plc: UaClient) -> None:
    plc.start("A18", meas="eight")
    seq = cell.station.seq
    wait_until(lambda: plc.read("LastVerdict/Seq") == seq, 10, "no verdict")
    found = {name: plc.read(f"LastVerdict/{name}") for name in OF_VERDICT}
    assert found["Text"] == f"2 {seq} A18"
    assert (found["PartId"], found["MeasId"], found["N"], found["Code"]) == ("A18", "eight", 0, 2)
    error, *latest = plc.call(f"{RESULTS}/GetLatestResult")
    assert (error, latest) == (0, list(found.values()))
    assert plc.call(f"{RESULTS}/GetResultById", f"s1-{seq}") == [0, *latest]
    assert plc.call(f"{RESULTS}/GetResultById", "s1-1")[0] == 11


def test_unknown_is_a_failed_result(cell: Cell, plc: UaClient) -> None:
    cell.station.code = Code.UNKNOWN
    plc.start("A19")
    result = plc.result("A19")
    assert (result.Code, result.Reason, result.ResultState) == (3, "late", 4)
    assert not math.isnan(result.Score)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (["deadline_ms=49"], "bad_request: deadline_ms"),
        (["frames=0"], "bad_request: frames"),
        (["speed=1"], "bad_request: speed"),
        (["part=A1"], "bad_request: part"),
        (["frames=1", "frames=2"], "bad_request: frames"),
        (["frames=one"], "bad_request: frames"),
        (["n"], "bad_request: n"),
    ],
)
def test_a_bad_parameter_is_named(plc: UaClient, parameters: list[str], sentence: str) -> None:
    assert plc.start("A20", *parameters) == ["", 1, sentence]


def test_a_bad_part_is_refused(plc: UaClient) -> None:
    assert plc.start("A 20") == ["", 1, "bad_request: part"]


def test_a_refusal_has_its_number_and_no_result_follows(cell: Cell, plc: UaClient) -> None:
    cell.station.refuses = Refusal.BUSY
    assert plc.start("A21") == ["", 3, "busy"]
    cell.station.refuses = Refusal.NOT_READY
    assert plc.start("A21") == ["", 2, "not_ready"]
    time.sleep(0.1)
    assert plc.heard.of("A21") == []


def test_another_recipe_than_the_active_one_is_refused(plc: UaClient) -> None:
    assert plc.start("A22", recipe="washer-2.0.0")[1:] == [6, "wrong_product: none is active"]


def test_the_states_follow_the_station(cell: Cell, plc: UaClient) -> None:
    def state(path: str) -> str:
        text: str = plc.read(f"{path}/CurrentState").Text or ""
        return text

    wait_until(lambda: state(MODE) == "Ready", 10, "not ready")
    assert (state(MACHINE), plc.read(f"{MACHINE}/CurrentState/Number")) == ("Operational", 4)
    cell.station.answers = False
    plc.start("A23")
    wait_until(lambda: state(MODE) == "SingleExecution", 10, "no job seen")
    cell.station.tell("A23", cell.station.asked[-1].reply)
    wait_until(lambda: state(MODE) == "Ready", 10, "the job is not over")
    cell.station.state = StationState("s1", "fault", "camera_lost", ready=False)
    cell.station.line.state_changed()
    wait_until(lambda: state(MACHINE) == "Error", 10, "no error seen")
    assert (state(MODE), plc.read("Ready"), plc.read("StateReason")) == ("", False, "camera_lost")


def test_a_job_tells_its_events_to_who_listens_to_the_server_object(
    cell: Cell, plc: UaClient
) -> None:
    other = cell.client("screen").connect()
    other.listen(to="Server")
    try:
        job, *_ = plc.start("A27", meas="m27")
        wait_until(lambda: len(other.heard.events) >= 4, 10, "events are missing")
        started, left, result, back = (event for _, event in other.heard.events[:4])
        assert (started.JobId, started.PartId, started.MeasId) == (job, "A27", "m27")
        assert (left.FromState, left.ToState) == (
            "Operational/Ready", "Operational/SingleExecution"
        )  # fmt: skip
        assert (result.JobId, result.Code) == (job, 2)
        assert back.ToState == "Operational/Ready"
        assert len({event.EventId for _, event in other.heard.events[:4]}) == 4
    finally:
        other.close()


def test_the_heartbeat_counts(plc: UaClient) -> None:
    before = plc.read("Heartbeat")
    wait_until(lambda: plc.read("Heartbeat") > before, 10, "it stands still")


def test_a_verdict_that_comes_too_late_is_no_event(cell: Cell, plc: UaClient) -> None:
    unsent = cell.station.line.counters.verdicts_unsent
    cell.station.answers = False
    plc.start("A24")
    cell.station.tell_late("A24")
    wait_until(lambda: cell.station.line.counters.verdicts_unsent == unsent + 1, 10, "not counted")
    time.sleep(0.1)
    assert plc.heard.of("A24") == []


def test_commands_carry_the_user(cell: Cell, plc: UaClient) -> None:
    assert plc.call(f"{MACHINE}/Reset") == [0, "reset is done"]
    assert plc.call("RecipeManagement/PrepareProduct", "gasket") == [0, "select is done"]
    number = ua.Variant(3, ua.VariantType.Int32)
    assert plc.call("Command", "select", "", number, "") == [0, "select is done"]
    assert plc.call("Command", "fire", "", number, "") == [1, "bad_request: Do"]
    taken = cell.station.commanded[-3:]
    assert [one.command.verb.value for one in taken] == ["reset", "select", "select"]
    assert [(one.command.product, one.command.number) for one in taken[1:]] == [
        ("gasket", None),
        ("", 3),
    ]
    assert {one.who for one in taken} == {"opcua:plc"}


def test_continuous_is_for_free_run(plc: UaClient) -> None:
    error, reason = plc.call(f"{MODE}/StartContinuous")
    assert (error, reason.partition(":")[0]) == (10, "wrong_mode")


def test_everything_that_the_tables_name_is_there(plc: UaClient) -> None:
    paths = {path.rpartition("/")[::2] for path in (*VARIABLES, *METHODS)}
    for parent in {parent for parent, _ in paths}:
        assert {name for above, name in paths if above == parent} <= set(plc.browse(parent))
    assert len(EVENTS) == 3


def test_a_station_that_goes_and_comes_back(cell: Cell, plc: UaClient) -> None:
    cell.station.line.stop()
    wait_until(lambda: plc.status("Ready") == "BadNoCommunication", 10, "the loss is not said")
    assert plc.read(f"{MACHINE}/CurrentState").Text == "Error"
    assert plc.start("A25") == ["", 5, "no_station"]
    cell.station.start()
    wait_until(lambda: plc.status("Ready") == "Good", 20, "not found again")
    wait_until(lambda: cell.station.line.verdict_problem is None, 10, "no client seen")
    assert plc.start("A26")[1] == 0
    assert plc.result("A26").Code == 2
