"""edge-page.service: fewer rights than the station, and behind it in everything."""

from __future__ import annotations

import configparser
from importlib import resources

from edge.page.vault import PLACE
from edge.provision.first_files import UNIT_NAMES


def settings(name: str) -> configparser.SectionProxy:
    # some keys of systemd stand several times and add up
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(
        resources.files("edge.provision").joinpath(f"systemd/{name}").read_text(encoding="utf-8")
    )
    return parser["Service"]


def test_it_has_less_rights_than_the_station_and_its_account() -> None:
    station, page = settings("edge.service"), settings("edge-page.service")
    assert "edge-page.service" in UNIT_NAMES
    assert page["ExecStart"].split()[1:] == ["-I", "-m", "edge.page", "--root", "/"]
    assert (page["User"], page["Restart"]) == (station["User"], "always")
    hardening = {key for key in station if key.startswith(("Protect", "Restrict", "Lock", "NoNew"))}
    for key in hardening - {"RestrictAddressFamilies"}:
        assert page[key] == station[key], key
    assert set(page["RestrictAddressFamilies"].split()) == {"AF_UNIX", "AF_INET", "AF_INET6"}
    assert (page["PrivateDevices"], page["CapabilityBoundingSet"]) == ("yes", "")
    assert "SupplementaryGroups" not in page, "it needs no camera and no GPU"
    assert f"var/lib/{page['StateDirectory']}" in [str(place) for place in PLACE.parents]


def test_it_comes_after_the_station_in_everything() -> None:
    page = settings("edge-page.service")
    assert int(page["Nice"]) > 0
    assert int(page["CPUWeight"]) < 100
    assert page["IOSchedulingClass"] == "idle"
    assert page["MemoryMax"] == "300M"
