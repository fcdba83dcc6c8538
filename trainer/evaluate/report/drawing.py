"""One chart as SVG text inside a page: sharp when printed, no script, no font and no file to load.

Drawn by matplotlib, which is imported at use, so that `trainer --help` stays quick. The same values
give the same bytes: ids come from a fixed salt, and no date is written. Every chart is as wide as
half a page or a narrow window, so that its text is readable in both.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Literal

WIDTH_IN, HEIGHT_IN = 5.3, 3.0
STYLE: dict[str, object] = {
    "svg.hashsalt": "rgbd-inspection",
    "svg.fonttype": "none",  # text stays text: small, searchable
    "text.parse_math": False,  # a product may be called "$5"
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that layouts do not depend on fonts
    "font.size": 9,
    "axes.labelcolor": "#1c2733",
    "axes.edgecolor": "#9aa8b5",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e9eef2",
    "xtick.color": "#5d6b7a",
    "ytick.color": "#5d6b7a",
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.2,
}
FONTS = "'DejaVu Sans', Verdana, system-ui, sans-serif"


class Chart:
    """One pair of axes, and the SVG of it when everything is drawn."""

    def __init__(self, name: str, title: str, figure: Any) -> None:
        self.name, self.title, self.figure = name, title, figure
        self.axes = figure.subplots()
        self.svg = ""

    def label(self, along: str, up: str = "") -> None:
        """Say what the axes mean."""
        self.axes.set_xlabel(along)
        self.axes.set_ylabel(up)

    def legend(self, columns: int = 3) -> None:
        """Above the axes, where it hides nothing."""
        self.axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns)

    def logarithmic(self, which: Literal["x", "y"]) -> None:
        """Make an axis logarithmic, with plain numbers at its ticks."""
        from matplotlib.ticker import LogLocator, NullFormatter

        axis = self.axes.xaxis if which == "x" else self.axes.yaxis
        low, high = axis.get_view_interval()
        self.axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1000 else (1.0,)))
        axis.set_major_formatter(lambda value, _: number(value))
        axis.set_minor_formatter(NullFormatter())

    def close(self) -> None:
        """Turn what was drawn into SVG."""
        buffer = io.BytesIO()
        unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        self.figure.savefig(buffer, format="svg", metadata=unsaid, transparent=True)
        self.svg = _inline(buffer.getvalue().decode(), self.name, self.title)


@contextmanager
def chart(name: str, title: str, height_in: float = HEIGHT_IN) -> Iterator[Chart]:
    """A chart to draw into; `svg` is there after the block.

    Args:
        name: unique on its page. title: says what is seen, for readers who do not see it.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        made = Chart(name, title, Figure((WIDTH_IN, height_in), layout="constrained"))
        yield made
        made.close()


def number(value: float) -> str:
    """Write a number in four digits at most, as the terminal does: 0.002, 1.5, 1.632, 2e-05."""
    return f"{value:.4g}"


def _inline(document: str, name: str, title: str) -> str:
    """The <svg> of a matplotlib file, ready to stand in a page beside others: ids of its own, a
    title, no style that would hold for the whole page, and no address of a name space, which would
    look like a request.
    """
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href=", "href=").replace("'DejaVu Sans'", FONTS)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", svg)
    return re.sub(
        r"(<svg[^>]*)>",
        rf'\1 stroke-linejoin="round" role="img"><title>{escape(title)}</title>',
        svg,
        count=1,
    )
