"""The station: its settings, trusted keys, bundle, engine and service."""

from __future__ import annotations

from pathlib import Path

from edge.config import PLACE, read_config, require_name
from edge.doctor.finding import Finding, Subject, right, unknown, wrong
from edge.engine.machine import this_machine
from edge.install.proof_file import read_proof
from edge.install.summary import find_judge, unsettled_lines
from edge.runtime.status import SILENT_S
from edge.runtime.status_file import read_live
from edge.units import UNITS

UNIT_PLACES = (UNITS, Path("usr/lib/systemd/system"), Path("lib/systemd/system"))
WANTED = UNITS / "multi-user.target.wants/edge.service"
INSTALL = "`edge install BUNDLE`"
STARTS = "`sudo systemctl enable --now edge`"
STOPPED = "`journalctl -u edge` says why, `sudo systemctl start edge` starts it"


def settings(subject: Subject) -> Finding:
    """Whether station.toml can be used, and the station has a name."""
    root = subject.store.root
    require_name(read_config(root), root)
    name = subject.config.station
    if not (root / PLACE).exists():
        return unknown(f"there is no {PLACE} yet", f"{INSTALL} writes it")
    return right(f"{name.site}/{name.line}/{name.station}")


def trust(subject: Subject) -> Finding:
    """Whether the station trusts somebody's bundles."""
    keys = subject.store.keys.all()
    if not keys:
        return wrong("no key is trusted, so no bundle is accepted", "`edge trust KEY.pub`")
    return right(", ".join(key.keyid[:12] for key in keys))


def bundle(subject: Subject) -> Finding:
    """Whether what is active is as it was signed."""
    product = subject.store.active_product()
    if product is None:
        return wrong("none is installed", INSTALL)
    installed = subject.store.installed(product)
    subject.store.verify(installed)
    return right(f"{product} {installed.manifest.version}, as it was signed")


def engine(subject: Subject) -> Finding | None:
    """Whether an engine that may judge was proven on this machine."""
    product = subject.store.active_product()
    if product is None:
        return None
    installed = subject.store.installed(product)
    proof = read_proof(subject.store, installed)
    if proof is None or proof.state == "pending":
        return unknown(
            "not proven yet", "the first `edge run` builds and proves it, which takes minutes"
        )
    if subject.is_here and proof.board != this_machine():
        return wrong(
            f"proven on another machine, {proof.board}",
            "`edge verify` tries it here; `edge run` proves it anew",
        )
    judge, why = find_judge(subject.store, installed)
    if judge is None or judge.section is None:
        return wrong(why, "`edge verify` says more")
    return right(f"{judge.name}, {judge.section.time_ms:.1f} ms, proven on {proof.board}")


def calibration(subject: Subject) -> Finding | None:
    """Whether what was shown on site was shown under the plane, crop and region in force."""
    product = subject.store.active_product()
    if product is None:
        return None
    lines = unsettled_lines(subject.store, subject.store.installed(product))
    if not lines:
        return right("nothing that was shown on site is out of date")
    return wrong("; ".join(lines), "show the parts again, as it says")


def service(subject: Subject) -> Finding:
    """What the running station says, and whether it starts with the machine."""
    root, live = subject.store.root, read_live(subject.store)
    if live is None and subject.is_here and (root / WANTED).is_symlink():
        return wrong("it starts with the machine, and is not running", STOPPED)
    if live is None:
        return unknown("the station is not running", STARTS)
    if not live.said:
        return unknown("it opens its engine, and does not judge yet", "wait, then ask again")
    if live.age_s > SILENT_S:
        return wrong(f"it has said nothing for {live.age_s:.0f} s", "`journalctl -u edge`")
    if live.said["state"] != "online":
        why = live.said.get("why") or live.said["reason"]
        return wrong(f"{live.said['state']}: {why}", "docs/troubleshooting.md")
    has_unit = any((root / place / "edge.service").exists() for place in UNIT_PLACES)
    if has_unit and not (root / WANTED).is_symlink():
        return wrong("online, but it does not start with the machine", STARTS)
    return right("online")
