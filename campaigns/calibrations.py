"""Do the calibrations find the truth within the errors that they state? Seeded runs on simulated nodes.

    python -m campaigns.calibrations --runs 100 --json
    python -m campaigns.calibrations --runs 100 --only ramsey_coherence

Every run plants a nature of its own, drawn around the published node, and runs each calibration experiment on
it: the kernels on the host engine, the fits on what they counted. Criterion: the truth is within the stated
99 % interval (2.576 standard errors) in at least 95 of 100 runs; a correct interval fails that with
probability 6e-4. Where no signal is expected the calibration states a 95 % highest-density interval; there
the criterion is that this holds the truth in at least 95 of 100 runs at the 99 % level (see `within`). The
table also shows how often the truth is within one standard error (68 % expected) and within 1.96 (95 %).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from diqkd.console import ProgressDisplay, print_json
from diqkd_node.calibration.fits.isolation_transient import settling_time
from diqkd_node.calibration.fits.link_coupling import REQUIRED
from diqkd_node.calibration.fits.readout_histogram import readout_errors
from diqkd_node.calibration.result import Finding, Quantity
from diqkd_postproc.protocol.roles import ROLES
from sim_devices.artiq_run import (
    ArgumentManager,
    ClientControlBroadcast,
    DatasetManager,
    DeviceDatabase,
    DeviceManager,
    Scheduler,
    load_experiment,
)
from sim_devices.physics.constants import TRANSITIONS as LINES
from sim_devices.physics.node_parameters import Nature

ROOT = Path(__file__).parents[1]
MAP, QUBIT, SHELVE = (frequency for frequency, *_ in LINES)
TRANSITIONS = ("map", "qubit", "shelve")
NINETY_NINE = 2.576
REQUIRED_FRACTION = 0.95

Truth = Callable[[Nature, Finding], float]


@dataclass(frozen=True)
class Trial:
    """One experiment with arguments that make it short, and the quantities whose truth is known."""

    experiment: str
    arguments: dict[str, Any]
    truths: dict[str, Truth]


def trials(index: int) -> list[Trial]:
    """The experiments of run `index`; the three transitions take turns."""
    name = TRANSITIONS[index % 3]
    return [
        Trial(
            "transition_frequency",
            {"transition": name, "num_shots": 100},
            {"frequency": lambda nature, _: getattr(nature, f"{name}_frequency")},
        ),
        Trial(
            "pi_pulse_time",
            {"transition": name, "num_shots": 100},
            {"pi_time": lambda nature, _: getattr(nature, f"{name}_pi_time")},
        ),
        Trial(
            "readout_histogram",
            {"num_shots": 2000},
            {
                "bright_mean": lambda nature, _: 250e-6 * nature.bright_count_rate,
                "dark_mean": lambda nature, _: 250e-6 * nature.dark_count_rate,
                "readout_error": _readout_error,
            },
        ),
        Trial(
            "ramsey_coherence",
            {"num_shots": 50},
            {
                "coherence_time": lambda nature, _: nature.coherence_time,
                "frequency": lambda nature, _: nature.qubit_frequency,
            },
        ),
        Trial(
            "photon_arrival",
            {"num_attempts": 40_000},
            {
                "delay": lambda nature, _: nature.photon_delay,
                "lifetime": lambda nature, _: nature.photon_lifetime,
                "photon_probability": lambda nature, _: nature.photon_probability,
            },
        ),
        Trial(
            "isolation_displacement",
            {"num_shots": 1500},
            {
                "focus_radius": lambda nature, _: nature.focus_radius_um,
                "isolated_coupling": lambda nature, _: nature.coupling(nature.shuttle_distance_um),
            },
        ),
        Trial(
            "isolation_transient",
            {"num_shots": 10_000},
            {
                "electrode_time_constant": lambda nature, _: nature.electrode_time_constant,
                "settling_time": _settling_time,
                "settled_coupling": _settled_coupling,
            },
        ),
        Trial(
            "scrambling_time",
            {"num_shots": 100},
            {"time_constant": lambda nature, _: nature.deshelving_time},
        ),
    ]


def _readout_error(nature: Nature, finding: Finding) -> float:
    """Exact error of the planted rates at the threshold that was chosen."""
    rates = 250e-6 * nature.bright_count_rate, 250e-6 * nature.dark_count_rate
    return sum(readout_errors(finding.settings["readout.threshold"], *rates, 250e-6)) / 2


def _settling_time(nature: Nature, _: Finding) -> float:
    distance = nature.shuttle_distance_um / nature.focus_radius_um
    return settling_time(REQUIRED, distance, nature.electrode_time_constant)


def _settled_coupling(nature: Nature, _: Finding) -> float:
    """Mean coupling from 30 us to 100 us after the step."""
    times = np.linspace(30e-6, 100e-6, 4001)
    way = nature.shuttle_distance_um * -np.expm1(-times / nature.electrode_time_constant)
    return float(np.mean([nature.coupling(float(place)) for place in way]))


def planted(rng: np.random.Generator) -> dict[str, float]:
    """A node like the published one, but not the same."""
    between = rng.uniform
    return {
        "map_frequency": MAP + between(-15e3, 15e3),
        "qubit_frequency": QUBIT + between(-400, 400),
        "shelve_frequency": SHELVE + between(-15e3, 15e3),
        "map_pi_time": 5e-6 * between(0.93, 1.07),
        "qubit_pi_time": 5e-6 * between(0.93, 1.07),
        "shelve_pi_time": 5e-6 * between(0.93, 1.07),
        "coherence_time": between(3.5e-3, 8e-3),
        "bright_count_rate": between(40, 70) / 250e-6,
        "dark_count_rate": between(1, 3) / 250e-6,
        "deshelving_time": between(3.5e-6, 7e-6),
        "electrode_time_constant": between(25e-6, 35e-6),
        "focus_radius_um": between(0.55, 0.7),
        "coupling_floor": 10 ** between(-6, -4.5),
        "photon_probability": between(0.014, 0.022),
        "photon_delay": between(22e-9, 30e-9),
        "photon_lifetime": between(6.8e-9, 8.2e-9),
    }


def calibrate(
    name: str,
    role: str,
    nature: dict[str, float],
    seed: int,
    arguments: dict[str, Any],
    settings: dict[str, Any],
) -> Finding:
    """What an experiment finds on a node of a given nature that is configured with `settings`; no figure is
    drawn, and no result is kept."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nature.json"
        file.write_text(json.dumps({role: nature}))
        configuration = Path(folder) / "configuration.json"
        configuration.write_text(json.dumps(settings))
        # A port on which no laboratory listens: the node is alone.
        os.environ |= {
            "DIQKD_NATURE": str(file),
            "DIQKD_NODE_SEED": str(seed),
            "DIQKD_LABORATORY": "127.0.0.1:1",
        }
        database = DeviceDatabase(ROOT / "device_db" / f"{role}_sim.py")
        devices = DeviceManager(database, {"scheduler": Scheduler(rid=seed), "ccb": ClientControlBroadcast()})
        experiment_class = load_experiment(ROOT / "repository" / "calibrations" / f"{name}.py")
        places = {"configuration_file": str(configuration), "result_directory": folder}
        given = ArgumentManager({"role": role, **places, **arguments})
        managers = (devices, DatasetManager(), given, {})
        try:
            experiment = experiment_class(managers)
            experiment.prepare()
            experiment.run()
            finding: Finding = experiment.find()
        finally:
            devices.close_devices()
    return finding


