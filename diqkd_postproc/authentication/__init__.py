"""Message authentication by a universal hash, each tag encrypted with a one-time pad.

>>> import os
>>> seed, pad = os.urandom(32), os.urandom(8)
>>> tag = one_time_tag(seed, pad, b"the round types")
>>> verify(seed, pad, b"the round types", tag), verify(seed, pad, b"other round types", tag)
(True, False)
"""

from diqkd_postproc.authentication.tags import (
    HASH_BITS,
    HASH_COLLISION_PROBABILITY,
    HASH_SEED_BITS,
    one_time_tag,
    universal_hash,
    verify,
)

__all__ = [
    "HASH_BITS",
    "HASH_COLLISION_PROBABILITY",
    "HASH_SEED_BITS",
    "one_time_tag",
    "universal_hash",
    "verify",
]
