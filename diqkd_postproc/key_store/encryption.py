"""Encryption at rest: every secret column of a key store, sealed under a key of the store's own.

AES-256-GCM with a random 96-bit nonce for every sealing (NIST SP 800-38D allows 2^32 under one key). The
associated data are the name of the table and all public columns of the row, so that a blob that was altered,
moved to another row or file, or left over from another state of its row does not open. The store's key is
random and sealed itself, under a key derived from the credential; a new credential seals it again.

A MAC over all tables, under a second key derived from the store's (HMAC-SHA256), is renewed in every
transaction and verified on opening and before every change (`ledger`, `content`): a row that was altered,
exchanged, removed or put back from an earlier state is refused, secret or not.

What stays readable without the credential: sizes, states, names, counts; never a bit of a key. What stays
possible: whoever can write the file can put back an old copy of the whole of it (see `epoch_witness`), or
destroy it; and whoever does not give the credential reads what nobody has verified. Keep the file from other
accounts, encrypted or not.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from diqkd_postproc.key_store.credentials import KEY_BYTES, Credential, require_cryptography
from diqkd_postproc.protocol.errors import DiqkdError, StorageError

_NONCE_BYTES = 12
_MAC_LABEL = b"diqkd key store content"


class WrongCredentialError(StorageError):
    """The passphrase or key file does not open this key store.

    Or the sealed key of the store was altered: the authenticated encryption cannot tell the two apart.
    """


class LockedStoreError(StorageError):
    """A secret is wanted of an encrypted key store that was opened without its passphrase or key file."""


class SealError(StorageError):
    """A sealed value was altered, moved, or belongs to another state of its row."""


class BlobSeal(Protocol):
    """How secret columns are stored.

    row: name of the table and public columns, JSON-able; the same values have to be given to open what was
    sealed with them.
    """

    def seal(self, plain: bytes, *row: object) -> bytes:
        """What to store for `plain` in the row with these public columns."""
        ...

    def open(self, stored: bytes, *row: object) -> bytes:
        """The plain bytes of a stored value; SealError if it does not belong there."""
        ...

    def mac(self, content: Iterable[bytes]) -> str | None:
        """MAC of a store's content, hexadecimal; None where there is no key for one."""
        ...


class PlainBlobs:
    """No encryption: the file's mode, and the disk's encryption, have to do."""

    def seal(self, plain: bytes, *row: object) -> bytes:
        return plain

    def open(self, stored: bytes, *row: object) -> bytes:
        return bytes(stored)

    def mac(self, content: Iterable[bytes]) -> str | None:
        return None


class LockedBlobs:
    """Seal of an encrypted store without its credential: all methods raise LockedStoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def seal(self, plain: bytes, *row: object) -> bytes:
        raise LockedStoreError(
            f"{self._path} is encrypted; give its passphrase or key file (--passphrase-file, --key-file)"
        )

    def open(self, stored: bytes, *row: object) -> bytes:
        return self.seal(stored)

    def mac(self, content: Iterable[bytes]) -> str | None:
        self.seal(b"")
        return None


class EncryptedBlobs:
    """AES-256-GCM under the store's own key; stored: nonce (96 bits) | ciphertext | tag (128 bits).

    Raises SealError where value and row do not belong together.
    """

    def __init__(self, key: bytes) -> None:
        """key: (KEY_BYTES)."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead = AESGCM(key)
        self._mac_key = hmac.digest(key, _MAC_LABEL, hashlib.sha256)

    def seal(self, plain: bytes, *row: object) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + bytes(self._aead.encrypt(nonce, plain, _associated_data(row)))

    def open(self, stored: bytes, *row: object) -> bytes:
        from cryptography.exceptions import InvalidTag

        nonce, sealed = bytes(stored[:_NONCE_BYTES]), bytes(stored[_NONCE_BYTES:])
        try:
            return bytes(self._aead.decrypt(nonce, sealed, _associated_data(row)))
        except (InvalidTag, ValueError):
            raise SealError("a sealed value was altered or moved") from None

    def mac(self, content: Iterable[bytes]) -> str | None:
        mac = hmac.new(self._mac_key, digestmod=hashlib.sha256)
        for part in content:
            mac.update(part)
        return mac.hexdigest()


def new_encryption(credential: Credential, store_id: str) -> tuple[str, EncryptedBlobs]:
    """A fresh key: its sealed form, public JSON text to keep in the store, and what uses it.

    The text is JSON: the derivation, and the key sealed under the derived one. Raises StorageError without
    the package `cryptography`, and as `Credential.derive`.
    """
    require_cryptography()
    key = os.urandom(KEY_BYTES)
    return _seal_key(key, credential, store_id), EncryptedBlobs(key)


def _seal_key(key: bytes, credential: Credential, store_id: str) -> str:
    """The store's key, sealed under a credential."""
    derivation = credential.new_derivation()
    wrapped = EncryptedBlobs(credential.derive(derivation)).seal(key, store_id, derivation)
    return json.dumps({"derivation": derivation, "key": wrapped.hex()})


def open_encryption(sealed: str, credential: Credential, store_id: str) -> EncryptedBlobs:
    """What opens the secret columns, from the store's sealed key.

    Raises WrongCredentialError if the credential is not the store's, StorageError if the key is damaged.
    """
    require_cryptography()
    try:
        document = json.loads(sealed)
        derivation, wrapped = document["derivation"], bytes.fromhex(document["key"])
        key = EncryptedBlobs(credential.derive(derivation)).open(wrapped, store_id, derivation)
    except SealError:
        raise WrongCredentialError(
            "the passphrase or key file is not the one of this key store (or the store was altered)"
        ) from None
    except DiqkdError:
        raise
    except (KeyError, TypeError, ValueError):
        raise StorageError("the sealed key of the store is damaged") from None
    return EncryptedBlobs(key)


def _associated_data(row: tuple[object, ...]) -> bytes:
    return json.dumps(row, sort_keys=True).encode()
