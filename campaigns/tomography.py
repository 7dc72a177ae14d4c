"""Time of a tomography at the published size, and how often its errors, and those of phases, tell the truth.

    python -m campaigns.tomography --json

Counts are drawn from the exact probabilities of the simulated nodes' chain of pulses, dephasing and readout.
The truth is what infinitely many rounds would give: for fidelities and phases the estimate from the exact
probabilities, for Bob's phases the maximum of the exact fringe. Criterion: of 100 runs, at least 95 have a
value within 2.58 standard errors (99 % of a normal distribution), for each pattern; the share within 1.96 is
reported too. Everything is seeded.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd.console import ProgressDisplay
from diqkd_node.calibration.fits.pattern_phases import fit_pattern_phases
from diqkd_postproc.link.tomography import (
    analyse,
    bell_phase,
    closest_maximally_entangled_state,
    maximum_likelihood,
)
from diqkd_postproc.link.tomography_counts import ANALYSIS_PHASE_TURNS, OBSERVABLES, TomographyCounts
from diqkd_postproc.protocol.roles import HERALD_PATTERNS, ROLES
from sim_devices.physics import constants
from sim_devices.physics.expected_statistics import (
    ALICE_ANALYSIS_START,
    BOB_ANALYSIS_START,
    measurement_pulses,
    observed_effect,
)
from sim_devices.physics.ion import Ion
from sim_devices.physics.link import fully_entangled_fraction, joint_state

NAMES = [f"{pattern:04b}" for pattern in HERALD_PATTERNS]
# Rounds of a cycle of 36 that each setting pair gets: Z twice as often as the others at each node.
PLAYS = np.outer(*[[1 + (name == "Z") for name in OBSERVABLES]] * 2).reshape(-1) / 36
START = {"alice": ALICE_ANALYSIS_START, "bob": BOB_ANALYSIS_START}
NUM_PHASES = 16
FRINGE_ROUNDS = 20_000
LEVELS = {"within_1.96": 1.96, "within_2.58": 2.58}


def bright_effect(role: str, phase_turns: float | None) -> npt.NDArray[np.complex128]:
    """(2, 2) effect of "bright" after a pi/2 pulse of this phase, or after shelving."""
    quarter_turns = 0.0 if phase_turns is None else 1.0
    pulses = measurement_pulses(START[role], quarter_turns, phase_turns or 0.0)
    return observed_effect(Ion(constants.COHERENCE_TIME[role]).bright_effect(*pulses))


def joint_probabilities(pattern: int, alice: list[Any], bob: list[Any]) -> npt.NDArray[np.float64]:
    """(len(alice), len(bob), 4): bright/bright, bright/dark, dark/bright, dark/dark."""
    rho = joint_state(pattern)
    one = np.eye(2)
    return np.array(
        [
            [
                [np.einsum("abcd,ca,db->", rho, x, y).real for x in (a, one - a) for y in (b, one - b)]
                for b in bob
            ]
            for a in alice
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100, help="tomographies and phase scans")
    parser.add_argument("--heralds", type=int, default=180_000, help="of a tomography")
    parser.add_argument("--resamples", type=int, default=200, help="bootstrap samples of the timed one")
    parser.add_argument("--run-resamples", type=int, default=50, help="bootstrap samples of the others")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    phases = [ANALYSIS_PHASE_TURNS.get(name) for name in OBSERVABLES]
    alice, bob = ([bright_effect(role, phase) for phase in phases] for role in ROLES)
    exact = np.array([joint_probabilities(pattern, alice, bob).reshape(25, 4) for pattern in HERALD_PATTERNS])
    rounds = np.rint(arguments.heralds / 4 * PLAYS).astype(int)
    asymptotic = [estimate.rho for estimate in maximum_likelihood(exact * rounds[:, None], max_gap=1e-6)]
    fidelity, states = closest_maximally_entangled_state(np.array(asymptotic))
    truth = {"fidelity": fidelity, "phase": bell_phase(states)}

    turns = np.arange(NUM_PHASES) / NUM_PHASES
    scanned = [bright_effect("bob", phase) for phase in turns]
    fringe = np.array(
        [
            joint_probabilities(pattern, [bright_effect("alice", 0.0)], scanned)[0, :, 1:3].sum(axis=1)
            for pattern in HERALD_PATTERNS
        ]
    )
    waves = np.exp(2j * np.pi * turns)
    best_turns = np.angle(fringe @ waves) / (2 * np.pi) % 1.0

    pulls: dict[str, list[list[float]]] = {"fidelity": [], "phase": [], "pattern_phase": []}
    mean_pulls = []
    with ProgressDisplay() as progress:
        for run in range(arguments.runs):
            tables = rng.multinomial(rounds, exact)
            result = analyse(
                TomographyCounts(dict(zip(NAMES, tables, strict=True))), arguments.run_resamples, seed=run
            )
            for name in ("fidelity", "phase"):
                found = [getattr(pattern, name) for pattern in result.by_pattern.values()]
                errors = [q.value - t for q, t in zip(found, truth[name], strict=True)]
                if name == "phase":
                    errors = [float(np.angle(np.exp(1j * error))) for error in errors]
                pulls[name].append([e / q.standard_error for e, q in zip(errors, found, strict=True)])
            mean = result.mean_fidelity
            mean_pulls.append((mean.value - fidelity.mean()) / mean.standard_error)
            shots = rng.multinomial(FRINGE_ROUNDS, np.full(4 * NUM_PHASES, 0.25 / NUM_PHASES)).reshape(4, -1)
            finding = fit_pattern_phases(turns, rng.binomial(shots, fringe), shots, NAMES)
            quantities = [finding.quantities[f"phase_{name}"] for name in NAMES]
            pulls["pattern_phase"].append(
                [
                    ((q.value - t + 0.5) % 1.0 - 0.5) / q.standard_error
                    for q, t in zip(quantities, best_turns, strict=True)
                ]
            )
            progress("runs", run + 1, arguments.runs)
    counts = TomographyCounts(dict(zip(NAMES, rng.multinomial(rounds, exact), strict=True)))
    cpu, wall = time.process_time(), time.perf_counter()
    result = analyse(counts, arguments.resamples)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall

    answer: dict[str, Any] = {
        "heralds": counts.num_heralds,
        "resamples": arguments.resamples,
        "cpu_s": round(cpu, 2),
        "wall_s": round(wall, 2),
        "runs": arguments.runs,
        "true_fidelity": dict(zip(NAMES, np.round(fidelity, 5).tolist(), strict=True)),
        "fidelity_of_the_link": {
            name: round(fully_entangled_fraction(joint_state(pattern)), 5)
            for name, pattern in zip(NAMES, HERALD_PATTERNS, strict=True)
        },
        "found": {},
    }
    for name, rows in pulls.items():
        table = np.abs(np.array(rows))
        answer["found"][name] = {
            level: dict(zip(NAMES, (table <= limit).sum(axis=0).tolist(), strict=True))
            for level, limit in LEVELS.items()
        }
        answer["found"][name]["rms_pull"] = round(float(np.sqrt((table**2).mean())), 3)
    answer["found"]["mean_fidelity"] = {
        level: int((np.abs(mean_pulls) <= limit).sum()) for level, limit in LEVELS.items()
    }
    if arguments.json:
        json.dump(answer, sys.stdout, indent=2)
        print()
        return
    print(f"{answer['heralds']:,} heralds, {arguments.resamples} resamples: {cpu:.1f} s of CPU, {wall:.1f} s")
    for name, entry in answer["found"].items():
        print(f"{name}: of {arguments.runs} runs {entry}")


if __name__ == "__main__":
    main()
