"""Logging in and out, passwords, and what is closed to whom: over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.page.app import ROUTERS
from edge.page.roles import Role
from edge.page.security import safe_place
from tests.support.served_page import PASSWORD, Client, add_user, users_of

OPEN = {"/login", "/logout", "/preferences", "/health", "/live"}


def test_the_first_login_is_by_code_and_chooses_a_password(
    client: Client, shared_root: Path
) -> None:
    with users_of(shared_root) as users:
        code = users.add("nora", Role.LOOK)
    assert client.log_in("nora", code).place == "/password"
    assert client.get("/").place.startswith("/password")
    assert client.api("/api/v1/live").json == {"error": "password"}
    assert client.post("/password", new="new horse 1", again="new horse 2").status == 400
    assert client.post("/password", new="short", again="short").status == 400
    before = dict(client.cookies)
    assert client.post("/password", new="new horse 1", again="new horse 1").place == "/"
    assert client.cookies != before, "a new session"
    assert client.get("/").status == 200
    assert client.post("/password", new="new horse 3", again="new horse 3").status == 403
    other = Client(client.port)
    assert other.log_in("nora", code).status == 401
    assert other.log_in("nora", "new horse 1").place == "/"


def test_nothing_is_reachable_without_a_login(client: Client) -> None:
    """Every route, also of other modules, answers with the login; but for those that are open."""
    every = [(one.path, one.methods) for module in ROUTERS for one in module.router.routes]
    closed = [(path, methods) for path, methods in every if path not in OPEN]
    assert len(every) - len(closed) == len(OPEN) + 1, "/login has a form and an answer to it"
    assert len(closed) > 10
    for path, methods in closed:
        filled = path.replace("{", "").replace("}", "")
        answer = client.post(filled) if "POST" in methods else client.get(filled)
        if path == "/wall":
            assert answer.status == 404
        else:
            reached = answer.status == 303 and answer.place.startswith("/login")
            assert reached or answer.status == 401, (path, answer.status, answer.place)


def test_a_wrong_login_is_told_without_saying_what_was_wrong(client: Client) -> None:
    wrong = client.log_in("lena", "wrong")
    unknown = client.log_in("lenb", "wrong")
    assert (wrong.status, unknown.status) == (401, 401)
    assert wrong.text.replace("lena", "") == unknown.text.replace("lenb", "")
    assert client.cookies == {}


def test_too_many_wrong_ones_must_wait(
    client: Client, shared_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.page.users.FIRST_DELAY_S", 250.0)
    add_user(shared_root, "paul", Role.LOOK)
    for _ in range(4):
        assert client.log_in("paul", "wrong").status == 401
    answer = client.log_in("paul")
    assert answer.status == 401
    assert "wait 250 s" in answer.text
    assert client.log_in("lena").status == 303, "others are not held up"


def test_what_a_name_holds_is_text(client: Client) -> None:
    answer = client.log_in('"><script>alert(1)</script>', "wrong")
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text


def test_the_cookie_is_closed_to_scripts_and_other_pages(client: Client) -> None:
    said = client.log_in("lena").headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert "path=/" in said


def test_a_login_ends_the_session_before_it_and_a_logout_its_own(client: Client) -> None:
    client.log_in("lena")
    first = dict(client.cookies)
    client.log_in("lena")
    second = dict(client.cookies)
    assert first != second
    assert Client(client.port, cookies=first).get("/").status == 303
    assert client.post("/logout").place == "/login"
    assert "session" not in client.cookies
    assert Client(client.port, cookies=second).get("/").status == 303


def test_who_is_removed_is_out_at_once(client: Client, shared_root: Path) -> None:
    add_user(shared_root, "rita", Role.ADMINISTER)
    client.log_in("rita")
    assert client.get("/").status == 200
    with users_of(shared_root) as users:
        users.remove("rita")
    assert client.get("/").place == "/login?next=/"
    assert client.api("/api/v1/live").status == 401


def test_a_password_is_changed_only_with_the_old_one(client: Client, shared_root: Path) -> None:
    add_user(shared_root, "uwe", Role.LOOK)
    other = Client(client.port)
    for one in (client, other):
        one.log_in("uwe")
    new = {"new": "battery staple", "again": "battery staple"}
    assert client.post("/account", old="wrong", **new).status == 400
    assert client.post("/account", old=PASSWORD, **new).place == "/account?done"
    assert "was changed" in client.get("/account?done").text
    assert other.get("/").status == 303, "other sessions of the user have ended"
    assert other.log_in("uwe").status == 401
    assert other.log_in("uwe", "battery staple").status == 303


def test_the_password_once_more(lena: Client) -> None:
    assert lena.post("/again", secret="wrong", next="/account").status == 401
    assert lena.post("/again", secret=PASSWORD, next="/account").place == "/account"


def test_a_place_of_this_page_alone_is_gone_to_afterwards(client: Client) -> None:
    answer = client.post("/login", name="lena", secret=PASSWORD, next="//evil.example/")
    assert (answer.status, answer.place) == (303, "/")


@pytest.mark.parametrize(
    ("place", "safe"),
    [
        ("/history?day=1", "/history?day=1"),
        ("https://evil.example", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("history", "/"),
        ("", "/"),
        ("/" + "x" * 600, "/"),
    ],
)
def test_safe_places(place: str, safe: str) -> None:
    assert safe_place(place) == safe


def test_language_and_appearance_are_the_browsers_own(client: Client) -> None:
    assert 'lang="en"' in client.get("/login").text
    german = client.get("/login", accept_language="de-AT,de;q=0.9,en;q=0.5")
    assert 'lang="de"' in german.text
    assert "Anmelden" in german.text
    answer = client.post("/preferences", language="de", theme="dark", next="/login")
    assert answer.place == "/login"
    text = client.get("/login", accept_language="en").text
    assert 'lang="de" data-theme="dark"' in text
    client.post("/preferences", language="xx", theme="<pink>")
    assert 'lang="de" data-theme="dark"' in client.get("/login").text


def test_a_token_only_reads(client: Client, shared_root: Path) -> None:
    with users_of(shared_root) as users:
        bearer = f"Bearer {users.add_program('prometheus')}"
    assert client.api("/api/v1/live", authorization=bearer).status == 200
    assert client.api("/metrics", authorization=bearer).status == 200
    assert client.api("/metrics", authorization=bearer[:-1]).status == 401
    assert client.api("/metrics", authorization="Bearer ").status == 401
    headers = {"authorization": bearer, "origin": client.origin, "accept": "application/json"}
    assert client.send("POST", "/again", b"", headers).status == 401
