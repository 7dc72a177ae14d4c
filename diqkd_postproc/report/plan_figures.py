"""The planner's figure: key rate against rounds (Fig. 4), sensitivity to S and Q, smallest runs (Fig. S15).

All curves are estimates at the best test probability for each point; the key of the plan itself is proven.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from diqkd_postproc.planning.design_point import PUBLISHED_GAMMA, DesignPoint
from diqkd_postproc.planning.plan import Plan
from diqkd_postproc.protocol.roles import lost_test_probability
from diqkd_postproc.report.figure_style import BLUE, GREEN, INK, ORANGE, PURPLE, RED, new_figure, save_figure
from diqkd_postproc.security.min_tradeoff import MAX_CHSH_SCORE

Security = dict[str, str | None]
PROOFS: tuple[tuple[str, str, Security], ...] = (
    ("paper", BLUE, {"proof": "paper", "bound": None, "extractor": "trevisan"}),
    ("counted", GREEN, {"proof": "counted", "bound": None, "extractor": "trevisan"}),
    ("renyi simple, Trevisan", ORANGE, {"proof": "renyi", "bound": "simple", "extractor": "trevisan"}),
    ("renyi full, Toeplitz", PURPLE, {"proof": "renyi", "bound": "full", "extractor": "toeplitz"}),
    (
        "renyi exact, variable",
        RED,
        {"proof": "renyi", "bound": "exact", "extractor": "toeplitz", "length": "variable"},
    ),
)
BOTH = (PROOFS[0], PROOFS[4])
STYLES = ("-", "--", ":")

RATE_POINTS = 17
SENSITIVITY_POINTS = 7
SMALLEST_RUN_SCORES = 5


def draw(point: DesignPoint, plan: Plan, path: Path) -> None:
    """Write the figure; the format follows the file's name. errors as `save_figure`.

    Four panels: key rate against rounds for each proof, the smallest run with a key, and the rate against S
    and against Q. Errors as `save_figure`.
    """
    with new_figure(11, 8) as figure:
        ((rate, smallest), (by_score, by_error)) = figure.subplots(2, 2)
        _rates(rate, point, plan)
        _smallest_runs(smallest, point)
        _sensitivity(by_score, point, plan, "chsh_score")
        _sensitivity(by_error, point, plan, "qber")
        figure.suptitle(
            f"S = {point.chsh_score:g}, Q = {100 * point.qber:g} %, "
            f"soundness error {point.soundness_error:g}; estimates at the best test probability; "
            "only `paper` is peer-reviewed",
            fontsize=10.5,
        )
        save_figure(figure, path)


def _by(point: DesignPoint, security: Security) -> DesignPoint:
    fixed: dict[str, object] = {"length": "fixed", "free_parameters": None, "increments": ()}
    return dataclasses.replace(point, **(fixed | security))  # type: ignore[arg-type]


def _best_rates(points: Iterable[DesignPoint]) -> list[float]:
    """Key bits a round at each point; each search for the test probability starts from the last one."""
    gamma = PUBLISHED_GAMMA
    rates = []
    for point in points:
        gamma = point.best_gamma(gamma)
        rates.append(dataclasses.replace(point, gamma=gamma).estimate() / point.num_rounds)
    return rates


def _rates(axes: Axes, point: DesignPoint, plan: Plan) -> None:
    free = dataclasses.replace(point, syndrome_bits=None)
    rounds = np.geomspace(1e4, 1e8, RATE_POINTS)[::-1]
    alternatives = [
        (point.chsh_score, point.qber),
        (2.677, 0.0144),
        (MAX_CHSH_SCORE, 0.0),
    ]
    for style, (score, error) in zip(STYLES, alternatives, strict=True):
        for name, colour, security in PROOFS if style == "-" else BOTH:
            here = _by(dataclasses.replace(free, chsh_score=score, qber=error), security)
            some = rounds[:: 2 if here.length == "variable" else 1]
            rates = _best_rates(dataclasses.replace(here, num_rounds=int(n)) for n in some)
            label = name if style == "-" else None
            axes.plot(some, rates, style, color=colour, label=label)
        axes.plot([], [], style, color=INK, label=f"S = {score:.3f}, Q = {100 * error:.3g} %")
    p = plan.parameters
    if p.key_bits:
        rate_here = plan.expected_key_bits / p.num_rounds
        axes.plot([p.num_rounds], [rate_here], "o", color=INK, label="this plan")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rounds n")
    axes.set_ylabel("key bits a round")
    axes.set_title("Key rate")
    axes.legend(fontsize=7.5, loc="upper left", framealpha=0.9)


def _sensitivity(axes: Axes, point: DesignPoint, plan: Plan, quantity: str) -> None:
    num_rounds = plan.parameters.num_rounds
    free = dataclasses.replace(point, syndrome_bits=None, num_rounds=num_rounds)
    if quantity == "chsh_score":
        low, high = max(2.0, point.chsh_score - 0.12), min(MAX_CHSH_SCORE, point.chsh_score + 0.12)
    else:
        low, high = max(0.0, point.qber - 0.015), min(0.5, point.qber + 0.015)
    values = np.linspace(low, high, SENSITIVITY_POINTS)[:: 1 if quantity == "qber" else -1].tolist()
    for name, colour, security in PROOFS:
        here = _by(free, security)
        rates = _best_rates(dataclasses.replace(here, **{quantity: value}) for value in values)
        bits = np.array(rates) * num_rounds
        scale = 100.0 if quantity == "qber" else 1.0
        axes.plot(np.array(values) * scale, bits / 1000, color=colour, label=name)
    rule = plan.parameters.length_rule
    if quantity == "chsh_score" and rule is not None and rule.length == "variable":
        tests = round(num_rounds * float(plan.parameters.gamma))
        scores = np.linspace(low, high, 100)
        lengths = [
            rule.key_bits(round(tests * lost_test_probability(score)), tests, 0, rule.syndrome_bits[0])
            for score in scores.tolist()
        ]
        axes.plot(scores, np.array(lengths) / 1000, "--", color=INK, label="this plan, S observed")
        axes.legend(fontsize=7.5)
    axes.axvline(getattr(point, quantity) * (100.0 if quantity == "qber" else 1.0), color=INK, lw=0.8, ls=":")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(
        "CHSH score S of the link" if quantity == "chsh_score" else "bit error rate Q of the link (%)"
    )
    axes.set_ylabel(f"key of {num_rounds:,} rounds (kbit)")
    axes.set_title("Sensitivity to " + ("S" if quantity == "chsh_score" else "Q"))


def _smallest_runs(axes: Axes, point: DesignPoint) -> None:
    scores = np.linspace(2.55, MAX_CHSH_SCORE, SMALLEST_RUN_SCORES)[::-1]
    for style, error in zip(STYLES, (point.qber, 0.0), strict=False):
        for name, colour, security in BOTH:
            found: list[tuple[float, float]] = []
            gamma = Fraction(30, 256)
            for score in scores.tolist():
                here = _by(
                    dataclasses.replace(point, syndrome_bits=None, chsh_score=score, qber=error), security
                )
                num_rounds, gamma = _zero_crossing(here, gamma)
                if num_rounds is None:
                    break
                found.append((score, num_rounds))
            label = name if style == "-" else None
            if found:
                axes.plot(*zip(*found, strict=True), style + "o", ms=3, color=colour, label=label)
        axes.plot([], [], style, color=INK, label=f"Q = {100 * error:.3g} %")
    axes.set_yscale("log")
    axes.set_xlabel("CHSH score S")
    axes.set_ylabel("fewest rounds that give a key")
    axes.set_title("Smallest runs")
    axes.legend(fontsize=7.5)


def _zero_crossing(point: DesignPoint, gamma: Fraction) -> tuple[float | None, Fraction]:
    """Rounds from which the estimate is positive, and the best test probability there; None beyond 1e8."""
    num_rounds = 1e8
    point = dataclasses.replace(point, num_rounds=int(num_rounds))
    point = dataclasses.replace(point, gamma=point.best_gamma(gamma))
    if point.estimate() <= 0:
        return None, point.gamma
    # The search within the estimate of a variable length makes it slow.
    refinements, precision = (2, 1.05) if point.length == "variable" else (4, 1.01)
    for _ in range(refinements):
        low, high = 3e3, num_rounds
        while high > precision * low:
            middle = math.sqrt(low * high)
            if dataclasses.replace(point, num_rounds=int(middle)).estimate() > 0:
                high = middle
            else:
                low = middle
        num_rounds = high
        point = dataclasses.replace(point, num_rounds=int(num_rounds))
        better = point.best_gamma(point.gamma)
        if better == point.gamma:
            break
        point = dataclasses.replace(point, gamma=better)
    return num_rounds, point.gamma
