"""Every text of the page, in every language, from texts.toml beside this file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # JetPack 6 is Python 3.10

PLACE = Path(__file__).with_name("texts.toml")
LANGUAGES = {"en": "English", "de": "Deutsch"}


class Texts:
    """The texts by their keys, such as "login.title"."""

    def __init__(self, by_language: Mapping[str, Mapping[str, str]]) -> None:
        """by_language: language to key to text."""
        self._texts = by_language

    def say(self, language: str, key: str, **values: object) -> str:
        """The text, with {names} in it replaced. Raises: KeyError if there is none."""
        text = self._texts[language][key]
        return text.format(**values) if values else text

    def below(self, language: str, prefix: str) -> dict[str, str]:
        """The texts whose keys begin with "prefix.", by the rest of the key."""
        begins = f"{prefix}."
        return {
            key.removeprefix(begins): text
            for key, text in self._texts[language].items()
            if key.startswith(begins)
        }

    def keys(self, language: str) -> set[str]:
        """Of one language."""
        return set(self._texts[language])


def read_texts(path: Path = PLACE) -> Texts:
    """The file's texts."""
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    by_language: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for key, language, text in _leaves(read, ""):
        by_language[language][key] = text
    return Texts(by_language)


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, str]]:
    """(key, language, text)."""
    for name, value in table.items():
        if isinstance(value, str):
            yield prefix, name, value
        else:
            yield from _leaves(value, f"{prefix}.{name}".lstrip("."))


def language_of(chosen: str | None, accepted: str) -> str:
    """The language to use: what was chosen, else the first known one of the header
    Accept-Language, else English.
    """
    if chosen in LANGUAGES:
        return str(chosen)
    wanted = (part.split(";")[0].strip()[:2].lower() for part in accepted.split(","))
    return next((language for language in wanted if language in LANGUAGES), "en")
