"""Key ids that name the bits they stand for and whom they are for, so that the two KMEs need no connection.

A key_ID is a UUID of version 8 (RFC 9562), whose 122 free bits are

    name of the session (16) | first byte (29) | size in bytes - 1 (13) | tag (64)

The piece that an id names begins with the 64 bits of the tag's pad, and the key follows. The tag is the
one-time tag (`authentication.one_time_tag`) of the whole place (role, session, first bit, size) with the SAE
IDs of master and slave, under the delivery seed of the session's key.

No pad meets two messages: a KME takes pad and key out of its ledger in one transaction before it makes the
tag, and issues from its own half of each key only. Whoever has seen any number of ids knows nothing of the
seed, as the tags are padded; an id that was not issued passes with a probability below 2^-63 for each
attempt, also where its place lies in a key that its inventor knows (then the tag's hash is uniform, tags.py).

The name, 16 bits of a digest, only finds the candidates; the tag covers the session's whole name.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass

from diqkd_postproc.authentication import HASH_BITS
from diqkd_postproc.protocol.roles import Role

PAD_BITS = HASH_BITS
NAME_BITS, PLACE_BITS, SIZE_BITS = 16, 29, 13
MAX_KEY_BITS = 8 << SIZE_BITS
_VERSION, _VARIANT = 8, 0b10
_LOW = (1 << 62) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a piece is: pad, then key. Public.

    role: whose half. first_bit: of the pad, a multiple of 8. size: of the key, bits, a multiple of 8.
    """

    role: Role
    session_id: str
    first_bit: int
    size: int

    @property
    def num_bits(self) -> int:
        """Bits of pad and key."""
        return PAD_BITS + self.size


def session_name(session_id: str) -> int:
    """The 16 bits that stand for a session in an id."""
    return int.from_bytes(hashlib.sha256(session_id.encode()).digest()[: NAME_BITS // 8], "big")


def tagged_content(place: Place, master: str, slave: str) -> bytes:
    """What the tag of an id covers, unambiguously."""
    fields = ["diqkd key id 1", place.role, place.session_id, place.first_bit, place.size, master, slave]
    return json.dumps(fields).encode()


def encode(place: Place, tag: bytes) -> str:
    """The id of a piece, with its tag of 8 bytes."""
    number = session_name(place.session_id)
    number = number << PLACE_BITS | place.first_bit // 8
    number = number << SIZE_BITS | place.size // 8 - 1
    number = number << HASH_BITS | int.from_bytes(tag, "big")
    high, middle = number >> 74, number >> 62 & 0xFFF
    return str(uuid.UUID(int=high << 80 | _VERSION << 76 | middle << 64 | _VARIANT << 62 | number & _LOW))


def decode(key_id: str) -> tuple[int, int, int, bytes] | None:
    """(name of the session, first bit, size in bits, tag) of an id; None for a UUID of another kind."""
    parsed = uuid.UUID(key_id)
    if parsed.version != _VERSION:  # None also where the variant is another
        return None
    number = parsed.int >> 80 << 74 | (parsed.int >> 64 & 0xFFF) << 62 | parsed.int & _LOW
    tag = (number & (1 << HASH_BITS) - 1).to_bytes(HASH_BITS // 8, "big")
    number >>= HASH_BITS
    size = 8 * ((number & (1 << SIZE_BITS) - 1) + 1)
    number >>= SIZE_BITS
    return number >> PLACE_BITS, 8 * (number & (1 << PLACE_BITS) - 1), size, tag
