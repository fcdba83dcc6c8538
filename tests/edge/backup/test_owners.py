"""What belonged to the service's account belongs to it again, whatever its number is; and root
reads nothing that this account has put in its way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edge.backup.make import make_backup
from edge.backup.restore import restore_backup
from edge.station.root import DATA
from edge.station.store import Store
from tests.support.station import StationRoot

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can act for another account: run as root"
)
BEFORE, NOW = 65533, 65534  # accounts that own nothing else
SECRET = "etc/edge/broker.password"


@pytest.fixture
def reached() -> Iterator[Path]:
    """A folder that every account reaches, unlike pytest's own."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def owned(station: StationRoot, reached: Path) -> Store:
    """A station whose service has the account BEFORE."""
    copy = station.copied_to(reached / "old")
    for path in [copy.root / DATA, *(copy.root / DATA).rglob("*"), copy.root / SECRET]:
        os.chown(path, BEFORE, BEFORE, follow_symlinks=False)
    return copy.store


def test_owners_and_modes(owned: Store, reached: Path) -> None:
    make_backup(owned, reached / "b")
    assert (reached / "b").stat().st_uid == 0
    new = Store(reached / "new")
    new.data.mkdir(parents=True)
    os.chown(new.data, NOW, NOW)
    restore_backup(new, reached / "b")
    told = {path.lstat().st_uid for path in new.data.rglob("*")}
    assert told == {NOW}
    for name, uid, mode in [
        (SECRET, NOW, 0o600),
        ("etc/edge/station.toml", 0, 0o644),
        ("etc/edge/trust", 0, 0o755),
        (f"{DATA}/station.key", NOW, 0o600),
        (f"{DATA}/page", NOW, 0o700),
    ]:
        about = (new.root / name).stat()
        assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (uid, uid, mode), name
    assert {path.stat().st_uid for path in new.trust_folder.iterdir()} == {0}


def test_a_link_or_second_name_leads_root_nowhere(owned: Store, reached: Path) -> None:
    secret = reached / "secret"
    secret.write_text("nobody's business")
    secret.chmod(0o600)
    (owned.data / "link").symlink_to(secret)
    os.link(secret, owned.data / "hard")
    (owned.data / "folder").symlink_to(reached)
    (owned.data / "products" / "washer" / "previous").symlink_to("../../../../../secret")
    os.mkfifo(owned.data / "pipe")
    made = make_backup(owned, reached / "b")
    assert b"nobody's business" not in (reached / "b").read_bytes()
    passed = {one.name.name for one in made.passed}
    assert passed == {"link", "hard", "folder", "previous", "pipe"}
