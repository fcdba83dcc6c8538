"""What is installed on a station and what the site adds: the bundles in their slots, and the site
state of each product.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle.archive import verify_folder
from edge.bundle.manifest import MANIFEST, MANIFEST_LIMIT, Manifest, parse_manifest
from edge.errors import BundleError, ConfigError
from edge.files import read_bytes
from edge.frames.camera_info import names_no_camera
from edge.station import audit
from edge.station.claims import claim, close_claim
from edge.station.installed import Installed as Installed
from edge.station.keys import TrustedKeys
from edge.station.model_states import ModelStates
from edge.station.root import Which, entries_of
from edge.station.site import (
    CameraGeometry,
    ExpectedState,
    GeometryFile,
    PackedMask,
    read_state,
    write_state,
)
from edge.station.switch import PRODUCT, finish, is_slot, switch
from edge.types import Geometry, Intrinsics

if TYPE_CHECKING:  # the page's process reads the station, and needs no arrays
    import numpy as np
    from numpy.typing import NDArray

SERIAL = re.compile(r"[ -~]{1,64}")


def slot_name(manifest: Manifest, digest: str) -> str:
    """VERSION-DIGEST12: the same bundle always lands in the same slot."""
    return f"{manifest.version}-{digest[:12]}"


class Store(ModelStates):
    """The bundles and the site state below one root."""

    def __init__(self, root: Path) -> None:
        """root: the station's root, "/" on a device. Nothing is read or made yet."""
        super().__init__(root)
        self.keys = TrustedKeys(self)

    # --- bundles ---

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
        folder = self.linked(product, which) if is_name else None
        if folder is None:
            known = ", ".join(self.products()) or "none"
            shown = product if is_name else repr(product)
            what = f"{shown} has no {which} bundle under {self.root} (installed products: {known})"
            raise BundleError(f"{what}: name one of those, or install a bundle with `edge install`")
        return self._read(folder.resolve(), product)

    def slots(self, product: str) -> list[Installed]:
        """Every bundle of a product that lies in a slot, active or not, by slot name."""
        folders = entries_of(self.products_folder / product / "slots")
        return [self._read(folder.resolve(), product) for folder in folders if is_slot(folder)]

    def verify(self, installed: Installed) -> None:
        """Check signature and every digest of an installed bundle.

        Raises: BundleError naming what is damaged.
        """
        verify_folder(installed.folder, self.keys.all())

    def select(self, product: str, who: str | None = None) -> Installed:
        """Make `product` the one that `edge run` judges, from the next part on.

        who: for the audit, where it is not the account that runs this.
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
                claim(self, "select", {**about, "before": before}, who)
                self.activate(product)
        return chosen

    def rollback(
        self, product: str, who: str | None = None, present: str | None = None
    ) -> Installed:
        """Put a product's previous bundle back; the present one becomes the previous, so that it
        can be undone.

        who: as `select` takes it. present: the slot to go back from; None: whichever is current.
        Raises: BundleError if there is no other bundle to go back to, it is damaged, or another
            than `present` has become the current one.
        """
        self.installed(product)
        with self.change("edge bundle rollback"):
            finish(self.root, self.products_folder)
            close_claim(self)
            now = self.installed(product)
            if present not in (None, now.slot):
                raise BundleError(f"{product} has {now.slot} by now, not {present}: it stays")
            if self.link(product, "previous") in (None, now.slot):
                raise BundleError(
                    f"{product} has no earlier bundle than {now.slot}: install one with `edge"
                    " install`"
                )
            back = self.installed(product, "previous")
            self.verify(back)
            about = {"version": back.manifest.version, "digest": back.digest}
            switch(self.root, self.products_folder / product, back.slot, "rollback", about, who=who)
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

    def geometry_record(self, product: str, serial: str) -> CameraGeometry | None:
        """Geometry of one product under one camera, with who, when and on what; None before
        calibration.

        Raises: ConfigError if geometry.json is damaged.
        """
        return self.geometry_records(product).get(serial)

    def geometry_records(self, product: str) -> Mapping[str, CameraGeometry]:
        """Geometry of one product by the serial of each camera that was calibrated for it.

        Raises: ConfigError if geometry.json is damaged.
        """
        file = read_state(self._geometry_file(product), GeometryFile)
        return {} if file is None else file.cameras

    def geometry(self, product: str, serial: str) -> Geometry | None:
        """What the runtime needs of the geometry record. Raises: ConfigError if it is damaged."""
        record = self.geometry_record(product, serial)
        try:
            return None if record is None else record.as_geometry()
        except ValueError as error:
            raise ConfigError(
                f"{self._geometry_file(product)}: {error}: calibrate again"
            ) from error

    def known_serial(self, product: str, serial: str) -> str:
        """The camera whose geometry holds for images of this serial: that camera; for images that
        name none (edge.frames.camera_info.names_no_camera), the only one that was calibrated for
        the product, where there is only one.

        Raises: ConfigError if geometry.json is damaged.
        """
        if not names_no_camera(serial):
            return serial
        known = self.geometry_records(product)
        return serial if serial in known or len(known) != 1 else next(iter(known))

    def save_geometry(
        self,
        product: str,
        serial: str,
        geometry: Geometry,
        intrinsics: Intrinsics,
        frames: int,
        residual_m: float | None = None,
        who: str | None = None,
        calibration: str | None = None,
    ) -> CameraGeometry:
        """Replace the geometry of one product under one camera; other cameras keep theirs.

        An expected silhouette is dropped: camera or table may have moved since it was made.

        Args:
            intrinsics: of the whole stream, so that a changed camera can be noticed.
            frames: how many the plane was fitted on. residual_m: root mean square of that fit.
            calibration: SHA-256 of the camera's own calibration table, where it tells it.
        Raises: ConfigError if the file is damaged or the serial is not printable ASCII, BundleError
            if the product is not installed, BusyError if another command changes this root.
        """
        if not SERIAL.fullmatch(serial):
            raise ConfigError(f"camera serial {serial!r} is not 1 to 64 printable ASCII characters")
        with self.change("edge calibrate"):
            self.installed(product)
            before = self.geometry_record(product, serial)
            i = intrinsics
            record = CameraGeometry(
                version=1 if before is None else before.version + 1,
                plane=geometry.plane,
                crop_x=geometry.crop_x,
                crop_y=geometry.crop_y,
                region=None if geometry.region is None else PackedMask.pack(geometry.region),
                intrinsics=(i.fx, i.fy, i.cx, i.cy),
                stream_width=i.width,
                stream_height=i.height,
                frames=frames,
                residual_m=residual_m,
                calibration=calibration,
                who=who or audit.current_user(),
                when=audit.now_utc(),
            )
            self._save_geometry("calibrate geometry", product, serial, record, who)
        return record

    def save_expected(
        self,
        product: str,
        serial: str,
        mask: NDArray[np.uint8],
        parts: int,
        margin_px: float,
        share: float,
        version: int,
        who: str | None = None,
    ) -> CameraGeometry:
        """Set where parts have material in the view of one camera; the rest of its geometry stays.

        Args:
            mask: (h, w) of the crop, 0 = no material is expected. parts, margin_px, share: as
                ExpectedState keeps them.
            version: of the geometry under which the parts were seen.
        Raises: ConfigError if the file is damaged, or there is no geometry of this version any
            more; BusyError if another command changes this root.
        """
        with self.change("edge calibrate"):
            before = self.geometry_record(product, serial)
            if before is None or before.version != version:
                raise ConfigError(
                    f"{product} was calibrated anew for camera {serial} while the parts were shown:"
                    " run `edge calibrate expected` again"
                )
            expected = ExpectedState(
                mask=PackedMask.pack(mask),
                parts=parts,
                margin_px=margin_px,
                share=share,
                who=who or audit.current_user(),
                when=audit.now_utc(),
            )
            record = before.model_copy(update={"version": version + 1, "expected": expected})
            self._save_geometry("calibrate expected", product, serial, record, who)
        return record

    def _geometry_file(self, product: str) -> Path:
        return self.site_folder(product) / "geometry.json"

    def _save_geometry(
        self, act: str, product: str, serial: str, record: CameraGeometry, who: str | None
    ) -> None:
        """The audit row of `act`, then the file. The caller holds the change lock."""
        detail = {"product": product, "serial": serial, **record.model_dump(mode="json")}
        claim(self, act, detail, who)
        cameras = {**self.geometry_records(product), serial: record}
        write_state(self._geometry_file(product), GeometryFile(cameras=cameras))
