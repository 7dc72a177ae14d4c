"""The figures of a report: the Bell test, rate against rounds (Fig. 4), the run in time (Fig. 3, below)."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from diqkd_postproc.link.timeline import Timeline, time_unit
from diqkd_postproc.planning.design import asymptotic_rate, shannon_limit
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.report.facts import RunFacts
from diqkd_postproc.report.figure_style import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    RED,
    SURFACE,
    inline_svg,
    new_figure,
    shade,
)

NUM_RATE_POINTS = 28
NUM_RULE_POINTS = 12

TERM_NAMES = {
    "entropy": "entropy of the outcomes",
    "test_outcomes": "Bob's test outcomes",
    "test_outcomes_second_order": "their second order",
    "smoothing_min": "smoothing, min-entropy",
    "smoothing_max": "smoothing, max-entropy",
    "chain_rule": "chain rule",
    "extractor_error": "extractor error",
    "extractor_length": "extractor length",
    "extractor_constant": "extractor constant",
    "losses": "lost rounds",
    "loss_budget": "accepted losses",
    "test_credit": "test rounds, credited",
    "events": "possible counts",
    "late_losses": "late losses",
    "syndrome": "syndrome",
    "hash_error": "error of the hashing",
    "messages": "tags and verdicts",
}


def bell_test_figure(facts: RunFacts) -> str:
    """Between the classical and the quantum limit: what was demanded, designed for, and found."""
    threshold = facts.demanded_score
    score = facts.chsh_score
    top = 2 * math.sqrt(2)
    with new_figure(10.4, 1.35) as figure:
        axes = figure.subplots()
        low = min([1.9] + ([score.value - 4 * score.standard_error] if score else []))
        high = max([top] + ([score.value + 2.2 * score.standard_error] if score else []))
        axes.set_xlim(low - 0.02, high + 0.06)
        axes.set_ylim(-0.62, 1.25)
        axes.barh(0, 2 - low + 0.02, left=low - 0.02, height=0.5, color=GRID)
        axes.barh(0, threshold - 2, left=2, height=0.5, color=ORANGE, alpha=0.28, linewidth=0)
        axes.barh(0, top - threshold, left=threshold, height=0.5, color=GREEN, alpha=0.3, linewidth=0)
        for value, label, side in ((2.0, "classical limit 2", "center"), (top, "quantum limit 2√2", "right")):
            axes.plot([value, value], [-0.25, 0.25], color=MUTED, linewidth=1.2)
            axes.text(value, -0.58, label, ha=side, color=MUTED)
        axes.plot([threshold, threshold], [-0.25, 0.25], color=ORANGE, linewidth=2.4)
        axes.text(threshold - 0.008, 0.36, f"threshold {threshold:.3f}", ha="right")
        if score is not None:
            error = 1.96 * score.standard_error
            colour = RED if facts.ending == "aborted" else BLUE
            axes.errorbar(score.value, 0, xerr=error, color=colour, capsize=4, marker="o", markersize=8)
            text = f"S = {score.value:.3f} ± {score.standard_error:.3f}"
            axes.text(score.value, 0.75, text, ha="center", fontsize=12, fontweight="bold", color=colour)
        elif facts.ending == "key":
            axes.annotate(
                "",
                xy=(min(top, threshold + 0.14), 0.5),
                xytext=(threshold, 0.5),
                arrowprops={"arrowstyle": "->", "color": GREEN, "linewidth": 2.2},
            )
            axes.text(threshold, 0.8, "test passed", ha="left", fontsize=12, fontweight="bold", color=GREEN)
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_xticks([])
        return inline_svg(figure, "bell", "CHSH score against its threshold and limits")


def rate_figure(parameters: ProtocolParameters, key_bits: int, point: str = "this run") -> str:
    """Key bits a round against the number of rounds, by the run's proof at its design point (Fig. 4).

    key_bits: of the mark at the run's own parameters. point: what it is called.
    """
    late_type = parameters.protocol == "late-type"
    proofs = [parameters.proof] if late_type or parameters.proof == "paper" else [parameters.proof, "paper"]
    has_limit = not late_type and parameters.length_rule is None
    here = parameters.num_rounds
    with new_figure(5.6, 3.9) as figure:
        axes = figure.subplots()
        highest = key_bits / here
        for proof, colour, style in zip(proofs, (BLUE, MUTED), ("-", "--"), strict=False):
            rounds, rates = _rate_curve(parameters, proof)
            axes.plot(rounds, np.clip(rates, 0, None), style, color=colour, label=f"proof: {proof}")
            if not has_limit:
                highest = max(highest, *rates)
                continue
            limit = asymptotic_rate(
                parameters.gamma,
                parameters.design_chsh_score,
                parameters.design_qber,
                proof=proof,  # type: ignore[arg-type]
                bound=parameters.bound if proof == "renyi" else None,
            )
            highest = max(highest, limit, *rates)
            if proof == parameters.proof and limit > 0:
                axes.axhline(limit, color=colour, linewidth=1, linestyle=":")
                axes.text(rounds[-1], limit, "n → ∞", va="bottom", ha="right", color=MUTED)
        axes.plot([here], [key_bits / here], "o", color=ORANGE, markersize=9, zorder=5, label=point)
        axes.annotate(
            f"{key_bits / here:.4f} bit a round",
            (here, key_bits / here),
            xytext=(10, -4),
            textcoords="offset points",
            fontsize=9.5,
            fontweight="bold",
            bbox={"facecolor": SURFACE, "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        )
        axes.set_xscale("log")
        axes.set_ylim(-0.02 * max(highest, 0.02), 1.12 * max(highest, 0.02))
        axes.set_xlabel("number of rounds n")
        axes.set_ylabel("key rate, bits a round")
        axes.xaxis.set_major_formatter(FuncFormatter(_power_of_ten))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, position: ""))
        if parameters.length_rule is None:
            axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.86))
        else:
            axes.legend(loc="lower right")
        return inline_svg(figure, "rate", "Key rate against the number of rounds, with this run")


@cache
def _rate_curve(parameters: ProtocolParameters, proof: str) -> tuple[list[int], list[float]]:
    """Numbers of rounds and key rates; a second variant of a report need not compute them again."""
    here = parameters.num_rounds
    # A rule's estimate searches its free parameters anew at every n.
    number = (
        NUM_RATE_POINTS if proof != parameters.proof or parameters.length_rule is None else NUM_RULE_POINTS
    )
    grid = np.geomspace(min(1e5, here / 4), max(1e8, here * 4), number)
    rounds = [int(n) for n in grid]
    return rounds, [_rate(parameters, n, proof) for n in rounds]


def _rate(parameters: ProtocolParameters, num_rounds: int, proof: str) -> float:
    """Key bits a round at the design point.

    The syndrome exceeds the Shannon limit by as much as the run's own does, in units of sqrt(n).
    """
    design = (parameters.gamma, parameters.design_chsh_score, parameters.design_qber)
    limit = shannon_limit(*design, parameters.design_second_qber)
    surplus = (parameters.syndrome_bits - parameters.num_rounds * limit) / math.sqrt(parameters.num_rounds)
    syndrome_bits = round(num_rounds * limit + max(0.0, surplus) * math.sqrt(num_rounds))
    syndrome_bits = max(1, min(num_rounds - 1, syndrome_bits))
    point = DesignPoint(
        num_rounds,
        *design,
        parameters.soundness_error,
        syndrome_bits,
        proof=proof,  # type: ignore[arg-type]
        bound=parameters.bound if proof == "renyi" else None,
        extractor=parameters.extractor if proof == "renyi" else "trevisan",
        protocol=parameters.protocol if proof == "renyi" else "ordered",
        second_qber=parameters.design_second_qber if proof == "renyi" else None,
        length=parameters.length if proof == "renyi" else "fixed",
    )
    return point.estimate() / num_rounds


def _power_of_ten(value: float, position: int | None) -> str:
    digits = "⁰¹²³⁴⁵⁶⁷⁸⁹"
    exponent = round(math.log10(value))
    return "10" + "".join(digits[int(d)] for d in str(exponent))


def key_length_figure(facts: RunFacts) -> str:
    """How the theorem's terms add up to the key length: a staircase from the entropy down."""
    terms = sorted(facts.length_terms.items(), key=lambda item: (item[1] < 0, -abs(item[1])))
    bits, end = facts.key_length.bits, "certified key length"
    if facts.parameters.length == "variable":
        known = "losses" in facts.length_terms
        end = "key length" if known else "before losses and syndrome"
        bits = facts.key_bits if known else max(0, facts.parameters.constant_bits or 0)
    large = [(name, bits) for name, bits in terms if abs(bits) >= 0.004 * max(abs(b) for _, b in terms)]
    small = sum(bits for name, bits in terms if (name, bits) not in large)
    rows = [(TERM_NAMES.get(name, name.replace("_", " ")), bits) for name, bits in large]
    rows += [("all other terms", small)] if len(large) < len(terms) else []
    with new_figure(5.6, 3.9) as figure:
        axes = figure.subplots()
        reached = 0.0
        widest = max(term for _, term in rows)
        for position, (_, term) in enumerate(rows):
            start = min(reached, reached + term)
            colour = GREEN if term > 0 else ORANGE
            axes.barh(position, abs(term), left=start, height=0.62, color=colour, alpha=0.75, linewidth=0)
            axes.text(
                max(reached, reached + term) + 0.01 * widest,
                position,
                f"{term:+,.0f}".replace("-", "−"),
                va="center",
                fontsize=9,
            )
            reached += term
        axes.barh(len(rows), max(reached, 0), height=0.62, color=BLUE, linewidth=0)
        axes.text(
            max(reached, 0) + 0.01 * widest,
            len(rows),
            f"{bits:,}",
            va="center",
            fontweight="bold",
            fontsize=9,
        )
        axes.set_yticks(range(len(rows) + 1), [name for name, _ in rows] + [end])
        axes.invert_yaxis()
        axes.set_xlim(min(0.0, reached), widest * 1.2)
        axes.set_xlabel("thousand bits")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value / 1000:,.0f}"))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(False, axis="y")
        return inline_svg(figure, "length", "Terms of the key length")


