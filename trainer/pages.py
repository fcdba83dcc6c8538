"""HTML pages that the trainer writes: whatever a name contains stays text."""

from __future__ import annotations

from pathlib import Path

import jinja2


def page_environment(folder: Path) -> jinja2.Environment:
    """For the templates in a folder. A name that a template does not get is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
