"""From a document to the bytes of one HTML file that needs no other file, script or network."""

from __future__ import annotations

from pathlib import Path

from edge.report.charts import COLORS
from edge.report.document import Document


def render(document: Document) -> bytes:
    """The page in UTF-8. Every text in it is escaped; charts are the only markup from outside."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    colors = {code.name: color for code, color in COLORS.items()}
    page = environment.get_template("report.html").render(report=document, colors=colors)
    return page.encode()
