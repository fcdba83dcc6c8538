"""Whose bundles a station takes: ids that belong to their keys, keys that nobody can forge for,
products, list, remove.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge.bundle.curve import FIELD, is_sound_point
from edge.bundle.key_files import key_id, read_public_key
from edge.bundle.signature import sign_manifest
from edge.errors import BundleError, ConfigError
from edge.install.install import install_bundle
from edge.install.proven import open_proven_engine
from edge.station.audit import read_audit
from edge.station.store import Store
from edge.station.trust import trust
from tests.support.mistakes import Run, refused
from tests.support.root import Bundles, snapshot, trusting_root
from tests.support.tiny_bundle import KeyPair, make_key

pytestmark = pytest.mark.timeout(120)

# RFC 8032's curve: the y of the points of order 1, 2, 4 and 8; with either sign they are the eight
# of small order.
ORDER_8 = (
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
)
SMALL = [
    1,
    FIELD - 1,
    0,
    *(int.from_bytes(bytes.fromhex(y), "little") & ((1 << 255) - 1) for y in ORDER_8),
]
NOT_CANONICAL = [FIELD, FIELD + 1, *range(FIELD + 2, 1 << 255)]


@pytest.fixture
def installed(tmp_path: Path, key: KeyPair, bundles: Bundles) -> Store:
    store = trusting_root(tmp_path / "station", key)
    install_bundle(bundles("washer"), store.root)
    return store


def pub_file(path: Path, public: str, keyid: str | None = None) -> Path:
    about = {
        "keyid": keyid or key_id(public),
        "keytype": "ed25519",
        "scheme": "ed25519",
        "keyval": {"public": public},
    }
    path.write_text(json.dumps(about))
    return path


# --- ids and points ---


def test_a_foreign_key_under_a_known_id_replaces_nothing(
    installed: Store, key: KeyPair, tmp_path: Path, run
) -> None:
    stranger = make_key(tmp_path, "stranger")
    forged = json.loads(stranger.public.read_bytes()) | {"keyid": read_public_key(key.public).keyid}
    (tmp_path / "forged.pub").write_text(json.dumps(forged))
    before = snapshot(installed.root)
    said = refused(
        run("edge", "trust", tmp_path / "forged.pub", "--root", installed.root),
        "edge",
        "forged.pub",
    )
    assert "carries the id" in said
    assert snapshot(installed.root) == before
    installed.verify(installed.active())


def test_a_file_in_the_folder_of_keys_is_checked_whenever_it_is_read(
    installed: Store, key: KeyPair, bundles, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path, "stranger")
    path = installed.trust_folder / f"{read_public_key(key.public).keyid}.pub"
    honest = path.read_bytes()
    forged = json.loads(stranger.public.read_bytes())
    for content, words in (
        (json.dumps(forged | {"keyid": path.stem}), "carries the id"),
        (json.dumps(forged), "another key"),
        ("{}", "is not a public key"),
        (honest.decode().replace('"scheme":', '"scheme": "x", "scheme":'), "is not a public key"),
        (" " * 20_000, "larger than 16 KiB"),
    ):
        path.write_text(content)
        for act in (
            lambda: installed.verify(installed.active()),
            lambda: open_proven_engine(installed, installed.active()),
            lambda: install_bundle(bundles("washer"), installed.root),
            installed.keys.all,
        ):
            with pytest.raises(ConfigError, match=rf"{words}.*edge trust"):
                act()
    path.write_bytes(honest)
    (installed.trust_folder / "copy.pub").write_bytes(honest)
    with pytest.raises(ConfigError, match="same key: remove one of them"):
        installed.keys.all()


def test_a_key_that_somebody_laid_there_by_hand_goes_on_working(
    installed: Store, key: KeyPair
) -> None:
    path = installed.trust_folder / f"{read_public_key(key.public).keyid}.pub"
    path.unlink()
    (installed.trust_folder / "line.pub").write_bytes(key.public.read_bytes())
    installed.verify(installed.active())
    trust(installed, key.public, ["washer"])
    assert [path.name for path in installed.trust_folder.iterdir()] == ["line.pub"]
    assert installed.keys.all()[0].products == ("washer",)


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", [*SMALL, *NOT_CANONICAL])
def test_points_that_anybody_can_sign_for_are_refused(tmp_path: Path, y: int, sign: int) -> None:
    public = (y | sign << 255).to_bytes(32, "little").hex()
    assert not is_sound_point(bytes.fromhex(public))
    with pytest.raises(ConfigError, match=r"no sound Ed25519 key.*do not trust it"):
        trust(Store(tmp_path / "root"), pub_file(tmp_path / "small.pub", public))
    assert not (tmp_path / "root").exists()


def test_honest_keys_are_sound_and_keep_the_id_that_they_were_made_with(tmp_path: Path) -> None:
    for number in range(16):
        assert read_public_key(make_key(tmp_path, str(number)).public).keytype == "ed25519"
    # RFC 8032, section 7.1, test 1; and two points that are not on the curve
    assert is_sound_point(
        bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    )
    assert not any(is_sound_point(y.to_bytes(32, "little")) for y in (2, 7))


@pytest.mark.parametrize("kind", ["fifo", "device", "utf16"])
def test_what_is_no_file_of_text_is_refused_and_not_waited_for(
    tmp_path: Path, key: KeyPair, run, kind: str
) -> None:
    path = tmp_path / "stranger.pub"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "utf16":
        path.write_bytes(key.public.read_text().encode("utf-16"))
    else:
        path = Path("/dev/zero")
    said = refused(run("edge", "trust", path, "--root", tmp_path / "station"), "edge", str(path))
    assert {"fifo": "a named pipe", "device": "a device", "utf16": "UTF-16"}[kind] in said
    assert not (tmp_path / "station").exists()


def test_a_pipe_in_place_of_station_toml_is_refused(installed: Store, run: Run) -> None:
    path = installed.root / "etc/edge/station.toml"
    path.unlink()
    os.mkfifo(path)
    for verb in ("status", "verify", "run"):
        refused(run("edge", verb, "--root", installed.root), "edge", str(path), "a named pipe")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_signing_key_that_others_may_read_signs_nothing(tmp_path: Path, mode: int) -> None:
    pair = make_key(tmp_path)
    pair.private.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {pair.private}"):
        sign_manifest(b"manifest", pair.private)
    pair.private.chmod(0o600)
    sign_manifest(b"manifest", pair.private)


# --- products ---


def test_a_key_that_is_limited_to_products_signs_no_other(
    tmp_path: Path, key: KeyPair, bundles, run: Run
) -> None:
    root = tmp_path / "station"
    answer = run(
        "edge", "trust", key.public, "--product", "gear", "--product", "washer", "--root", root
    )
    assert answer.code == 0
    assert "for gear, washer only. Next: `edge install BUNDLE`" in answer.out
    refused(
        run("edge", "install", bundles("screw"), "--root", root),
        "edge",
        "product screw",
        "gear, washer only",
    )
    assert run("edge", "install", bundles("washer"), "--root", root).code == 0
    store = Store(root)
    refused(
        run("edge", "trust", key.public, "--product", "gear", "--root", root),
        "edge",
        "washer",
        "--force",
    )
    store.verify(store.active())
    assert (
        run("edge", "trust", key.public, "--product", "gear", "--force", "--root", root).code == 0
    )
    for act in (
        lambda: store.verify(store.active()),
        lambda: open_proven_engine(store, store.active()),
    ):
        with pytest.raises(BundleError, match=r"product washer.*trusted here for gear only"):
            act()
    assert run("edge", "trust", key.public, "--root", root).out.endswith(
        "for every product. Next: `edge install BUNDLE`\n"
    )
    store.verify(store.active())
    rows = [row.detail for row in read_audit(root) if row.act == "trust"]
    assert [(row["products"], row.get("before")) for row in rows] == [
        (["gear", "washer"], None),
        (["gear"], ["gear", "washer"]),
        ([], ["gear"]),
    ]


def test_a_second_signature_may_be_the_one_that_allows_the_product(
    tmp_path: Path, key: KeyPair
) -> None:
    from edge.bundle.signature import verify_signature

    other, manifest = make_key(tmp_path, "other"), b'{"product": "washer"}'
    signature = sign_manifest(manifest, key.private, other.private)
    store = Store(tmp_path / "station")
    trust(store, key.public, ["gear"])
    with pytest.raises(BundleError, match="gear only"):
        verify_signature(manifest, signature, store.keys.all())
    trust(store, other.public, ["washer"])
    assert (
        verify_signature(manifest, signature, store.keys.all()).keyid
        == read_public_key(other.public).keyid
    )


@pytest.mark.parametrize("name", ["", "a/b", "../x", "x" * 65, "a\n"])
def test_a_product_that_cannot_be_one(tmp_path: Path, key: KeyPair, name: str) -> None:
    with pytest.raises(ConfigError, match="--product"):
        trust(Store(tmp_path / "station"), key.public, [name])
    assert not (tmp_path / "station").exists()


# --- list and remove ---


def test_options_may_come_first(tmp_path: Path, key: KeyPair, run: Run) -> None:
    assert run("edge", "trust", "--root", tmp_path / "station", key.public).code == 0
    assert [one.keyid for one in Store(tmp_path / "station").keys.all()] == [
        read_public_key(key.public).keyid
    ]


def test_list_shows_id_since_when_by_whom_and_products(
    tmp_path: Path, key: KeyPair, run: Run
) -> None:
    root = tmp_path / "station"
    assert "no key is trusted" in run("edge", "trust", "list", "--root", root).out
    assert not root.exists()
    run("edge", "trust", "add", key.public, "--product", "washer", "--root", root)
    row = read_audit(root)[-1]
    listed = run("edge", "trust", "list", "--root", root).out
    assert (
        listed
        == f"{row.detail['keyid']}  since {listed.split()[2]} by {row.who}, products: washer\n"
    )
    assert listed.split()[2][:19] == row.at[:19]


def test_a_removed_key_vouches_for_nothing_and_the_audit_tells_it(
    installed: Store, key: KeyPair, run: Run
) -> None:
    keyid = read_public_key(key.public).keyid
    before = snapshot(installed.root)
    refused(
        run("edge", "trust", "remove", keyid[:12], "--root", installed.root),
        "edge",
        "washer",
        "--force",
    )
    assert list(before) == list(snapshot(installed.root))
    installed.verify(installed.active())
    answer = run("edge", "trust", "remove", key.public, "--force", "--root", installed.root)
    assert answer.code == 0
    assert "not vouched for any more: washer" in answer.out
    with pytest.raises(BundleError, match="does not trust"):
        installed.verify(installed.active())
    row = read_audit(installed.root)[-1]
    assert (row.act, row.detail["keyid"], row.detail["orphans"]) == ("distrust", keyid, ["washer"])
    assert run("edge", "trust", "list", "--root", installed.root).out.startswith(
        "no key is trusted"
    )


def test_a_key_that_vouches_for_nothing_that_is_current_is_removed_at_once(
    installed: Store, tmp_path: Path, run: Run
) -> None:
    other = read_public_key(make_key(tmp_path, "other").public)
    trust(installed, tmp_path / "other.pub")
    assert run("edge", "trust", "remove", other.keyid[:8], "--root", installed.root).code == 0
    assert other.keyid not in [key.keyid for key in installed.keys.all()]


@pytest.mark.parametrize("name", ["0123456789", "a", "", "nowhere.pub", "../../etc"])
def test_removing_a_key_that_is_not_there(installed: Store, run: Run, name: str) -> None:
    before = snapshot(installed.root)
    refused(run("edge", "trust", "remove", name, "--root", installed.root), "edge")
    assert snapshot(installed.root) == before
