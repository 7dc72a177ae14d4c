"""`diqkd codes`: design of syndrome codes and measurement of their failure rates.

Only argument parsing is imported with this module; the commands import the numerics.
"""

from __future__ import annotations

import argparse
import json
import sys
from argparse import Namespace
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from diqkd.console import ProgressDisplay, print_json
from diqkd.options import types as argument_types
from diqkd.options.parsers import Actions
from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.parameters import SYNDROME_CODE_SEED, ProtocolParameters
from diqkd_postproc.protocol.roles import lost_test_probability
from diqkd_postproc.reconciliation.code_design import Statistics
from diqkd_postproc.reconciliation.code_design.collection import StopRule, collect
from diqkd_postproc.reconciliation.code_design.design import (
    CodeDesign,
    channel_of,
    chosen,
    default_syndrome_bits,
    load_ensemble,
    optimised,
    save_design,
    threshold_on,
)
from diqkd_postproc.reconciliation.code_design.results import append_row, read_results
from diqkd_postproc.reconciliation.code_design.task import FrameTask
from diqkd_postproc.reconciliation.ensemble import DegreeEnsemble, conditional_entropy
from diqkd_postproc.report.failure_rate_figure import plot_failure_rates

DEFAULT_FRAMES = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)

    design = actions.add("design", "the code that a run would use, or a new one", _design_code)
    _add_channel(design)
    _add_length(design, several=False)
    design.add_argument(
        "--optimise",
        metavar="NAME",
        help="search a new ensemble for this channel (minutes) and call it NAME (default: a shipped one)",
    )
    design.add_argument("-o", "--output", type=Path, help="write the design to this JSON file")
    design.add_argument(
        "--parameters",
        type=Path,
        help="take channel, length and seed from this parameter file, and write the design into it",
    )

    evaluate = actions.add("evaluate", "simulate frames and count failures", _evaluate_codes)
    evaluate.description = (
        "Simulate frames with the real encoder and decoder. "
        "Several lengths or true channels make a grid of tasks."
    )
    _add_channel(evaluate)
    _add_length(evaluate, several=True)
    evaluate.add_argument(
        "--true-s", type=float, nargs="+", metavar="S", help="CHSH score of the frames (default: as designed)"
    )
    evaluate.add_argument(
        "--true-q", type=float, nargs="+", metavar="Q", help="QBER of the frames (default: as designed)"
    )
    evaluate.add_argument(
        "--frames",
        type=argument_types.count,
        default=DEFAULT_FRAMES,
        help="frames of each task, those in --results included",
    )
    evaluate.add_argument("--seconds", type=float, help="stop each task after so long (default: no limit)")
    evaluate.add_argument(
        "--max-failures", type=argument_types.count, help="stop each task at so many (default: no limit)"
    )
    evaluate.add_argument("--results", type=Path, help="file to resume from and append to (default: none)")
    evaluate.add_argument("--seed", type=int, help="make the frames reproducible (default: fresh ones)")
    where = evaluate.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=argument_types.count,
        default=1,
        help="processes; several make a local Dask cluster where `distributed` is installed, else a pool",
    )
    where.add_argument("--dask", metavar="ADDRESS", help="scheduler of a running Dask cluster")

    combine = actions.add("combine", "merge result files: one line a task", _combine_results)
    combine.add_argument("results", type=Path, nargs="+")
    combine.add_argument("-o", "--output", type=Path, help="write the merged results to this new file")

    plot = actions.add("plot", "failure rate against syndrome length", _plot_results)
    plot.add_argument("results", type=Path, nargs="+")
    plot.add_argument("-o", "--output", type=Path, required=True, help="figure: .svg, .pdf or .png")
    plot.add_argument(
        "--against",
        choices=["efficiency", "true-q", "true-s"],
        default="efficiency",
        help="horizontal axis: f = m / (n H), or the true channel",
    )


def _add_channel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=argument_types.count, default=1_500_000, help="number of rounds n")
    parser.add_argument(
        "--gamma", type=argument_types.gamma, default=Fraction(13, 256), help="test probability"
    )
    parser.add_argument("--s", type=float, default=2.64, dest="chsh_score", help="CHSH score to design for")
    parser.add_argument("--q", type=float, default=0.018, dest="qber", help="QBER to design for, a fraction")
    parser.add_argument("--code-seed", type=int, help="seed of the construction (default: that of every run)")


