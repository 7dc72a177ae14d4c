"""Message authentication with one-time pads."""

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
