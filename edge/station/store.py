"""The root of a station: which bundles lie there, which is active, and the site state of each
product.

    etc/edge/trust/KEYID.pub                           the key, since when, by whom, for which
                                                       products
    var/lib/edge/active                                one line: the active product
    var/lib/edge/products/PRODUCT/slots/SLOT/          an unpacked bundle; SLOT is VERSION-DIGEST12
    var/lib/edge/products/PRODUCT/current, previous    symbolic links to slots/SLOT

Readers need no lock: every change is one rename. Whoever changes something holds the lock
`change.lock` while it does, and works with the rights of the account that var/lib/edge belongs to
(edge.station.account).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle.archive import verify_folder
from edge.bundle.key_files import PublicKey, Trust, read_public_key
from edge.bundle.manifest import MANIFEST, MANIFEST_LIMIT, SIGNATURE, Manifest, parse_manifest
from edge.bundle.signature import verify_signature
from edge.errors import BundleError, ConfigError, StorageError
from edge.files import (
    is_there,
    make_folder,
    read_bytes,
    sentence_of,
    sync_directory,
    write_atomically,
)
from edge.schema import Precision, canonical_json
from edge.station import audit
from edge.station.account import acting_for, require_closed, require_plain
from edge.station.claims import claim, close_claim
from edge.station.lock import CHANGE, RUN, locked
from edge.station.site import (
    CameraGeometry,
    GeometryFile,
    ModelState,
    ModelStateFile,
    PackedRegion,
    PackedTensor,
    read_state,
)
from edge.station.switch import ACTIVE, PRODUCT, finish, is_slot, slot_of, switch
from edge.types import Geometry, Intrinsics

Which = Literal["current", "previous"]
DATA, TRUST = Path("var/lib/edge"), Path("etc/edge/trust")
KEY_NAME = re.compile(r"[0-9a-f]{64}\.pub")
TRUST_AGAIN = "remove it from there and run `edge trust` with the line's .pub file"
ACTIVE_LIMIT = 4 << 10  # bytes of `active`
SHORTEST_ID = 8  # digits of a key's id that name it
SERIAL = re.compile(r"[ -~]{1,64}")


@dataclass(frozen=True)
class Installed:
    """One bundle that lies in a slot. folder: its files, read only."""

    product: str
    folder: Path
    manifest: Manifest
    digest: str  # SHA-256 of manifest.json

    @property
    def slot(self) -> str:
        """VERSION-DIGEST12."""
        return self.folder.name

    @property
    def golden(self) -> Path:
        """The folder of golden frames."""
        return self.folder / "golden"

    @property
    def normal(self) -> Path:
        """The folder of normal frames, which a threshold is measured on."""
        return self.folder / "normal"

    @property
    def certificate(self) -> Path:
        """The parity certificate."""
        return self.folder / "parity.json"

    def model(self, precision: Precision) -> Path:
        """The ONNX file of one precision."""
        return self.folder / "model" / f"{precision}.onnx"


def slot_name(manifest: Manifest, digest: str) -> str:
    """VERSION-DIGEST12: the same bundle always lands in the same slot."""
    return f"{manifest.version}-{digest[:12]}"


class Store:
    """The bundles and site state under one root."""

    def __init__(self, root: Path) -> None:
        """root: the station's root, "/" on a device. Nothing is read or made yet."""
        self.root = root
        self.trust_folder = root / TRUST
        self.data = root / DATA
        self.active_file = self.data / ACTIVE
        self.engines = self.data / "engines"
        self.products_folder = self.data / "products"
        self.staging = (
            self.data / ".staging"
        )  # on the same file system as the slots: moving is one rename

    @contextmanager
    def change(self, who: str) -> Iterator[None]:
        """Hold the right to change this root, with the rights of the account it belongs to.

        Raises: BusyError naming the process that holds it, StorageError if a link or anything else
            stands where a folder or a file of the station belongs.
        """
        with self.inside(), locked(self.data, CHANGE, who):
            yield

    @contextmanager
    def inside(self, place: Path = DATA) -> Iterator[None]:
        """Work with the rights of the account that `place` under this root belongs to, where root
        runs this.

        Raises: StorageError as `change`.
        """
        with acting_for(self.root, place):
            if place == DATA:
                self._require_plain()
            yield

    @contextmanager
    def acting(self) -> Iterator[None]:
        """To look, whatever stands there: with the rights as `inside`, or one's own where root may
        not take others.
        """
        with ExitStack() as stack:
            with suppress(StorageError):
                stack.enter_context(acting_for(self.root, DATA))
            yield

    def _require_plain(self) -> None:
        require_closed([self.data, self.products_folder, self.engines], StorageError)
        products = [
            folder
            for folder in self.products_folder.glob("[!.]*")
            if PRODUCT.fullmatch(folder.name)
        ]
        require_plain(
            folders=[
                self.engines,
                self.products_folder,
                self.data / "parts",
                *products,
                *(folder / name for folder in products for name in ("slots", "site")),
            ],
            files=[
                self.active_file,
                self.data / CHANGE,
                self.data / RUN,
                *audit.database_files(self.root),
            ],
        )

    def is_writable(self) -> bool:
        """Whether this account may change what is kept under this root: not on a disk that is
        mounted read-only.
        """
        return os.access(self.data, os.W_OK | os.X_OK)

    def require_writable(self) -> None:
        """Raises: StorageError where nothing can be kept, for a command that would find out after
        minutes of work.
        """
        if not self.is_writable():
            raise StorageError(
                f"{self.data} cannot be written: use the account it belongs to, or sudo, and check"
                " that its disk is not mounted read-only"
            )

    # --- keys ---

    def trusted_keys(self) -> list[PublicKey]:
        """The keys this station trusts; empty for a fresh root.

        Raises: ConfigError if a key file is damaged, is of another key than its name says, two are
            of one key, or anybody may change them.
        """
        return list(self._keys().values())

    def _keys(self) -> dict[Path, PublicKey]:
        keys: dict[Path, PublicKey] = {}
        for path in [path for path in _entries(self.trust_folder) if path.suffix == ".pub"]:
            require_closed([self.trust_folder, path], ConfigError)
            try:
                key = read_public_key(path)
            except ConfigError as error:
                raise ConfigError(
                    f"a key that this station trusts: {error}; or {TRUST_AGAIN}"
                ) from error
            if KEY_NAME.fullmatch(path.name) and path.stem != key.keyid:
                raise ConfigError(
                    f"{path} holds another key ({key.keyid[:12]}) than its name says, somebody"
                    f" changed it: {TRUST_AGAIN}"
                )
            if key.keyid in (known.keyid for known in keys.values()):
                raise ConfigError(
                    f"{path} and another file beside it hold the same key: remove one of them"
                )
            keys[path] = key
        return keys

    def trusted_key(self, keyid: str) -> PublicKey:
        """The trusted key with this id, or the only one whose id begins so.

        Raises: ConfigError if there is none.
        """
        found = [key for key in self.trusted_keys() if key.keyid.startswith(keyid.lower())]
        if len(found) != 1 or len(keyid) < SHORTEST_ID:
            known = ", ".join(key.keyid[:12] for key in self.trusted_keys()) or "none"
            raise ConfigError(
                f"{keyid!r} is not one trusted key of {self.root} (trusted: {known}): name its .pub"
                f" file or at least {SHORTEST_ID} digits of its id"
            )
        return found[0]

    def trust(self, public: Path, products: Sequence[str] = (), force: bool = False) -> PublicKey:
        """Trust the key in a .pub file from now on, for these products or for all. The same again
        changes nothing.

        Raises: ConfigError if the file is not a public key, a product's name is none, or a current
            bundle of another product needs the key and `force` is not given.
        """
        key = read_public_key(public)
        wanted = tuple(sorted(set(products)))
        for product in wanted:
            if not PRODUCT.fullmatch(product):
                raise ConfigError(
                    f"--product {product!r} is no name of a product: letters, digits, . _ - (at"
                    " most 64)"
                )
        with self.change("edge trust"):
            known = next((one for one in self.trusted_keys() if one.keyid == key.keyid), None)
            if known is not None and known.products == wanted:
                return known
            if known is not None and not force:
                lost = [
                    product
                    for product in self._vouched_only_by(known)
                    if wanted and product not in wanted
                ]
                _require_vouched(key, lost)
            now = Trust(since=audit.now_utc(), by=audit.current_user(), products=wanted)
            trusted = key.model_copy(update={"trust": now})
            about = {"keyid": key.keyid, "public": key.keyval.public, "products": list(wanted)}
            before = {} if known is None else {"before": list(known.products)}
            claim(self, "trust", {**about, **before})
            with self.inside(TRUST):
                make_folder(self.trust_folder)
                write_atomically(self._file_of(key.keyid), trusted.to_json())
        return trusted

    def distrust(self, keyid: str, force: bool = False) -> list[str]:
        """Trust a key no more; returns the products whose current bundle only this key vouched for.

        keyid: its id, or the beginning of it that no other key has. force: also where a current
        bundle needs it.
        Raises: ConfigError if no key here has this id, several begin with it, or a current bundle
            needs it and `force` is not given.
        """
        self.trusted_key(keyid)  # before anything is made under a root that may be mistyped
        with self.change("edge trust remove"):
            key = self.trusted_key(keyid)
            orphans = self._vouched_only_by(key)
            if not force:
                _require_vouched(key, orphans)
            about = {"keyid": key.keyid, "public": key.keyval.public, "orphans": orphans}
            claim(self, "distrust", about)
            with self.inside(TRUST):
                self._file_of(key.keyid).unlink()
                sync_directory(self.trust_folder)
        return orphans

    def _file_of(self, keyid: str) -> Path:
        """The file that holds the key, or will: one that somebody has laid there keeps its name."""
        names = (path for path, key in self._keys().items() if key.keyid == keyid)
        return next(names, self.trust_folder / f"{keyid}.pub")

    def _vouched_only_by(self, key: PublicKey) -> list[str]:
        """Products whose current bundle is signed by this key and by no other that is trusted."""
        others = [one for one in self.trusted_keys() if one.keyid != key.keyid]
        found = []
        for product in self.products():
            folder = self._linked(product, "current")
            if folder is None:
                continue
            manifest, signature = (
                read_bytes(folder / name, BundleError, MANIFEST_LIMIT)
                for name in (MANIFEST, SIGNATURE)
            )
            if _is_signed(manifest, signature, [key]) and not _is_signed(
                manifest, signature, others
            ):
                found.append(product)
        return found

    # --- bundles ---

    def products(self) -> list[str]:
        """Products that have a current bundle, by name."""
        return [
            folder.name
            for folder in _entries(self.products_folder)
            if PRODUCT.fullmatch(folder.name) and self._linked(folder.name, "current") is not None
        ]

    def active_product(self) -> str | None:
        """The product that `edge run` judges, or None.

        Raises: BundleError if the file that names it is damaged.
        """
        if not is_there(self.active_file):
            return None
        name = (
            read_bytes(self.active_file, BundleError, ACTIVE_LIMIT).decode(errors="replace").strip()
        )
        if not PRODUCT.fullmatch(name):
            what = f"{self.active_file} does not name a product"
            raise BundleError(
                f"{what}: remove it, then run `edge bundle select PRODUCT --root {self.root}`"
            )
        return name

    def active(self) -> Installed:
        """The bundle that `edge run` judges with. Its files are not read but for the manifest: see
        `verify`.

        Raises: BundleError if no product is active, or its manifest is damaged.
        """
        product = self.active_product()
        if product is None:
            raise BundleError(
                f"no bundle is installed under {self.root}: run `edge install BUNDLE --root"
                f" {self.root}`"
            )
        return self.installed(product)

    def installed(self, product: str, which: Which = "current") -> Installed:
        """The current or previous bundle of a product.

        Raises: BundleError if there is none, or it is damaged.
        """
        is_name = PRODUCT.fullmatch(product) is not None
        folder = self._linked(product, which) if is_name else None
        if folder is None:
            known = ", ".join(self.products()) or "none"
            shown = product if is_name else repr(product)
            what = f"{shown} has no {which} bundle under {self.root} (installed products: {known})"
            raise BundleError(f"{what}: name one of those, or install a bundle with `edge install`")
        return self._read(folder.resolve(), product)

    def _linked(self, product: str, which: Which) -> Path | None:
        """The slot that `current` or `previous` points at; None where none lies there.

        A link elsewhere is none.
        """
        slot = self.link(product, which)
        folder = self.products_folder / product / "slots" / (slot or "")
        return folder if is_slot(folder) else None

    def slots(self, product: str) -> list[Installed]:
        """Every bundle of a product that lies in a slot, the active or not, by slot name."""
        folders = _entries(self.products_folder / product / "slots")
        return [self._read(folder.resolve(), product) for folder in folders if is_slot(folder)]

    def link(self, product: str, which: Which) -> str | None:
        """The slot that `current` or `previous` points at, or None."""
        return slot_of(self.products_folder / product / which)

    def token(self) -> tuple[str | None, str | None]:
        """What is active, as (product, slot): cheap enough to compare between parts and notice a
        change.
        """
        product = self.active_product()
        return product, None if product is None else self.link(product, "current")

    def verify(self, installed: Installed) -> None:
        """Check signature and every digest of an installed bundle.

        Raises: BundleError naming what is damaged.
        """
        verify_folder(installed.folder, self.trusted_keys())

    def select(self, product: str) -> Installed:
        """Make `product` the one that `edge run` judges, from the next part on.

        Raises: BundleError if it is not installed.
        """
        self.installed(product)  # before anything is made under a root that may be mistyped
        with self.change("edge bundle select"):
            chosen = self.installed(product)
            before = self.active_product()
            if before != product:
                about = {
                    "product": product,
                    "version": chosen.manifest.version,
                    "digest": chosen.digest,
                }
                claim(self, "select", {**about, "before": before})
                self.activate(product)
        return chosen

    def activate(self, product: str) -> None:
        """Write `active`. The caller holds the change lock."""
        write_atomically(self.active_file, f"{product}\n".encode())

    def rollback(self, product: str) -> Installed:
        """Put a product's previous bundle back; the present one becomes the previous, so that it
        can be undone.

        Raises: BundleError if there is no other bundle to go back to, or it is damaged.
        """
        self.installed(product)
        with self.change("edge bundle rollback"):
            finish(self.root, self.products_folder)
            close_claim(self)
            now = self.installed(product)
            if self.link(product, "previous") in (None, now.slot):
                raise BundleError(
                    f"{product} has no earlier bundle than {now.slot}: install one with `edge"
                    " install`"
                )
            back = self.installed(product, "previous")
            self.verify(back)
            about = {"version": back.manifest.version, "digest": back.digest}
            switch(self.root, self.products_folder / product, back.slot, "rollback", about)
            finish(self.root, self.products_folder)
        return self.installed(product)

    def _read(self, folder: Path, product: str) -> Installed:
        try:
            data = read_bytes(folder / MANIFEST, BundleError, MANIFEST_LIMIT)
        except BundleError as error:
            raise BundleError(f"{error}; install the bundle again") from error
        try:
            manifest = parse_manifest(data)
        except BundleError as error:
            raise BundleError(f"{folder}: {error}") from error
        return Installed(product, folder, manifest, hashlib.sha256(data).hexdigest())

    # --- site state ---

    def site_folder(self, product: str) -> Path:
        """Where a product's site state lies; it survives a new bundle."""
        return self.products_folder / product / "site"

    def model_file(self, product: str, digest: str) -> Path:
        """Where the model state of one bundle lies."""
        return self.site_folder(product) / f"model-{digest[:12]}.json"

    def geometry_record(self, product: str, serial: str) -> CameraGeometry | None:
        """Geometry of one product under one camera, with who, when and on what; None before
        calibration.

        Raises: ConfigError if geometry.json is damaged.
        """
        file = read_state(self.site_folder(product) / "geometry.json", GeometryFile)
        return None if file is None else file.cameras.get(serial)

    def geometry(self, product: str, serial: str) -> Geometry | None:
        """What the runtime needs of the geometry record. Raises: ConfigError if it is damaged."""
        record = self.geometry_record(product, serial)
        try:
            return None if record is None else record.as_geometry()
        except ValueError as error:
            raise ConfigError(
                f"{self.site_folder(product) / 'geometry.json'}: {error}: calibrate again"
            ) from error

    def save_geometry(
        self,
        product: str,
        serial: str,
        geometry: Geometry,
        intrinsics: Intrinsics,
        frames: int,
        residual_m: float | None = None,
        who: str | None = None,
    ) -> CameraGeometry:
        """Replace the geometry of one product under one camera; other cameras keep theirs.

        Args:
            intrinsics: of the whole stream, so that a changed camera can be noticed.
            frames: how many the plane was fitted on. residual_m: root mean square of that fit.
        Raises: ConfigError if the file is damaged or the serial is not printable ASCII, BundleError
            if the product is not installed, BusyError if another command changes this root.
        """
        if not SERIAL.fullmatch(serial):
            raise ConfigError(f"camera serial {serial!r} is not 1 to 64 printable ASCII characters")
        with self.change("edge calibrate"):
            self.installed(product)
            path = self.site_folder(product) / "geometry.json"
            file = read_state(path, GeometryFile) or GeometryFile()
            before = file.cameras.get(serial)
            i = intrinsics
            record = CameraGeometry(
                version=1 if before is None else before.version + 1,
                plane=geometry.plane,
                crop_x=geometry.crop_x,
                crop_y=geometry.crop_y,
                region=None if geometry.region is None else PackedRegion.pack(geometry.region),
                intrinsics=(i.fx, i.fy, i.cx, i.cy),
                stream_width=i.width,
                stream_height=i.height,
                frames=frames,
                residual_m=residual_m,
                who=who or audit.current_user(),
                when=audit.now_utc(),
            )
            detail = {"product": product, "serial": serial, **record.model_dump(mode="json")}
            claim(self, "calibrate geometry", detail, who)
            self._save(path, GeometryFile(cameras={**file.cameras, serial: record}))
        return record

    def model_state(
        self, bundle: Installed, precision: Precision, runtime: str
    ) -> ModelState | None:
        """What was calibrated for exactly this bundle, precision and runtime; None otherwise.

        Raises: ConfigError if the file is damaged or speaks of another bundle.
        """
        return _find(self.model_states(bundle), bundle.digest, precision, runtime)

    def model_states(self, bundle: Installed) -> tuple[ModelState, ...]:
        """All that was calibrated for exactly this bundle, the latest last.

        Raises: ConfigError if the file is damaged or speaks of another bundle.
        """
        path = self.model_file(bundle.product, bundle.digest)
        file = read_state(path, ModelStateFile)
        if file is None:
            return ()
        if file.digest != bundle.digest:
            raise ConfigError(f"{path} belongs to another bundle: move it away and calibrate again")
        return file.states

    def save_model_state(
        self,
        bundle: Installed,
        precision: Precision,
        runtime: str,
        parts: int,
        threshold: float | None = None,
        guarantee: str = "",
        tensors: Mapping[str, NDArray[np.float32]] | None = None,
        who: str | None = None,
        rank: int | None = None,
    ) -> ModelState:
        """Replace the state of exactly this bundle, precision and runtime; others keep theirs.

        rank: of the threshold among the parts' scores, 1 for the largest; None where it is none of
        them.
        Raises: ConfigError if the file is damaged, BusyError if another command changes this root.
        """
        with self.change("edge calibrate"):
            path = self.model_file(bundle.product, bundle.digest)
            file = read_state(path, ModelStateFile) or ModelStateFile(digest=bundle.digest)
            before = _find(file.states, bundle.digest, precision, runtime)
            state = ModelState(
                version=1 if before is None else before.version + 1,
                digest=bundle.digest,
                precision=precision,
                runtime=runtime,
                threshold=None if threshold is None else float(np.float32(threshold)),
                rank=rank,
                guarantee=guarantee,
                tensors={
                    name: PackedTensor.pack(tensor) for name, tensor in (tensors or {}).items()
                },
                parts=parts,
                who=who or audit.current_user(),
                when=audit.now_utc(),
            )
            others = tuple(one for one in file.states if one is not before)
            detail = {"product": bundle.product, **state.model_dump(mode="json")}
            claim(self, "calibrate model", detail, who)
            self._save(path, ModelStateFile(digest=bundle.digest, states=(*others, state)))
        return state

    def _save(self, path: Path, file: GeometryFile | ModelStateFile) -> None:
        make_folder(path.parent)
        write_atomically(path, canonical_json(file.model_dump(by_alias=True, mode="json")))


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without hidden files; nothing where there is no folder.

    Raises: ConfigError if it cannot be read: then what lies there is not known.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(sentence_of(error, folder)) from error


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


def _is_signed(manifest: bytes, signature: bytes, keys: Sequence[PublicKey]) -> bool:
    try:
        verify_signature(manifest, signature, keys)
    except BundleError:
        return False
    return True


def _find(
    states: tuple[ModelState, ...], digest: str, precision: Precision, runtime: str
) -> ModelState | None:
    wanted = (digest, precision, runtime)
    return next((one for one in states if (one.digest, one.precision, one.runtime) == wanted), None)