def timeline_figure(timeline: Timeline) -> str:
    """Rounds done and herald rate against time, pauses shaded (Fig. 3, bottom)."""
    scale, unit = time_unit(timeline.duration_s)
    edges = timeline.edges_s / scale
    with new_figure(7.6, 4.9) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.35, 1))
        done = np.concatenate(([0], np.cumsum(timeline.heralds)))
        divisor, prefix = (
            (1e6, "million ") if done[-1] >= 2e6 else (1e3, "thousand ") if done[-1] >= 5e3 else (1, "")
        )
        above.plot(edges, done / divisor, color=BLUE)
        above.fill_between(edges, done / divisor, color=BLUE, alpha=0.12, linewidth=0)
        above.set_ylabel(f"{prefix}heralds")
        above.set_ylim(0, None)
        rate = timeline.heralds / np.maximum(np.diff(timeline.edges_s), 1e-12)
        below.stairs(rate, edges, baseline=None, color=BLUE, linewidth=1.1)
        below.set_ylim(0, max(1e-9, float(rate.max())) * 1.15)
        below.set_ylabel("heralds / s")
        below.set_xlabel(f"time since the first herald, {unit}")
        below.set_xlim(edges[0], edges[-1])
        smallest = 0.0025 * edges[-1]
        for axes in (above, below):
            for gap in timeline.gaps:
                shade(axes, gap, scale, smallest)
        figure.align_ylabels([above, below])
        return inline_svg(figure, "timeline", "Heralds against time, with the gaps of the run")


def pattern_figure(facts: RunFacts) -> str:
    """Share of every herald pattern, with its binomial 95 % interval."""
    names = list(facts.herald_patterns)
    counts = np.array([facts.herald_patterns[name] for name in names], dtype=float)
    total = max(1.0, counts.sum())
    shares = counts / total
    errors = 1.96 * np.sqrt(shares * (1 - shares) / total)
    with new_figure(4.4, 2.9) as figure:
        axes = figure.subplots()
        axes.bar(
            names, 100 * shares, yerr=100 * errors, color=BLUE, alpha=0.8, width=0.6, ecolor=INK, capsize=3
        )
        for position, share in enumerate(shares):
            axes.text(
                position,
                50 * share,
                f"{100 * share:.1f} %",
                ha="center",
                va="center",
                color=SURFACE,
                fontsize=9,
            )
        axes.set_ylabel("share of heralds, %")
        axes.set_xlabel("detectors that clicked")
        axes.grid(False, axis="x")
        return inline_svg(figure, "patterns", "Shares of the four herald patterns")
