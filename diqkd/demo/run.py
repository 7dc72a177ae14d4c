"""Demonstration of a whole run: acquisition, post-processing, report, and a summary on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from diqkd.console import ProgressDisplay, ProgressMode, print_json
from diqkd.demo.parties import acquire, postprocess, prepare_run
from diqkd.demo.programs import ChildError, Programs
from diqkd.demo.scenario import Scenario
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.machine import peak_memory_mib
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.errors import AuthenticationError, DiqkdError, ProtocolAbort
from diqkd_postproc.protocol.roles import ROLES, chsh_score_of_losing
from diqkd_postproc.report import write_report
from diqkd_postproc.report.balance_table import balance_table

REPORTED = (ProtocolAbort.exit_code, AuthenticationError.exit_code)
"""Exit codes of a post-processing after which there is something to report."""


@contextmanager
def _name_folder_on_interrupt(console: Console, directory: Path) -> Iterator[None]:
    """Name the folder with which the same command goes on, if the run is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"interrupted; add `--run-dir {directory}` to go on with this run", soft_wrap=True)
        raise


def announce(console: Console, scenario: Scenario) -> None:
    """One line before the start: what was agreed on."""
    parameters = scenario.parameters
    console.print(
        f"{parameters.num_rounds:,} rounds over {scenario.name}, gamma = {parameters.gamma}; accepting up to "
        f"{parameters.max_losses:,} lost tests; syndrome {parameters.syndrome_bits:,} bits; "
        f"key {'up to ' if parameters.length == 'variable' else ''}{parameters.key_bits:,} bits"
    )


def new_directory(requested: Path | None, name: str) -> Path:
    """Folder of the run's files: the requested one, or one named after the time."""
    return requested or Path("run") / time.strftime(f"{name}-%Y%m%d-%H%M%S")


def demonstrate(
    scenario: Scenario, directory: Path, seed: int | None, *, progress_mode: ProgressMode, as_json: bool
) -> None:
    """Acquire, post-process, report and print a summary; goes on with an interrupted run of `directory`.

    Args:
        scenario: parameters, link and laboratory of the run.
        directory: folder of the run's files.
        seed: of random settings and keys, which are then not secret; None for the operating system's.
        progress_mode: of the progress on stderr, as `--progress` takes it.
        as_json: print the summary as JSON.

    Raises DiqkdError with the exit code of the part that failed.
    """
    console = Console(stderr=True)
    started = time.monotonic()
    prepare_run(directory, scenario.parameters, seed)
    announce(console, scenario)
    with (
        _name_folder_on_interrupt(console, directory),
        Programs() as programs,
        ProgressDisplay(progress_mode) as progress,
    ):
        nodes, acquisition_s = acquire(scenario, directory, seed, programs, progress)
        try:
            parties, postprocessing_s = postprocess(directory, programs, progress)
        except ChildError as error:
            if error.exit_code in REPORTED:
                page = write_report(directory)["report"]
                console.print(f"Report of the run: {page}", soft_wrap=True)
            raise
    result = made_key(scenario, directory, parties)
    memory = {f"{role} node": nodes[role].get("peak_memory_mib") for role in ROLES}
    memory |= {f"{role} post-processing": parties[role].get("peak_memory_mib") for role in ROLES}
    memory["demo"] = peak_memory_mib()
    result |= {
        "acquisition_seconds": round(acquisition_s, 1),
        "rounds_per_second": round(scenario.parameters.num_rounds / acquisition_s),
        "postprocessing_seconds": round(postprocessing_s, 1),
        "total_seconds": round(time.monotonic() - started, 1),
        "peak_memory_mib": memory,
    }
    if as_json:
        print_json(result)
        return
    out = Console()
    with KeyStore.open(directory / "alice" / "keys.sqlite") as alice:
        out.print(balance_table(alice.balance_sheet(parties["alice"]["session_id"])))
    print_key(out, result)
    if (note := note_on_proof(scenario)) is not None:
        out.print(note)
    largest = max(filter(None, memory.values()), default=0.0)
    out.print(
        f"acquisition {acquisition_s:.0f} s ({result['rounds_per_second']:,} rounds/s), "
        f"post-processing {postprocessing_s:.0f} s, peak memory {largest:.0f} MiB a process"
    )
    out.print(f"Alice's and Bob's files, each private to its node: {directory}")
    out.print(f"Report of the run: {result['report']}", soft_wrap=True)


def made_key(scenario: Scenario, directory: Path, parties: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compare the two key stores and write the report; what the demonstration prints about the key."""
    parameters = scenario.parameters
    page = write_report(directory)["report"]
    with (
        KeyStore.open(directory / "alice" / "keys.sqlite") as alice,
        KeyStore.open(directory / "bob" / "keys.sqlite") as bob,
    ):
        session_id = parties["alice"]["session_id"]
        identical = alice.has_same_key(bob, session_id)
        sheet = alice.balance_sheet(session_id)
    if identical is False:  # None: bits of the key have been used since, so that no comparison is possible
        raise DiqkdError("the two keys differ although both sides accepted: this is a bug, please report it")
    return {
        "identical_keys": identical,
        "key_bits": sheet.generated,
        "k0_bits": sheet.k0_bits,
        "k1_bits": sheet.k1_bits,
        "net_gain": sheet.net_gain,
        "proof": parameters.proof,
        "bound": parameters.bound,
        "extractor": parameters.extractor,
        "proof_status": parameters.proof_status,
        "num_rounds": parameters.num_rounds,
        "num_tests": parties["bob"]["num_tests"],
        "num_losses": parties["bob"]["num_losses"],
        "max_losses": parties["bob"]["max_losses"],
        "balance_sheet": sheet.to_dict(),
        "run_directory": str(directory),
        "report": page,
    }


def note_on_proof(scenario: Scenario) -> str | None:
    """That the proof is not the published one, and what that would need on this link."""
    parameters = scenario.parameters
    if parameters.proof == "paper":
        return None
    published = DesignPoint(
        chsh_score=parameters.design_chsh_score,
        qber=parameters.design_qber,
        soundness_error=parameters.soundness_error,
    ).smallest_run()
    needs = f"at least {published.num_rounds:,} rounds" if published else "a better link"
    return (
        f"This key rests on the proof {parameters.proof!r}, which is not peer-reviewed; the published one "
        f"(--proof paper) needs {needs}."
    )


def print_key(out: Console, result: dict[str, Any]) -> None:
    """The key and the Bell test in two lines, from what `made_key` returned."""
    tests, losses = result["num_tests"], result["num_losses"]
    out.print(f"[bold green]Both nodes hold the same {result['key_bits']:,}-bit secret key.[/]")
    if losses is not None:  # counted in an earlier, interrupted session
        score = chsh_score_of_losing(losses / tests)
        out.print(
            f"Bell test: {losses:,} of {tests:,} test rounds lost (S = {score:.3f}), "
            f"up to {result['max_losses']:,} make a key"
        )
