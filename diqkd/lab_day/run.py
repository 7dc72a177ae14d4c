"""Simulated day of an unattended laboratory that drifts, with both nodes' masters (`diqkd lab-day`).

The programs are those of a real day: each node's master runs `repository/lab_day.py`, which submits the key
run and the calibrations. This module starts them, follows their public facts, and evaluates the day when it
is over. The evaluation reads both records and the drifts, as only a simulation can; its parameters make no
key, because outcomes of a run that does must never be compared.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console

from diqkd.console import ProgressDisplay, ProgressMode, print_json
from diqkd.demo.parties import laboratory, source_file
from diqkd.demo.ports import LOOPBACK, reserved_ports
from diqkd.demo.programs import Programs
from diqkd.lab_day.evaluation import evaluate
from diqkd.lab_day.figure import draw
from diqkd_node.configuration import NodeConfiguration
from diqkd_node.run.link_key import KEY_STORE_NAME
from diqkd_postproc.files import make_private_directory
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES
from sim_devices.apparatus.client import ADDRESS_VARIABLE
from sim_devices.databases.simulated import QRNG_SEED_VARIABLE
from sim_devices.laboratory.server import ATTEMPT_S, ROUND_S
from sim_devices.physics.drift import Drift

MASTER = "sim_devices.artiq_master"
RUNNING_SHARE = 0.9  # of the day: the rest goes to calibrations, reloads and the laser failure
ION_LOSSES_PER_HOUR = 0.5  # at each node
POLL_S = 0.05
NUM_PORTS = 3  # one after the other: of the key run, the lab day and the calibrations of both nodes
WATCHED_ROUNDS = 4000  # at least, in a window of the drift watch


@dataclass(frozen=True, kw_only=True)
class LabDay:
    """A day to simulate.

    Args:
        hours: length of the day in the laboratory, in (0, 100].
        num_rounds: rounds to simulate; each stands for many of the laboratory.
        gamma: share of test rounds, k/256.
        seed: of everything that is drawn at random.
        herald_probability: of an attempt, in (0, 1].
        calibrate: False lets everything drift.
        calibrations: file with what to calibrate and how often; None for the default.
    """

    hours: float
    num_rounds: int
    gamma: Fraction
    seed: int
    herald_probability: float
    calibrate: bool = True
    calibrations: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.hours <= 100:
            raise ParameterError(f"hours={self.hours} is outside (0, 100]")
        if not 0 < self.herald_probability <= 1:
            raise ParameterError(f"herald_probability={self.herald_probability} is outside (0, 1]")


def day_parameters(num_rounds: int, gamma: Fraction) -> ProtocolParameters:
    """Parameters of a run that makes no key. Raises ParameterError unless gamma is k/256."""
    if not 0 < gamma < 1 or 256 % gamma.denominator:
        raise ParameterError(f"gamma={gamma} is not k/256 with k from 1 to 255")
    return ProtocolParameters(
        num_rounds=num_rounds,
        test_numerator=int(gamma * 256),
        test_bits=8,
        omega_threshold=0.825,
        syndrome_bits=num_rounds // 2,
        key_bits=0,
        soundness_error=1e-10,
        one_bit_error=1e-12,
        design_chsh_score=2.64,
        design_qber=0.018,
    )


def day_drift(hours: float, num_rounds: int, seed: int, herald_probability: float) -> Drift:
    """How the laboratory drifts in a day of so many hours: by much more than a run can bear, with one failure
    of the laser of 25 minutes (or a twentieth of the day) in the middle."""
    outage_s = min(1500.0, hours * 3600 / 20)
    round_s = ATTEMPT_S / herald_probability + ROUND_S
    return Drift(
        seed=seed,
        time_scale=max(1.0, RUNNING_SHARE * hours * 3600 / (num_rounds * round_s)),
        laser_hz=1200.0,
        laser_wander_hz=1500.0,
        relock_hz=2500.0,
        power=-0.015,
        power_wander=0.02,
        phase=0.25,
        phase_wander=0.35,
        outages=((0.45 * hours * 3600, outage_s),),
        loading_s=120.0,
    )


def simulate_day(
    plan: LabDay,
    directory: Path | None,
    compared: Path | None,
    *,
    progress_mode: ProgressMode,
    as_json: bool,
) -> None:
    """Run the day, evaluate it, print a summary. The laboratory ends with this program: no day is resumed.

    Args:
        plan: the day.
        directory: empty or new folder of the day; None for one named after the time.
        compared: run directory of another day, whose S is drawn as well.
        progress_mode: of the progress on stderr.
        as_json: print the summary as JSON.

    Raises ParameterError before the day starts, ChildError if one of its programs fails.
    """
    started = time.monotonic()
    directory = directory or Path("run") / time.strftime("lab-day-%Y%m%d-%H%M%S")
    parameters = day_parameters(plan.num_rounds, plan.gamma)
    drift = day_drift(plan.hours, plan.num_rounds, plan.seed, plan.herald_probability)
    if directory.exists() and any(directory.iterdir()):
        raise ParameterError(f"{directory} is not empty; name another folder with --run-dir")
    other = None
    if compared is not None:
        try:
            other = json.loads((compared / "day.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ParameterError(f"--compare {compared} holds no finished day: {error}") from None
    prepare_day(directory, parameters, drift)
    console = Console(stderr=True)
    console.print(
        f"{plan.hours:g} h with {plan.num_rounds:,} rounds, each for {drift.time_scale:.1f} of the "
        f"laboratory{'' if plan.calibrate else '; nothing is calibrated'}"
    )
    with Programs() as programs, ProgressDisplay(progress_mode) as progress:
        samples = _run(plan, directory, drift, programs, progress)
    day = evaluate(directory, drift, samples)
    day["wall_seconds"] = round(time.monotonic() - started, 1)
    (directory / "day.json").write_text(json.dumps(day, indent=1) + "\n", encoding="utf-8")
    picture = draw(day, directory / "day.png", other)
    report = day["summary"] | {
        "wall_seconds": day["wall_seconds"],
        "run_directory": str(directory),
        "picture": str(picture),
        "decisions": [str(directory / role / "decisions.log") for role in ROLES],
    }
    if as_json:
        print_json(report)
        return
    _print_summary(report, Console())


def prepare_day(directory: Path, parameters: ProtocolParameters, drift: Drift) -> None:
    """Folders, node configurations, key stores, parameter file and drift of a day."""
    make_private_directory(directory)
    # These keys are for show: what is remembered of them stays with the day.
    os.environ.setdefault("DIQKD_STATE_DIR", str((directory / "state").resolve()))
    for role in ROLES:
        make_private_directory(directory / role)
        configuration = directory / role / "node.json"
        if not configuration.exists():
            # A longer interval, so that a failure of half an hour is not a million checks of the laser.
            document = {"role": role, "batches": {"recovery_interval": 1.0}}
            configuration.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            NodeConfiguration.load(configuration, role)
    parameters.save(directory / "parameters.toml")
    stores = [directory / role / KEY_STORE_NAME for role in ROLES]
    for store in KeyStore.create_pair(*stores, parameters, os.urandom):
        store.close()
    (directory / "drift.json").write_text(drift.to_json(), encoding="utf-8")


def master_command(role: str, directory: Path, port: int, drift_window: float) -> list[str]:
    """The master of a node that runs a lab day; further arguments of the experiment may follow."""
    folder = directory / role
    return [
        *(sys.executable, "-m", MASTER, "--log", str(folder / "master.log")),
        *("--device-db", str(source_file(f"device_db/{role}_sim.py"))),
        *(str(source_file("repository/lab_day.py")), f"role={role}"),
        *(f"parameters_file={directory / 'parameters.toml'}", f"run_directory={folder}"),
        *(f"configuration_file={folder / 'node.json'}", f"peer_host={LOOPBACK}", f"peer_port={port}"),
        *(f"poll_interval={POLL_S}", f"drift_window={drift_window}"),
    ]


def _run(
    plan: LabDay, directory: Path, drift: Drift, programs: Programs, progress: ProgressDisplay
) -> list[tuple[float, int]]:
    """Run both masters until the day is over; returns (unix time, rounds done) at every update."""
    loss = ION_LOSSES_PER_HOUR * plan.hours / plan.num_rounds
    options = ["--seed", str(plan.seed), "--drift", str(directory / "drift.json")]
    options += ["--alice-ion-loss", str(loss), "--bob-ion-loss", str(loss)]
    options += ["--success-probability", str(plan.herald_probability)]
    environment = os.environ | {QRNG_SEED_VARIABLE: str(plan.seed)}
    round_s = ATTEMPT_S / plan.herald_probability + ROUND_S
    drift_window = max(600.0, WATCHED_ROUNDS * drift.time_scale * round_s)
    samples: list[tuple[float, int]] = []
    facts: dict[str, Any] = {}

    def follow(event: dict[str, Any]) -> None:
        name = event.get("dataset", "")
        facts[name] = event.get("value")
        # A calibration of both nodes has rounds of its own.
        if name == "diqkd.last_update_unix" and facts.get("diqkd.num_rounds") == plan.num_rounds:
            samples.append((facts[name], facts["diqkd.rounds_done"]))
            progress(
                "lab day",
                facts["diqkd.rounds_done"],
                plan.num_rounds,
                str(facts.get("diqkd.node_state", "")),
            )

    with laboratory(programs, options, environment) as address, reserved_ports(NUM_PORTS) as port:
        environment[ADDRESS_VARIABLE] = address
        progress("lab day", 0, plan.num_rounds)
        masters = {}
        for role in ROLES:
            command = master_command(role, directory, port, drift_window)
            if plan.calibrations is not None:
                command += [f"calibrations_file={plan.calibrations}"]
            if not plan.calibrate:
                command += ["calibrate=False"]
            sink = follow if role == "alice" else lambda event: None
            masters[role] = programs.start(f"{role}'s node", command, environment, sink)
            masters[role].follow()
        programs.results(masters)
        progress("lab day", plan.num_rounds, plan.num_rounds)
    return samples


def _print_summary(report: dict[str, Any], console: Console) -> None:
    console.print(
        f"[bold]{report['num_rounds']:,} rounds in {report['hours']:.2f} h[/] of the laboratory "
        f"({report['wall_seconds']:.0f} s here), {report['running_share']:.0%} of it generating key"
    )
    console.print(
        f"{report['num_pauses']} pauses, {report['num_calibrations']} calibrations, "
        f"{report['num_ion_losses']} ions lost, laser away for {report['laser_away_minutes']:.0f} min"
    )
    console.print(
        f"S = {report['chsh_score']:.3f} ± {report['chsh_error']:.3f}, Q = {100 * report['qber']:.2f} %; "
        f"S as the simulation knows it: {report['lowest_true_chsh']:.3f} at worst, "
        f"{report['last_true_chsh']:.3f} at the end"
    )
    for path in report["decisions"]:
        console.print(f"Decisions and their reasons: {path}", soft_wrap=True)
    console.print(f"Picture of the day: {report['picture']}", soft_wrap=True)
