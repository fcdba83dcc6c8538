"""The whole product on a small example, from images of parts to verdicts over MQTT.

    python scripts/demo.py demo

It draws images of washers, trains a detector on the good ones, exports a signed bundle, installs it
as a station would, and plays 24 parts on a belt through a virtual RealSense. The verdicts arrive at
a real MQTT broker. Each step is a command as a user would type it, printed before it runs.

The folder is emptied first, and then holds: parts/ (images), runs/ (training), *.bundle, root/ (the
station's files), report.html, overlays/*.png, verdicts.jsonl (the received `verdict` messages) and
summary.json.
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
FPS = 15  # of the belt's camera: a busy machine without a GPU keeps up
SIZES = ["--train", "40", "--validation", "20", "--test", "20", "--per-defect", "2", "--belt", "24"]


def step(sentence: str) -> None:
    """Say what the next commands do."""
    print(f"\n# {sentence}", flush=True)


def command(*words: str | Path) -> None:
    """Print a command as the user would type it, run it, stop the demo if it fails."""
    print(f"$ {' '.join(map(str, words))}", flush=True)
    start = time.monotonic()
    answer = subprocess.run([BIN / str(words[0]), *map(str, words[1:])])
    if answer.returncode:
        sys.exit(f"demo: `{words[0]} {words[1]}` failed with exit code {answer.returncode}")
    print(f"  ({time.monotonic() - start:.0f} s)", flush=True)


def free_port() -> int:
    """A free TCP port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def broker(folder: Path, port: int) -> Iterator[None]:
    """Debian's mosquitto, for this machine only; stopped at the end."""
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
    """Return when the broker answers on `port`; stop the demo after `patience_s`."""
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
            time.sleep(1.0)  # for messages still on their way from the broker
        finally:
            client.disconnect()
            client.loop_stop()


def wire_station(root: Path, port: int) -> None:
    """Write the broker's port and the camera's rate into station.toml, as the integrator would."""
    path, wired = root / "etc/edge/station.toml", {("broker", "port"): port, ("camera", "fps"): FPS}
    text = path.read_text()
    for (section, key), value in wired.items():
        place = rf"(?m)(^\[{section}\]\n(?:[^\[].*\n)*?{key} = )\d+"
        text, count = re.subn(place, rf"\g<1>{value}", text)
        assert count == 1, f"[{section}] of station.toml has {count} keys {key}"
    path.write_text(text)


def part_rows(folder: Path, verdicts: Path) -> list[tuple[str, str, str]]:
    """(part, truth, verdict) of every part; the n-th verdict belongs to the belt's n-th part."""
    truth = json.loads((folder / "parts" / PRODUCT / "station/belt/truth.json").read_text())
    received = [json.loads(line) for line in verdicts.read_text().splitlines()]
    if len(truth) != len(received):
        sys.exit(
            f"demo: {len(truth)} parts passed the camera, but {len(received)} verdicts arrived"
        )
    names = {1: "OK", 2: "NG", 3: "UNKNOWN"}
    return [
        (message["part"], part["defect"], names[message["code"]])
        for part, message in zip(truth, received, strict=True)
    ]


def summarize(folder: Path, states: list[dict[str, object]]) -> None:
    """Print and store the verdicts compared with the truth, the accuracy of each precision and the
    latency of each stage.
    """
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
        f"\nThe result: {len(rows)} parts passed the virtual camera, {len(rows)} verdicts arrived"
        " over MQTT."
    )
    print(f"  good parts      {summary['good_ok']} of {summary['good']} accepted (OK)")
    print(
        f"  defective parts {summary['defective_rejected']} of {summary['defective']} rejected (NG"
        " or UNKNOWN)" + (f", missed: {', '.join(summary['missed'])}" if summary["missed"] else "")
    )
    print(f"  image AUROC     {summary['i_auroc_float32']:.1f} % (float32 model, test images)")
    print("Each precision of the bundle on parts that were used for no choice:")
    for name, entry in summary["precisions"].items():
        print(f"  {name:<15} {counts_text(entry)}")
    print("Median latency of each stage of the station:")
    print(
        "  "
        + ", ".join(f"{stage} {value:.1f} ms" for stage, value in summary["latency_ms_p50"].items())
    )
    print(
        "No GPU and no camera were used: onnxruntime computed FP16 and INT8 on the CPU, so that the"
        " latencies say nothing about a Jetson."
    )


