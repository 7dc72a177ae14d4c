"""What each command of `diqkd` does with its parsed arguments; called by `cli.main`, one function each."""

from __future__ import annotations

import json
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from diqkd_postproc.balance_sheet import BalanceSheet
from diqkd_postproc.calibration_command import print_calibration
from diqkd_postproc.console import ProgressDisplay, peak_memory_mib, print_json
from diqkd_postproc.credential_arguments import credential_of
from diqkd_postproc.demo_command import LIST
from diqkd_postproc.errors import AuthenticationError, ParameterError, ProtocolAbort
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.records.sealed_record import RoundRecord, setting_name

if TYPE_CHECKING:
    from diqkd_postproc.parameters import ProtocolParameters
    from diqkd_postproc.session import SessionResult


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set once; a second SIGINT interrupts as usual."""
    stop = threading.Event()

    def request_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = {name: signal.signal(name, request_stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)


@contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that files are closed in order; see `let_finish`."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def let_finish() -> None:
    """From here to the end of `interrupt_on_termination` SIGTERM is ignored: the work is done and stored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def balance_table(sheet: BalanceSheet) -> Table:
    """The key balance sheet as Table 1 of the paper prints it."""
    table = Table(title="Secret key balance sheet (bits)")
    table.add_column("protocol step")
    for heading in ("consumed", "used (reusable)", "generated"):
        table.add_column(heading, justify="right")
    for row in sheet.rows:
        used = row.note or f"{row.used_reusable:,}"
        table.add_row(row.step, f"{row.consumed:,}", used, f"{row.generated:,}")
    table.add_section()
    table.add_row("total", f"{sheet.consumed:,}", f"{sheet.used_reusable:,}", f"{sheet.generated:,}")
    table.caption = f"K0 {sheet.k0_bits:,} -> K1 {sheet.k1_bits:,}, net gain {sheet.net_gain:,}"
    table.caption += f"\nsecret by the proof {sheet.proof} ({sheet.proof_status})"
    return table


def demo(arguments: Namespace) -> None:
    """`diqkd demo`."""
    from sim_devices.demonstration.attacked_run import attack_demonstration, list_attacks
    from sim_devices.demonstration.run import demonstrate

    with interrupt_on_termination():
        if arguments.attack is None:
            demonstrate(arguments)
        elif arguments.attack == LIST:
            list_attacks(arguments.json)
        else:
            attack_demonstration(arguments)


def node(arguments: Namespace) -> None:
    """`diqkd node`: run an experiment as artiq_run would, with graceful termination on a signal."""
    from sim_devices.runner import TerminationRequested, run_experiment

    values = {}
    for text in arguments.arguments:
        name, separator, value = text.partition("=")
        if not separator:
            raise ParameterError(f"argument {text!r} is not NAME=VALUE")
        values[name] = value
    latest: dict[str, Any] = {}
    with ProgressDisplay(arguments.progress) as progress, stop_on_signals() as stop:

        def show(name: str, value: Any) -> None:
            latest[name] = value
            if name == "calibration.points_done":
                progress("points", value, latest["calibration.num_points"])
            elif name == "tomography.samples_done":
                progress("analysis", value, latest["tomography.num_samples"])
            elif name == "diqkd.rounds_done":
                rate = latest.get("diqkd.herald_rate", 0.0)
                progress("rounds", value, latest.get("diqkd.num_rounds", 0), f"{rate:,.0f} heralds/s")

        try:
            run_experiment(
                arguments.experiment,
                arguments.class_name,
                arguments.device_db,
                values,
                dataset_sink=show,
                stop_requested=stop.is_set,
            )
        except TerminationRequested:
            raise KeyboardInterrupt from None
    if arguments.json:
        public = {
            name: value.tolist() if hasattr(value, "tolist") else value for name, value in latest.items()
        }
        print_json({"datasets": public, "peak_memory_mib": peak_memory_mib()})
    else:
        for name, path in latest.items():
            if name.endswith(".result_file"):
                print_calibration(Path(path))


