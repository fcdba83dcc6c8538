"""From a template and values to a page: texts in the reader's language, theme, navigation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from edge.page.roles import Role
from edge.page.sessions import Caller
from edge.page.static_files import StaticFiles
from edge.page.texts import LANGUAGES, Texts, language_of

TEMPLATES = Path(__file__).with_name("templates")
THEMES = ("auto", "light", "dark")


@dataclass(frozen=True)
class Place:
    """An entry of the navigation: the key of its text, where it leads, and who sees it."""

    key: str
    path: str
    role: Role = Role.LOOK


class Renderer:
    """Renders the templates of this folder."""

    def __init__(
        self, texts: Texts, static: StaticFiles, places: Sequence[Place], station: str
    ) -> None:
        """station: the name that every page shows."""
        self.texts, self._places, self._station = texts, places, station
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {"static": static.link, "languages": LANGUAGES, "themes": THEMES}

    def page(
        self, request: Request, template: str, status: int = 200, **values: object
    ) -> HTMLResponse:
        """The template, rendered for who has sent this request.

        In every template: t("key", name=value) gives a text and number(value, digits) a number in
        the reader's language; caller is who has logged in, or None.
        """
        language = self.language(request)
        caller: Caller | None = getattr(request.state, "caller", None)
        known = {
            "t": self.teller(request),
            "number": _number_writer(language),
            "texts_below": lambda prefix: self.texts.below(language, prefix),
            "language": language,
            "theme": theme_of(request),
            "caller": caller,
            "places": self._places_of(caller),
            "path": request.url.path,
            "station": self._station,
        }
        text = self._templates.get_template(template).render(known | values)
        return HTMLResponse(text, status)

    def error(self, request: Request, status: int, problem: str = "") -> HTMLResponse:
        """A page that says that there is nothing, or nothing for this user.

        problem: what the station says about it, where it says something.
        """
        known = status if status in (403, 404) else 400
        return self.page(request, "error.html", status, what=f"error.{known}", problem=problem)

    def language(self, request: Request) -> str:
        """Of the reader."""
        accepted = request.headers.get("accept-language", "")
        return language_of(request.cookies.get("language"), accepted)

    def teller(self, request: Request) -> Callable[..., str]:
        """Gives the texts in the reader's language, by their keys."""
        language = self.language(request)

        def tell(key: str, **values: object) -> str:
            return self.texts.say(language, key, **values)

        return tell

    def _places_of(self, caller: Caller | None) -> list[Place]:
        if caller is None or caller.must_choose:
            return []
        return [place for place in self._places if caller.may(place.role)]


def theme_of(request: Request) -> str:
    """What the reader has chosen; "auto" follows the browser."""
    chosen = request.cookies.get("theme", "auto")
    return chosen if chosen in THEMES else "auto"


def page(request: Request, template: str, **values: Any) -> HTMLResponse:
    """As Renderer.page, for routes."""
    return page_with(200, request, template, **values)


def page_with(status: int, request: Request, template: str, **values: Any) -> HTMLResponse:
    """The same with another status: what was sent was refused."""
    renderer = cast("Renderer", request.app.state.context.renderer)
    return renderer.page(request, template, status, **values)


def _number_writer(language: str) -> Callable[..., str]:
    def write(value: float | None, digits: int = 0) -> str:
        """With thousands and decimal signs as the language has them; a dash for None."""
        if value is None:
            return "–"
        text = f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if language == "de" else text

    return write