def counts_of(section: dict[str, Any]) -> dict[str, Any]:
    """The verdicts of a precision with its own threshold, on parts that were used for no choice."""
    verdicts = section["verdicts"]
    return {
        "good_rejected": verdicts["good"],
        "defects_missed": verdicts["real"],
        "unlike_float32": verdicts["unlike"],
        "noise_s": section["noise"]["rms"],
        "passed": section["passed"],
    }


def counts_text(entry: dict[str, Any]) -> str:
    """`rejects 1 of 20 good parts, misses 0 of 20 defects`, or why it is not in the bundle."""
    good, missed = entry["good_rejected"], entry["defects_missed"]
    counts = (
        f"rejects {good['count']} of {good['of']} good parts, misses {missed['count']} of"
        f" {missed['of']} defects; noise {entry['noise_s']:.2f} of the spread"
    )
    return counts if entry["passed"] else f"not in the bundle: {counts}"


def stage_medians(states: list[dict[str, object]]) -> dict[str, float]:
    """Median milliseconds of each stage, from the last `state` message that holds them."""
    timed = [state for state in states if "engine_ms" in state]
    if not timed:
        sys.exit("demo: no state message with latencies was received")
    return {key[:-3]: float(value) for key, value in timed[-1].items() if key.endswith("_ms")}


def make_bundle(folder: Path, parts: Path, run: Path) -> Path:
    """Draw the parts, train on the good ones, evaluate, and export a signed bundle."""
    bundle = folder / f"{PRODUCT}-1.0.0.bundle"
    step("draw images of washers: good parts, parts with defects, an empty table, a belt")
    command("trainer", "synthesize", parts.parent, "--products", PRODUCT, *SIZES)
    step("train a detector on good parts only, then evaluate it on good and defective ones")
    command("trainer", "train", "mats", parts, "--preset", "compact", "--out", run)
    command("trainer", "evaluate", run)
    shutil.copy(run / "report.html", folder / "report.html")
    step("make the line's keys, and export a signed bundle with FP16 and INT8")
    command("trainer", "keygen", folder / "line")
    product = ["--product", PRODUCT, "--version", "1.0.0", "--precision", "fp16,int8"]
    command("trainer", "export", run, *product, "--key", folder / "line.key", "--out", bundle)
    return bundle


def run_station(folder: Path, parts: Path, bundle: Path) -> list[dict[str, object]]:
    """Install the bundle and judge the parts on the belt; returns the received `state` messages."""
    root, states = folder / "root", list[dict[str, object]]()
    step("set up the station: trust the key, install the bundle, calibrate the empty table")
    command("edge", "trust", folder / "line.pub", "--root", root)
    command("edge", "install", bundle, "--root", root, "--station", "demo")
    command("edge", "calibrate", "plane", "--root", root)
    step("judge the test images, one picture for each in overlays/")
    command("edge", "inspect", parts / "test", "--root", root, "--out", folder / "overlays")
    port = free_port()
    wire_station(root, port)
    step("run the station: the belt passes the virtual camera, verdicts go to the MQTT broker")
    with broker(folder, port), subscriber(port, folder / "verdicts.jsonl", states):
        command("edge", "run", "--root", root, "--once")
    step("repeat the proof of the engines on this machine, and show the station's state")
    command("edge", "verify", "--root", root)
    command("edge", "status", "--root", root)
    current = root / "var/lib/edge/products" / PRODUCT / "current"
    shutil.copy(current / "parity.json", folder / "parity.json")
    return states


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
    parts = folder / "parts" / PRODUCT
    bundle = make_bundle(folder, parts, folder / "runs" / PRODUCT)
    summarize(folder, run_station(folder, parts, bundle))
    print(
        f"Open {folder}/report.html and {folder}/overlays next ({time.monotonic() - start:.0f} s)."
    )


if __name__ == "__main__":
    main()
