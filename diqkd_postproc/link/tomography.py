"""State tomography of the ions' joint state: maximum likelihood, closest maximally entangled state, errors.

The estimate maximises sum_j n_j log tr(rho Pi_j) over density operators by the diluted fixed-point iteration
of Řeháček, Hradil, Knill and Lvovsky, Phys. Rev. A 75, 042108 (2007):

    rho <- G rho G / tr(G rho G),  G = 1 + s (R - 1),  R = sum_j (f_j / p_j) Pi_j,

with f_j = n_j / n, p_j = tr(rho Pi_j) and s = eps / (1 + eps) in the paper's notation. With rho = T T^+ it is
a gradient step of the factor, T <- G T, and with momentum (Nesterov's, begun anew whenever it
points downhill) it needs a tenth of the steps. A step that lowers the likelihood is taken back, and one
without momentum that does so halves s.

The log-likelihood is concave in rho, so that no state has one above that of rho by more than
n (lambda_max(R) - 1): the iteration ends when this bound is small, and the estimate carries it as a
certificate that does not depend on how it was found.

Nothing is corrected, neither readout nor pulses (SI section S2 B). All patterns and all bootstrap samples are
iterated together, as stacks of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.link.statistics import Interval
from diqkd_postproc.link.tomography_counts import EIGENSTATES, SETTING_PAIRS, TomographyCounts
from diqkd_postproc.protocol.errors import DiqkdError, ParameterError

Complex = npt.NDArray[np.complex128]
Float = npt.NDArray[np.float64]
ProgressReporter = Callable[[str, float, float], None]

PAULI = {
    "X": np.array([[0, 1], [1, 0]], dtype=np.complex128),
    "Y": np.array([[0, -1j], [1j, 0]], dtype=np.complex128),
    "Z": np.array([[1, 0], [0, -1]], dtype=np.complex128),
}

GAP = 1e-5
"""Largest distance of an estimate's log-likelihood from the maximum."""

BOOTSTRAP_GAP = 1e-2
"""The same for bootstrap samples; a standard error is a change of 1/2."""

NUM_RESAMPLES = 200
FIRST_STEP = 0.5
"""First step size s. For commuting operators s = 1/2 is expectation maximisation, whose errors keep their
sign; with s = 1 an error may change sign at every step, and momentum would amplify that oscillation."""

MAX_ITERATIONS = 100_000
BATCH = 512  # states iterated at a time: what fits in a processor's cache
CONFIDENCE = 0.95


class ConvergenceError(DiqkdError):
    """The likelihood was not maximised within the allowed number of iterations."""


@dataclass(frozen=True, slots=True)
class StateEstimate:
    """Maximum-likelihood estimate of one state.

    rho: (4, 4) complex128 in the basis |00>, |01>, |10>, |11>, Alice's qubit first, 0 the +1 eigenstate of Z.
    log_likelihood_gap: no state has a log-likelihood higher by more than this.
    """

    rho: Complex
    log_likelihood: float
    log_likelihood_gap: float
    num_iterations: int
    num_counts: int


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """A quantity, its standard error by parametric bootstrap, the central interval of the resamples at
    `CONFIDENCE`, and the mean of the resamples less the value: the estimate's bias, not corrected."""

    value: float
    standard_error: float
    interval: Interval
    bias: float


@dataclass(frozen=True, slots=True)
class PatternResult:
    """State after one herald pattern: fidelity to the closest maximally entangled state, and its phase (rad)
    in (|01> + e^(i phase) |10>)/sqrt2."""

    state: StateEstimate
    fidelity: Bootstrapped
    phase: Bootstrapped


@dataclass(frozen=True, slots=True)
class TomographyResult:
    """Results by pattern, and the mean fidelity of all patterns."""

    by_pattern: Mapping[str, PatternResult]
    mean_fidelity: Bootstrapped
    num_resamples: int


def projectors() -> Complex:
    """Projector of each setting pair and eigenstate pair: (25, 4, 4, 4) complex128.

    Indexed [setting pair, eigenstate pair, row, column], in the orders of SETTING_PAIRS and EIGENSTATES.
    """
    single = {}
    for name, matrix in PAULI.items():
        for sign in ("", "-"):
            observable = -matrix if sign else matrix
            single[sign + name] = [(np.eye(2) + value * observable) / 2 for value in (1, -1)]
    return np.array(
        [[np.kron(a, b) for a in single[first] for b in single[second]] for first, second in SETTING_PAIRS]
    )


def outcome_distribution(rho: Complex) -> Float:
    """Probability of each eigenstate pair in each setting: (..., 25, 4) for states (..., 4, 4).

    Rounding may leave a probability outside [0, 1]; it is clipped.
    """
    probabilities: Float = np.einsum("...ij,skji->...sk", rho, projectors()).real
    return np.clip(probabilities, 0.0, 1.0)


