"""Encryption at rest: every secret column of a key store, sealed under a key of the store's own.

AES-256-GCM with a random 96-bit nonce for every sealing (NIST SP 800-38D allows 2^32 under one key). The
associated data are the name of the table and all public columns of the row, so that a blob that was altered,
moved to another row or file, or left over from another state of its row does not open. The store's key is
random and sealed itself, under a key derived from the credential; a new credential seals it again.

What stays readable without the credential: sizes, states, names, counts; never a bit of a key. What stays
possible: whoever can write the file can put back an old copy of the whole of it (see `epoch_witness`),
destroy it, or exchange the places of two pieces in one block, because a block is sealed with the number of
its delivered bits, not with which they are: this node would then issue zeros as a key, or one key under the
name of another. Keep the file from other accounts, encrypted or not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Protocol

from diqkd_postproc.key_store.credentials import KEY_BYTES, Credential, require_cryptography
from diqkd_postproc.protocol.errors import DiqkdError, StorageError

_NONCE_BYTES = 12


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


class PlainBlobs:
    """No encryption: the file's mode, and the disk's encryption, have to do."""

    def seal(self, plain: bytes, *row: object) -> bytes:
        return plain

    def open(self, stored: bytes, *row: object) -> bytes:
        return bytes(stored)


class LockedBlobs:
    """Seal of an encrypted store without its credential: both methods raise LockedStoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def seal(self, plain: bytes, *row: object) -> bytes:
        raise LockedStoreError(
            f"{self._path} is encrypted; give its passphrase or key file (--passphrase-file, --key-file)"
        )

    def open(self, stored: bytes, *row: object) -> bytes:
        return self.seal(stored)


class EncryptedBlobs:
    """AES-256-GCM under the store's own key; stored: nonce (96 bits) | ciphertext | tag (128 bits).

    Raises SealError where value and row do not belong together.
    """

    def __init__(self, key: bytes) -> None:
        """key: (KEY_BYTES)."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead = AESGCM(key)

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
