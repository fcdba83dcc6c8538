"""`edge doctor --acceptance`: half an hour beside a board, step by step, into one signed file.

It may end at any moment, also by a pulled plug: given again, it goes on after the steps that have
passed. A step for which something is absent is left out with a sentence, and claims nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from edge.board.model import board_model, machine_root, system_name
from edge.config import read_config
from edge.doctor import power_cuts
from edge.doctor.acceptance_bench import Bench, Step
from edge.doctor.acceptance_file import (
    CUTS,
    Acceptance,
    Outcome,
    StepResult,
    read_acceptance,
    write_acceptance,
)
from edge.doctor.acceptance_steps import STEPS
from edge.doctor.desk import Desk
from edge.doctor.finding import Subject
from edge.engine.machine import this_machine
from edge.errors import ConfigError, EdgeError
from edge.files import is_there, require_file_target
from edge.provision.jetpack import describe_jetpack
from edge.station.audit import now_utc
from edge.station.station_key import open_signer
from edge.station.store import Store

CUT_STEP = "power cuts"
NOTHING = (
    "this file claims nothing: it was not written on a running Jetson. The steps that passed show"
    " that the acceptance itself works"
)


class Acceptor:
    """One run of the command: its file, signed after each step."""

    def __init__(self, root: Path, out: Path, desk: Desk) -> None:
        """out: begun, or gone on with.

        Raises: DataError if the file is none of an acceptance, or was changed; ConfigError if it is
            of another station, board or version, or station.toml cannot be used.
        """
        require_file_target(out, "--acceptance")
        store = Store(root)
        subject = Subject(store, machine_root(root), read_config(root))
        self._bench, self._out, self._desk = Bench(subject, desk), out, desk
        self._signer = open_signer(store)
        self.report = self._known() if is_there(out) else _begun(self._bench)
        if self.report.pending is not None:
            desk.tell("Looking at what survived the power cut ...")
        self._keep(power_cuts.settle_cut(self.report, self._bench))

    def _known(self) -> Acceptance:
        """What is in the file. Raises: DataError, ConfigError."""
        sealed, now = read_acceptance(self._out), _begun(self._bench)
        report = sealed.report
        if sealed.key.keyid != self._signer.public_key.keyid:
            raise ConfigError(f"{self._out} is of another station: name another file")
        for old, new in ((report.board, now.board), (report.version, now.version)):
            if old != new:
                raise ConfigError(
                    f"{self._out} was begun on {old}, this is {new}: name another file"
                )
        return report

    def run(self, steps: Sequence[Step] = STEPS) -> Acceptance:
        """Do what is not done yet; the report at the end."""
        for step in steps:
            if not self.report.has_passed(step.name):
                self._keep(self.report.with_step(self._result(step)))
        self._cut_power()
        return self.report

    def _result(self, step: Step) -> StepResult:
        lacking = step.lacks(self._bench)
        if lacking:
            return self._said(step.name, "left out", lacking, 0.0)
        self._desk.tell(f"{step.name} ...")
        began_s = time.monotonic()
        try:
            done = step.act(self._bench)
        except EdgeError as error:
            return self._said(step.name, "failed", str(error), time.monotonic() - began_s)
        result = self._said(step.name, "passed", done.said, time.monotonic() - began_s)
        return result.model_copy(update={"numbers": dict(done.numbers)})

    def _said(self, name: str, outcome: Outcome, said: str, seconds: float) -> StepResult:
        self._desk.tell(f"{outcome:<9} {name}: {said}")
        return StepResult(
            name=name, outcome=outcome, said=said, at=now_utc(), seconds=round(seconds, 1)
        )

    def _cut_power(self) -> None:
        """Wait for one more cut, if some are needed still; with it this process ends."""
        if self.report.has_passed(CUT_STEP):
            return None
        survived = sum(not cut.lost for cut in self.report.cuts)
        lost = [sentence for cut in self.report.cuts for sentence in cut.lost]
        if lost:
            return self._keep_cuts("failed", "; ".join(lost))
        if power_cuts.are_enough(self.report):
            return self._keep_cuts("passed", f"{survived} survived: bundle, proof, records")
        lacking = power_cuts.lacks(self._bench)
        if lacking:
            return self._keep_cuts("left out", f"{survived} of {CUTS} done; {lacking}")
        self._await_cut(survived + 1)
        return None

    def _await_cut(self, number: int) -> None:
        before = power_cuts.before_cut(self._bench.subject.store)
        self._keep(self.report.model_copy(update={"pending": before}))
        self._desk.tell(
            f"Power cut {number} of {CUTS}: pull the board's plug now, do not shut it down. After"
            " the boot, give this command again."
        )
        was_ended = self._desk.wait_for_cut(power_cuts.PULL_S)
        self._keep(self.report.model_copy(update={"pending": None}))
        why = "this command was ended, not the power" if was_ended else "nobody pulled the plug"
        self._keep_cuts("left out", f"{number - 1} of {CUTS} done; {why}")

    def _keep_cuts(self, outcome: Outcome, said: str) -> None:
        self._keep(self.report.with_step(self._said(CUT_STEP, outcome, said, 0.0)))

    def _keep(self, report: Acceptance) -> None:
        self.report = report
        write_acceptance(self._out, report, self._signer)


def _begun(bench: Bench) -> Acceptance:
    machine, station = bench.subject.machine, bench.subject.config.station
    return Acceptance(
        is_target=bench.is_target,
        board=_board_of(bench),
        system=describe_jetpack(machine) or system_name(machine),
        version=version("rgbd-inspection"),
        station=f"{station.site}/{station.line}/{station.station}",
        began=now_utc(),
    )


def _board_of(bench: Bench) -> str:
    return board_model(bench.subject.machine) or this_machine()


def accept(root: Path, out: Path, desk: Desk) -> Acceptance:
    """Begin an acceptance of the station under `root`, or go on with the one in `out`.

    Raises: as Acceptor.
    """
    report = Acceptor(root, out, desk).run()
    names = [*(step.name for step in STEPS), CUT_STEP]
    open_ones = [name for name in names if not report.has_passed(name)]
    if open_ones:
        desk.tell(f"not passed: {', '.join(open_ones)}. Give the same command again to go on.")
    if not report.is_target:
        desk.tell(NOTHING)
    return report


def is_complete(report: Acceptance) -> bool:
    """Whether every step passed, on the target."""
    return {*(step.name for step in STEPS), CUT_STEP} <= report.proves
