"""`diqkd keys`: initial keys, what became of them, and the pads of the next session.

No action prints a bit of a key. Stores that are encrypted are opened with the options of
`diqkd.options.credentials`.
"""

from __future__ import annotations

import argparse
import os
from argparse import Namespace
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from diqkd.console import print_json
from diqkd.options.credentials import (
    add_credential_arguments,
    add_new_credential_arguments,
    credential_of,
    new_credential_of,
)
from diqkd.options.parsers import Actions
from diqkd_postproc.files import open_private_file
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.key_store.imported_keys import imported_once
from diqkd_postproc.key_store.piece import PADS
from diqkd_postproc.protocol.errors import LocalProtocolError, ParameterError
from diqkd_postproc.records.health_tests import HealthTested
from diqkd_postproc.records.qrng import QuantisByteSource
from diqkd_postproc.report.balance_table import balance_table
from diqkd_postproc.security.certification import load_certified
from diqkd_postproc.session.journal import idle_session
from diqkd_postproc.session.messages import MAX_NAME_BYTES
from diqkd_postproc.session.result_file import load_result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)

    new = actions.add("init", "make a pair of key stores", init)
    new.add_argument("--parameters", type=Path, required=True, help="parameter file of the run (TOML)")
    new.add_argument("--alice", type=Path, required=True, help="Alice's new key store")
    new.add_argument("--bob", type=Path, required=True, help="Bob's new key store; carry it there by hand")
    new.add_argument("--source", type=Path, help="random byte device (default: the operating system's)")
    add_new_credential_arguments(new)

    take = actions.add(
        "import", "make one key store from an initial key that both nodes have already", _take_over
    )
    take.add_argument("initial_key", type=Path, help="private file of random bytes, used from its first bit")
    take.add_argument("store", type=Path, help="new key store of this node")
    take.add_argument("--parameters", type=Path, required=True, help="parameter file of the run (TOML)")
    take.add_argument(
        "--name",
        required=True,
        help="public name of this initial key, the same at both nodes, never used before and not derived "
        "from the key, for example the date of its delivery",
    )
    add_new_credential_arguments(take)

    shown = actions.add(
        "show", "balance sheet of a key store, and what is left of its keys; never a key", show
    )
    shown.add_argument("store", type=Path)

    renewed = actions.add(
        "next",
        "take the pads of the next session from a generated key; run it at both nodes, no courier is needed",
        renew,
    )
    renewed.add_argument("store", type=Path)
    renewed.add_argument(
        "--abandon",
        action="store_true",
        help="also where the last session aborted or did not finish: it cannot go on afterwards",
    )
    add_credential_arguments(renewed)

    exported = actions.add(
        "export", "move what is free of the latest generated key from the store to a private file", export
    )
    exported.add_argument("store", type=Path)
    exported.add_argument("output", type=Path)
    add_credential_arguments(exported)

    changed = actions.add(
        "passphrase", "encrypt a key store under a new passphrase or key file, or not at all", passphrase
    )
    changed.add_argument("store", type=Path)
    add_credential_arguments(changed)
    add_new_credential_arguments(changed, prefix="new-")


def _report(arguments: Namespace, report: dict[str, Any], *sentences: str) -> None:
    """The report for programs, or sentences for people."""
    if arguments.json:
        print_json(report)
    else:
        print(*sentences, sep="\n")


def init(arguments: Namespace) -> None:
    """`diqkd keys init`: one fresh K0 in two private files."""
    parameters = load_certified(arguments.parameters)
    with ExitStack() as stack:
        read_bytes = os.urandom
        if arguments.source is not None:
            device = stack.enter_context(closing(QuantisByteSource(arguments.source)))
            read_bytes = HealthTested(device).read
        credential = new_credential_of(arguments, "the two key stores", wanted=arguments.encrypt)
        alice, bob = KeyStore.create_pair(
            arguments.alice, arguments.bob, parameters, read_bytes, credential=credential
        )
    with alice, bob:
        report = {"alice": str(alice.path), "bob": str(bob.path), "k0_bits": alice.k0_bits}
    _report(
        arguments,
        report,
        f"two key stores of {report['k0_bits']:,} bits: {report['alice']}, {report['bob']}",
        "carry Bob's to him over a trusted path and delete it here",
    )


