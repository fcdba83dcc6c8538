"""Process 1 of the machine is killed at random moments of a start, of judging, of an installation,
of a rollback and of an upgrade of the package. Everything in it dies with SIGKILL, the kernel runs
on: no power cut.

After each boot the station judges by itself, with the old or the new bundle, whole and proven. At
the end no record is missing and no verdict came twice.

`make endurance` kills 100 times and prints a table. Otherwise: KILLS=10 SEED=3 pytest -s -m long
tests/packaging/booted/test_kills.py.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.station.store import Store
from tests.support.booted import BootedRoot
from tests.support.booted_station import configure, installed_version, newer_package, put
from tests.support.broker import Broker, Subscriber, assert_archive_is_complete, wait_until
from tests.support.patience import HANG_S, slowness

KILLS, SEED = int(os.environ.get("KILLS", "100")), int(os.environ.get("SEED", "7"))
INSTALL_S = 120.0  # of a package, on a quiet machine
VERSIONS = ("1.0.0", "2.0.0")
EVERY = 10  # kills, of which one is of an upgrade of the package, which takes the longest


@dataclass(frozen=True)
class Act:
    """What goes on when the machine dies. command: of its shell; blank where nobody gives one.

    span_s: the kill comes within this time, on a quiet machine.
    """

    name: str
    command: str
    span_s: float


RUN, START = Act("judging", "", 4.0), Act("start", "", 4.0)
ROLLBACK = Act("rollback", "edge bundle rollback", 2.0)


def installing(version: str) -> Act:
    return Act("edge install", f"edge install /srv/washer-{version}.bundle --allow-downgrade", 5.0)


def upgrading(path: str) -> Act:
    return Act("package", f"EDGE_DOWNGRADE=yes dpkg -i {path}", 40.0)


def acts_at_random(chance: random.Random, packages: list[str]) -> list[Act]:
    """KILLS of them; the packages take turns."""
    acts = []
    for number in range(1, KILLS + 1):
        if number % EVERY == 0:
            acts.append(upgrading(packages[number // EVERY % 2]))
        else:
            version = chance.choice(VERSIONS)
            acts.append(
                chance.choice([RUN, START, ROLLBACK, installing(version), installing(version)])
            )
    return acts


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_a_machine_that_dies_at_any_moment_judges_again(
    station: BootedRoot, package: Path, broker: Broker, archive: Subscriber, tmp_path: Path
) -> None:
    configure(station, broker.port)
    station.run("systemctl enable edge")
    station.run("edge install /srv/washer-2.0.0.bundle")
    packages = [put(station, package), put(station, newer_package(package, tmp_path))]
    chance, slowest, done = random.Random(SEED), slowness(), Counter[str]()
    station.reboot()
    for act in acts_at_random(chance, packages):
        if act is not START:
            require_judging(station, archive, act.name)
        dying = station.start(act.command or "true")
        time.sleep(chance.uniform(0.0, act.span_s * slowest))
        station.reboot()
        dying.wait(HANG_S)
        done[act.name] += 1
        if act.name == "package":
            end_what_was_begun(station, archive, act)
    require_judging(station, archive, "the last one")
    station.run("systemctl stop edge")
    require_nothing_lost(archive)
    print(f"seed {SEED}: {sum(done.values())} kills: {dict(done)}")


def require_judging(station: BootedRoot, archive: Subscriber, last: str) -> None:
    """A new verdict, by one of the two bundles, whose every digest and proof holds."""
    seen = len(archive.of("verdict"))
    wait_until(lambda: len(archive.of("verdict")) > seen, HANG_S, f"it does not judge after {last}")
    active = Store(station.root).active()
    assert active.manifest.version in VERSIONS
    verified = station.run("edge verify", check=False)
    assert verified.returncode == 0, f"after {last}: {verified.stdout}{verified.stderr}"


def end_what_was_begun(station: BootedRoot, archive: Subscriber, act: Act) -> None:
    """The station judges on half a package too; dpkg ends it, or begins anew."""
    require_judging(station, archive, act.name)
    ended = station.run("dpkg --configure -a", check=False, timeout_s=INSTALL_S)
    assert ended.returncode == 0, ended.stderr
    if not installed_version(station).startswith("installed "):
        station.run(act.command, timeout_s=INSTALL_S)
    assert station.run("dpkg --audit").stdout == ""
    assert station.run("edge --version").stdout


def require_nothing_lost(archive: Subscriber) -> None:
    """Every number that was given to a part has its record, and at most one verdict."""
    newest = max(record["seq"] for record in archive.records())
    assert_archive_is_complete(archive.records(), list(range(1, newest + 1)))
    verdicts = [message.json["seq"] for message in archive.of("verdict")]
    assert len(set(verdicts)) == len(verdicts)
    assert newest >= KILLS
