"""Segments of the initial key K0 (SI S4): two reusable seeds, four one-time pads, and `node_link`.

`node_link` authenticates the connection of the nodes during acquisition. Keys of single connections are
derived from it by a pseudo-random function on fresh nonces, so that it is reusable; but it is secret only as
long as that function holds, so that it serves nothing else: no bit of it becomes a pad or a delivered key.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diqkd_postproc.protocol.errors import InsufficientKeyError
from diqkd_postproc.protocol.parameters import ProtocolParameters

PAD_BITS = 64
SEED_NAMES = ("extractor_seed", "hash_seed")
PAD_NAMES = ("pad_ec", "pad_a", "pad_b", "pad_f")
NODE_LINK = "node_link"
NODE_LINK_BITS = 256
SEGMENT_NAMES = (*SEED_NAMES, *PAD_NAMES, NODE_LINK)


def segment_sizes(parameters: ProtocolParameters, seed_bits: int | None = None) -> dict[str, int]:
    """Bits of every segment of K0, in order; `seed_bits` overrides the extractor's seed length."""
    from diqkd_postproc.authentication import HASH_SEED_BITS

    if seed_bits is None:
        from diqkd_postproc.privacy_amplification import seed_bits_for

        seed_bits = seed_bits_for(parameters)
    return {
        "extractor_seed": seed_bits,
        "hash_seed": HASH_SEED_BITS,
        **dict.fromkeys(PAD_NAMES, PAD_BITS),
        NODE_LINK: NODE_LINK_BITS,
    }


def segments_of(initial_key: bytes, sizes: Mapping[str, int]) -> dict[str, tuple[int, bytes]]:
    """Cut `initial_key` into segments, one after the other without padding: name -> (bits, packed bytes).

    Raises InsufficientKeyError where it is too short; bits beyond the last segment are unused.
    """
    needed, available = sum(sizes.values()), 8 * len(initial_key)
    if available < needed:
        raise InsufficientKeyError(
            f"the initial key has {available} bits, this run needs {needed}; share {needed - available} more"
        )
    bits = np.unpackbits(np.frombuffer(initial_key, dtype=np.uint8), count=needed)
    segments: dict[str, tuple[int, bytes]] = {}
    start = 0
    for name, size in sizes.items():
        segments[name] = (size, np.packbits(bits[start : start + size]).tobytes())
        start += size
    return segments
