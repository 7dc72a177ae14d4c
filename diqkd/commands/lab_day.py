"""`diqkd lab-day`: a day of an unattended laboratory, simulated."""

from __future__ import annotations

import argparse
from argparse import Namespace
from fractions import Fraction
from pathlib import Path

from diqkd.lab_day.run import LabDay, simulate_day
from diqkd.options import types as argument_types
from diqkd.options.parsers import add_json, add_progress
from diqkd_postproc.signals import interrupt_on_termination


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Both nodes generate key unattended in a laboratory that drifts, and calibrate when that "
        "is due. Time is compressed: every simulated round stands for several. Ends with a picture of the "
        "day. What the nodes may not know, S and Q and the drifts, is taken from the simulation afterwards."
    )
    parser.add_argument("--hours", type=float, default=8.0, help="length of the day in the laboratory")
    parser.add_argument("--rounds", type=argument_types.count, default=300_000, help="rounds to simulate")
    parser.add_argument(
        "--gamma", type=Fraction, default=Fraction(32, 256), help="share of test rounds, k/256"
    )
    parser.add_argument("--without-calibrations", action="store_true", help="let everything drift")
    parser.add_argument(
        "--compare", type=Path, metavar="DIR", help="run directory of another day, to draw its S as well"
    )
    parser.add_argument("--seed", type=int, default=1, help="of everything that nature draws")
    parser.add_argument(
        "--herald-probability", type=float, default=1.6e-4, help="heralds per attempt; higher is faster"
    )
    parser.add_argument("--run-dir", type=Path, help="folder of the day (default: run/lab-day-DATE)")
    parser.add_argument(
        "--calibrations", type=Path, metavar="FILE", help="what to calibrate and how often (default: ours)"
    )
    add_progress(parser)
    add_json(parser)
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    with interrupt_on_termination():
        simulate_day(
            LabDay(
                hours=arguments.hours,
                num_rounds=arguments.rounds,
                gamma=arguments.gamma,
                seed=arguments.seed,
                herald_probability=arguments.herald_probability,
                calibrate=not arguments.without_calibrations,
                calibrations=arguments.calibrations,
            ),
            arguments.run_dir,
            arguments.compare,
            progress_mode=arguments.progress,
            as_json=arguments.json,
        )
