"""The whole way in small: parts, training, bundle, station, a virtual RealSense, a real MQTT
broker, verdicts.

    python scripts/demo.py demo

Every step is the command a user types, printed before it runs. Leaves in the folder: parts, runs,
*.bundle, root, report.html, overlays/*.png, verdicts.jsonl (the `verdict` messages that a
subscriber received) and summary.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
PRODUCT = "washer"
FPS = 15  # of the belt's camera: a busy machine without a GPU keeps up too
SIZES = ["--train", "40", "--validation", "20", "--test", "20", "--per-defect", "2", "--belt", "24"]


def command(*words: str | Path) -> None:
    """Print a command as the user would type it, run it, stop the demo if it fails."""
    print(f"\n$ {' '.join(map(str, words))}", flush=True)
    start = time.monotonic()
    answer = subprocess.run([BIN / str(words[0]), *map(str, words[1:])])
    if answer.returncode:
        sys.exit(f"demo: `{words[0]} {words[1]}` failed with exit code {answer.returncode}")
    print(f"  ({time.monotonic() - start:.0f} s)", flush=True)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def broker(folder: Path, port: int) -> Iterator[None]:
    """Debian's mosquitto on the loopback, stopped at the end."""
    settings = folder / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type"
        " error\nset_tcp_nodelay true\n"
    )
    executable = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    process = subprocess.Popen([executable, "-c", str(settings)])
    try:
        wait_for_port(port)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)
        settings.unlink()