def within(quantity: Quantity, truth: float) -> tuple[bool, bool, bool]:
    """Whether the truth is within 1, 1.96 and 2.576 standard errors.

    A stated interval takes the place of 1.96 standard errors; its 99 % level is 1.31 times as wide.
    """
    if quantity.low is None or quantity.high is None:
        distance = abs(truth - quantity.value) / quantity.standard_error
        return distance <= 1, distance <= 1.96, distance <= NINETY_NINE
    low, high = quantity.low, quantity.high
    wider = (NINETY_NINE / 1.96 - 1) * (high - low) / 2
    return (
        abs(truth - quantity.value) <= (high - low) / 3.92,
        low <= truth <= high,
        max(low - wider, 0.0) <= truth <= high + wider,
    )


Comparison = tuple[str, tuple[bool, bool, bool], float]


def compare(seed: int, index: int, only: Sequence[str] = ()) -> tuple[list[Comparison], int]:
    """All quantities of one run: name, `within`, distance from the truth in standard errors; and the number
    of fits with p < 1e-4. `only` some experiments see the same draws as they do among all."""
    rng = np.random.default_rng([seed, index])
    differences = planted(rng)
    role = ROLES[index % 2]
    nature = Nature.of_role(role, **differences)
    found: list[Comparison] = []
    poor = 0
    frequency: dict[str, Any] = {}
    for trial in trials(index):
        node_seed = int(rng.integers(1 << 31))
        # A pi time is measured on resonance: the frequency found before is configured by then.
        leads_there = trial.experiment == "transition_frequency" and "pi_pulse_time" in only
        if only and trial.experiment not in only and not leads_there:
            continue
        settings = frequency if trial.experiment == "pi_pulse_time" else {}
        finding = calibrate(trial.experiment, role, differences, node_seed, trial.arguments, settings)
        if trial.experiment == "transition_frequency":
            frequency = finding.settings
        poor += finding.goodness_of_fit.p_value < 1e-4
        for name, truth_of in trial.truths.items():
            quantity, truth = finding.quantities[name], truth_of(nature, finding)
            pull = (quantity.value - truth) / quantity.standard_error
            found.append((f"{trial.experiment}.{name}", within(quantity, truth), pull))
    return found, poor


