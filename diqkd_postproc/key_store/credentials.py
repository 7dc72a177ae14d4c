"""Credentials of an encrypted key store: a passphrase, typed or read from a private file, or a key file.

Never an argument or an environment variable: other processes can read those. A passphrase is stretched with
scrypt (RFC 7914), which costs whoever guesses 128 MiB of memory a guess; a key file has to hold at least 32
random bytes and goes through HKDF-SHA256 (RFC 5869).
"""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from diqkd_postproc.files import open_private_file
from diqkd_postproc.protocol.errors import ParameterError, StorageError

SALT_BYTES = 16
KEY_BYTES = 32
MIN_KEY_FILE_BYTES = 32
MAX_SECRET_BYTES = 1 << 16
SCRYPT_LOG2_COST = 17  # RFC 7914's N = 2^17, r = 8: 128 MiB
MAX_SCRYPT_LOG2_COST = 20
_SCRYPT_BLOCK = 8


class Credential(Protocol):
    """A secret from which the key that encrypts a store's own key is derived.

    Derivations are public JSON members of the store: kind, salt (hexadecimal, SALT_BYTES) and, of a
    passphrase, log2_cost.
    """

    def new_derivation(self) -> dict[str, Any]:
        """Public settings of a fresh derivation: its kind, salt and cost."""
        ...

    def derive(self, derivation: dict[str, Any]) -> bytes:
        """(KEY_BYTES) the key; StorageError where the store wants another kind of credential.

        Raises ParameterError for an unusable secret: an empty passphrase, a short key file.
        """
        ...


def require_cryptography() -> None:
    """Raise StorageError where the optional package is missing."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise StorageError(
            "an encrypted key store needs the package `cryptography`: pip install 'diqkd[encryption]'"
        ) from None


class _StretchedPassphrase:
    """Derivation by scrypt from a passphrase, which a subclass has, reads or asks for."""

    def _passphrase(self) -> str:
        raise NotImplementedError

    def new_derivation(self) -> dict[str, Any]:
        """scrypt at today's cost, SCRYPT_LOG2_COST."""
        return {"kind": "passphrase", "salt": os.urandom(SALT_BYTES).hex(), "log2_cost": SCRYPT_LOG2_COST}

    def derive(self, derivation: dict[str, Any]) -> bytes:
        """(KEY_BYTES) scrypt at the stored cost, up to MAX_SCRYPT_LOG2_COST.

        Raises StorageError for a derivation of another kind or cost, ParameterError for an empty passphrase.
        """
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

        if derivation["kind"] != "passphrase":
            raise StorageError("it is encrypted under a key file, not under a passphrase; give --key-file")
        salt, cost = bytes.fromhex(derivation["salt"]), int(derivation["log2_cost"])
        if not 1 <= cost <= MAX_SCRYPT_LOG2_COST:
            raise StorageError(f"it asks for an scrypt cost of 2^{cost}; it is damaged or was altered")
        if not (text := self._passphrase()):
            raise ParameterError("the passphrase is empty")
        return Scrypt(salt=salt, length=KEY_BYTES, n=1 << cost, r=_SCRYPT_BLOCK, p=1).derive(text.encode())


@dataclass(frozen=True)
class Passphrase(_StretchedPassphrase):
    """A passphrase that the caller has."""

    text: str = field(repr=False)

    def _passphrase(self) -> str:
        return self.text


@dataclass(frozen=True)
class PassphraseFile(_StretchedPassphrase):
    """A passphrase on the first line of a private file, UTF-8, without its end of line."""

    path: Path

    def _passphrase(self) -> str:
        with open_private_file(self.path) as file:
            line = file.read(MAX_SECRET_BYTES).partition(b"\n")[0].removesuffix(b"\r")
        try:
            return line.decode()
        except UnicodeDecodeError:  # a random file has line ends anywhere: hardly anything might be left
            raise ParameterError(
                f"{self.path} holds no passphrase: its first line is not text (UTF-8); give random bytes as "
                "a key file, --key-file"
            ) from None


@dataclass(frozen=True)
class PassphrasePrompt(_StretchedPassphrase):
    """A passphrase typed on the terminal, read only when a store needs it."""

    what: str

    def _passphrase(self) -> str:
        _require_terminal(f"{self.what} is encrypted")
        return getpass.getpass(f"passphrase of {self.what}: ")


@dataclass(frozen=True)
class KeyFile:
    """A private file of at least MIN_KEY_FILE_BYTES random bytes, for example on a token.

    Read up to MAX_SECRET_BYTES. The content is not stretched, so that it has to be random.
    """

    path: Path

    def new_derivation(self) -> dict[str, Any]:
        """HKDF with a fresh salt."""
        return {"kind": "key file", "salt": os.urandom(SALT_BYTES).hex()}

    def derive(self, derivation: dict[str, Any]) -> bytes:
        """HKDF-SHA256 of the file's content."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        if derivation["kind"] != "key file":
            raise StorageError("it is encrypted under a passphrase, not under a key file")
        with open_private_file(self.path) as file:
            content = file.read(MAX_SECRET_BYTES)
        if len(content) < MIN_KEY_FILE_BYTES:
            raise ParameterError(
                f"key file {self.path} has {len(content)} bytes, at least {MIN_KEY_FILE_BYTES} random ones "
                "are needed"
            )
        salt = bytes.fromhex(derivation["salt"])
        return HKDF(SHA256(), KEY_BYTES, salt, b"diqkd key store").derive(content)


def ask_new_passphrase(what: str) -> Passphrase:
    """A new passphrase from the terminal, typed twice; ParameterError if the two differ."""
    _require_terminal(f"{what} is to be encrypted")
    text = getpass.getpass(f"new passphrase of {what}: ")
    if getpass.getpass("once more: ") != text:
        raise ParameterError("the two passphrases differ; nothing was changed")
    return Passphrase(text)


def _require_terminal(why: str) -> None:
    if not sys.stdin.isatty():
        raise StorageError(
            f"{why} and there is no terminal to ask for a passphrase; give a passphrase file or a key file"
        )
