"""The options of a command that opens or makes an encrypted key store."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from diqkd_postproc.key_store.credentials import (
    Credential,
    KeyFile,
    PassphraseFile,
    PassphrasePrompt,
    ask_new_passphrase,
)


def add_credential_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what opens an encrypted store; without any, its passphrase is read from the terminal.

    `--passphrase-file` and `--key-file` exclude each other. Neither takes a secret itself: other processes
    can read a command line.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--passphrase-file",
        type=Path,
        help="private file whose first line opens an encrypted key store (default: typed on the terminal)",
    )
    group.add_argument("--key-file", type=Path, help="private file of random bytes that opens it instead")


def add_new_credential_arguments(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """Add what a store is to be encrypted under."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        f"--{prefix}passphrase-file",
        dest="new_passphrase_file",
        type=Path,
        help="encrypt under the first line of this private file",
    )
    group.add_argument(
        f"--{prefix}key-file",
        dest="new_key_file",
        type=Path,
        help="encrypt under this private file of at least 32 random bytes",
    )
    if prefix:
        group.add_argument("--decrypt", action="store_true", help="store the secrets without encryption")
    else:
        group.add_argument(
            "--encrypt", action="store_true", help="encrypt under a passphrase, typed on the terminal"
        )


def credential_of(arguments: Namespace, store: Path) -> Credential:
    """What opens `store`, if it is encrypted; the terminal is read only then."""
    if arguments.passphrase_file is not None:
        return PassphraseFile(arguments.passphrase_file)
    if arguments.key_file is not None:
        return KeyFile(arguments.key_file)
    return PassphrasePrompt(str(store))


def new_credential_of(arguments: Namespace, store: str, *, wanted: bool) -> Credential | None:
    """What to encrypt `store` under; read from the terminal where it is wanted and no option gives it."""
    if arguments.new_passphrase_file is not None:
        return PassphraseFile(arguments.new_passphrase_file)
    if arguments.new_key_file is not None:
        return KeyFile(arguments.new_key_file)
    return ask_new_passphrase(store) if wanted else None
