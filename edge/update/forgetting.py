"""Letting bundles be tried again that were decided about."""

from __future__ import annotations

from edge.station.audit import append_audit
from edge.station.store import Store
from edge.update.state import Known, place_of, read_update_state, updating, write_update_state


def forget(store: Store, product: str) -> list[Known]:
    """Forget what was decided about the bundles of a product, also by `edge bundle rollback`, so
    that they are taken if they are offered again; returns the decisions of `edge update`.

    Raises: as edge.update.apply.update_once.
    """
    with updating(store):
        state = read_update_state(store)
        gone = [one for one in state.known if one.product == product]
        kept = tuple(one for one in state.known if one.product != product)
        previous = store.link(product, "previous")
        again = {} if previous is None else {place_of(product, previous): None}
        if gone or again:
            about = {"product": product, "versions": [one.version for one in gone]}
            append_audit(store.root, "update forget", about)
            again = dict.fromkeys(state.let_again) | again
            forgotten = state.model_copy(update={"known": kept, "let_again": tuple(again)})
            write_update_state(store, forgotten)
    return gone