def run(
    num_runs: int,
    seed: int,
    workers: int,
    only: Sequence[str],
    progress: Callable[[str, float, float], None],
) -> dict[str, Any]:
    """Coverage of every quantity, and the number of poor fits; the same for any number of workers."""
    hits: dict[str, list[tuple[bool, bool, bool]]] = {}
    pulls: dict[str, list[float]] = {}
    poor = 0
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for index, (found, doubtful) in enumerate(
            pool.map(compare, repeat(seed), range(num_runs), repeat(only))
        ):
            poor += doubtful
            for name, hit, pull in found:
                hits.setdefault(name, []).append(hit)
                pulls.setdefault(name, []).append(pull)
            progress("runs", index + 1, num_runs)
    coverage = {
        name: {
            "within_1": float(np.mean([hit[0] for hit in found])),
            "within_95_percent": float(np.mean([hit[1] for hit in found])),
            "within_99_percent": float(np.mean([hit[2] for hit in found])),
            "mean_pull": float(np.mean(pulls[name])),
            "spread_of_pulls": float(np.std(pulls[name])),
            "passes": bool(np.mean([hit[2] for hit in found]) >= REQUIRED_FRACTION),
        }
        for name, found in hits.items()
    }
    return {
        "runs": num_runs,
        "seed": seed,
        "criterion": "truth within the stated 99 % interval in at least 95 % of the runs",
        "fits_below_p_1e-4": poor,
        "coverage": coverage,
    }


def print_table(document: dict[str, Any]) -> None:
    """The coverage for people."""
    print(f"{'quantity':<48} {'1 s.e.':>8} {'95 %':>8} {'99 %':>8} {'mean pull':>10} {'spread':>8}")
    for name, entry in document["coverage"].items():
        print(
            f"{name:<48} {entry['within_1']:>8.0%} {entry['within_95_percent']:>8.0%} "
            f"{entry['within_99_percent']:>8.0%} {entry['mean_pull']:>10.2f} {entry['spread_of_pulls']:>8.2f}"
            f"{'' if entry['passes'] else '  FAILS'}"
        )
    print(f"{document['runs']} runs; fits with p < 1e-4: {document['fits_below_p_1e-4']}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", default=(), metavar="EXPERIMENT", help="run some of them")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with ProgressDisplay() as progress:
        document = run(arguments.runs, arguments.seed, arguments.workers, arguments.only, progress)
    if arguments.json:
        print_json(document)
    else:
        print_table(document)
    return 0 if all(entry["passes"] for entry in document["coverage"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