def maximum_likelihood(
    counts: npt.ArrayLike,
    max_gap: float = GAP,
    start: Complex | None = None,
    report: Callable[[int], None] = lambda num_done: None,
) -> list[StateEstimate]:
    """Estimate a state from each table of a stack of counts (k, 25, 4).

    start: (k, 4, 4) states to begin with, of full rank; default the completely mixed one.
    report: called with how many of the k are done. Raises ParameterError for a table without counts,
    ConvergenceError after `MAX_ITERATIONS`.
    """
    tables = np.asarray(counts)
    if tables.ndim != 3 or tables.shape[1:] != (len(SETTING_PAIRS), len(EIGENSTATES)):
        raise ParameterError(f"counts have shape {tables.shape}; give (k, 25, 4)")
    if (tables.sum(axis=(1, 2)) <= 0).any():
        raise ParameterError("a table without counts has no estimate")
    estimates: list[StateEstimate] = []
    for first in range(0, len(tables), BATCH):
        part = slice(first, first + BATCH)
        estimates += _iterate(tables[part], max_gap, None if start is None else start[part])
        report(len(estimates))
    return estimates


def _iterate(tables: npt.NDArray[Any], max_gap: float, start: Complex | None) -> list[StateEstimate]:
    operators = projectors().reshape(-1, 16)
    # tr(rho Pi) of Hermitian matrices as a product of real rows: real and imaginary parts side by side.
    rows = np.ascontiguousarray(operators).view(np.float64)
    identity = np.eye(4)
    totals = tables.sum(axis=(1, 2)).astype(np.float64)
    stack = _Stack(
        index=np.arange(len(tables)),
        totals=totals,
        frequencies=tables.reshape(len(tables), -1) / totals[:, None],
        factor=np.tile(identity.astype(np.complex128) / 2, (len(tables), 1, 1))
        if start is None
        else np.linalg.cholesky(start).astype(np.complex128),
    )
    estimates: list[StateEstimate | None] = [None] * len(tables)
    for iteration in range(MAX_ITERATIONS):
        rho = stack.factor @ stack.factor.conj().swapaxes(1, 2)
        probabilities = rho.reshape(-1, 16).view(np.float64) @ rows.T
        # Where nothing was observed the value does not matter; where it was, 1e-300 is as good as never.
        probabilities = np.maximum(probabilities, 1e-300)
        likelihood = np.einsum("ij,ij->i", stack.frequencies, np.log(probabilities))
        r = ((stack.frequencies / probabilities) @ rows).view(np.complex128).reshape(-1, 4, 4)
        gap = stack.totals * (np.linalg.eigvalsh(r)[:, -1] - 1)
        done = gap <= max_gap
        for position in np.flatnonzero(done):
            estimates[stack.index[position]] = StateEstimate(
                rho=rho[position].copy(),
                log_likelihood=float(likelihood[position] * stack.totals[position]),
                log_likelihood_gap=float(max(gap[position], 0.0)),
                num_iterations=iteration,
                num_counts=round(float(stack.totals[position])),
            )
        if done.all():
            return [estimate for estimate in estimates if estimate is not None]
        stack.advance(r, likelihood)
        if done.any():
            stack.keep(~done)
    raise ConvergenceError(
        f"the likelihood is not at its maximum after {MAX_ITERATIONS} iterations; it lacks up to "
        f"{float(gap.max()):.2g}"
    )


class _Stack:
    """States under iteration, each as a factor T with rho = T T^+ and tr rho = 1."""

    def __init__(
        self,
        index: npt.NDArray[np.int64],
        totals: Float,
        frequencies: Float,
        factor: Complex,
    ) -> None:
        count = len(index)
        self.index, self.totals, self.frequencies, self.factor = index, totals, frequencies, factor
        self._step = np.full(count, FIRST_STEP)
        self._momentum = np.zeros(count)
        self._stepped = factor
        self._accepted = factor
        self._accepted_r = np.zeros_like(factor)
        self._likelihood = np.full(count, -np.inf)

    def advance(self, r: Complex, likelihood: Float) -> None:
        """One step from `factor`, given R and the likelihood there."""
        # Near the maximum a likelihood goes up and down in its last digits.
        worse = likelihood < self._likelihood - 1e-13 * np.abs(self._likelihood)
        self._step[worse & (self._momentum == 1)] /= 2  # the step before had none
        self._momentum[worse] = 0
        better = ~worse[:, None, None]
        self._accepted = np.where(better, self.factor, self._accepted)
        self._accepted_r = np.where(better, r, self._accepted_r)
        self._likelihood = np.where(worse, self._likelihood, likelihood)
        gradient = self._accepted_r @ self._accepted - self._accepted
        stepped = _normalised(self._accepted + self._step[:, None, None] * gradient)
        motion = stepped - self._stepped
        self._momentum[np.einsum("nij,nij->n", gradient.conj(), motion).real < 0] = 0
        weight = (self._momentum / (self._momentum + 3))[:, None, None]
        self.factor = _normalised(stepped + weight * motion)
        self._stepped = stepped
        self._momentum += 1

    def keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        """Go on with some of the states."""
        for name, value in vars(self).items():
            setattr(self, name, value[chosen])


