"""A client that is not ours nor of our library: node-opcua from npm, pinned in tests/peers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge.opcua.names import PATH
from tests.edge.opcua.conftest import Cell
from tests.support.opcua import PASSWORDS
from tests.support.patience import patience_s
from tests.support.peers import PEERS, node_modules


@pytest.mark.long
def test_node_opcua_browses_starts_a_job_and_gets_its_result(cell: Cell, tmp_path: Path) -> None:
    pem = tmp_path / "client.pem"
    read = x509.load_der_x509_certificate(cell.key.certificate.read_bytes())
    pem.write_bytes(read.public_bytes(serialization.Encoding.PEM))
    words = [
        "node",
        PEERS / "node-opcua" / "peer.js",
        node_modules("node-opcua"),
        f"opc.tcp://127.0.0.1:{cell.station.port}{PATH}",
        pem,
        cell.key.key,
        tmp_path / "pki",
        "plc",
        PASSWORDS["plc"],
        "B1",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=patience_s(30))
    assert done.returncode == 0, done.stderr + done.stdout
    said = json.loads(done.stdout.splitlines()[-1])
    assert {"VisionStateMachine", "LastVerdict", "Ready"} <= set(said["children"])
    assert said["inputs"] == ["MeasId", "PartId", "RecipeId", "ProductId", "Parameters"]
    seq = cell.station.seq
    assert (said["status"], said["outputs"]) == ("Good", [str(seq), 0, ""])
    (result,) = said["results"]
    assert [result[key] for key in ("JobId", "MeasId", "Code", "Reason", "Seq", "SourceName")] == [
        str(seq), "7", 2, "anomaly", seq, "VisionSystem"
    ]  # fmt: skip
    assert said["seq"] == seq