def wait_for_port(port: int, patience_s: float = 10.0) -> None:
    """Return when something answers on the loopback's `port`; stop the demo after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    sys.exit(f"demo: the broker did not answer on port {port} within {patience_s:.0f} s")


@contextlib.contextmanager
def subscriber(port: int, verdicts: Path, states: list[dict[str, object]]) -> Iterator[None]:
    """Write every `verdict` message to `verdicts`, one a line; collect every `state`."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    ready = threading.Event()
    with verdicts.open("w", encoding="ascii") as file:

        def on_message(_client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
            if message.topic.endswith("/verdict"):
                file.write(message.payload.decode("ascii") + "\n")
            elif message.topic.endswith("/state"):
                states.append(json.loads(message.payload))

        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.on_message = on_message
        client.on_subscribe = lambda *_: ready.set()
        client.connect("127.0.0.1", port)
        client.subscribe("edge/#", qos=1)
        client.loop_start()
        if not ready.wait(10):
            sys.exit("demo: the broker did not confirm the subscription")
        try:
            yield
            time.sleep(1.0)  # what is still on its way from the broker
        finally:
            client.disconnect()
            client.loop_stop()


def wire_station(root: Path, port: int) -> None:
    """Write the demo broker's port and the belt's speed into station.toml, as the integrator
    would.
    """
    path, wired = root / "etc/edge/station.toml", {"port": port, "fps": FPS}
    text = path.read_text()
    for key, value in wired.items():
        text, count = re.subn(rf"(?m)^{key} = \d+", f"{key} = {value}", text)
        assert count == 1, f"station.toml has {count} keys {key}"
    path.write_text(text)


def part_rows(folder: Path, verdicts: Path) -> list[tuple[str, str, str]]:
    """(part, truth, verdict) of every part, the belt's order matched with the order of the
    verdicts.
    """
    truth = json.loads((folder / "parts" / PRODUCT / "station/belt/truth.json").read_text())
    received = [json.loads(line) for line in verdicts.read_text().splitlines()]
    if len(truth) != len(received):
        sys.exit(
            f"demo: {len(truth)} parts passed the camera and {len(received)} verdicts were received"
        )
    names = {1: "OK", 2: "NG", 3: "UNKNOWN"}
    return [
        (message["part"], part["defect"], names[message["code"]])
        for part, message in zip(truth, received, strict=True)
    ]


def summarize(folder: Path, states: list[dict[str, object]]) -> None:
    """Print and store verdicts against truth, accuracy per precision, latency per stage."""
    rows = part_rows(folder, folder / "verdicts.jsonl")
    good = [row for row in rows if row[1] == "good"]
    bad = [row for row in rows if row[1] != "good"]
    certificate = json.loads((folder / "parity.json").read_text())
    evaluation = json.loads((folder / "runs" / PRODUCT / "evaluate.json").read_text())
    summary = {
        "parts": len(rows),
        "good_ok": sum(row[2] == "OK" for row in good),
        "good": len(good),
        "defective_rejected": sum(row[2] != "OK" for row in bad),
        "defective": len(bad),
        "missed": [row[1] for row in bad if row[2] == "OK"],
        "i_auroc_float32": 100 * evaluation["rows"][-1]["image_auroc"],
        "precisions": {
            section["precision"]: counts_of(section) for section in certificate["sections"]
        },
        "latency_ms_p50": stage_medians(states),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(
        f"\n{len(rows)} parts passed the virtual RealSense, {len(rows)} verdicts arrived over MQTT"
    )
    print(f"  good parts      {summary['good_ok']} of {summary['good']} OK")
    print(
        f"  defective parts {summary['defective_rejected']} of {summary['defective']} rejected"
        + (f", missed: {', '.join(summary['missed'])}" if summary["missed"] else "")
    )
    print(f"  I-AUROC         float32 {summary['i_auroc_float32']:.1f}")
    for name, entry in summary["precisions"].items():
        print(f"  {name:<15} {counts_text(entry)}")
    print(
        "  latency, p50    "
        + ", ".join(f"{stage} {value:.1f} ms" for stage, value in summary["latency_ms_p50"].items())
    )
    print(
        "FP16 and INT8 figures are onnxruntime's arithmetic of the same graphs: no GPU and no"
        " camera were used."
    )


def counts_of(section: dict[str, Any]) -> dict[str, Any]:
    """What a precision decides with its own threshold, on parts that nothing was chosen on."""
    verdicts = section["verdicts"]
    return {
        "good_rejected": verdicts["good"],
        "defects_missed": verdicts["real"],
        "unlike_float32": verdicts["unlike"],
        "noise_s": section["noise"]["rms"],
        "passed": section["passed"],
    }


def counts_text(entry: dict[str, Any]) -> str:
    """`rejects 1 of 20 good parts, misses 0 of 20 defects`, or that the precision was left out."""
    good, missed = entry["good_rejected"], entry["defects_missed"]
    counts = (
        f"rejects {good['count']} of {good['of']} good parts, misses {missed['count']} of"
        f" {missed['of']} defects, noise {entry['noise_s']:.2f} s"
    )
    return counts if entry["passed"] else f"left out of the bundle ({counts})"


def stage_medians(states: list[dict[str, object]]) -> dict[str, float]:
    """Median milliseconds of every stage, from the last `state` message that carries them."""
    told = [state for state in states if "engine_ms" in state]
    if not told:
        sys.exit("demo: no state message with the latency of the stages was received")
    return {key[:-3]: float(value) for key, value in told[-1].items() if key.endswith("_ms")}


def main() -> None:
    """Run the demo into the folder named on the command line, emptied first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.monotonic()
    parts, run, root = folder / "parts", folder / "runs" / PRODUCT, folder / "root"
    bundle = folder / f"{PRODUCT}-1.0.0.bundle"
    command("trainer", "synthesize", parts, "--products", PRODUCT, *SIZES)
    command("trainer", "train", "mats", parts / PRODUCT, "--preset", "compact", "--out", run)
    command("trainer", "evaluate", run)
    shutil.copy(run / "report.html", folder / "report.html")
    command("trainer", "keygen", folder / "line")
    command(
        "trainer",
        "export",
        run,
        "--product",
        PRODUCT,
        "--version",
        "1.0.0",
        "--precision",
        "fp16,int8",
        "--key",
        folder / "line.key",
        "--out",
        bundle,
    )
    command("edge", "trust", folder / "line.pub", "--root", root)
    command("edge", "install", bundle, "--root", root, "--station", "demo")
    command("edge", "calibrate", "plane", "--root", root)
    command(
        "edge", "inspect", parts / PRODUCT / "test", "--root", root, "--out", folder / "overlays"
    )
    port, states = free_port(), []
    wire_station(root, port)
    with broker(folder, port), subscriber(port, folder / "verdicts.jsonl", states):
        command("edge", "run", "--root", root, "--once")
    command("edge", "verify", "--root", root)
    command("edge", "status", "--root", root)
    current = root / "var/lib/edge/products" / PRODUCT / "current"
    shutil.copy(current / "parity.json", folder / "parity.json")
    summarize(folder, states)
    print(f"everything is in {folder}/ ({time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    main()
