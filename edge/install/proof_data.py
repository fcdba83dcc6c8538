"""What a bundle carries to prove an engine with: reference frames, normal frames, certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.proof.certificate import Certificate, read_certificate
from edge.station.store import Installed

if TYPE_CHECKING:
    from edge.proof.golden import GoldenFrame, NormalFrames


@dataclass(frozen=True)
class ProofData:
    """What a bundle carries to prove an engine with. golden: the reference frames."""

    bundle: Installed
    certificate: Certificate
    golden: Sequence[GoldenFrame]
    normal: NormalFrames


def read_proof_data(bundle: Installed) -> ProofData:
    """The frames and the certificate of a bundle.

    Raises: BundleError if one is damaged or of another model.
    """
    from edge.proof.golden import read_golden, read_normal

    m = bundle.manifest
    golden, normal = (
        read_golden(bundle.golden, m.inputs, m.outputs),
        read_normal(bundle.normal, m.inputs),
    )
    return ProofData(bundle, read_certificate(bundle.certificate), golden, normal)
