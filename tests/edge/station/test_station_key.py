"""The station's own key: made once, private, and never replaced by itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.bundle.key_files import read_public_key
from edge.errors import ConfigError
from edge.station.audit import read_audit
from edge.station.station_key import FILE, PUBLIC, find_station_key, open_signer, public_key_of
from edge.station.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_made_at_its_first_use_and_kept(store: Store) -> None:
    assert find_station_key(store) is None
    first, again = open_signer(store), open_signer(store)
    assert first.public_key.keyid == again.public_key.keyid
    key = store.data / FILE
    assert oct(key.stat().st_mode)[-3:] == "600"
    assert key.stat().st_nlink == 1
    assert read_public_key(store.data / PUBLIC) == public_key_of(first)
    assert find_station_key(store) == public_key_of(first)
    (row,) = read_audit(store.root)
    assert (row.act, row.detail) == ("station key", {"keyid": first.public_key.keyid})
    assert [path.name for path in store.data.glob(".*")] == []


def test_many_at_once_make_one(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = {
            signer.public_key.keyid for signer in pool.map(lambda _: open_signer(store), range(16))
        }
    assert len(ids) == 1
    assert len(read_audit(store.root)) == 1


def test_a_key_that_others_may_read_signs_nothing(store: Store) -> None:
    open_signer(store)
    (store.data / FILE).chmod(0o644)
    with pytest.raises(ConfigError, match=r"the station's own key.*open to other accounts"):
        open_signer(store)


def test_a_damaged_key_is_not_replaced(store: Store) -> None:
    open_signer(store)
    (store.data / FILE).write_bytes(b"-----BEGIN PRIVATE KEY-----\nnonsense")
    with pytest.raises(ConfigError, match=r"own key cannot be used.*move it away and keep it"):
        open_signer(store)
    assert (store.data / FILE).read_bytes().endswith(b"nonsense")


def test_the_public_half_is_made_again(store: Store) -> None:
    signer = open_signer(store)
    (store.data / PUBLIC).unlink()
    open_signer(store)
    assert find_station_key(store) == public_key_of(signer)
