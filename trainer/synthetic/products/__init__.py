"""The products that `trainer synthesize` knows, by name."""

from __future__ import annotations

from trainer.synthetic.products.biscuit import Biscuit
from trainer.synthetic.products.connector import Connector
from trainer.synthetic.products.fusebox import FuseBox
from trainer.synthetic.products.rope import Rope
from trainer.synthetic.products.washer import Washer
from trainer.synthetic.surface import Product

PRODUCTS: dict[str, type[Product]] = {
    "washer": Washer,
    "biscuit": Biscuit,
    "connector": Connector,
    "rope": Rope,
    "fusebox": FuseBox,
}
