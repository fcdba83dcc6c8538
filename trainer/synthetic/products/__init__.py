"""The products that `trainer synthesize` knows: a station opens each by its name
(trainer.synthetic.products.stations).
"""

from __future__ import annotations

PRODUCTS: tuple[str, ...] = ("washer", "biscuit", "connector", "rope", "fusebox")
