"""Style sheet, script and icon: read once, and kept by browsers until they change."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, HTTPException
from starlette.responses import Response

FOLDER = Path(__file__).with_name("static")
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
FOREVER = "public, max-age=31536000, immutable"  # the link changes with the content


class StaticFiles:
    """The files of the folder static/."""

    def __init__(self) -> None:
        """Read them all: they are few and small."""
        self._files = {
            path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in KINDS
        }
        self._digests = {
            name: hashlib.sha256(data).hexdigest()[:12] for name, data in self._files.items()
        }

    def link(self, name: str) -> str:
        """Where a page finds the file. Raises: KeyError if there is none."""
        return f"/static/{name}?v={self._digests[name]}"

    def router(self) -> APIRouter:
        """Open to everybody: the page of the login needs them."""
        router = APIRouter()

        @router.get("/static/{name}", include_in_schema=False)
        async def file(name: str) -> Response:
            if name not in self._files:
                raise HTTPException(404)
            kind = KINDS[Path(name).suffix]
            return Response(self._files[name], media_type=kind, headers={"cache-control": FOREVER})

        return router
