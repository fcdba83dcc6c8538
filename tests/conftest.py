"""Fixtures shared by every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.install.measure_engine import measure_engine, measure_in_child
from tests.support.broker import MOSQUITTO, Broker, Subscriber

pytest_plugins = [
    "tests.support.mistakes",  # its fixtures serve tests of both programs
    "tests.support.cuts.summary",
    "tests.support.elsewhere",
]

REPOSITORY = Path(__file__).resolve().parent.parent

# Parallel tests and their child processes share the cores. OpenMP's threads wait for each other by
# spinning, which starves other processes, so that each worker gets only its share of the cores. The
# variables are read when torch is loaded; a worker overrides those it inherits.
if (_AT_ONCE := os.environ.get("PYTEST_XDIST_WORKER_COUNT")) is not None:
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(_AT_ONCE)))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell ignores Ctrl-C in what it starts in the background, and so would every child of a test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _engines_in_this_process() -> Iterator[None]:
    """Engines are proven in this process, so that faults planted by tests reach them; starting a
    child would also take a second.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.install.proving.measure_in_child", measure_engine)
        yield


@pytest.fixture
def engines_in_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines are proven in a child process, as on a station."""
    monkeypatch.setattr("edge.install.proving.measure_in_child", measure_in_child)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real images: RGBD_DATA, else shared/data beside the checkout.

    Skips, saying so, where it is absent.
    """
    folder = Path(os.environ.get("RGBD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"no real images at {folder}: set RGBD_DATA to the folder that holds cookies, screw and"
            " rgbd"
        )
    return folder


@pytest.fixture(scope="session")
def cases() -> Path:
    """Scripts that make small inputs on which the product once failed: RGBD_CASES, else
    shared/cases beside the checkout.

    Skips, saying so, where they are absent.
    """
    folder = Path(os.environ.get("RGBD_CASES", REPOSITORY.parent / "shared" / "cases"))
    if not folder.is_dir():
        pytest.skip(
            f"no cases at {folder}: set RGBD_CASES to the folder that holds 01_truncated_image.py"
            " and others"
        )
    return folder


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A mosquitto that runs for one test. Skips, saying so, where it is not installed."""
    if not Path(MOSQUITTO).exists():
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    running = Broker(tmp_path / "broker")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def archive(broker: Broker) -> Iterator[Subscriber]:
    """A subscriber to everything that is published while the test runs."""
    subscriber = Subscriber(broker.port)
    yield subscriber
    subscriber.stop()
