"""report.html: one self-contained page that shows a quality manager what a detector finds and what
it misses.
"""

from trainer.evaluate.report.model import (
    Choice,
    Claim,
    KnownDefect,
    Occasion,
    Report,
    ReportedImage,
)
from trainer.evaluate.report.page import add_verdicts, write_report

__all__ = [
    "Choice",
    "Claim",
    "KnownDefect",
    "Occasion",
    "Report",
    "ReportedImage",
    "add_verdicts",
    "write_report",
]
