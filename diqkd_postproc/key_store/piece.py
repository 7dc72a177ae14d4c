"""A piece of a generated key: its range, name and state, and the pieces that every key begins with."""

from __future__ import annotations

from dataclasses import dataclass

from diqkd_postproc.key_store.initial_key import PAD_BITS, PAD_NAMES
from diqkd_postproc.protocol.roles import Role

AVAILABLE, RESERVED, DELIVERED = "available", "reserved", "delivered"
DELIVERY, PADS, DELIVERY_SEED, EXPORT = "delivery", "pads", "link", "export"
PAD_SETS = 4
PAD_SET_BITS = PAD_BITS * len(PAD_NAMES)
DELIVERY_SEED_BITS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A named range of a generated key; public, the bits are not in it.

    session_id: which key. first_bit, num_bits: its range. label: public unique name.
    """

    session_id: str
    first_bit: int
    num_bits: int
    label: str
    purpose: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKey:
    """How many bits of a generated key are in which state; public.

    The three counts add up to `num_bits`. Pieces that are set aside count as reserved until they are used.
    """

    session_id: str
    num_bits: int
    available: int
    reserved: int
    delivered: int


def set_aside(num_bits: int) -> tuple[tuple[str, int], ...]:
    """Purpose and length of the pieces that a key of this length begins with.

    Pads: PAD_SETS sets, but at most a quarter of the key, and one set if that is all it can pay for.
    Delivery seed: DELIVERY_SEED_BITS, where half of the key is left to be delivered.
    """
    num_sets = min(PAD_SETS, max(num_bits // (4 * PAD_SET_BITS), num_bits >= PAD_SET_BITS))
    pads = ((PADS, PAD_SET_BITS),) * num_sets
    if num_sets and 2 * (num_sets * PAD_SET_BITS + DELIVERY_SEED_BITS) <= num_bits:
        return (*pads, (DELIVERY_SEED, DELIVERY_SEED_BITS))
    return pads


def delivery_halves(num_bits: int) -> dict[Role, tuple[int, int]]:
    """First bit and end of the range that each role issues from, of a key of this length.

    Whole bytes, from behind what is set aside. Empty ranges where the key is too short for a delivery seed.
    """
    pieces = set_aside(num_bits)
    start = sum(size for _, size in pieces) if (DELIVERY_SEED, DELIVERY_SEED_BITS) in pieces else num_bits
    middle = start + (num_bits - start) // 16 * 8
    return {"alice": (start, middle), "bob": (middle, num_bits)}


def set_aside_label(purpose: str, session_id: str, index: int = 0) -> str:
    """Label of a piece that is set aside when the key of a session is activated.

    Alike on both nodes, as session ids are. index: which of several, in the order of `set_aside`.
    """
    return f"{purpose} {index} of {session_id}"
