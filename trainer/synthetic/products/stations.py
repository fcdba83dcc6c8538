"""The station of every product, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from trainer.synthetic.meshes import MESHES
from trainer.synthetic.products.biscuit import Biscuit
from trainer.synthetic.products.connector import Connector
from trainer.synthetic.products.fusebox import FuseBox
from trainer.synthetic.products.rope import Rope
from trainer.synthetic.products.scene import HeightFieldStation
from trainer.synthetic.products.washer import Washer
from trainer.synthetic.scene import Station

STATIONS: dict[str, Callable[[int], Station]] = {
    product.name: partial(HeightFieldStation, product)
    for product in (Washer, Biscuit, Connector, Rope, FuseBox)
}


def open_station(product: str, seed: int) -> Station:
    """The station of a product: table, camera and lamp follow from the seed.

    Raises: KeyError for a product that is not known.
    """
    if product in MESHES:
        # the mesh libraries are loaded for a mesh product alone
        from trainer.synthetic.meshes.station import MeshStation

        return MeshStation(product, seed)
    return STATIONS[product](seed)
