"""`edge calibrate undo`: back to what the last calibration of the model replaced."""

from __future__ import annotations

from edge.station.commissioning import restore_commissioning
from edge.station.site import ModelState
from edge.station.store import Installed, Store


def undo_calibration(store: Store, installed: Installed, who: str | None = None) -> ModelState:
    """Bring back the state before, with its evidence. Returns what is in effect now.

    who: for the audit, where it is not the account that runs this.
    Raises: CalibrationError if nothing was calibrated, or the state before is not kept;
        StorageError, BusyError, ConfigError.
    """
    state = store.undo_model_state(installed, who)
    restore_commissioning(store, installed.product, state)
    return state