def _take_over(arguments: Namespace) -> None:
    name = arguments.name
    if not (name and name.isprintable() and len(name.encode()) <= MAX_NAME_BYTES):
        raise ParameterError(f"--name {name!r} has to be 1 to {MAX_NAME_BYTES} printable bytes")
    parameters = load_certified(arguments.parameters)
    with open_private_file(arguments.initial_key) as file:
        initial_key = file.read()
    credential = new_credential_of(arguments, str(arguments.store), wanted=arguments.encrypt)
    with imported_once(initial_key):
        store = KeyStore.import_initial_key(
            arguments.store, parameters, initial_key, name, credential=credential
        )
    with store:
        report = {"store": str(store.path), "key_id": store.key_id, "k0_bits": store.k0_bits}
    _report(
        arguments,
        report,
        f"key store of {report['k0_bits']:,} bits: {report['store']}; delete {arguments.initial_key}",
    )


def show(arguments: Namespace) -> None:
    """`diqkd keys show`: the balance sheet and what is left of each key, never a key."""
    from dataclasses import asdict

    with KeyStore.open(arguments.store) as keys:
        sheet, held, key_id = keys.balance_sheet(), keys.generated.held(), keys.key_id
        pad_sets = len(keys.generated.reserved(PADS))
    if arguments.json:
        print_json(
            sheet.to_dict()
            | {"key_id": key_id, "keys": [asdict(key) for key in held], "pad_sets_left": pad_sets}
        )
        return
    console = Console()
    console.print(balance_table(sheet))
    if held:
        table = Table(title="Generated keys (bits)")
        table.add_column("session")
        for heading in ("generated", "free", "set aside", "gone"):
            table.add_column(heading, justify="right")
        for key in held:
            counts = (key.num_bits, key.available, key.reserved, key.delivered)
            table.add_row(key.session_id, *(f"{count:,}" for count in counts))
        table.caption = f"pads set aside for further sessions: {pad_sets}"
        console.print(table)
    console.print(f"initial key {key_id}", highlight=False)


def renew(arguments: Namespace) -> None:
    """`diqkd keys next`: the next K0 from K1.

    Prints the new key_id. LocalProtocolError while pads of the present K0 are unused, InsufficientKeyError
    where no set of pads is left.
    """
    credential = credential_of(arguments, arguments.store)
    with ExitStack() as stack:
        keys = stack.enter_context(KeyStore.open(arguments.store, credential=credential))
        session_id = keys.current_session
        if session_id is not None:
            stack.enter_context(idle_session(keys.path, session_id))
        if session_id is not None and not arguments.abandon:
            result = load_result(keys.path, session_id) if keys.has_key(session_id) else None
            if result is None or not result.get("peer_confirmed"):
                raise LocalProtocolError(
                    f"session {session_id} has not ended with a key at both nodes. Run `diqkd postprocess` "
                    "once more at both; if it has aborted, or you give it up, add --abandon at both"
                )
        key_id = keys.renew()
        pad_sets = len(keys.generated.reserved(PADS))
    _report(
        arguments,
        {"key_id": key_id, "pad_sets_left": pad_sets},
        f"the next session's initial key is {key_id}: compare it with the other node's",
        f"pads set aside for further sessions: {pad_sets}",
    )


def export(arguments: Namespace) -> None:
    """`diqkd keys export`: the free bits of the latest key into a private file.

    Prints the number of bits. The file is packed big-endian and zero-padded; the bits are zeroed in the
    store. StorageError where none is free or the file exists.
    """
    credential = credential_of(arguments, arguments.store)
    with KeyStore.open(arguments.store, credential=credential) as keys:
        num_bits = keys.export_key(arguments.output)
    _report(
        arguments,
        {"output": str(arguments.output), "num_bits": num_bits},
        f"{num_bits:,} key bits moved to {arguments.output} (readable by you alone)",
    )


def passphrase(arguments: Namespace) -> None:
    """`diqkd keys passphrase`: everything encrypted anew.

    The new credential comes from the options or the terminal; with `--decrypt` the store is stored in plain
    afterwards. LockedStoreError without the present credential.
    """
    store = arguments.store
    with KeyStore.open(store, credential=credential_of(arguments, store)) as keys:
        keys.change_credential(new_credential_of(arguments, str(store), wanted=not arguments.decrypt))
        encrypted = keys.is_encrypted
    _report(
        arguments,
        {"store": str(store), "encrypted": encrypted},
        f"{store} is {'encrypted anew' if encrypted else 'no longer encrypted'}; older copies of the file "
        "still open with what opened them",
    )
