"""The board: its system, power mode, clocks, memory and temperature."""

from __future__ import annotations

from edge.board.clocks import Clock, are_pinned, gpu_clock
from edge.board.memory import memory
from edge.board.model import board_model, is_jetson, system_name
from edge.board.power import PLACE as POWER
from edge.board.power import power_problem, read_power
from edge.board.power_modes import current_mode, find_mode
from edge.board.thermal import Zone, knows_throttling, throttled_by, zones
from edge.doctor.finding import Finding, Subject, right, unknown, wrong
from edge.engine.order import tensorrt_is_installed
from edge.provision.jetpack import OLDEST_TENSORRT, Release, known_releases, linux_release

GIB = 1 << 30
LEAST_FREE = GIB  # bytes; builders of engines take fewer and slower kernels with less
SMALL_BOARD = 12 * GIB  # boards of 8 GB and less build engines with swap only
NEAR_C = 5.0  # so near to its limit a sensor is named
HEADLESS = (
    "end what else runs; without a desktop (`sudo systemctl set-default multi-user.target`, reboot)"
    " up to 0.9 GB more are free"
)
SUPPLY = "use the supply that the carrier board asks for, or a lower power mode; then reboot"
COOLING = "clean or add the fan and heat sink, or choose a lower power mode"


def jetpack(subject: Subject) -> Finding:
    """Which system, and whether engines can be built on it."""
    linux, machine = linux_release(subject.machine), subject.machine
    if linux is None and is_jetson(machine):
        return unknown(
            f"{board_model(machine)} without etc/nv_tegra_release",
            "flash a JetPack of docs/flash.md",
        )
    if linux is None:
        return right(f"{system_name(machine)}, no Jetson: engines run on the processor")
    release = next((one for one in known_releases() if one.contains(linux)), None)
    board = f"{board_model(machine) or 'a Jetson that was not started yet'}, "
    if release is None:
        return unknown(
            f"{board}Jetson Linux {linux} belongs to no JetPack that this software knows",
            "run `edge verify`: it proves the engines on this very system",
        )
    if _is_too_old(release):
        oldest = ".".join(map(str, OLDEST_TENSORRT))
        return wrong(f"{board}{release}", f"engines need TensorRT {oldest}: flash a newer JetPack")
    return right(f"{board}{release}")


def _is_too_old(release: Release) -> bool:
    return tuple(int(number) for number in release.tensorrt.split(".")) < OLDEST_TENSORRT


def tensorrt(subject: Subject) -> Finding | None:
    """Whether this environment sees JetPack's TensorRT and pycuda."""
    if not is_jetson(subject.machine):
        return None
    if not subject.is_here:
        return unknown("the libraries of another root are not looked at", "run it on the board")
    if tensorrt_is_installed():
        return right("TensorRT and pycuda are installed")
    return wrong(
        "TensorRT or pycuda cannot be found, so engines run on the processor",
        "`sudo apt install nvidia-jetpack`, then `sudo apt reinstall edge-station`",
    )


def power_mode(subject: Subject) -> Finding | None:
    """Whether the board is in the mode that the station was commissioned in."""
    if not is_jetson(subject.machine):
        return None
    mode, power = current_mode(subject.machine), read_power(subject.store.root)
    if mode is None:
        return unknown("the board does not tell its power mode", "`sudo nvpmodel -q` asks it")
    problem = power_problem(subject.store.root)
    if problem:
        said, _, remedy = problem.partition(": ")
        return wrong(said, remedy)
    if power is None or power.mode is None:
        return unknown(
            f"{mode}; {POWER} does not say which is meant",
            f"`edge install BUNDLE --power-mode {mode}` records it",
        )
    if power.clocks == "max" and are_pinned(subject.machine) is None:
        return unknown(f"{mode}; the kernel does not tell whether the clocks are at their highest")
    return right(f"{mode}, clocks {power.clocks}, as commissioned by {power.who}, {power.when}")


def clocks(subject: Subject) -> Finding | None:
    """Whether the GPU's real clock may rise as high as the power mode's name promises."""
    machine = subject.machine
    if not is_jetson(machine):
        return None
    clock, name = gpu_clock(machine), current_mode(machine)
    if clock is None or clock.most_hz is None or clock.ceiling_hz is None:
        return unknown("the kernel does not tell the GPU's clock", "run it on the board")
    mode = None if name is None else find_mode(machine, name)
    promised = clock.ceiling_hz if mode is None else mode.gpu_limit_hz or clock.ceiling_hz
    if clock.most_hz < promised and clock.most_hz < _step_below(clock, promised):
        return wrong(
            f"{_shown(clock)}, {name or 'the hardware'} promises {promised / 1e6:.0f} MHz",
            "flash the board with its super configuration (docs/flash.md), or choose the mode that"
            " it has",
        )
    return right(_shown(clock))


def _step_below(clock: Clock, promised: int) -> float:
    """A cap between two steps of the hardware is met by the lower one: 3 % apart at most."""
    return min(promised, clock.ceiling_hz or promised) * 0.97


def _shown(clock: Clock) -> str:
    now = "" if clock.now_hz is None else f" now {clock.now_hz / 1e6:.0f},"
    return f"GPU{now} at most {(clock.most_hz or 0) / 1e6:.0f} MHz" + (
        ", pinned there" if clock.is_pinned else ""
    )


def free_memory(subject: Subject) -> Finding:
    """Whether an engine can be built and run."""
    found = memory(subject.machine)
    if found is None:
        return unknown("the kernel does not tell", "run it on the board")
    said = f"{found.available / GIB:.1f} of {found.total / GIB:.1f} GiB free"
    return right(said) if found.available >= LEAST_FREE else wrong(said, HEADLESS)


def swap(subject: Subject) -> Finding | None:
    """Whether a small board has swap for the builder of engines."""
    found = memory(subject.machine)
    if found is None or not is_jetson(subject.machine):
        return None
    if found.swap:
        of_memory = f", {found.in_memory / GIB:.1f} of them compressed memory" * bool(
            found.in_memory
        )
        return right(f"{found.swap / GIB:.1f} GiB{of_memory}")
    if found.total >= SMALL_BOARD:
        return right("none; this board needs none")
    return wrong(
        f"none, on a board of {found.total / GIB:.1f} GiB",
        "`sudo systemctl enable --now nvzramconfig`, or make a swap file on an NVMe disk",
    )


def temperature(subject: Subject) -> Finding:
    """How far the hottest sensor is from its limit."""
    found = zones(subject.machine)
    if not found:
        return unknown("no sensor gives a temperature")
    nearest = min(found, key=_distance_c)
    said = f"{nearest.name} {nearest.now_c:.0f} °C"
    if nearest.limit_c is None:
        return unknown(f"{said}; no sensor says where the system slows down")
    said += f", slows down at {nearest.limit_c:.0f}"
    return right(said) if _distance_c(nearest) > NEAR_C else wrong(said, COOLING)


def _distance_c(zone: Zone) -> float:
    return (200.0 if zone.limit_c is None else zone.limit_c) - zone.now_c


def throttling(subject: Subject) -> Finding | None:
    """Whether clocks are lowered, or were since the board was switched on."""
    if not is_jetson(subject.machine):
        return None
    if not knows_throttling(subject.machine):
        return unknown("the kernel does not tell", "run it on the board")
    why = throttled_by(subject.machine)
    return wrong(f"clocks were lowered: {', '.join(why)}", SUPPLY) if why else right("none so far")
