"""`diqkd plan`: parameters for a link, and what to expect of the run.

Without any option the published run is planned: 1.5e6 rounds at gamma = 13/256 for S = 2.64, Q = 1.8 %. As
soon as a link or the size of a run is given, the test probability is optimised unless it is given too.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from diqkd.console import print_json
from diqkd.options import types as argument_types
from diqkd.options.parsers import add_json
from diqkd_postproc.link.characterisation import characterise, read_records
from diqkd_postproc.planning.design_point import (
    LATE_LOSSES_OF_A_DAY,
    PUBLISHED_CHSH_SCORE,
    PUBLISHED_GAMMA,
    PUBLISHED_QBER,
    PUBLISHED_ROUNDS,
    DesignPoint,
    proposed_late_losses,
)
from diqkd_postproc.planning.plan import ObservedCounts, Plan, make_plan
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.length_rule import FreeParameters
from diqkd_postproc.protocol.parameters import ExtractorName, ProtocolParameters
from diqkd_postproc.report.plan_figures import draw
from diqkd_postproc.security import ball_arithmetic

KEY_BASES = {"one": "ordered", "two": "late-type"}
"""The order of a round by its number of key bases."""


HERALD_RATE = 100.0
"""Heralds a second of the published link."""


def add_proof_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--protocol`, `--proof`, `--bound` and `--extractor`."""
    protocol = parser.add_mutually_exclusive_group()
    protocol.add_argument(
        "--protocol",
        choices=["ordered", "late-type"],
        default="ordered",
        help="order of a round: in `late-type` Alice measures before the type is announced; it has two key "
        "bases and needs proof renyi and a line for her setting (see docs/order.md)",
    )
    protocol.add_argument(
        "--key-bases",
        dest="protocol",
        type=lambda number: KEY_BASES.get(number, number),
        choices=tuple(KEY_BASES.values()),
        metavar="{one,two}",
        help="the same by the number of Alice's key bases",
    )
    parser.add_argument(
        "--proof",
        choices=["paper", "counted", "renyi"],
        default="paper",
        help="theorem for the key length; only `paper` is peer-reviewed (see docs/proofs.md)",
    )
    parser.add_argument(
        "--length",
        choices=["fixed", "variable"],
        default="fixed",
        help="of proof renyi: `variable` lets the length follow from the public counts of the run",
    )
    parser.add_argument(
        "--bound",
        choices=["simple", "full", "closed", "exact"],
        help="of proof renyi, from short keys to long ones (default: exact)",
    )
    parser.add_argument(
        "--extractor",
        choices=["trevisan", "toeplitz"],
        help="`toeplitz` gives longer keys with a longer seed, for proof renyi (default: toeplitz for a "
        "variable length, else trevisan)",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `diqkd plan`."""
    parser.description = (
        "Choose protocol parameters for a link and say what to expect of the run. "
        "Without options: the published run."
    )
    parser.add_argument(
        "--s", type=float, dest="chsh_score", help="CHSH score to design for (default: 2.64, or --record)"
    )
    parser.add_argument(
        "--q", type=float, dest="qber", help="QBER to design for, a fraction (default: 0.018, or --record)"
    )
    parser.add_argument(
        "--second-q",
        type=float,
        dest="second_qber",
        help="QBER of the second key basis of `late-type` (default: that of --q)",
    )
    parser.add_argument(
        "--record",
        type=Path,
        nargs=2,
        metavar=("ALICE", "BOB"),
        help="take S and Q from both records of a characterisation run",
    )
    parser.add_argument(
        "--margin", type=float, default=2.0, help="with --record: standard errors to stay on the safe side"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rounds", type=argument_types.count, help="number of rounds n (default: 1500000)")
    size.add_argument("--hours", type=float, help="duration of the run instead, at --herald-rate")
    size.add_argument("--key-bits", type=argument_types.count, help="key to aim at instead; solves for n")
    parser.add_argument(
        "--herald-rate",
        type=float,
        help=f"heralds a second (default: that of --record, else {HERALD_RATE:g})",
    )
    parser.add_argument(
        "--gamma", type=argument_types.gamma, help="test probability k/2^b (default: the best k/256)"
    )
    syndrome = parser.add_mutually_exclusive_group()
    syndrome.add_argument(
        "--syndrome-bits", type=argument_types.count, help="length of the syndrome (default: SI eq. 23)"
    )
    syndrome.add_argument(
        "--syndrome-efficiency",
        type=float,
        metavar="F",
        help="length of the syndrome in units of the Shannon limit, as `diqkd codes evaluate` measures it",
    )
    syndrome.add_argument(
        "--shortest-syndrome",
        action="store_true",
        help="the shortest that the shipped codes serve, found in a few seconds: a longer key, and error "
        "correction that fails more often",
    )
    parser.add_argument("--soundness", type=float, default=1e-10, help="soundness error of the key")
    parser.add_argument(
        "--completeness",
        type=float,
        metavar="E",
        help="chance that the Bell test of an honest run fails (default: eqs. 24 and 25, about 1.4e-3)",
    )
    parser.add_argument(
        "--max-late-losses",
        type=argument_types.count_or_none,
        metavar="V",
        help="rounds that may stay without an outcome of Alice's after Bob announced their type, before the "
        "run ends; each costs one bit of key (default: none, or, where only those that happen cost one, "
        f"{LATE_LOSSES_OF_A_DAY:,}, which six kills of a node make)",
    )
    parser.add_argument(
        "--end-token",
        action="store_true",
        help="Alice reconnects only after a third token, which Bob releases once he has measured: some 0.3 "
        "ms a round, and his laboratory need not be closed against light coming in",
    )
    add_proof_arguments(parser)
    free = parser.add_argument_group("free parameters of the rule (default: the best for the link)")
    free.add_argument(
        "--alpha-minus-one", type=float, metavar="A", help="order of the Rényi entropy, minus 1"
    )
    free.add_argument("--kappa", type=float, help="bits that a lost round costs")
    free.add_argument("--eta", type=float, help="bits that a test round is credited with")
    observed = parser.add_argument_group("a finished run's public counts, to be evaluated")
    observed.add_argument("--observed-losses", type=argument_types.count_or_none, metavar="K")
    observed.add_argument("--observed-tests", type=argument_types.count_or_none, metavar="N")
    observed.add_argument("--late-losses", type=argument_types.count_or_none, metavar="V")
    observed.add_argument("--syndrome-sent", type=argument_types.count, metavar="M")
    parser.add_argument("-o", "--output", type=Path, help="write the parameters to this TOML file")
    parser.add_argument("--plot", type=Path, help="draw rate, sensitivity and smallest runs (PNG, PDF, SVG)")
    add_json(parser)
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    """`diqkd plan`."""
    answer: dict[str, Any] = {}
    measured = None
    counts = _observed(arguments)
    if arguments.record is not None:
        if arguments.chsh_score is not None or arguments.qber is not None:
            raise ParameterError("give --record, or --s and --q, not both")
        measured = characterise(*read_records(*arguments.record))
        arguments.chsh_score, arguments.qber = measured.design_point(arguments.margin)
    if arguments.herald_rate is None:
        rate = 0.0 if measured is None else measured.timeline.herald_rate
        arguments.herald_rate = rate or HERALD_RATE
    point = _design_point(arguments)
    plan = make_plan(
        point,
        key_bits=arguments.key_bits,
        optimise_gamma=arguments.gamma is None and not _is_published_run(arguments),
        herald_rate=arguments.herald_rate,
        in_balls=ball_arithmetic.is_available(),
        shortest_syndrome=arguments.shortest_syndrome,
    )
    answer |= plan.to_dict() | plan.rule_to_dict(counts)
    if measured is not None:
        answer["characterisation"] = {
            "chsh_score": measured.chsh_score.value,
            "chsh_score_error": measured.chsh_score.standard_error,
            "qber": measured.qber.value if measured.qber else None,
            "qber_error": measured.qber.standard_error if measured.qber else None,
            "margin": arguments.margin,
            "bell_test_abort": plan.mean_bell_abort(measured.chsh_score),
        }
    if arguments.output is not None:
        plan.parameters.save(arguments.output)
        answer["written"] = str(arguments.output)
    if arguments.plot is not None:
        if point.protocol != "ordered":
            raise ParameterError("--plot draws curves of protocol `ordered` only; leave it out")
        draw(point, plan, arguments.plot)
        answer["plot"] = str(arguments.plot)
    if arguments.json:
        print_json(answer)
    else:
        _print(plan, answer)


def _observed(arguments: Namespace) -> ObservedCounts | None:
    """Counts of a finished run, where they are given."""
    losses, tests = arguments.observed_losses, arguments.observed_tests
    if losses is None and tests is None:
        if arguments.late_losses is not None or arguments.syndrome_sent is not None:
            raise ParameterError(
                "--late-losses and --syndrome-sent belong to --observed-losses and --observed-tests"
            )
        return None
    if losses is None or tests is None:
        raise ParameterError("give both --observed-losses and --observed-tests")
    if arguments.length != "variable":
        raise ParameterError("observed counts change a variable length only; add --length variable")
    return ObservedCounts(
        num_losses=losses,
        num_tests=tests,
        late_losses=arguments.late_losses or 0,
        syndrome_sent=arguments.syndrome_sent,
    )


def extractor_name(arguments: Namespace) -> ExtractorName:
    """The extractor that was chosen, or the default for the kind of length."""
    chosen: ExtractorName | None = arguments.extractor
    return chosen or ("toeplitz" if arguments.length == "variable" else "trevisan")


def free_parameters(arguments: Namespace) -> FreeParameters | None:
    """Those of --alpha-minus-one, --kappa and --eta; None where none is given."""
    given = (arguments.alpha_minus_one, arguments.kappa, arguments.eta)
    if all(value is None for value in given):
        return None
    if arguments.alpha_minus_one is None or arguments.kappa is None:
        raise ParameterError("give --alpha-minus-one and --kappa (and --eta, 0 without) together")
    return FreeParameters.rounded(arguments.alpha_minus_one, arguments.kappa, arguments.eta or 0.0)


def _is_published_run(arguments: Namespace) -> bool:
    """Whether neither a link nor the size of a run is given."""
    link_and_size = ("chsh_score", "qber", "rounds", "hours", "key_bits")
    return all(getattr(arguments, name) is None for name in link_and_size)


def _design_point(arguments: Namespace) -> DesignPoint:
    num_rounds = _num_rounds(arguments)
    return DesignPoint(
        num_rounds=num_rounds,
        gamma=PUBLISHED_GAMMA if arguments.gamma is None else arguments.gamma,
        chsh_score=PUBLISHED_CHSH_SCORE if arguments.chsh_score is None else arguments.chsh_score,
        qber=PUBLISHED_QBER if arguments.qber is None else arguments.qber,
        soundness_error=arguments.soundness,
        syndrome_bits=arguments.syndrome_bits,
        syndrome_efficiency=arguments.syndrome_efficiency,
        proof=arguments.proof,
        bound=arguments.bound,
        extractor=extractor_name(arguments),
        length=arguments.length,
        free_parameters=free_parameters(arguments),
        completeness_error=arguments.completeness,
        max_late_losses=(
            proposed_late_losses(arguments.length, num_rounds)
            if arguments.max_late_losses is None
            else arguments.max_late_losses
        ),
        end_token=arguments.end_token,
        protocol=arguments.protocol,
        second_qber=arguments.second_qber,
    )


def _num_rounds(arguments: Namespace) -> int:
    """Number of rounds as given, or as many as the given time holds; of no effect with --key-bits."""
    if arguments.hours is None:
        return arguments.rounds or PUBLISHED_ROUNDS
    heralds: float = 3600 * arguments.hours * arguments.herald_rate
    if not 1 <= heralds <= 1e15:
        raise ParameterError(
            f"{arguments.hours} hours at {arguments.herald_rate} heralds a second are no round; give more"
        )
    return int(heralds)


def _late_losses(parameters: ProtocolParameters) -> str:
    """How many rounds a crash may leave without an outcome of Alice's, and what they cost."""
    limit = parameters.max_late_losses
    if not limit:
        return (
            "the first one ends the run; --max-late-losses "
            f"{LATE_LOSSES_OF_A_DAY} outlasts six kills of a node and costs as many bits of key"
        )
    paid = "for each that happens" if parameters.length == "variable" else "each"
    return f"at most {limit:,}, else the run ends; a bit of key {paid}"


def _rule_rows(plan: Plan, answer: Mapping[str, Any]) -> dict[str, str]:
    """What a length that follows from public counts adds to the table."""
    if "constant_bits" not in answer:
        return {}
    rows = {
        "rule": f"alpha - 1 = {answer['alpha_minus_one']:.5g}; {answer['bits_per_loss']:.1f} bits a lost "
        f"round, {answer['bits_per_test']:.1f} back a test"
    }
    if plan.parameters.length == "variable":
        rows["key"] = (
            f"{plan.expected_key_bits:,} bits expected, +- {answer['key_bits_deviation']:,.0f}; "
            f"above {answer['key_bits_5_percent']:,} in 95 % of honest runs; at most {answer['key_cap']:,}"
        )
    if "observed" in answer:
        seen = answer["observed"]
        rows["observed"] = (
            f"{seen['num_losses']:,} of {seen['num_tests']:,} lost, {seen['late_losses']:,} late, syndrome "
            f"{seen['syndrome_sent']:,}: "
            + (f"{answer['key_bits']:,} bits of key" if answer["key_bits"] else f"no key: {answer['reason']}")
        )
    return rows


def _print(plan: Plan, answer: Mapping[str, Any]) -> None:
    p = plan.parameters
    chosen = " (the best k/256)" if plan.chosen_gamma else ""
    hours, seconds = divmod(round(plan.duration_s), 3600)
    aborts = {name: value for name, value in answer["abort_probabilities"].items() if value is not None}
    rows = {
        "proof": f"{p.proof_label}: {p.proof_status}",
        "key": f"{plan.expected_key_bits:,} bits ({plan.expected_key_bits / p.num_rounds:.4f} a round)",
        "rounds": f"{p.num_rounds:,}, {hours} h {seconds // 60:02d} min at {plan.herald_rate:g} heralds/s",
        "test probability": answer["gamma"] + chosen,
        "link": f"S = {p.design_chsh_score:.4f}, Q = {100 * p.design_qber:.3f} %",
        "Bell test": f"omega_thr = {p.omega_threshold:.7f}: at most {p.max_losses:,} lost test rounds",
        "syndrome": f"{p.syndrome_bits:,} bits, {plan.efficiency:.3f} of the Shannon limit",
        "soundness error": f"{p.soundness_error:g}",
        "initial key": f"{answer['initial_key_bits']:,} bits, of which {answer['seed_bits']:,} reusable seed",
        "random bits": ", ".join(f"{role} {bits:,}" for role, bits in answer["qrng_bits"].items()),
        "honest run aborts": "; ".join(
            f"{name.replace('_', ' ')} {value:.2g}" for name, value in aborts.items()
        ),
        "certificate": answer["certificate"],
    }
    rows |= _rule_rows(plan, answer)
    if p.max_tests is not None:
        rows["test rounds"] = f"at most {p.max_tests:,}, else the run aborts"
    rows["late losses"] = _late_losses(p)
    if p.end_token:
        rows["third token"] = "Alice waits until Bob has measured"
    if "characterisation" in answer:
        measured = answer["characterisation"]
        rows["measured link"] = (
            f"S = {measured['chsh_score']:.4f} +- {measured['chsh_score_error']:.4f}, "
            f"Q = {100 * measured['qber']:.3f} +- {100 * measured['qber_error']:.3f} %; the Bell test fails "
            f"with probability {measured['bell_test_abort']:.2g}, the uncertainty of S included"
        )
    table = Table(show_header=False, title="Plan")
    for name, value in rows.items():
        table.add_row(name, value)
    console = Console()
    console.print(table)
    if p.key_bits:
        parts = Table(title="Where the key comes from", show_header=False)
        for name, value in plan.key_length.terms.items():
            parts.add_row(name.replace("_", " "), f"{value:,.1f}")
        parts.add_row("key", f"{p.key_bits:,}")
        console.print(parts)
    else:
        needed = answer["minimum_rounds"]
        remedy = (
            f"about {needed:,} rounds would do, at gamma = {answer['minimum_rounds_gamma']}"
            if needed
            else "no number of rounds would do; improve the link"
        )
        console.print(f"No key is possible here with {p.num_rounds:,} rounds: {remedy}.")
    for note in plan.notes:
        console.print(f"Note: {note}.")
    for name in ("written", "plot"):
        if name in answer:
            console.print(f"{name}: {answer[name]}", soft_wrap=True)
