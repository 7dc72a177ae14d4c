"""`diqkd lab-day`: a day of an unattended laboratory, simulated."""

from __future__ import annotations

import argparse
from argparse import Namespace
from fractions import Fraction
from pathlib import Path

from diqkd_postproc import argument_types


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    formatter: type[argparse.HelpFormatter],
) -> None:
    """Add `lab-day`."""
    parser = commands.add_parser(
        "lab-day",
        help="Simulate a day without an operator: drifts, calibrations, a laser failure, lost ions.",
        description="Both nodes generate key unattended in a laboratory that drifts, and calibrate when that "
        "is due. Time is compressed: every simulated round stands for several. Ends with a picture of the "
        "day. What the nodes may not know, S and Q and the drifts, is taken from the simulation afterwards.",
        formatter_class=formatter,
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
    parser.add_argument("--progress", choices=("auto", "lines", "none"), default="auto")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    """`diqkd lab-day`."""
    from diqkd_postproc.commands import interrupt_on_termination
    from sim_devices.lab_day import simulate_day

    with interrupt_on_termination():
        simulate_day(arguments)
