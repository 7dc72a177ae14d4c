"""Common interface of the key-length proofs.

`paper`: Proposition 2 as published. `counted`: the same with the number of test rounds in place of the second
entropy accumulation; the protocol then also aborts on more than N* test rounds. `renyi`: the project's own
finite-size theorem, in a `simple` and a longer `full` form, with Trevisan's extractor or Toeplitz hashing.
Only `paper` is peer-reviewed. Every answer carries the name and the status of its proof.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import get_args

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import (
    BoundName,
    ExtractorName,
    ProofName,
    ProtocolName,
    ProtocolParameters,
)
from diqkd_postproc.protocol.proof_status import PROOF_STATUS
from diqkd_postproc.security import counted, paper, renyi
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.variable_certification import certificate_of
from diqkd_postproc.security.variable_length import NUM_KEY_BASES, KeyCertificate


def check_combination(
    proof: str, bound: str | None, extractor: str, protocol: str = "ordered", length: str = "fixed"
) -> None:
    """Raise ParameterError unless `proof` exists and covers the other choices.

    Toeplitz hashing, bounds and variable lengths belong to `renyi`; bound None is allowed with every proof.
    """
    if proof not in PROOF_STATUS:
        raise ParameterError(f"proof={proof!r} is unknown; choose one of {', '.join(PROOF_STATUS)}")
    if extractor not in ("trevisan", "toeplitz"):
        raise ParameterError(f"extractor={extractor!r} is unknown; choose 'trevisan' or 'toeplitz'")
    if extractor == "toeplitz" and proof != renyi.PROOF_NAME:
        raise ParameterError(
            f"extractor='toeplitz' is proven with proof='renyi' only, not with {proof!r}; take 'trevisan'"
        )
    if protocol == "late-type" and proof != renyi.PROOF_NAME:
        raise ParameterError(
            f"protocol 'late-type' has two key bases, for which proof {proof!r} says nothing; take 'renyi'"
        )
    if bound is not None and proof != renyi.PROOF_NAME:
        raise ParameterError(f"bound={bound!r} belongs to proof='renyi'; {proof!r} has none, leave it out")
    if bound not in (None, *get_args(BoundName)):
        raise ParameterError(f"bound={bound!r} is unknown; choose one of {', '.join(get_args(BoundName))}")
    if length == "variable" and proof != renyi.PROOF_NAME:
        raise ParameterError(
            f"length='variable' is proven with proof='renyi' only, not with {proof!r}; take 'fixed'"
        )


def losses_accepted(num_rounds: int, gamma: Fraction, omega_threshold: float) -> int:
    """L = floor(n gamma (1 - omega_thr)), the most lost test rounds that are accepted (SI S4 step 8).

    Evaluated in exact fractions, so that both nodes obtain the same number.
    """
    return math.floor(num_rounds * Fraction(gamma) * (1 - Fraction(omega_threshold)))


def key_length_for(
    proof: ProofName,
    bound: BoundName | None,
    extractor: ExtractorName,
    *,
    num_rounds: int,
    gamma: Fraction,
    omega_threshold: float,
    syndrome_bits: int,
    soundness_error: float,
    max_tests: int | None = None,
    max_late_losses: int = 0,
    extractor_error: float | None = None,
    accuracy: float = paper.SEARCH_ACCURACY,
    protocol: ProtocolName = "ordered",
) -> KeyLength:
    """Longest key that `proof` certifies, with every term of it.

    bound: `renyi` only, None for `simple`. max_tests: N* of `counted`, None for the default limit.
    max_late_losses: rounds without an outcome of Alice's, see `KeyLength.less_late_losses`.
    extractor_error: e_PA, None for the optimum. accuracy: bits to which `paper` and `counted` find their
    optimum. protocol: `late-type` is proven by `renyi` only. Others as in the proofs' own `key_length`.
    Raises ParameterError for values outside their domain and for combinations that are not proven.
    """
    check_combination(proof, bound, extractor, protocol)
    gamma = Fraction(gamma)
    common = (num_rounds, gamma, omega_threshold, syndrome_bits, soundness_error)
    if proof == "paper":
        length = paper.key_length(*common, extractor_error, accuracy)
    elif proof == "counted":
        limit = counted.test_limit(num_rounds, gamma) if max_tests is None else max_tests
        length = counted.key_length(*common, limit, extractor_error, accuracy)
    else:
        paper.check_problem(*common)
        length = renyi.key_length(
            num_rounds,
            gamma,
            losses_accepted(num_rounds, gamma, omega_threshold),
            syndrome_bits,
            soundness_error,
            bound or "simple",
            extractor,
            extractor_error if extractor == "trevisan" else None,
            num_key_bases=NUM_KEY_BASES[protocol],
        )
    return length.less_late_losses(max_late_losses)


def length_of_certificate(parameters: ProtocolParameters, certificate: KeyCertificate) -> KeyLength:
    """What a certificate says of parameters that have a length rule."""
    free, claimed = certificate.free, parameters.constant_bits or 0
    missing = max(0, claimed - certificate.constant_bits)
    most = parameters.key_bits
    if parameters.length == "fixed":
        most = max(
            0, min(certificate.key_bits(0, parameters.num_rounds, 0, parameters.syndrome_totals[-1]), most)
        )
        missing = 0
    return KeyLength(
        bits=max(0, most - missing),
        value=certificate.value,
        proof=renyi.PROOF_NAME,
        status=PROOF_STATUS[renyi.PROOF_NAME],
        terms=certificate.terms,
        analysis={
            "alpha_minus_one": float(free.excess_order),
            "kappa": float(free.kappa),
            "eta": float(free.eta),
            "gm1": certificate.round_excess,
            "constant_bits": float(certificate.constant_bits),
        },
        hash_error=paper.HASH_ERROR,
        extractor_error=certificate.extractor_error,
        margin=certificate.value - certificate.constant_bits,
        certificate=certificate.evidence,
    )


def key_length_of(parameters: ProtocolParameters) -> KeyLength:
    """Longest key that the proof of `parameters` certifies, with the extractor error that they fix.

    The extractor error is one_bit_error times key_bits: it is part of the parameters, so that the seed's
    length follows from them. Of a variable length: the most that the hash has rows for, less what the theorem
    does not certify of `constant_bits`. Raises ParameterError as `key_length_for`.
    """
    if parameters.length_rule is not None:
        return length_of_certificate(parameters, certificate_of(parameters))
    extractor_error = parameters.one_bit_error * max(1, parameters.key_bits)
    return key_length_for(
        parameters.proof,
        parameters.bound,
        parameters.extractor,
        num_rounds=parameters.num_rounds,
        gamma=parameters.gamma,
        omega_threshold=parameters.omega_threshold,
        syndrome_bits=parameters.syndrome_bits,
        soundness_error=parameters.soundness_error,
        max_tests=parameters.max_tests,
        max_late_losses=parameters.max_late_losses,
        extractor_error=extractor_error,
        protocol=parameters.protocol,
    )
