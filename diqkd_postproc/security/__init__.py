"""Length of a secure key: one module a proof, and one interface to all of them (`proofs`).

>>> from fractions import Fraction
>>> from diqkd_postproc.security.proofs import key_length_for
>>> length = key_length_for(
...     "paper", None, "trevisan", num_rounds=1_500_000, gamma=Fraction(13, 256), omega_threshold=0.82553763,
...     syndrome_bits=296_517, soundness_error=1e-10,
... )
>>> length.bits
95885
"""
