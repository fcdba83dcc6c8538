"""Adding and removing a key that a station trusts: `edge trust` and `edge trust remove`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.bundle.key_files import PublicKey, Trust, read_public_key
from edge.errors import ConfigError
from edge.files import make_folder, sync_directory, write_atomically
from edge.station import audit
from edge.station.claims import claim
from edge.station.keys import TrustedKeys
from edge.station.root import TRUST, RootFolder
from edge.station.switch import PRODUCT


def trust(
    station: RootFolder, public: Path, products: Sequence[str] = (), force: bool = False
) -> PublicKey:
    """Trust the key in a .pub file from now on, for these products or for all. The same again
    changes nothing.

    Raises: ConfigError if the file is not a public key, a product's name is none, or a current
        bundle of another product needs the key and `force` is not given.
    """
    key, keys = read_public_key(public), TrustedKeys(station)
    wanted = tuple(sorted(set(products)))
    for product in wanted:
        if not PRODUCT.fullmatch(product):
            raise ConfigError(
                f"--product {product!r} is no name of a product: letters, digits, . _ - (at"
                " most 64)"
            )
    with station.change("edge trust"):
        known = next((one for one in keys.all() if one.keyid == key.keyid), None)
        if known is not None and known.products == wanted:
            return known
        if known is not None and not force:
            lost = [
                product
                for product in keys.vouched_only_by(known)
                if wanted and product not in wanted
            ]
            _require_vouched(key, lost)
        now = Trust(since=audit.now_utc(), by=audit.current_user(), products=wanted)
        trusted = key.model_copy(update={"trust": now})
        about = {"keyid": key.keyid, "public": key.keyval.public, "products": list(wanted)}
        before = {} if known is None else {"before": list(known.products)}
        claim(station, "trust", {**about, **before})
        with station.inside(TRUST):
            make_folder(station.trust_folder)
            write_atomically(keys.file_of(key.keyid), trusted.to_json())
    return trusted


def distrust(station: RootFolder, keyid: str, force: bool = False) -> list[str]:
    """Trust a key no more; returns the products whose current bundle only this key vouched for.

    keyid: its id, or the beginning of it that no other key has. force: also where a current
    bundle needs it.
    Raises: ConfigError if no key here has this id, several begin with it, or a current bundle
        needs it and `force` is not given.
    """
    keys = TrustedKeys(station)
    keys.find(keyid)  # before anything is made under a root that may be mistyped
    with station.change("edge trust remove"):
        key = keys.find(keyid)
        orphans = keys.vouched_only_by(key)
        if not force:
            _require_vouched(key, orphans)
        about = {"keyid": key.keyid, "public": key.keyval.public, "orphans": orphans}
        claim(station, "distrust", about)
        with station.inside(TRUST):
            keys.file_of(key.keyid).unlink()
            sync_directory(station.trust_folder)
    return orphans


def _require_vouched(key: PublicKey, orphans: Sequence[str]) -> None:
    """Raises: ConfigError if the key is the only one that vouches for the current bundle of a
    product.
    """
    if orphans:
        raise ConfigError(
            f"key {key.keyid[:12]} alone vouches for what is installed ({', '.join(orphans)}):"
            " without it `edge run` does not start with that bundle. Install one first that"
            " another trusted key signed, or say --force"
        )
