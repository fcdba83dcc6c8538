"""What pyproject.toml cannot say: a wheel carries the date of its build (edge/built.py)."""

import os
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def build_s() -> int:
    """Seconds since 1970: SOURCE_DATE_EPOCH, else now, and not before the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given.isdecimal():
        return int(given)
    words = ["git", "log", "-1", "--format=%ct"]
    try:
        found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        found = ""
    return max(int(time.time()), int(found) if found.isdecimal() else 0)


class BuildWithDate(build_py):
    """The modules, and the date in one of them. A source checkout has none."""

    def run(self) -> None:
        """Copy the modules, then write the date."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "edge/built.py"
            date = datetime.fromtimestamp(build_s(), timezone.utc).isoformat()
            text = (ROOT / "edge/built.py").read_text().replace('BUILT = ""', f'BUILT = "{date}"')
            target.unlink(missing_ok=True)  # never a link into the sources
            target.write_text(text)


setup(cmdclass={"build_py": BuildWithDate})
