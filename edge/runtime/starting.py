"""What judges first: the active bundle or, where it cannot be opened, the one that it replaced; and
how long its engine may take.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import replace

from edge.background import in_background
from edge.engine.protocol import one_line
from edge.errors import (
    BundleError,
    EdgeError,
    EngineError,
    MissingDependency,
    ParityError,
    StorageError,
)
from edge.runtime.active import OPEN_LIMIT_S, ActiveBundle, EngineLoader, resolve_active
from edge.runtime.notify import Notifier
from edge.station.audit import append_audit
from edge.station.store import Installed, Store

log = logging.getLogger(__name__)

START_PASS_S = 1.0  # between two looks at the engine that is opened
# what systemd is asked for at each look, past the unit's TimeoutStartSec: a start that hangs is
# noticed after this long
START_EXTEND_S = 30.0


def open_first(
    store: Store,
    load_engine: EngineLoader,
    notifier: Notifier,
    is_asked_to_stop: Callable[[], bool],
) -> ActiveBundle | None:
    """What judges first, its engine opened or built, which may take minutes; None if the station is
    asked to stop before that.

    This thread asks systemd for the time, and not the one that opens: so a main loop that hangs is
    restarted, and after OPEN_LIMIT_S an engine that hangs, too.

    Raises: as first_active.
    """
    limit_s = time.monotonic() + OPEN_LIMIT_S
    opening = in_background("opening", lambda: first_active(store, load_engine))
    while not futures.wait([opening], START_PASS_S).done:
        if is_asked_to_stop():
            return None
        if time.monotonic() < limit_s:
            notifier.extend(START_EXTEND_S)
    return opening.result()


def first_active(store: Store, load_engine: EngineLoader) -> ActiveBundle:
    """Resolve what is active now; where its bundle cannot be opened, the bundle that it replaced
    judges.

    A line that stands still is the more expensive mistake: the previous bundle was proven on this
    station and judged here until the installation. It never takes over silently: the log has an
    error, the audit table a row, and `refused` says it in the state. What is wrong in station.toml
    or in the site state is no fault of the bundle, and raised.

    Raises: as resolve_active, if there is no previous bundle or it cannot be opened either.
    """
    try:
        return resolve_active(store, load_engine)
    except (BundleError, EngineError, ParityError, MissingDependency) as error:
        return _fall_back(store, load_engine, error, str(error))
    except (EdgeError, OSError):
        raise
    except Exception as error:
        log.exception("the active bundle cannot be opened")
        return _fall_back(store, load_engine, error, f"{type(error).__name__}: {one_line(error)}")


def _fall_back(store: Store, load_engine: EngineLoader, error: Exception, why: str) -> ActiveBundle:
    """The previous bundle, resolved.

    Raises: `error` if there is none that could take the place of the active one.
    """
    try:
        previous = find_previous(store)
        active = resolve_active(store, load_engine, previous)
    except EdgeError as other:
        log.error("there is no previous bundle to fall back on: %s", other)
        raise error from other
    log.error(
        "THE PREVIOUS BUNDLE JUDGES, %s: the active one cannot be opened: %s", previous.slot, why
    )
    about = {
        "product": previous.product,
        "version": previous.manifest.version,
        "digest": previous.digest,
        "why": why,
    }
    try:
        append_audit(store.root, "fallback", about)
    except StorageError as other:
        log.error("the audit table has no row for this: %s", other)
    return replace(active, refused=why)


def find_previous(store: Store) -> Installed:
    """The previous bundle of the active product, for the same kind of parts as the active one where
    that can be read.

    Raises: BundleError if there is none.
    """
    product = store.active_product()
    if product is None or store.link(product, "previous") in (None, store.link(product, "current")):
        raise BundleError(
            f"{product} has no earlier bundle under {store.root}: install one with `edge install`"
        )
    previous = store.installed(product, "previous")
    try:
        presence = store.active().manifest.presence
    except BundleError:
        presence = previous.manifest.presence
    if previous.manifest.presence != presence:
        raise BundleError(
            f"{previous.slot} tells parts apart in another way than the active bundle: install a"
            " bundle with `edge install`"
        )
    return previous


def find_readable(store: Store) -> Installed:
    """The active bundle, or the previous one where its manifest cannot be read.

    Raises: BundleError if neither can.
    """
    try:
        return store.active()
    except BundleError as error:
        try:
            return find_previous(store)
        except EdgeError:
            raise error from None
