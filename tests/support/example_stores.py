"""Small key stores, and the sessions that spend them, for the tests of the key store."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np

from diqkd_postproc.key_store import PAD_NAMES, KeyStore
from diqkd_postproc.protocol.parameters import ProtocolParameters
from tests.support.example_parameters import small_parameters

SEED_BITS = 1001


def make_parameters(num_rounds: int = 1000) -> ProtocolParameters:
    return small_parameters(num_rounds, key_bits=100)


def make_pair(
    directory: Path, seed_bits: int = SEED_BITS, read: Callable[[int], bytes] = secrets.token_bytes
) -> tuple[KeyStore, KeyStore]:
    return KeyStore.create_pair(directory / "alice", directory / "bob", make_parameters(), read, seed_bits)


def random_key(num_bits: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, num_bits, dtype=np.uint8)


def make_key(store: KeyStore, session_id: str, key: np.ndarray) -> None:
    """What a session that ends well does to the store."""
    for name in PAD_NAMES:
        store.consume(name, session_id, b"message")
    store.activate(session_id, key)


def taken(store: KeyStore, first_bit: int, num_bits: int, session_id: str = "s") -> bytes:
    """Free bits that leave the store, packed."""
    with store.generated.change():
        return packed(store.generated.take(session_id, first_bit, num_bits))


def packed(bits: np.ndarray) -> bytes:
    return np.packbits(bits).tobytes()
