"""SIGKILL of the masters of a lab day: python -m campaigns.lab_day_kills --kills 4

Two simulated masters run a short compressed day. After a random number of its public facts, be that in a
calibration, in the key run or while it meets the other node, one of them is killed with all that it runs,
and started again by the same command; Alice's and Bob's in turn. In the end both must have ended by
themselves, with a sealed record of all rounds, of the same run, and with the same count of pauses.

Prints JSON, and exits with 1 where one of these does not hold.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from diqkd.console import print_json
from diqkd.demo.parties import laboratory
from diqkd.demo.ports import reserved_ports
from diqkd.demo.programs import Child, Programs
from diqkd.lab_day.run import NUM_PORTS, day_drift, day_parameters, master_command, prepare_day
from diqkd_node.unattended.calibration_graph import CALIBRATIONS, CalibrationGraph
from diqkd_node.unattended.decision_log import read_decisions
from diqkd_node.unattended.state import Memory
from diqkd_postproc.protocol.roles import ROLES
from diqkd_postproc.records.sealed_record import RoundRecord
from sim_devices.apparatus.client import ADDRESS_VARIABLE
from sim_devices.databases.simulated import QRNG_SEED_VARIABLE

HOURS, HERALD_PROBABILITY, DRIFT_WINDOW_S = 1.5, 0.02, 8000.0
BATCH_ROUNDS = 200  # what a kill of both nodes at the same time may cost


def run_day(directory: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the day; who was killed after what.

    :raises TimeoutError: it does not end
    :raises ChildError: a node failed
    """
    drift = day_drift(HOURS, arguments.rounds, arguments.seed, HERALD_PROBABILITY)
    parameters = day_parameters(arguments.rounds, Fraction(1, 8))
    prepare_day(directory, parameters, drift)
    names = arguments.calibration or [item.name for item in CALIBRATIONS]
    chosen = [item for item in CALIBRATIONS if item.name in names]
    calibrations = directory / "calibrations.json"
    calibrations.write_text(CalibrationGraph(chosen).to_json(), encoding="utf-8")
    rng = random.Random(arguments.seed)
    options = ["--seed", str(arguments.seed), "--drift", str(directory / "drift.json")]
    options += ["--success-probability", str(HERALD_PROBABILITY)]
    environment = os.environ | {QRNG_SEED_VARIABLE: str(arguments.seed)}
    facts: queue.SimpleQueue[Child] = queue.SimpleQueue()
    deadline = time.monotonic() + arguments.timeout
    kills: list[dict[str, Any]] = []
    with (
        Programs() as programs,
        laboratory(programs, options, environment) as address,
        reserved_ports(NUM_PORTS) as port,
    ):
        environment[ADDRESS_VARIABLE] = address

        def start(role: str) -> Child:
            command = master_command(role, directory, port, DRIFT_WINDOW_S)
            command += [
                f"calibrations_file={directory / 'calibrations.json'}",
                f"batch_rounds={BATCH_ROUNDS}",
            ]
            child = programs.start(f"{role}'s node", command, environment)
            child.on_event = lambda event: facts.put(child)
            child.follow()
            return child

        masters = {role: start(role) for role in ROLES}
        while any(master.process.poll() is None for master in masters.values()):
            role = ROLES[len(kills) % len(ROLES)]
            left = rng.randint(1, arguments.longest_life) if len(kills) < arguments.kills else -1
            while left and any(master.process.poll() is None for master in masters.values()):
                try:
                    left -= facts.get(timeout=0.5) is masters[role]
                except queue.Empty:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"the day has not ended within {arguments.timeout:g} s") from None
            if left == 0:
                masters[role].process.kill()
                masters[role].process.wait()
                kills.append({"role": role, "after": last_decision(directory / role)})
                masters[role] = start(role)
        programs.results(masters)
    return kills


def last_decision(folder: Path) -> str:
    """What a node had decided last."""
    try:
        return f"{read_decisions(folder)[-1]['event']}: {read_decisions(folder)[-1]['reason']}"
    except (FileNotFoundError, IndexError):
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--calibration", action="append", help="only these; may be repeated (default: all)")
    parser.add_argument(
        "--longest-life", type=int, default=250, help="public facts before a kill (default: 250)"
    )
    parser.add_argument("--directory", type=Path, help="keep the day with its logs here (a new folder)")
    parser.add_argument("--timeout", type=float, default=600.0, help="s (default: 600)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = arguments.directory or Path(name) / "day"
        kills = run_day(directory, arguments)
        records = [RoundRecord.read(directory / role / "record.h5") for role in ROLES]
        pauses = [Memory.load(directory / role / "lab_day.json").pauses for role in ROLES]
        finished = [last_decision(directory / role).startswith("finish") for role in ROLES]
    report = {
        "kills": kills,
        "rounds": [record.outcome.size for record in records],
        "lost_rounds": [int(record.lost.sum()) for record in records],
        "losses": [record.attributes["losses"] for record in records],
        "pauses": pauses,
        "same_run": records[0].run_id == records[1].run_id,
        "finished": all(finished),
    }
    print_json(report)
    complete = all(record.outcome.size == arguments.rounds for record in records)
    return 0 if complete and report["same_run"] and report["finished"] and pauses[0] == pauses[1] else 1


if __name__ == "__main__":
    sys.exit(main())
