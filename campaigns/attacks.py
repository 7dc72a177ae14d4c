"""How often attacked runs pass the Bell test, counted, against the exact binomial probability.

    python -m campaigns.attacks --plot attacks.svg
    python -m campaigns.attacks --kind measured --repetitions 2000 --json

Every repetition is a run on the laboratory's own tape, without nodes (`sim_devices.adversaries.trials`).
The intervals are Clopper and Pearson's, wide enough that all of them together miss with a probability of
1e-4 if theory is right. Exit code 1 if one misses."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from scipy.stats import binomtest

from diqkd.console import ProgressDisplay
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.roles import chsh_score_of_winning
from diqkd_postproc.report.figure_style import BLUE, ORANGE, new_figure, save_figure
from sim_devices.adversaries.acceptance import acceptance
from sim_devices.adversaries.trials import TrialRuns
from sim_devices.laboratory.tampering import Tampering
from sim_devices.physics.link import LinkModel

FALSE_ALARM = 1e-4
SCORE = 2.7


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a share of attacked rounds."""
    parameters = DesignPoint(arguments.rounds, Fraction(1, 4), SCORE, 0.02).parameters()
    link = LinkModel(arguments.link)
    confidence = 1 - FALSE_ALARM / len(arguments.shares)
    rows = []
    with ProgressDisplay("none" if arguments.json else "auto") as progress:
        for number, share in enumerate(arguments.shares):
            tampering = Tampering(**{f"{arguments.kind}_fraction": share})
            runs, theory = TrialRuns(parameters, link, tampering), acceptance(parameters, link, tampering)
            accepted = 0
            for repetition in range(arguments.repetitions):
                seed = arguments.seed + number * arguments.repetitions + repetition
                accepted += runs.losses(seed) <= parameters.max_losses
                progress(f"share {share:g}", repetition + 1, arguments.repetitions)
            bounds = binomtest(accepted, arguments.repetitions).proportion_ci(confidence, "exact")
            rows.append(
                {
                    "share": share,
                    "chsh_score": theory.chsh_score,
                    "theory": theory.acceptance_probability,
                    "accepted": accepted,
                    "repetitions": arguments.repetitions,
                    "interval": [bounds.low, bounds.high],
                    "within": bounds.low <= theory.acceptance_probability <= bounds.high,
                }
            )
    return rows


def plot(path: Path, rows: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Theory as a line, what was counted as points with their intervals."""
    with new_figure(6.4, 3.8) as figure:
        _draw(figure, rows, arguments)
        save_figure(figure, path)


def _draw(figure: Figure, rows: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    parameters = DesignPoint(arguments.rounds, Fraction(1, 4), SCORE, 0.02).parameters()
    link = LinkModel(arguments.link)
    shares = np.linspace(min(arguments.shares), max(arguments.shares), 120)
    curve = [
        acceptance(parameters, link, Tampering(**{f"{arguments.kind}_fraction": float(share)}))
        for share in shares
    ]
    axes = figure.subplots()
    axes.plot(100 * shares, [c.acceptance_probability for c in curve], color=BLUE, label="exact binomial")
    counted = np.array([row["accepted"] / row["repetitions"] for row in rows])
    bars = np.array([row["interval"] for row in rows]).T
    axes.errorbar(
        [100 * row["share"] for row in rows],
        counted,
        yerr=np.abs(bars - counted),
        fmt="o",
        color=ORANGE,
        markersize=4,
        capsize=3,
        label=f"counted in {arguments.repetitions} runs",
    )
    axes.set_xlabel(f"{arguments.kind} rounds, %")
    axes.set_ylabel("runs that pass")
    axes.set_xlim(100 * shares[0], 100 * shares[-1])
    axes.set_ylim(-0.03, 1.03)
    # S falls linearly with the share.
    first, slope = curve[0].chsh_score, (curve[-1].chsh_score - curve[0].chsh_score) / np.ptp(100 * shares)
    start = 100 * shares[0]
    score = axes.secondary_xaxis(
        "top",
        functions=(lambda percent: first + slope * (percent - start), lambda s: start + (s - first) / slope),
    )
    score.xaxis.set_major_locator(MultipleLocator(0.2))
    score.set_xlabel(f"CHSH score S; {chsh_score_of_winning(parameters.omega_threshold):.3f} is demanded")
    axes.legend()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and draw if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--kind", choices=["local", "measured"], default="local", help="listed or measured rounds"
    )
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 1.0]
    )
    parser.add_argument("--link", choices=["ideal", "measured"], default="ideal")
    parser.add_argument("--rounds", type=int, default=8192)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="picture to draw")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    rows = measure(arguments)
    if arguments.plot:
        plot(arguments.plot, rows, arguments)
    if arguments.json:
        print(json.dumps({"kind": arguments.kind, "rounds": arguments.rounds, "rows": rows}, indent=2))
    else:
        print(f"{'share':>7} {'S':>7} {'theory':>10} {'counted':>13}  interval")
        for row in rows:
            counted, (low, high) = f"{row['accepted']} of {row['repetitions']}", row["interval"]
            print(
                f"{row['share']:7.3f} {row['chsh_score']:7.3f} {row['theory']:10.4g} {counted:>13}  "
                f"{low:.4f} to {high:.4f}{'' if row['within'] else '  MISSED'}"
            )
    return 0 if all(row["within"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
