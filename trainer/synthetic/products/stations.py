"""The station of every product, by name."""

from __future__ import annotations

from trainer.synthetic.meshes import MESHES
from trainer.synthetic.products.biscuit import Biscuit
from trainer.synthetic.products.connector import Connector
from trainer.synthetic.products.fusebox import FuseBox
from trainer.synthetic.products.rope import Rope
from trainer.synthetic.products.scene import HeightFieldStation
from trainer.synthetic.products.washer import Washer
from trainer.synthetic.scene import Station
from trainer.synthetic.scene_change import UNCHANGED, SceneChange
from trainer.synthetic.surface import Product

STATIONS: dict[str, type[Product]] = {
    product.name: product for product in (Washer, Biscuit, Connector, Rope, FuseBox)
}


def open_station(product: str, seed: int, change: SceneChange = UNCHANGED) -> Station:
    """The station of a product: table, camera and lamp follow from the seed, but for the change.

    Raises: KeyError for a product that is not known.
    """
    if product in MESHES:
        # the mesh libraries are loaded for a mesh product alone
        from trainer.synthetic.meshes.station import MeshStation

        return MeshStation(product, seed, change)
    return HeightFieldStation(STATIONS[product], seed, change)