def _add_length(parser: argparse.ArgumentParser, several: bool) -> None:
    count = {"nargs": "+"} if several else {}
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--syndrome-bits",
        type=argument_types.count,
        metavar="M",
        help="length of the syndrome (default: SI eq. 23)",
        **count,  # type: ignore[arg-type]
    )
    length.add_argument(
        "--efficiency",
        type=float,
        metavar="F",
        help="length of the syndrome in units of the Shannon limit n H",
        **count,  # type: ignore[arg-type]
    )
    if several:
        length.add_argument(
            "--parts",
            type=argument_types.count,
            nargs="*",
            metavar="M",
            help="send the syndrome in parts, until it decodes: lengths after each (default: those of a run)",
        )
    parser.add_argument(
        "--design", metavar="NAME", help="shipped ensemble, or a design file (default: as a run would choose)"
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _tasks(arguments: Namespace) -> list[FrameTask]:
    """The grid of tasks that the arguments describe; the channel of the frames is the designed one."""
    n, s, q = arguments.rounds, arguments.chsh_score, arguments.qber
    channel = float(arguments.gamma), q, lost_test_probability(s)
    if not (0.0 < channel[0] < 1.0 and 0.0 <= q <= 0.5 and 0.0 <= channel[2] <= 0.5):
        raise ParameterError(
            f"gamma={arguments.gamma}, S={s}, Q={q}: not a channel; gamma in (0, 1), Q <= 0.5"
        )
    if getattr(arguments, "parts", None) is not None:
        return _grid(arguments, *_family(arguments, channel))
    lengths = _listed(arguments.syndrome_bits)
    if arguments.syndrome_bits is None:
        limit = n * conditional_entropy(*channel)
        lengths = [default_syndrome_bits(n, limit, f) for f in _listed(arguments.efficiency)]
    for length in lengths:
        if not 0 < length < n:
            raise ParameterError(f"syndrome_bits={length} must lie between 0 and num_rounds={n}")
    if arguments.design is not None:
        ensemble, seed = load_ensemble(arguments.design)
        return [task for m in lengths for task in _grid(arguments, (m,), ensemble, seed)]
    return [task for m in lengths for task in _grid(arguments, (m,), chosen(n, m, channel))]


def _family(
    arguments: Namespace, channel: tuple[float, float, float]
) -> tuple[tuple[int, ...], DegreeEnsemble, int | None]:
    """Lengths, ensemble and seed of a code whose syndrome comes in parts."""
    from diqkd_postproc.reconciliation.nested_code import best_ensemble, rounded_totals, schedule

    seed = None
    if arguments.design is None:
        ensemble, threshold = best_ensemble(*channel)
    else:
        ensemble, seed = load_ensemble(arguments.design)
        threshold = threshold_on(ensemble, channel)
    n, s, q = arguments.rounds, arguments.chsh_score, arguments.qber
    if arguments.parts:
        return rounded_totals(n, tuple(sorted(arguments.parts))), ensemble, seed
    return schedule(n, channel[0], s, q, threshold=threshold), ensemble, seed


def _grid(
    arguments: Namespace, totals: tuple[int, ...], ensemble: DegreeEnsemble, seed: int | None = None
) -> list[FrameTask]:
    """A task for every true channel; `seed` is that of a design file."""
    given = arguments.code_seed
    task = FrameTask(
        num_rounds=arguments.rounds,
        syndrome_bits=totals[0],
        gamma=arguments.gamma,
        chsh_score=arguments.chsh_score,
        qber=arguments.qber,
        true_chsh_score=arguments.chsh_score,
        true_qber=arguments.qber,
        ensemble=ensemble,
        code_seed=next(s for s in (given, seed, SYNDROME_CODE_SEED) if s is not None),
        increments=totals[1:],
    )
    true_s = getattr(arguments, "true_s", None) or [task.chsh_score]
    true_q = getattr(arguments, "true_q", None) or [task.qber]
    return [replace(task, true_chsh_score=s, true_qber=q) for s, q in product(true_s, true_q)]


def _design_code(arguments: Namespace) -> None:
    """`diqkd codes design`."""
    parameters = None
    if arguments.parameters is not None:
        parameters = ProtocolParameters.load(arguments.parameters)
        arguments.rounds, arguments.gamma = parameters.num_rounds, parameters.gamma
        arguments.chsh_score, arguments.qber = parameters.design_chsh_score, parameters.design_qber
        arguments.syndrome_bits, arguments.code_seed = parameters.syndrome_bits, parameters.code_seed
    (task,) = _tasks(arguments)
    if arguments.optimise is not None:
        task = replace(task, ensemble=optimised(channel_of(task), arguments.optimise))
    report = CodeDesign(task, threshold_on(task.ensemble, channel_of(task))).report()
    if arguments.output is not None:
        save_design(arguments.output, report)
    if parameters is not None:
        text = json.dumps(task.ensemble.to_dict())
        parameters.model_copy(update={"code_design": text}).save(arguments.parameters)
    if arguments.json:
        print_json(report)
        return
    for name, value in report.items():
        if name != "ensemble":
            print(f"{name.replace('_', ' '):16} {value}")
    print(f"{'ensemble':16} {task.ensemble.name}")
    for name, degrees in (("key", task.ensemble.key_degrees), ("test", task.ensemble.test_degrees)):
        total = sum(degrees.values())
        shares = ", ".join(f"{d}: {share / total:.4f}" for d, share in sorted(degrees.items()))
        print(f"{name + ' columns':16} {shares}")


def _evaluate_codes(arguments: Namespace) -> None:
    """`diqkd codes evaluate`."""
    rule = StopRule(
        num_frames=arguments.frames, max_failures=arguments.max_failures, seconds=arguments.seconds
    )
    tasks = _tasks(arguments)
    with ProgressDisplay() as display:

        def show(index: int, statistics: Statistics) -> None:
            stage = f"m = {statistics.task.syndrome_bits:,} ({index + 1}/{len(tasks)})"
            note = f"{statistics.failures} failures, {statistics.undetected} undetected"
            display(stage, min(statistics.frames, rule.num_frames), float(rule.num_frames), note)

        collected = collect(
            tasks,
            rule,
            arguments.results,
            num_workers=arguments.workers,
            scheduler=arguments.dask,
            seed=arguments.seed,
            progress=show,
        )
    _print_statistics(list(collected.values()), arguments.json)


def _combine_results(arguments: Namespace) -> None:
    """`diqkd codes combine`."""
    statistics = list(read_results(*arguments.results).values())
    if arguments.output is not None:
        if arguments.output.exists():
            raise StorageError(f"{arguments.output} exists; name a new file")
        for entry in statistics:
            append_row(arguments.output, entry.to_row())
    _print_statistics(statistics, arguments.json)


def _plot_results(arguments: Namespace) -> None:
    """`diqkd codes plot`."""
    statistics = list(read_results(*arguments.results).values())
    plot_failure_rates(statistics, arguments.output, arguments.against)
    if arguments.json:
        print_json({"written": str(arguments.output), "tasks": len(statistics)})
    else:
        print(f"{len(statistics)} tasks plotted in {arguments.output}", file=sys.stderr)


def _print_statistics(statistics: list[Statistics], as_json: bool) -> None:
    """Reports on stdout: JSON of one task is its report, of several a list of them."""
    reports = [entry.report() for entry in statistics]
    if as_json:
        print_json(reports[0] if len(reports) == 1 else {"tasks": reports})
        return
    for report in reports:
        low, high = report["failure_rate_interval"]
        print(
            f"n = {report['num_rounds']:,}  m = {report['syndrome_bits']:,}  f = {report['efficiency']:.4f}  "
            f"S = {report['true_chsh_score']:.4g}  Q = {report['true_qber']:.4g}  {report['ensemble']}\n"
            f"    {report['failures']} failed and {report['undetected']} undetected of {report['frames']:,}: "
            f"rate {low:.1e} to {high:.1e} (likelihood at least 1/1000 of the best)\n"
            f"    median {report['iterations_median']:.0f} iterations, "
            f"{report['decode_seconds_median']:.3g} s a frame"
        )
        if "parts" in report:
            parts = ", ".join(f"{count:,} with {part}" for part, count in report["parts"].items())
            print(f"    mean f = {report['mean_efficiency']:.4f}; frames by parts of the syndrome: {parts}")
