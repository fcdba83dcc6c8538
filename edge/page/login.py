"""Logging in and out, choosing a password, language and appearance."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from edge.errors import ConfigError
from edge.page.checks import Busy
from edge.page.context import context_of
from edge.page.forms import read_form
from edge.page.render import THEMES, page, page_with
from edge.page.security import (
    Looker,
    Refused,
    end_session,
    forget_session,
    identify,
    safe_place,
    set_preference,
    set_session,
)
from edge.page.sessions import Caller
from edge.page.texts import LANGUAGES
from edge.page.users import User, WaitFirst

log = logging.getLogger(__name__)
router = APIRouter(include_in_schema=False)


async def _checked(request: Request, name: str, secret: str, wrong: str) -> User | str:
    """The user, or the sentence that says why not."""
    tell = context_of(request).renderer.teller(request)
    try:
        user = await context_of(request).checks.check(name, secret)
    except WaitFirst as wait:
        return tell("login.wait", seconds=int(wait.seconds) + 1)
    except Busy:
        return tell("login.busy")
    if user is None:
        log.warning("a login as %s was refused", ascii(name[:32]))
        return tell(wrong)
    return user


@router.get("/login")
async def login_page(request: Request) -> Response:
    """Name and password."""
    place = safe_place(request.query_params.get("next", "/"))
    if identify(request) is not None:
        return RedirectResponse(place, 303)
    return page(request, "login.html", next=place, problem="", name="")


@router.post("/login")
async def login(request: Request) -> Response:
    """Begin a session. An older one of this browser ends: its id is never used again."""
    form = await read_form(request)
    name, place = form.get("name", "").strip(), safe_place(form.get("next", "/"))
    user = await _checked(request, name, form.get("secret", ""), "login.wrong")
    if isinstance(user, str):
        return page_with(401, request, "login.html", next=place, problem=user, name=name[:64])
    log.info("user %s has logged in (%s)", user.name, user.role.value)
    response = RedirectResponse("/password" if user.secret == "code" else place, 303)
    end_session(request)
    set_session(request, response, context_of(request).sessions.begin(user.name))
    return response


@router.post("/logout")
async def logout(request: Request) -> Response:
    """End the session."""
    response = RedirectResponse("/login", 303)
    end_session(request)
    forget_session(request, response)
    return response


@router.get("/password")
async def password_page(request: Request) -> Response:
    """For who has logged in with a code."""
    _require_choosing(request)
    return page(request, "password.html", problem="")


@router.post("/password")
async def choose_password(request: Request) -> Response:
    """In place of the code."""
    caller, form = _require_choosing(request), await read_form(request)
    problem = await _set_password(request, caller, form)
    if problem:
        return page_with(400, request, "password.html", problem=problem)
    return _begun_anew(request, caller, "/")


@router.get("/account")
async def account_page(request: Request, caller: Looker) -> Response:  # noqa: ARG001  who may look
    """Who one is, and another password."""
    done = "done" in request.query_params
    return page(request, "account.html", problem="", done=done)


@router.post("/account")
async def change_password(request: Request, caller: Looker) -> Response:
    """Only who knows the present one."""
    form = await read_form(request)
    known = await _checked(request, caller.name, form.get("old", ""), "password.wrong")
    problem = known if isinstance(known, str) else await _set_password(request, caller, form)
    if problem:
        return page_with(400, request, "account.html", problem=problem, done=False)
    return _begun_anew(request, caller, "/account?done")


@router.get("/again")
async def again_page(request: Request, caller: Looker) -> Response:  # noqa: ARG001  who may look
    """The password, before an act that few may do."""
    place = safe_place(request.query_params.get("next", "/"))
    return page(request, "again.html", next=place, problem="")


@router.post("/again")
async def again(request: Request, caller: Looker) -> Response:
    """Go on where the password was asked for."""
    form = await read_form(request)
    place = safe_place(form.get("next", "/"))
    known = await _checked(request, caller.name, form.get("secret", ""), "password.wrong")
    if isinstance(known, str):
        return page_with(401, request, "again.html", next=place, problem=known)
    context_of(request).sessions.prove(caller.key)
    return RedirectResponse(place, 303)


@router.post("/preferences")
async def preferences(request: Request) -> Response:
    """Language and appearance of this browser, also before the login."""
    form = await read_form(request)
    response = RedirectResponse(safe_place(form.get("next", "/")), 303)
    for name, known in (("language", LANGUAGES), ("theme", THEMES)):
        if form.get(name) in known:
            set_preference(request, response, name, form[name])
    return response


def _require_choosing(request: Request) -> Caller:
    """Raises: Refused for everybody else than who has logged in with a code."""
    caller = identify(request)
    if caller is None:
        raise Refused("login")
    if not caller.must_choose:
        raise Refused("role")
    return caller


async def _set_password(request: Request, caller: Caller, form: dict[str, str]) -> str:
    """What is wrong with the new password; "" once it holds, with which every session ends."""
    tell, password = context_of(request).renderer.teller(request), form.get("new", "")
    if password != form.get("again", ""):
        return tell("password.differ")
    try:
        users = context_of(request).users
        await run_in_threadpool(users.choose_password, caller.name, password)
    except ConfigError:
        return tell("password.refused")
    log.info("user %s has another password", caller.name)
    return ""


def _begun_anew(request: Request, caller: Caller, place: str) -> Response:
    response = RedirectResponse(place, 303)
    set_session(request, response, context_of(request).sessions.begin(caller.name))
    return response