def _normalised(factor: Complex) -> Complex:
    norm = np.sqrt(np.einsum("nij,nij->n", factor, factor.conj()).real)
    return np.asarray(factor / norm[:, None, None])


MAGIC_BASIS: Complex = np.array(
    [[1, 0, 0, 1], [1j, 0, 0, -1j], [0, 1j, 1j, 0], [0, 1, -1, 0]], dtype=np.complex128
).T / np.sqrt(2)
"""Columns: Bell states with the phases for which every real superposition is maximally entangled (Hill and
Wootters, Phys. Rev. Lett. 78, 5022 (1997))."""


def closest_maximally_entangled_state(rho: Complex) -> tuple[Float, Complex]:
    """Fully entangled fraction (...,) and the state (..., 4) that has it, for states (..., 4, 4).

    Maximally entangled states are, up to a phase, the real vectors in the magic basis, so that the largest
    overlap is the largest eigenvalue of the real part of rho there.
    """
    in_magic = MAGIC_BASIS.conj().T @ rho @ MAGIC_BASIS
    values, vectors = np.linalg.eigh(in_magic.real)
    return values[..., -1], vectors[..., :, -1] @ MAGIC_BASIS.T


def bell_phase(state: Complex) -> Float:
    """Phase of |10> against |01> in states (..., 4): (...,) float64, rad in (-pi, pi].

    It is the phase in (|01> + exp(i phase) |10>) / sqrt(2).
    """
    return np.asarray(np.angle(state[..., 2] * state[..., 1].conj()), dtype=np.float64)


def analyse(
    counts: TomographyCounts,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    progress: ProgressReporter = lambda stage, done, total: None,
) -> TomographyResult:
    """Estimate the state of every pattern, with errors from `num_resamples` resamples.

    A resample draws every setting pair's counts from the estimated state, with as many rounds as were
    measured, and is estimated in the same way. `seed` fixes the resamples.
    """
    if num_resamples < 2:
        raise ParameterError(f"num_resamples={num_resamples}; an error needs at least 2, better 200")
    names = list(counts.by_pattern)
    tables = np.array([counts.by_pattern[name] for name in names])
    empty = [name for name, table in zip(names, tables, strict=True) if not table.any()]
    if empty:
        raise ParameterError(f"no counts after herald pattern {', '.join(empty)}; leave it out of the table")
    progress("maximum likelihood", 0, len(names))
    estimates = maximum_likelihood(tables)
    progress("maximum likelihood", len(names), len(names))
    rng = np.random.default_rng(seed)
    rhos = np.array([estimate.rho for estimate in estimates])
    resampled = resample(rng, rhos, tables.sum(axis=2), num_resamples)
    total = num_resamples * len(names)
    progress("bootstrap", 0, total)
    mixed = (0.9 * rhos + 0.1 * np.eye(4) / 4).astype(np.complex128)
    refitted = maximum_likelihood(
        resampled.reshape(-1, *tables.shape[1:]),
        BOOTSTRAP_GAP,
        np.repeat(mixed, num_resamples, axis=0),
        lambda num_done: progress("bootstrap", num_done, total),
    )
    samples = np.array([estimate.rho for estimate in refitted]).reshape(len(names), num_resamples, 4, 4)
    fidelity, state = closest_maximally_entangled_state(rhos)
    sampled_fidelity, sampled_state = closest_maximally_entangled_state(samples)
    phase = bell_phase(state)
    deviation = np.angle(np.exp(1j * (bell_phase(sampled_state) - phase[:, None])))
    return TomographyResult(
        by_pattern={
            name: PatternResult(
                state=estimates[index],
                fidelity=_bootstrapped(fidelity[index], sampled_fidelity[index]),
                phase=_bootstrapped(phase[index], phase[index] + deviation[index]),
            )
            for index, name in enumerate(names)
        },
        mean_fidelity=_bootstrapped(fidelity.mean(), sampled_fidelity.mean(axis=0)),
        num_resamples=num_resamples,
    )


def resample(
    rng: np.random.Generator, rhos: Complex, rounds: npt.NDArray[Any], num_resamples: int
) -> npt.NDArray[np.int64]:
    """Counts (k, num_resamples, 25, 4) drawn from states (k, 4, 4) with (k, 25) rounds a setting pair."""
    probabilities = outcome_distribution(rhos)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    drawn = rng.multinomial(rounds[:, None], probabilities[:, None], (len(rhos), num_resamples, 25))
    return np.asarray(drawn, dtype=np.int64)


def _bootstrapped(value: Any, samples: Float) -> Bootstrapped:
    low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Bootstrapped(
        value=float(value),
        standard_error=float(samples.std(ddof=1)),
        interval=Interval(float(low), float(high)),
        bias=float(samples.mean() - value),
    )
