"""What programs ask: health, metrics, the description of the API."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.played_socket import PlayedStation
from tests.support.served_page import Client


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.page.live_source.LEAST_S", 0.0)
    monkeypatch.setattr("edge.page.station_source.RETRY_S", 0.0)


def test_health_is_open_and_says_little(client: Client, station: PlayedStation) -> None:
    answer = client.api("/health")
    assert (answer.status, answer.json) == (200, {"page": "ok", "station": "online", "ready": True})
    station.state |= {"state": "fault", "reason": "storage", "ready": False}
    assert client.api("/health").status == 503
    station.state |= {"state": "degraded", "reason": "archive", "ready": True}
    assert client.api("/health").status == 200


def test_health_of_a_station_that_is_stopped(client: Client) -> None:
    answer = client.api("/health")
    assert (answer.status, answer.json["station"]) == (503, "stopped")


METRIC = re.compile(r'([a-z_]+)(?:\{([a-z]+="[a-z_]+")\})? (-?[0-9.e+-]+)')


def metrics(client: Client) -> dict[tuple[str, str], float]:
    """As Prometheus reads them; every metric has its help and its type first."""
    answer = client.api("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[tuple[str, str], float] = {}
    described: set[str] = set()
    for line in answer.text.splitlines():
        if line.startswith("#"):
            described.add(line.split()[2])
            continue
        name, label, value = METRIC.fullmatch(line).groups()  # type: ignore[union-attr]
        assert name in described
        assert (name, label or "") not in found
        found[name, label or ""] = float(value)
    return found


def test_metrics(lena: Client, station: PlayedStation) -> None:
    found = metrics(lena)
    assert found["edge_up", ""] == found["edge_ready", ""] == 1
    assert found["edge_parts_total", 'code="ng"'] == 17
    assert found["edge_stage_seconds", 'stage="engine"'] == pytest.approx(0.0215)
    assert found["edge_frames_dropped_total", ""] == 2
    station.state |= {"state": "fault", "ready": False}
    assert metrics(lena)["edge_fault", ""] == 1


def test_metrics_of_a_station_that_is_stopped(lena: Client) -> None:
    found = metrics(lena)
    assert found["edge_up", ""] == found["edge_ready", ""] == 0
    assert ("edge_parts_total", 'code="ok"') not in found, "an end is no reset to 0"


def test_the_api_describes_itself(lena: Client) -> None:
    said = lena.api("/api/v1/openapi.json").json
    assert said["openapi"].startswith("3.")
    for path in ("/health", "/metrics", "/api/v1/live", "/api/v1/live/picture"):
        assert said["paths"][path]["get"]["description"]
    assert "/login" not in said["paths"]
    state = said["components"]["schemas"]["LiveState"]["properties"]
    assert state["ready"]["description"]


def test_documentation_from_elsewhere_is_off(lena: Client) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert lena.get(path).status == 404


def test_the_page_of_the_docs_names_what_is_there(lena: Client) -> None:
    text = (Path(__file__).parents[3] / "docs/page.md").read_text("utf-8")
    for path in lena.api("/api/v1/openapi.json").json["paths"]:
        if path.startswith("/api/v1/live") or not path.startswith("/api/"):
            assert f"`{path}`" in text, path
