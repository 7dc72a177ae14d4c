"""`diqkd demo`: both nodes, the laboratory and the post-processing on one machine."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from diqkd.commands import plan as plan_command
from diqkd.demo.attacked_run import attack_demonstration, list_attacks
from diqkd.demo.run import demonstrate, new_directory
from diqkd.demo.scenario import requested_scenario
from diqkd.options import types as argument_types
from diqkd.options.parsers import add_json, add_progress
from diqkd_postproc.planning.design_point import DesignPoint, proposed_late_losses
from diqkd_postproc.signals import interrupt_on_termination
from sim_devices.adversaries.attacks import ATTACKS, DEFAULT_DESIGN

# Pure Bell states, and heralds that come fast enough for the simulation. Below 2.6e5 rounds no link gives a
# key by the published theorem (SI Fig. S15); a variable length gives one from 50 000 rounds.
_QUICK_LINK = {"chsh_score": 2.815, "qber": 0.0015, "link": "ideal", "herald_probability": 0.02}
QUICK = _QUICK_LINK | {"rounds": 50_000, "gamma": Fraction(64, 256), "proof": "renyi", "length": "variable"}
QUICK_FIXED = _QUICK_LINK | {"rounds": 300_000, "gamma": Fraction(30, 256)}
"""Of a run whose proof or kind of length is chosen."""
SECOND_QBER = {"measured": 0.043, "ideal": 0.004, "local": 0.043}
"""To design for in `late-type`, by link: 4.0 % and 0.32 % with Bob's wait, and something to spare."""
LIST = "list"


def _fill_in(
    parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Mapping[str, object]
) -> None:
    """Set the options that have not been given."""
    for name, value in values.items():
        if getattr(namespace, name) == parser.get_default(name):
            setattr(namespace, name, value)


class _Quick(argparse.Action):
    """Stands for values of other options, as far as these are not given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        namespace.quick = parser


class _Attack(argparse.Action):
    """The attack's name, and a run of a convenient size where no option says otherwise."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        namespace.attack = values
        design: dict[str, object] = DEFAULT_DESIGN | {"gamma": Fraction(DEFAULT_DESIGN["gamma"])}
        _fill_in(parser, namespace, design)


def add_arguments(demo: argparse.ArgumentParser) -> None:
    """Arguments of `diqkd demo`."""
    demo.add_argument("--rounds", type=argument_types.count, default=1_500_000, help="number of rounds n")
    demo.add_argument(
        "--gamma", type=argument_types.gamma, default=Fraction(13, 256), help="test probability k/2^b"
    )
    demo.add_argument("--s", type=float, default=2.64, dest="chsh_score", help="CHSH score to design for")
    demo.add_argument("--q", type=float, default=0.018, dest="qber", help="QBER to design for, a fraction")
    demo.add_argument(
        "--second-q",
        type=float,
        dest="second_qber",
        help="QBER of the second key basis of `late-type` (default: a little above that of the link)",
    )
    demo.add_argument("--soundness", type=float, default=1e-10, help="soundness error of the key")
    demo.add_argument(
        "--syndrome-bits", type=argument_types.count, help="length of the syndrome (default: SI eq. 23)"
    )
    plan_command.add_proof_arguments(demo)
    demo.set_defaults(proof=None, length=None, quick=None)
    demo.add_argument(
        "--link",
        choices=["measured", "ideal", "local"],
        default="measured",
        help="the published link, pure Bell states, or devices that answer from a shared list (S = 2)",
    )
    demo.add_argument(
        "--herald-probability",
        type=float,
        default=1.6e-4,
        help="of an entanglement attempt, which takes 1 us",
    )
    demo.add_argument(
        "--quick",
        action=_Quick,
        nargs=0,
        help="a key in less than a minute: 50 000 rounds over an ideal link with frequent heralds, proof "
        "renyi with a variable length; with --proof or --length 300 000 rounds",
    )
    demo.add_argument(
        "--attack",
        action=_Attack,
        choices=[LIST, *ATTACKS],
        metavar="NAME",
        help=f"let an adversary interfere in a run of {DEFAULT_DESIGN['rounds']:,} rounds, if no option says "
        "otherwise, and see the protocol abort: "
        f"{', '.join(name for name, attack in ATTACKS.items() if attack.exit_code)}; list describes each, "
        "and what else can be done to the lines between the nodes",
    )
    demo.add_argument(
        "--fraction",
        type=float,
        help="share of attacked rounds, of an attack on the lines between the nodes (default: all) and of "
        "mixture (default: the smallest that passes at most once in a million runs)",
    )
    demo.add_argument(
        "--run-dir", type=Path, help="folder for all files of the run (default: a new one in ./run)"
    )
    demo.add_argument(
        "--seed", type=int, help="make laboratory and random settings reproducible (not secret!)"
    )
    add_progress(demo)
    add_json(demo)
    demo.set_defaults(handler=run)


def complete(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments with a value for every option: --quick's, then the published run's."""
    if arguments.quick is not None:
        chosen = arguments.proof is not None or arguments.length is not None
        _fill_in(arguments.quick, arguments, QUICK_FIXED if chosen else QUICK)
    arguments.proof = arguments.proof or "paper"
    arguments.length = arguments.length or "fixed"
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """`diqkd demo`."""
    complete(arguments)
    with interrupt_on_termination():
        if arguments.attack == LIST:
            list_attacks(arguments.json)
            return
        scenario = requested_scenario(
            _design_point(arguments), arguments.link, arguments.herald_probability, arguments.seed
        )
        directory = new_directory(arguments.run_dir, arguments.attack or "demo")
        shown = {"progress_mode": arguments.progress, "as_json": arguments.json}
        if arguments.attack is None:
            demonstrate(scenario, directory, arguments.seed, **shown)
        else:
            attack = ATTACKS[arguments.attack]
            attack_demonstration(attack, scenario, arguments.fraction, directory, arguments.seed, **shown)


def _design_point(arguments: argparse.Namespace) -> DesignPoint:
    second_qber = arguments.second_qber
    if second_qber is None and arguments.protocol == "late-type":
        second_qber = SECOND_QBER[arguments.link]
    return DesignPoint(
        num_rounds=arguments.rounds,
        gamma=arguments.gamma,
        chsh_score=arguments.chsh_score,
        qber=arguments.qber,
        soundness_error=arguments.soundness,
        syndrome_bits=arguments.syndrome_bits,
        proof=arguments.proof,
        bound=arguments.bound,
        extractor=plan_command.extractor_name(arguments),
        length=arguments.length,
        max_late_losses=proposed_late_losses(arguments.length, arguments.rounds),
        protocol=arguments.protocol,
        second_qber=second_qber,
    )