def postprocess(arguments: Namespace) -> None:
    """`diqkd postprocess`: steps 4 to 12 of the protocol, together with the peer."""
    from diqkd_postproc.security.certification import load_certified
    from diqkd_postproc.session.engine import derive_session_id
    from diqkd_postproc.session.record_claim import claim_record
    from diqkd_postproc.session.result_file import save_refusal, save_result
    from diqkd_postproc.session.run import run_session

    parameters = load_certified(arguments.parameters)
    record = RoundRecord.read(arguments.record)
    with interrupt_on_termination():
        with (
            KeyStore.open(arguments.keys, parameters, credential_of(arguments, arguments.keys)) as keys,
            ProgressDisplay(arguments.progress) as progress,
        ):
            try:
                if arguments.exchange is not None:
                    result = _exchange(arguments, record, keys, parameters, progress)
                else:
                    host, port = arguments.listen or arguments.connect
                    result = run_session(
                        role=arguments.role,
                        record=record,
                        key_store=keys,
                        parameters=parameters,
                        host=host,
                        port=port,
                        listen=arguments.listen is not None,
                        progress=progress,
                        timeout=arguments.timeout,
                        listening=progress.listening,
                        agreed=lambda session_id: claim_record(arguments.record, session_id),
                    )
            except AuthenticationError as error:
                session_id = derive_session_id(parameters, keys.key_id, record.run_id).hex()
                save_refusal(keys.path, session_id, str(error))
                raise
            save_result(keys.path, result)
            let_finish()
        if arguments.json:
            print_json(result.to_dict() | {"peak_memory_mib": peak_memory_mib()})
        else:
            print_result(result)
            print_last_errand(arguments, result)


def _exchange(
    arguments: Namespace,
    record: RoundRecord,
    keys: KeyStore,
    parameters: ProtocolParameters,
    progress: ProgressDisplay,
) -> SessionResult:
    """The session as far as the carried files allow; where it ends here, the peer has to hear of it too."""
    from diqkd_postproc.session.exchange import ExchangePending, exchange_file
    from diqkd_postproc.session.record_claim import claim_record
    from diqkd_postproc.session.run import run_exchange

    try:
        return run_exchange(
            role=arguments.role,
            record=record,
            key_store=keys,
            parameters=parameters,
            folder=arguments.exchange,
            progress=progress,
            agreed=lambda session_id: claim_record(arguments.record, session_id),
        )
    except ExchangePending as pending:
        if arguments.json:
            print_json({"pending": True, "carry": str(pending.carry), "bring_back": str(pending.wanted)})
        raise
    except (ProtocolAbort, AuthenticationError):
        own_file = exchange_file(arguments.exchange, arguments.role)
        print(f"diqkd: carry {own_file} to the other side, so that it ends as well", file=sys.stderr)
        raise


def print_last_errand(arguments: Namespace, result: SessionResult) -> None:
    """What has still to be done when this side has its key."""
    from diqkd_postproc.session.exchange import exchange_file

    if arguments.exchange is None:
        if not result.peer_confirmed:
            print("The peer has not confirmed its key: run the same command on both sides again.")
        return
    own_file = exchange_file(arguments.exchange, arguments.role)
    if arguments.role == "alice":
        print(f"carry {own_file} to Bob: it tells him that you have the key")
    elif not result.peer_confirmed:
        print(f"carry {own_file} to Alice: she has no key before that")


def print_result(result: SessionResult) -> None:
    """What a session gave, for people."""
    console = Console()
    console.print(balance_table(result.balance_sheet))
    if result.num_losses is not None:
        console.print(
            f"lost test rounds: {result.num_losses:,} of {result.num_tests:,}, limit {result.max_losses:,}"
        )
    print(f"transcript, the same on both sides: {result.transcript_digest}")


def record_show(arguments: Namespace) -> None:
    """`diqkd record show`: facts of a record, never settings or measured outcomes."""
    record = RoundRecord.read(arguments.record)
    patterns, counts = np.unique(record.herald_pattern, return_counts=True)
    heralded = record.timestamp_mu[record.timestamp_mu >= 0]
    facts: dict[str, Any] = {
        "role": record.role,
        "run_id": record.run_id,
        "parameters_digest": record.parameters.digest,
        "num_rounds": record.parameters.num_rounds,
        "num_tests": int(np.count_nonzero(record.round_type)),
        "num_lost": record.num_lost,
        "private_datasets": [setting_name(record.role), "outcome", "lost"],
        "herald_patterns": {
            f"{pattern:04b}": int(count) for pattern, count in zip(patterns, counts, strict=True)
        },
        "first_herald_mu": int(heralded[0]) if heralded.size else None,
        "last_herald_mu": int(heralded[-1]) if heralded.size else None,
        **record.attributes,
    }
    provenance = dict(facts.pop("provenance", {}))
    configuration = provenance.pop("node_configuration", None)
    if arguments.json:
        settings = json.loads(configuration) if configuration else None
        print_json(facts | {"provenance": provenance, "node_configuration": settings})
        return
    table = Table(title=str(Path(arguments.record)), show_header=False)
    for name, value in (facts | provenance).items():
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)


def report(arguments: Namespace) -> None:
    """`diqkd report`: what a run was and gave, as one page."""
    from diqkd_postproc.report import write_report

    answer = write_report(
        arguments.run,
        public=arguments.public,
        pdf=arguments.pdf,
        output=arguments.output,
        keys=arguments.keys,
    )
    if arguments.json:
        print_json(answer)
        return
    for kind in ("report", "pdf"):
        if kind in answer:
            print(answer[kind])
