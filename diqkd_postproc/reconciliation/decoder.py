"""Bob's side of reconciliation: from a noisy copy and a syndrome to Alice's outcomes (SI S6 C 3).

The decoder works on the error pattern, guess xor truth: its syndrome is the received one xor the guess's, and
its prior is known a round (error rate of test or key rounds). The few errors in
which it gets stuck are solved for afterwards (`residual_errors`). A word is returned as converged only if it
has the received syndrome exactly; whether it is the right one is what the universal hash decides afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation import belief_propagation, flooding, residual_errors
from diqkd_postproc.reconciliation.syndrome_code import SyndromeCode, check_bits

MAX_ITERATIONS = 400
MAX_STALLED_ITERATIONS = 80
"""Iterations without a new minimum of violated checks after which a frame is given up. Frames that decode
have been seen to wait 41; those that do not have their minimum early and then wander about it for ever.
A second attempt with other rates, actual ones or up to double, rescued none of nine, so there is none."""
MAX_STALLED_BEFORE_PART = 12
"""The same where a further part of the syndrome can be had instead."""
MIN_ERROR_RATE = 1e-5
"""Priors are kept off certainty: a design of zero errors must still correct one."""

Progress = Callable[[int, int], None]


class Messages(NamedTuple):
    """State of sum-product decoding: (positions,) posterior and (edges,) check-to-variable messages.

    Private. The next code of a family has the same edges and goes on from it.
    """

    posterior: NDArray[np.float32]
    from_checks: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeResult:
    """Outcome of decoding. `bits` is private and kept out of `repr`.

    converged: `bits` has the received syndrome. unsatisfied: syndrome bits that it violates, 0 if converged.
    iterations: fewer than allowed without convergence where decoding made no progress any more. messages:
    where decoding ended, private; None if converged, and of a coupled code.
    """

    bits: NDArray[np.uint8]
    converged: bool
    iterations: int
    unsatisfied: int
    messages: Messages | None = None

    def __repr__(self) -> str:
        return (
            f"DecodeResult(converged={self.converged}, iterations={self.iterations}, "
            f"unsatisfied={self.unsatisfied})"
        )


def prior_llr(error_rate: float) -> float:
    """Log-likelihood ratio log((1 - p) / p) of an error rate p in [0, 1/2].

    Rates below MIN_ERROR_RATE are raised to it. Raises ParameterError outside the interval.
    """
    if not 0.0 <= error_rate <= 0.5:
        raise ParameterError(f"error rate {error_rate} is outside [0, 0.5]")
    p = max(error_rate, MIN_ERROR_RATE)
    return math.log((1.0 - p) / p)


def decode(
    code: SyndromeCode,
    syndrome: NDArray[np.uint8],
    guess: NDArray[np.uint8],
    is_test: NDArray[np.uint8],
    qber: float,
    test_error: float,
    max_iterations: int = MAX_ITERATIONS,
    progress: Progress | None = None,
    second_basis: NDArray[np.bool_] | None = None,
    second_qber: float | None = None,
    erased: NDArray[np.bool_] | None = None,
    start: Messages | None = None,
    can_extend: bool = False,
) -> DecodeResult:
    """Reconstruct the bits that have `syndrome` from a copy with errors.

    syndrome: (m,) uint8; guess: (n,) uint8, the copy; is_test: (n,) 0/1; qber, test_error: error rates of
    key and test rounds that the decoder assumes. second_basis: (n,) key rounds with error rate `second_qber`;
    erased: (n,) rounds of which the copy knows nothing. start: where decoding of the code before in the
    family has ended on the same copy; it is overwritten. can_extend: a further part of the syndrome can be
    had instead, so that decoding is given up sooner, and no residual errors are solved for: in a short block
    the few checks that are violated on the way have wrong solutions. `progress(unsatisfied, m)` is called
    once an iteration. Raises ParameterError on wrong shapes or rates.
    """
    check_bits("syndrome", syndrome, code.syndrome_bits)
    check_bits("guess", guess, code.num_rounds)
    positions = code.positions(is_test)
    target = syndrome ^ code.syndrome_at(guess, positions)
    prior = np.full(code.num_positions, 2.0 * belief_propagation.MAX_LLR, dtype=np.float32)
    ratios = [prior_llr(qber), prior_llr(test_error), prior_llr(qber if second_qber is None else second_qber)]
    kind = (is_test != 0).astype(np.uint8)
    if second_basis is not None:
        kind[second_basis & (kind == 0)] = 2
    ratio = np.array(ratios, dtype=np.float32)[kind]
    if erased is not None:
        ratio[erased] = 0.0
    prior[: code.num_rounds] = ratio[positions]
    stall = _Stall(MAX_STALLED_BEFORE_PART if can_extend else MAX_STALLED_ITERATIONS)
    if code.ensemble.chain_length:
        attempt = _flooding(code, target, prior, max_iterations, progress, stall)
    else:
        if start is None:
            start = Messages(prior, np.zeros(code.edge_column.size * code.lifting, dtype=np.float32))
        attempt = _layered(code, target, start, max_iterations, progress, stall)
    if attempt.unsatisfied and not can_extend:
        attempt = _repair_residual_errors(code, target, attempt)

    error = np.empty(code.num_rounds, dtype=np.uint8)
    error[positions] = attempt.word[: code.num_rounds]
    return DecodeResult(
        bits=guess ^ error,
        converged=attempt.unsatisfied == 0,
        iterations=attempt.iterations,
        unsatisfied=attempt.unsatisfied,
        messages=start if attempt.unsatisfied else None,
    )


class _Attempt(NamedTuple):
    """Where sum-product decoding has ended: posterior and word at the code positions."""

    posterior: NDArray[np.float32]
    word: NDArray[np.uint8]
    iterations: int
    unsatisfied: int


def _repair_residual_errors(code: SyndromeCode, target: NDArray[np.uint8], attempt: _Attempt) -> _Attempt:
    """The attempt with the last violated checks satisfied, where flips for that are found."""
    parities = np.empty_like(target)
    belief_propagation.syndrome_of(
        attempt.word, code.lifting, code.row_start, code.edge_column, code.edge_shift, parities
    )
    flips = residual_errors.solve(code, attempt.posterior, np.flatnonzero(parities != target))
    if flips is None:
        return attempt
    attempt.word[flips] ^= 1
    return attempt._replace(unsatisfied=0)


class _Stall:
    """Decides after each iteration whether another one is of any use."""

    def __init__(self, max_stalled: int) -> None:
        self._fewest: float = math.inf
        self._stalled, self._max_stalled = 0, max_stalled

    def ends(self, unsatisfied: int) -> bool:
        """True once nothing is violated, or no new minimum came for `max_stalled` iterations."""
        if unsatisfied < self._fewest:
            self._fewest, self._stalled = unsatisfied, 0
        else:
            self._stalled += 1
        return unsatisfied == 0 or self._stalled >= self._max_stalled


def _layered(
    code: SyndromeCode,
    target: NDArray[np.uint8],
    messages: Messages,
    max_iterations: int,
    progress: Progress | None,
    stall: _Stall,
) -> _Attempt:
    """Layered decoding, for quasi-cyclic codes, from `messages`, which are updated."""
    lifting = code.lifting
    posterior, message = messages
    sign = np.where(target, np.float32(-1.0), np.float32(1.0))
    work = np.empty((3, int(np.diff(code.row_start).max()) * lifting), dtype=np.float32)
    product = np.empty(lifting, dtype=np.float32)
    word = np.zeros(code.num_positions, dtype=np.uint8)
    parities = np.empty_like(target)
    matrix = (lifting, code.row_start, code.edge_column, code.edge_shift)

    unsatisfied = int(np.count_nonzero(target))
    iterations = 0
    while iterations < max_iterations and not stall.ends(unsatisfied):
        belief_propagation.iterate(posterior, message, sign, *matrix, code.syndrome_bits, work, product)
        iterations += 1
        belief_propagation.hard_decision(posterior, word)
        belief_propagation.syndrome_of(word, *matrix, parities)
        unsatisfied = int(belief_propagation.hamming_distance(parities, target))
        if progress is not None:
            progress(unsatisfied, code.syndrome_bits)
    return _Attempt(posterior, word, iterations, unsatisfied)


def _flooding(
    code: SyndromeCode,
    target: NDArray[np.uint8],
    prior: NDArray[np.float32],
    max_iterations: int,
    progress: Progress | None,
    stall: _Stall,
) -> _Attempt:
    """As `_layered`, for a graph without structure, by the plain schedule of the published run."""
    message = np.zeros(code.edge_column.size, dtype=np.float32)
    sign = np.where(target, np.float32(-1.0), np.float32(1.0))
    posterior, following = prior.copy(), np.empty_like(prior)
    graph = (sign, prior, code.row_start, code.edge_column)
    unsatisfied = int(flooding.flood(posterior, message, *graph, following))
    iterations = 0
    while iterations < max_iterations and not stall.ends(unsatisfied):
        posterior, following = following, posterior
        iterations += 1
        unsatisfied = int(flooding.flood(posterior, message, *graph, following))
        if progress is not None:
            progress(unsatisfied, code.syndrome_bits)
    word = np.empty(posterior.size, dtype=np.uint8)
    belief_propagation.hard_decision(posterior, word)
    return _Attempt(posterior, word, iterations, unsatisfied)
