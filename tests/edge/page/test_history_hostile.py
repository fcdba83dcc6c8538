"""What the database, an address or a form may contain: nothing of it runs, leads elsewhere or
breaks a page.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from edge.line.message import clean_part
from edge.page.roles import Role
from edge.station.audit import append_audit
from tests.support.page_client import page_client, post
from tests.support.recorded import DATA, add_record, record_parts

SCRIPT = "<script>alert(1)</script>"
QUOTES = "\"'><img src=x onerror=alert(1)>{{7*7}}"
PAGES = [
    "/history",
    "/history/counts",
    "/history/lot",
    "/history/{seq}",
    "/audit?every=1",
    "/engineer",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("station")
    record_parts(root, 5, pictured=1)
    assert clean_part(SCRIPT) == SCRIPT, "a PLC may send this name"
    add_record(
        root, part=SCRIPT, reason=SCRIPT, product=SCRIPT, guarantee=SCRIPT, code=2, score=9.0
    )
    add_record(root, part=QUOTES, bundle=QUOTES, engine=QUOTES, **{f"key{QUOTES}": QUOTES})
    add_record(root, part=["a list"], code="2", score="9", thr={}, judged_at=7, images={"a": 1})
    add_record(root, code=9, reason=None, thr=None, thr_parts="many", geometry=3)
    add_record(root, score=1e308, thr=-1e308, area=1e308, frames=10**400 % 7, n=10**30)
    append_audit(root, SCRIPT, {SCRIPT: SCRIPT, "product": QUOTES}, QUOTES)
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    with page_client(root, Role.CALIBRATE) as client:
        yield client


@pytest.mark.parametrize("seq", [6, 7, 8, 9, 10])
@pytest.mark.parametrize("page", PAGES)
def test_no_page_breaks_or_runs_what_stands_in_a_record(
    client: TestClient, page: str, seq: int
) -> None:
    answer = client.get(page.format(seq=seq), headers={"accept": "text/html"})
    assert answer.status_code == 200, answer.text
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert "49" not in answer.text.partition("onerror")[2][:40]
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("seq", [6, 7, 8, 9, 10])
def test_the_interface_gives_odd_records_as_they_are(client: TestClient, seq: int) -> None:
    answer = client.get(f"/api/v1/parts/{seq}")
    assert answer.status_code == 200
    assert answer.json()["record"]["seq"] == seq
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "query",
    [
        "code=9", "code=OK&code=<script>", "min_score=abc", "max_score=nan", "min_score=inf",
        "before=-1", "before=99999999999999999999", "before=1e3", "limit=x", "since=yesterday",
        "until=2026-13-45", "label=ugly", "since=99999-01-01", "min_score=" + "9" * 39 + "x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("page", ["/history", "/api/v1/parts", "/history/records.csv"])
def test_a_query_that_cannot_be_is_refused_in_a_sentence(
    client: TestClient, page: str, query: str
) -> None:
    answer = client.get(f"{page}?{query}")
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.json()["error"]) > 10
    seen = client.get(f"{page}?{query}", headers={"accept": "text/html"})
    is_page = seen.headers["content-type"].startswith("text/html")
    assert is_page is not page.startswith("/api/")
    assert not (is_page and "<script>" in seen.text)


@pytest.mark.parametrize(
    "query",
    ["limit=100000", "limit=0", "part=" + "*" * 64, "part=%27%20OR%201=1--", "part=[[?]]*",
     "product=%00", "reason=%F0%9F%98%80", "since=0001-01-01", "min_score=1e999"],
)  # fmt: skip
def test_odd_queries_find_something_or_nothing(client: TestClient, query: str) -> None:
    answer = client.get(f"/api/v1/parts?{query}")
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        assert len(answer.json()["parts"]) <= 10


@pytest.mark.parametrize(
    "seq", ["0", "-1", "11", "999999999999999999999999", "1e3", "abc", "1.5", "%00", "5%2F..%2F.."]
)
@pytest.mark.parametrize("place", ["/history/{}", "/history/{}/overlay.png", "/api/v1/parts/{}"])
def test_an_unknown_number_is_no_part(client: TestClient, place: str, seq: str) -> None:
    answer = client.get(place.format(seq))
    assert answer.status_code in (400, 404, 422)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "name",
    ["..%2Frecord.json", "%2e%2e%2f%2e%2e%2fline.sqlite", "record.json", "map.npz",
     "overlay.png%00", "....//overlay.png", "%2Fetc%2Fpasswd", "OVERLAY.PNG"],
)  # fmt: skip
def test_only_pictures_of_the_closed_list_are_served(client: TestClient, name: str) -> None:
    for place in (f"/history/5/{name}", f"/api/v1/parts/5/pictures/{name}"):
        answer = client.get(place)
        assert answer.status_code in (400, 404, 405, 422)
        assert b"PNG" not in answer.content


@pytest.mark.parametrize(
    "images",
    ["parts/../../..", "../secret", "/tmp", "parts/2026-11-20/..", "parts/2026-11-20/cell7-5/..",
     "parts/2026-11-20/linked-77", "linked/2026-11-20/cell7-5"],
)  # fmt: skip
def test_a_record_leads_to_no_other_folder(tmp_path: Path, images: str) -> None:
    record_parts(tmp_path, 5, pictured=1)
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("overlay.png", "color.png", "record.json"):
        (secret / name).write_bytes(b"secret")
    (tmp_path / DATA / "parts/2026-11-20/linked-77").symlink_to(secret)
    (tmp_path / DATA / "linked").symlink_to(tmp_path / DATA / "parts")
    add_record(tmp_path, images=images)
    with page_client(tmp_path, Role.CALIBRATE) as client:
        assert client.get("/history/6/overlay.png").status_code == 404
        assert client.get("/history/6").status_code == 200
        assert b"secret" not in client.get("/engineer/dataset.zip?seq=6").content


def test_a_picture_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (fields,) = record_parts(tmp_path, 1, pictured=1)
    (tmp_path / "secret").write_bytes(b"secret")
    picture = tmp_path / DATA / fields["images"] / "overlay.png"
    picture.unlink()
    picture.symlink_to(tmp_path / "secret")
    with page_client(tmp_path) as client:
        assert client.get("/history/1/overlay.png").status_code == 404


@pytest.mark.parametrize(
    ("said", "note"), [("", ""), ("ugly", ""), ("good", "x" * 501), (SCRIPT, SCRIPT)]
)
def test_a_label_that_cannot_be_is_refused(client: TestClient, said: str, note: str) -> None:
    answer = post(client, "/history/5/label", said=said, note=note)
    assert answer.status_code in (400, 422)


def test_a_note_is_text(tmp_path: Path) -> None:
    record_parts(tmp_path, 1, pictured=0)
    with page_client(tmp_path) as client:
        post(client, "/history/1/label", said="good", note=f"{SCRIPT}\x1b[2J\u202e")
        text = client.get("/history/1").text
    assert "<script>alert" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "place", ["https://evil.example/", "//evil.example", "/\\evil", "javascript:1"]
)
def test_a_label_leads_back_to_this_page_only(client: TestClient, place: str) -> None:
    answer = post(client, "/history/5/label", said="good", next=place)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_label_of_no_part_is_not_found(client: TestClient) -> None:
    assert post(client, "/history/4711/label", said="good").status_code == 404
    assert post(client, f"/history/{10**30}/label", said="good").status_code in (404, 422)


@pytest.mark.parametrize("at", ["nan", "inf", "-1e999", SCRIPT, "1,5", "", "9" * 40])
def test_a_threshold_to_try_is_a_number_or_left_out(client: TestClient, at: str) -> None:
    answer = client.get("/engineer", params={"at": at})
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    said = client.get("/api/v1/scores", params={"at": at})
    assert said.status_code in (200, 422)


def test_a_database_that_is_none_is_said(tmp_path: Path) -> None:
    record_parts(tmp_path, 1, pictured=0)
    with page_client(tmp_path) as client:
        for name in ("line.sqlite", "line.sqlite-wal", "line.sqlite-shm"):
            (tmp_path / DATA / name).unlink(missing_ok=True)
        (tmp_path / DATA / "line.sqlite").write_bytes(b"no database" * 1000)
        for page in ("/history", "/history/counts", "/history/1", "/history/records.csv", "/audit"):
            answer = client.get(page, headers={"accept": "application/json"})
            assert answer.status_code == 503, page
            assert "line.sqlite" in answer.json()["error"]
        seen = client.get("/history", headers={"accept": "text/html"})
        assert "not a database" in seen.text
