"""The model states of a station: threshold and site inputs of each bundle, precision and runtime,
and the way back to what each of them replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge.errors import CalibrationError, ConfigError
from edge.schema import Precision
from edge.station import audit
from edge.station.claims import claim
from edge.station.installed import Installed
from edge.station.root import RootFolder
from edge.station.site import (
    ModelState,
    ModelStateFile,
    PackedTensor,
    Replaced,
    ShownParts,
    read_state,
    write_state,
)

if TYPE_CHECKING:  # the page's process reads these, and needs no arrays
    import numpy as np
    from numpy.typing import NDArray


class ModelStates(RootFolder):
    """What was calibrated for the bundles below one root."""

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
        return tuple(state for state in self._model_states(bundle).states if state.is_set)

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
        shown: ShownParts | None = None,
    ) -> ModelState:
        """Replace the state of exactly this bundle, precision and runtime; others keep theirs. What
        it replaces can be brought back by `undo_model_state`.

        rank: of the threshold among the parts' scores, 1 for the largest; None where it is none of
        them. shown: the parts, where they are this site's and not the bundle's.
        Raises: ConfigError if the file is damaged, BusyError if another command changes this root.
        """
        import numpy as np

        with self.change("edge calibrate"):
            file = self._model_states(bundle)
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
                shown=shown,
                who=who or audit.current_user(),
                when=audit.now_utc(),
            )
            replaced = Replaced(
                version=state.version, precision=precision, runtime=runtime, state=before
            )
            self._save_model_state("calibrate model", bundle, file, state, replaced, who)
        return state

    def undo_model_state(self, bundle: Installed, who: str | None = None) -> ModelState:
        """Bring back what the latest state of this bundle replaced, under a new version; where that
        was nothing, the bundle alone judges again. Returns the state that is in effect now.

        Raises: CalibrationError if nothing was calibrated, or the state before is not kept; else as
            `save_model_state`.
        """
        with self.change("edge calibrate undo"):
            file = self._model_states(bundle)
            what = f"{bundle.product} {bundle.manifest.version}"
            if not file.states:
                raise CalibrationError(f"nothing was calibrated for {what}: nothing to undo")
            latest = file.states[-1]
            kept = next((one for one in file.replaced if _is_of(one, latest)), None)
            if kept is None or kept.version != latest.version:
                raise CalibrationError(
                    f"what version {latest.version} of the calibration of {what} replaced is not"
                    " kept, an undo cannot be undone: calibrate again"
                )
            state = _again(kept.state, latest, who or audit.current_user())
            self._save_model_state("calibrate undo", bundle, file, state, None, who)
        return state

    def _model_states(self, bundle: Installed) -> ModelStateFile:
        """Raises: ConfigError if the file is damaged or speaks of another bundle."""
        path = self.model_file(bundle.product, bundle.digest)
        file = read_state(path, ModelStateFile)
        if file is not None and file.digest != bundle.digest:
            raise ConfigError(f"{path} belongs to another bundle: move it away and calibrate again")
        return file or ModelStateFile(digest=bundle.digest)

    def _save_model_state(
        self,
        act: str,
        bundle: Installed,
        file: ModelStateFile,
        state: ModelState,
        replaced: Replaced | None,
        who: str | None,
    ) -> None:
        """The audit row of `act`, then the file with this state as the latest. The caller holds the
        change lock.
        """
        detail = {"product": bundle.product, **state.model_dump(mode="json")}
        claim(self, act, detail, who)
        others = tuple(one for one in file.states if not _is_of(one, state))
        kept = tuple(one for one in file.replaced if not _is_of(one, state))
        kept += () if replaced is None else (replaced,)
        write_state(
            self.model_file(bundle.product, bundle.digest),
            ModelStateFile(digest=bundle.digest, states=(*others, state), replaced=kept),
        )


def _find(
    states: tuple[ModelState, ...], digest: str, precision: Precision, runtime: str
) -> ModelState | None:
    wanted = (digest, precision, runtime)
    return next((one for one in states if (one.digest, one.precision, one.runtime) == wanted), None)


def _is_of(one: ModelState | Replaced, state: ModelState) -> bool:
    """Whether both are of the same engine."""
    return (one.precision, one.runtime) == (state.precision, state.runtime)


def _again(before: ModelState | None, latest: ModelState, who: str) -> ModelState:
    """The state before the latest one, or one that sets nothing, under the next version."""
    about = {"version": latest.version + 1, "who": who, "when": audit.now_utc()}
    if before is not None:
        return before.model_copy(update=about)
    engine = {"digest": latest.digest, "precision": latest.precision, "runtime": latest.runtime}
    return ModelState.model_validate({**engine, **about, "parts": 0})
