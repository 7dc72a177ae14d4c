"""Demonstration of an attack (`diqkd demo --attack`): the observed effect beside the theory's.

Only a demonstration can open the adversary's notebook: her list and her measurements follow from the
laboratory's seed, and are compared here with what Alice's node recorded."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from diqkd.console import ProgressDisplay, ProgressMode, print_json
from diqkd.demo.parties import acquire, postprocess, prepare_run
from diqkd.demo.programs import ChildError, Programs
from diqkd.demo.run import REPORTED, announce, made_key, print_key
from diqkd.demo.scenario import Scenario, tampering_of
from diqkd_postproc.files import replace_atomically
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import chsh_score_of_losing, chsh_score_of_winning
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.report import write_report
from diqkd_postproc.report.run_directory import REMARK_NAME
from diqkd_postproc.security.paper import HASH_ERROR
from sim_devices.adversaries.acceptance import Acceptance, acceptance, treated_probabilities
from sim_devices.adversaries.attacks import ATTACKS, BELL_ATTACKS, Attack
from sim_devices.adversaries.man_in_the_middle import ManInTheMiddle, byte_of_setting
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.tampering import LISTED, MEASURED, UNTOUCHED
from sim_devices.laboratory.tape import Tape


def list_attacks(as_json: bool) -> None:
    """`--attack list`."""
    if as_json:
        print_json(
            {"attacks": {a.name: {"what": a.what, "exit_code": a.exit_code} for a in ATTACKS.values()}}
        )
        return
    table = Table(title="Attacks on a demonstration: diqkd demo --attack NAME")
    table.add_column("name", no_wrap=True)
    table.add_column("what Eve does")
    table.add_column("exit code", justify="right")
    for attack in ATTACKS.values():
        table.add_row(attack.name, attack.what, str(attack.exit_code))
    Console().print(table)


def attack_demonstration(
    attack: Attack,
    scenario: Scenario,
    fraction: float | None,
    directory: Path,
    seed: int | None,
    *,
    progress_mode: ProgressMode,
    as_json: bool,
) -> None:
    """Run with an adversary and print what was observed.

    Args:
        attack: what the adversary does.
        scenario: the run without her.
        fraction: share of rounds that the attack `mixture` lists, see `tampering_of`.
        directory: folder of the run's files, without a run so far.
        seed, progress_mode, as_json: as in `demonstrate`.

    Raises ParameterError before the run starts, and the ChildError that ended the run, if one did.
    """
    console = Console(stderr=True)
    tampering = tampering_of(attack.name, fraction, scenario)
    # Eve's notebook is opened afterwards by means of the laboratory's seed, so that there has to be one.
    laboratory_seed = secrets.randbits(63) if seed is None else seed
    scenario = replace(scenario, tampering=tampering, laboratory_seed=laboratory_seed)
    if (directory / "parameters.toml").exists():
        raise ParameterError(f"{directory} holds a run already; an attack needs a new folder: --run-dir")
    prepare_run(directory, scenario.parameters, seed)
    console.print(f"[bold]Attack: {attack.name}.[/] {attack.what}", highlight=False)
    announce(console, scenario)
    replace_atomically(
        directory / REMARK_NAME,
        f"A demonstration of an attack. {attack.what} {attack.why}".encode(),
        private=False,
        mode=0o600,
    )
    seen: dict[str, Any] = {"attack": attack.name, "accepted": False, "run_directory": str(directory)}
    failure: ChildError | None = None
    with Programs() as programs, ProgressDisplay(progress_mode) as progress:
        try:
            acquire(scenario, directory, seed, programs, progress)
            parties = _attacked_postprocessing(attack, directory, programs, progress)
            seen |= {"accepted": True} | made_key(scenario, directory, parties)
        except ChildError as error:
            failure = error
    if failure is not None:
        if failure.exit_code != attack.exit_code:
            raise failure
        seen |= {"exit_code": failure.exit_code, "reason": str(failure)}
        if failure.exit_code in REPORTED and (directory / "alice" / "record.h5").exists():
            seen |= _facts_of_report(directory)
    if attack.name in BELL_ATTACKS:
        theory = acceptance(scenario.parameters, scenario.link, tampering)
        notebook = eves_knowledge(scenario, directory / "alice" / "record.h5")
        seen |= _theory(theory, scenario.parameters) | notebook.to_dict()
    _print_findings(attack, scenario, seen, as_json)
    if failure is not None:
        raise failure


def _attacked_postprocessing(
    attack: Attack, directory: Path, programs: Programs, progress: ProgressDisplay
) -> dict[str, dict[str, Any]]:
    if attack.name == "network":
        with ExitStack() as line:

            def relay(target: tuple[str, int]) -> tuple[str, int]:
                eve = line.enter_context(closing(ManInTheMiddle(target, _changed_byte(directory))))
                return eve.address

            return postprocess(directory, programs, progress, relay=relay)[0]
    if attack.name == "impersonation":
        return postprocess(directory, programs, progress, impostor_keys=_forged_keys(directory))[0]
    return postprocess(directory, programs, progress)[0]


def _changed_byte(directory: Path) -> int:
    record = RoundRecord.read(directory / "alice" / "record.h5")
    with KeyStore.open(directory / "alice" / "keys.sqlite") as store:
        return byte_of_setting(
            record.parameters, store.key_id, record.run_id, record.parameters.num_rounds // 2
        )


def _forged_keys(directory: Path) -> Path:
    """A key store with the public name of Bob's and secrets of Eve's own."""
    path = directory / "eve.sqlite"
    parameters = ProtocolParameters.load(directory / "parameters.toml")
    with KeyStore.open(directory / "bob" / "keys.sqlite") as bob:
        key_id, num_bytes = bob.key_id, (bob.k0_bits + 7) // 8
    KeyStore.import_initial_key(path, parameters, os.urandom(num_bytes), key_id).close()
    return path


def _facts_of_report(directory: Path) -> dict[str, Any]:
    report = write_report(directory)
    score = report["chsh_score"]
    return {
        "report": report["report"],
        "num_tests": report["num_tests"],
        "num_losses": report["num_losses"],
        "chsh_score": score and score["value"],
        "chsh_score_error": score and score["standard_error"],
    }


def _theory(theory: Acceptance, parameters: ProtocolParameters) -> dict[str, Any]:
    return {
        "expected_chsh_score": theory.chsh_score,
        "demanded_chsh_score": chsh_score_of_winning(parameters.omega_threshold),
        "expected_losses": theory.expected_losses,
        "max_losses": parameters.max_losses,
        "acceptance_probability": theory.acceptance_probability,
    }


@dataclass(frozen=True)
class Knowledge:
    """Of Alice's key rounds: how many there are, in how many Eve noted a bit, and how often it is Alice's."""

    key_rounds: int
    noted: int
    right: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"key_rounds": self.key_rounds, "eve_noted": self.noted, "eve_right": self.right}


def eves_knowledge(scenario: Scenario, record_path: Path) -> Knowledge:
    """Open Eve's notebook: it follows from the laboratory's seed."""
    record = RoundRecord.read(record_path)
    configuration = LaboratoryConfiguration(
        seed=scenario.laboratory_seed or 0, link=scenario.link, tampering=scenario.tampering
    )
    treatment, noted = Tape(configuration).notebook(0, scenario.parameters.num_rounds)
    # What a state that she measured gives Alice in a key round, where x = 0.
    likely = treated_probabilities(scenario.link).mean(axis=1)[MEASURED, :, 0, 2].sum(axis=-1).argmax(axis=-1)
    guess = np.where(treatment == LISTED, noted, likely[noted])
    key_round = record.round_type == 0
    known = key_round & (treatment != UNTOUCHED)
    right = known & (guess == record.outcome)
    return Knowledge(int(key_round.sum()), int(known.sum()), int(right.sum()))


def _print_findings(attack: Attack, scenario: Scenario, seen: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(seen)
        return
    out = Console(highlight=False)
    if attack.name in BELL_ATTACKS:
        out.print(_bell_table(seen))
    elif attack.name == "leaky-link":
        out.print("Isolation is checked in every round: no round passes with the link up.")
    else:
        out.print(f"A forged tag passes with a probability of at most {HASH_ERROR:.1e} (theory).")
    if seen["accepted"]:
        print_key(out, seen)
        out.print(
            "The attack passed, as theory lets it with probability "
            f"{seen['acceptance_probability']:.3g}; the key is secret all the same: its length is proven "
            "for every device that loses no more tests."
        )
    else:
        out.print(f"[bold red]No key.[/] {attack.why}", soft_wrap=True)
    out.print(f"Files of the run: {seen['run_directory']}", soft_wrap=True)
    if "report" in seen:
        out.print(f"Report of the run: {seen['report']}", soft_wrap=True)


def _bell_table(seen: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "observed", "theory of the attack", "demanded"):
        table.add_column(heading, justify="left" if not heading else "right")
    losses, tests = seen["num_losses"], seen["num_tests"]
    observed = "not announced" if losses is None else f"{chsh_score_of_losing(losses / tests):.3f}"
    table.add_row(
        "CHSH score S",
        observed,
        f"{seen['expected_chsh_score']:.3f}",
        f">= {seen['demanded_chsh_score']:.3f}",
    )
    table.add_row(
        f"lost of {tests:,} tests",
        "not announced" if losses is None else f"{losses:,}",
        f"{seen['expected_losses']:,.0f}",
        f"<= {seen['max_losses']:,}",
    )
    verdict = "accepted" if seen["accepted"] else "aborted"
    table.add_row("passes with probability", verdict, f"{seen['acceptance_probability']:.2g}", "")
    noted, right, rounds = seen["eve_noted"], seen["eve_right"], seen["key_rounds"]
    table.add_row(
        "Alice's key outcomes in Eve's hands",
        f"{100 * noted / rounds:.1f} %",
        f"{right:,} of {noted:,} right",
        "",
    )
    return table
