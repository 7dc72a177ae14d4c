"""Universal hash and one-time tags, for validation and authentication of messages (SI section S9 A).

The published run used VHASH-64 with a seed of 1280 bits and collision probability 2^-61. Here the hash is a
polynomial over GF(2^128) followed by a multiplication and truncation, with a seed of 256 bits and a smaller
collision probability, so every statement of the SI that uses eps_h = 2^-61 holds.

The hash. The seed is a point r and a multiplier s, both in F = GF(2^128) with z^128 = z^7 + z^2 + z + 1. A
message of b bytes is cut into L = ceil(b / 16) blocks m_1 ... m_L in F, the last filled up with zeros. With

    P_m(r) = m_1 r^{L+1} + m_2 r^L + ... + m_L r^2 + (8 b) r,    h(m) = the low 64 bits of s P_m(r),

h is eps-almost-Delta-universal (SI definition 10) with eps <= 2^-64 + (L+1) 2^-128, which is below 2^-63.9
for any message shorter than 2^64 bits.

Proof. Let m != m' and let D = P_m - P_m', a polynomial in r. It is not zero: if the lengths differ, so do
the coefficients of r^1 (8 b < 2^64 < |F|); if they agree, L agrees and some block differs, and so does its
coefficient. D has degree at most L+1, L the larger number of blocks, so at most L+1 of the 2^128 points r are
roots. For any other r, s D(r) is uniform in F as s is, and its low 64 bits, uniform on 64-bit strings,
equal a given string with probability 2^-64 exactly. As the hash is linear in P, h(m) - h(m') is the low 64
bits of s D(r). The sum of both probabilities is the bound, for any difference. L+1 <= 2^57 + 1 for such
messages, so eps <= 2^-64 + 2^-70. QED.

The tag is the hash XOR a fresh one-time pad of 64 bits: almost strongly universal with the same eps, SI eqs.
(44) to (48), so a forger who has seen one message and its tag succeeds with probability at most eps, and the
tags reveal nothing about the seed, which can be used again with the next pad (Wegman and Carter). A pad must
never be used twice.

Conventions: bytes are little-endian integers, bit i the coefficient of z^i; r is the first half of the seed,
s the second; hashes and tags are 8 bytes, little-endian.

The tags of different protocol messages are distinguished by their pads and by the labels that the session
puts in front of each message.
"""

from __future__ import annotations

import hmac
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from diqkd_postproc.fields.binary_field import BinaryField
from diqkd_postproc.protocol.errors import ParameterError

if TYPE_CHECKING:
    from diqkd_postproc.authentication.kernels import Kernel

HASH_SEED_BITS = 256
HASH_BITS = 64
HASH_COLLISION_PROBABILITY = 2.0**-63
"""Bound on eps for messages below 2^64 bits: above the proven 2^-64 + 2^-70."""


def universal_hash(seed: bytes, message: bytes, *, instruction_set: str | None = None) -> bytes:
    """8 bytes: the hash of `message` under the 32-byte `seed`; never to be published without a pad.

    `message` may be any object with a contiguous buffer (bytes, bytearray, memoryview, array) and is not
    copied. instruction_set: one of `carryless.instruction_sets()`, default the fastest; the hash does not
    depend on it. Raises ParameterError for a seed of another length.
    """
    if len(seed) * 8 != HASH_SEED_BITS:
        raise ParameterError(f"the hash seed has {len(seed) * 8} bits, not {HASH_SEED_BITS}")
    point = np.frombuffer(seed, dtype="<u8").astype(np.uint64)
    data = np.frombuffer(memoryview(message).cast("B"), dtype=np.uint8)
    whole = len(data) // 16 * 16
    last = np.zeros(16, dtype=np.uint8)
    last[: len(data) - whole] = data[whole:]
    length = np.array([8 * len(data), 0], dtype="<u8").view(np.uint8)
    ending = np.concatenate([last, length]) if len(data) > whole else length

    polynomial = np.zeros(2, dtype=np.uint64)
    kernel = _kernel(instruction_set)
    kernel(data[:whole], point[:2], polynomial)
    kernel(ending, point[:2], polynomial)
    low, high = (int(word) for word in polynomial)
    product = _FIELD.multiply(low | high << 64, int.from_bytes(bytes(seed[16:]), "little"))
    return (product & ((1 << HASH_BITS) - 1)).to_bytes(HASH_BITS // 8, "little")


def one_time_tag(seed: bytes, pad: bytes, message: bytes) -> bytes:
    """8 bytes: hash of `message` XOR `pad`. The pad is 8 fresh secret bytes, used for this tag only.

    Raises ParameterError for a seed or pad of another length.
    """
    if len(pad) * 8 != HASH_BITS:
        raise ParameterError(f"the one-time pad has {len(pad) * 8} bits, not {HASH_BITS}")
    hashed = universal_hash(seed, message)
    return bytes(left ^ right for left, right in zip(hashed, pad, strict=True))


def verify(seed: bytes, pad: bytes, message: bytes, tag: bytes) -> bool:
    """Whether `tag` is the tag of `message`, compared in constant time.

    A tag of another length is wrong. The pad counts as used whatever the answer: it must never meet another
    message.
    """
    return hmac.compare_digest(one_time_tag(seed, pad, message), bytes(tag))


_FIELD = BinaryField(128)


@cache
def _kernel(instruction_set: str | None) -> Kernel:
    # Imported on first use: numba is slow to import, and most commands never hash.
    from diqkd_postproc.authentication.kernels import carryless_hash_kernel, portable_hash_kernel
    from diqkd_postproc.fields.carryless import PORTABLE, instruction_sets

    available = instruction_sets()
    chosen = available[0] if instruction_set is None else instruction_set
    if chosen not in available:
        raise ParameterError(f"instruction_set={chosen!r} is not one of {available} on this machine")
    return portable_hash_kernel() if chosen == PORTABLE else carryless_hash_kernel()
