"""Who may see what: dependencies of the routes.

@router.get("/history")
async def history(request: Request, caller: Looker) -> Response: ...

@router.post("/threshold")
async def change(request: Request, caller: Annotated[Caller, Depends(require(Role.ADMINISTER,
                 fresh=True))]) -> Response: ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from edge.page.context import context_of
from edge.page.roles import Role
from edge.page.sessions import Caller

API = "/api/"
COOKIE, SAFE_COOKIE = "session", "__Host-session"  # without and with TLS
BEARER = "Bearer "
COOKIE_S = 30 * 86_400  # at most; the session itself ends earlier


class Refused(Exception):
    """The caller may not do this (now). what: "login", "password" (to be chosen), "proof" (the
    password again) or "role".
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def require(
    role: Role, fresh: bool = False, is_act: bool = True
) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that gives the caller, who has at least this role.

    Args:
        fresh: the password must have been given in the last minutes: for acts that change what OK
            means.
        is_act: False for a view that renews itself: it does not count as work of a person.
    Raises: Refused, which the application answers with a redirection or, below /api/, with 401 or
        403.
    """

    async def caller_of(request: Request) -> Caller:
        caller = identify(request, is_act)
        if caller is None:
            raise Refused("login")
        if caller.must_choose:
            raise Refused("password")
        if not caller.may(role):
            raise Refused("role")
        if role is not Role.LOOK and (caller.rests or (fresh and not caller.is_proved)):
            raise Refused("proof")
        return caller

    return caller_of


Looker = Annotated[Caller, Depends(require(Role.LOOK))]
Watcher = Annotated[Caller, Depends(require(Role.LOOK, is_act=False))]
Calibrator = Annotated[Caller, Depends(require(Role.CALIBRATE))]
Administrator = Annotated[Caller, Depends(require(Role.ADMINISTER, fresh=True))]


def identify(request: Request, is_act: bool = True) -> Caller | None:
    """Who has sent this: by the session's cookie, or a program that only reads, by its token."""
    context = context_of(request)
    token = request.headers.get("authorization", "")
    if token.startswith(BEARER) and request.method == "GET":
        user = context.users.of_token(token.removeprefix(BEARER).strip())
        return None if user is None else Caller(user.name, user.role)
    session = request.cookies.get(cookie_name(request))
    caller = context.sessions.find(session, is_act) if session else None
    request.state.caller = caller
    return caller


def cookie_name(request: Request) -> str:
    """With TLS a name that no other host and no page without TLS can set (RFC 6265bis)."""
    return SAFE_COOKIE if request.url.scheme == "https" else COOKIE


def set_session(request: Request, response: Response, session: str) -> None:
    """Give the browser the id of its session."""
    _set_cookie(request, response, cookie_name(request), session, is_hidden=True)


def set_preference(request: Request, response: Response, name: str, value: str) -> None:
    """Let the browser remember language or theme, which say nothing about who it is."""
    _set_cookie(request, response, name, value, is_hidden=False)


def _set_cookie(
    request: Request, response: Response, name: str, value: str, is_hidden: bool
) -> None:
    response.set_cookie(
        name,
        value,
        max_age=COOKIE_S,
        path="/",
        secure=request.url.scheme == "https",
        httponly=is_hidden,
        samesite="strict",
    )


def end_session(request: Request) -> None:
    """Log out the caller of this request."""
    caller = identify(request)
    if caller is not None and caller.key:
        context_of(request).sessions.end(caller.key)


def forget_session(request: Request, response: Response) -> None:
    """Let the browser forget the id of its session."""
    name = cookie_name(request)
    response.delete_cookie(name, path="/", secure=name == SAFE_COOKIE, httponly=True)


def is_api(request: Request) -> bool:
    """Whether the answer is for a program, and not for a person at a browser."""
    wants_page = "text/html" in request.headers.get("accept", "")
    return request.url.path.startswith(API) or not wants_page


def answer_refusal(request: Request, refused: Exception) -> Response:
    """To the page that asks for what is missing; a status for a program."""
    what = refused.what if isinstance(refused, Refused) else "login"
    if is_api(request):
        return JSONResponse({"error": what}, 401 if what == "login" else 403)
    if what == "role":
        return context_of(request).renderer.error(request, 403)
    where = {"login": "/login", "password": "/password", "proof": "/again"}[what]
    return RedirectResponse(f"{where}?next={quote(wanted_place(request), safe='/')}", 303)


def wanted_place(request: Request) -> str:
    """The page that the caller wanted: where to go afterwards."""
    if request.method == "GET":
        query = f"?{request.url.query}" if request.url.query else ""
        return safe_place(request.url.path + query)
    referrer = urlsplit(request.headers.get("referer", ""))
    return safe_place(referrer.path if referrer.netloc == request.headers.get("host") else "/")


def safe_place(place: str) -> str:
    """A path of this page; anything else becomes "/"."""
    is_own = place.startswith("/") and not place.startswith(("//", "/\\")) and place.isprintable()
    return place if is_own and len(place) < 512 else "/"
