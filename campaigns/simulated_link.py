"""The simulated link as the kernels see it: S, Q and P(A, B | X, Y) from whole rounds of both nodes.

    python -m campaigns.simulated_link --rounds 1000000 --json

Runs the key-generation experiment at gamma = 1/2 on both simulated nodes, as the published
characterisation run did, joins the two records (which a key run never does) and compares with Table S4.
Also reports the rate of
the kernel-level simulation.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
from fractions import Fraction
from pathlib import Path

from diqkd.console import ProgressDisplay, print_json
from diqkd.demo.parties import acquire
from diqkd.demo.programs import Programs
from diqkd.demo.scenario import Scenario
from diqkd_postproc.files import make_private_directory
from diqkd_postproc.link.statistics import chsh_score, outcome_probabilities, qber
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.roles import ROLES
from diqkd_postproc.records.sealed_record import RoundRecord

# P(A, B | X, Y), SI Table S4: [A][B] for each (X, Y).
PUBLISHED = {
    (0, 0): ((0.415, 0.0688), (0.0961, 0.420)),
    (1, 0): ((0.3928, 0.0916), (0.0851, 0.431)),
    (0, 1): ((0.439, 0.0805), (0.0735, 0.4068)),
    (1, 1): ((0.0820, 0.437), (0.3970, 0.0841)),
    (0, 2): ((0.5017, 0.00339), (0.0110, 0.4839)),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    scenario = Scenario(
        name="the published link",
        parameters=DesignPoint(arguments.rounds, Fraction(1, 2), 2.64, 0.018).parameters(),
        laboratory_seed=arguments.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        for role in ROLES:
            make_private_directory(directory / role)
        scenario.parameters.save(directory / "parameters.toml")
        with Programs() as programs, ProgressDisplay() as progress:
            _, seconds = acquire(scenario, directory, arguments.seed, programs, progress)
        alice, bob = (RoundRecord.read(directory / role / "record.h5") for role in ROLES)
    data = (alice.setting, bob.setting, alice.outcome, bob.outcome)
    score, error_rate = chsh_score(*data), qber(*data)
    table = outcome_probabilities(*data)
    print_json(
        {
            "rounds": arguments.rounds,
            "seed": arguments.seed,
            "chsh_score": score.value,
            "chsh_standard_error": score.standard_error,
            "qber": error_rate.value,
            "qber_standard_error": error_rate.standard_error,
            "largest_difference_from_table_s4": max(
                abs(probability - PUBLISHED[x, y][a][b]) for x, y, a, b, probability, _ in table.entries()
            ),
            "rounds_per_second": round(arguments.rounds / seconds),
        }
    )


if __name__ == "__main__":
    main()
