"""`diqkd postprocess`: steps 4 to 12 of the protocol, together with the peer."""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from diqkd.console import ProgressDisplay, print_json
from diqkd.options import types as argument_types
from diqkd.options.credentials import add_credential_arguments, credential_of
from diqkd.options.parsers import add_json, add_progress
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.machine import peak_memory_mib
from diqkd_postproc.protocol.errors import AuthenticationError, ProtocolAbort
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.report.balance_table import balance_table
from diqkd_postproc.security.certification import load_certified
from diqkd_postproc.session import SessionResult
from diqkd_postproc.session.engine import derive_session_id
from diqkd_postproc.session.exchange import ExchangePending, exchange_file
from diqkd_postproc.session.record_claim import claim_record
from diqkd_postproc.session.result_file import save_refusal, save_result
from diqkd_postproc.session.run import run_exchange, run_session
from diqkd_postproc.signals import interrupt_on_termination, let_finish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--parameters", type=Path, required=True, help="parameter file of the run (TOML)")
    parser.add_argument("--record", type=Path, required=True, help="sealed record of this node (HDF5)")
    parser.add_argument("--keys", type=Path, required=True, help="key store of this node")
    add_credential_arguments(parser)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--listen", type=argument_types.address, metavar="HOST:PORT", help="wait for the peer here"
    )
    where.add_argument(
        "--connect", type=argument_types.address, metavar="HOST:PORT", help="connect to the listening peer"
    )
    where.add_argument(
        "--exchange",
        type=Path,
        metavar="FOLDER",
        help="no network: write this side's messages to a file in FOLDER and read the peer's there; carry "
        "them, and run the command again until it has the key",
    )
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds to wait for the peer")
    add_progress(parser)
    add_json(parser)
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    """`diqkd postprocess`: steps 4 to 12 of the protocol, together with the peer."""
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
            _print_result(result)
            _print_remaining_step(arguments, result)


def _exchange(
    arguments: Namespace,
    record: RoundRecord,
    keys: KeyStore,
    parameters: ProtocolParameters,
    progress: ProgressDisplay,
) -> SessionResult:
    """The session as far as the carried files allow; where it ends here, the peer has to hear of it too."""
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


def _print_remaining_step(arguments: Namespace, result: SessionResult) -> None:
    """What has still to be done when this side has its key."""
    if arguments.exchange is None:
        if not result.peer_confirmed:
            print("The peer has not confirmed its key: run the same command on both sides again.")
        return
    own_file = exchange_file(arguments.exchange, arguments.role)
    if arguments.role == "alice":
        print(f"carry {own_file} to Bob: it confirms to him that you have the key")
    elif not result.peer_confirmed:
        print(f"carry {own_file} to Alice: she has no key before that")


def _print_result(result: SessionResult) -> None:
    """What a session gave, for people."""
    console = Console()
    console.print(balance_table(result.balance_sheet))
    if result.num_losses is not None:
        console.print(
            f"lost test rounds: {result.num_losses:,} of {result.num_tests:,}, "
            f"{result.num_order_losses:,} of them by order; limit {result.max_losses:,}"
        )
    print(f"transcript, the same on both sides: {result.transcript_digest}")
