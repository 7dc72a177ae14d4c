"""Numerical evidence for the `renyi` proof (docs/proofs.md), at a scale that takes about a minute.

Every step of the proof is confronted with random instances of what it claims for all: a violation would be
printed with its size, and the program would end with exit code 1. Nothing here replaces the proof.

    python -m campaigns.renyi_evidence [--instances 300] [--seed 1] [--json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from scipy.linalg import toeplitz
from scipy.optimize import minimize
from scipy.stats import binom

from diqkd_postproc.security.renyi_round import RoundProblem, approximate_maximum, certify

Matrix = np.ndarray
SETTINGS = ((0, 0), (0, 1), (1, 0), (1, 1))
PROBLEMS = [  # alpha - 1, kappa, gamma
    RoundProblem(0.01, 60.0, 0.2),
    RoundProblem(0.1, 30.0, 0.2),
    RoundProblem(0.5, 5.0, 1.0),
    RoundProblem(1.0, 3.0, 1.0),
]
SLACK = 1e-10


def power(matrix: Matrix, exponent: float) -> Matrix:
    """A positive matrix to a power."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.clip(values, 0.0, None) ** exponent) @ vectors.conj().T


def schatten(matrix: Matrix, order: float) -> float:
    """Tr X^order of a positive matrix."""
    return float((np.clip(np.linalg.eigvalsh(matrix), 0.0, None) ** order).sum())


def random_state(random: np.random.Generator, dimension: int, rank: int) -> Matrix:
    """A density matrix."""
    root = random.standard_normal((dimension, rank)) + 1j * random.standard_normal((dimension, rank))
    state = root @ root.conj().T
    return state / np.trace(state).real


def random_effect(random: np.random.Generator, dimension: int) -> Matrix:
    """An effect 0 <= M <= 1; half of them projectors."""
    gauss = random.standard_normal((dimension, dimension)) + 1j * random.standard_normal(
        (dimension, dimension)
    )
    unitary, _ = np.linalg.qr(gauss)
    values = random.random(dimension)
    return (unitary * (np.round(values) if random.random() < 0.5 else values)) @ unitary.conj().T


def one_round_excess(problem: RoundProblem, state: Matrix, alice: list[Matrix], bob: list[Matrix]) -> float:
    """The left side of g <= max G, minus 1: the sum over settings and outcomes of section 3, minus 1.

    alice, bob: the effects of outcome 0 for each setting; Bob's setting 2 is not measured.
    """
    order = 1.0 + problem.order_minus_one
    weight = 2.0 ** (-problem.order_minus_one * problem.loss_weight / order)
    root = power(state, 1 / (2 * order))
    one_a, one_b = np.eye(alice[0].shape[0]), np.eye(bob[0].shape[0])

    def term(x: int, a: int, effect_b: Matrix) -> float:
        effect_a = alice[x] if a == 0 else one_a - alice[x]
        return schatten(root @ np.kron(effect_a, effect_b) @ root, order)

    total = (1 - problem.gamma) * sum(term(0, a, one_b) for a in (0, 1))
    for x, y in SETTINGS:
        for a in (0, 1):
            wins = bob[y] if a ^ (x & y) == 0 else one_b - bob[y]
            total += problem.gamma / 4 * term(x, a, weight * one_b + (1 - weight) * wins)
    return total - 1.0


def random_strategies(random: np.random.Generator, instances: int) -> float:
    """Largest excess over the certified maximum among random strategies of local dimension 2 to 4."""
    worst = -math.inf
    for problem in PROBLEMS:
        certified = certify(problem, "full", 1e-6).upper
        for _ in range(instances // len(PROBLEMS)):
            dims = random.integers(2, 5, 2)
            state = random_state(random, int(dims.prod()), int(random.integers(1, dims.prod() + 1)))
            alice, bob = ([random_effect(random, int(d)) for _ in range(2)] for d in dims)
            worst = max(worst, one_round_excess(problem, state, alice, bob) - certified)
    return worst


def qubit_effect(angle: float) -> Matrix:
    """Projector on the + side of an axis in the z-x plane."""
    return np.array([[1 + math.cos(angle), math.sin(angle)], [math.sin(angle), 1 - math.cos(angle)]]) / 2


BELL = np.array([[1, 0, 0, 1], [1, 0, 0, -1], [0, 1, 1, 0], [0, 1, -1, 0]]) / math.sqrt(2)


def optimised_strategies(random: np.random.Generator, instances: int) -> float:
    """The same for Bell-diagonal states and planar measurements, each climbed to a local maximum."""
    worst = -math.inf
    for problem in PROBLEMS:
        certified = certify(problem, "full", 1e-6).upper

        def cost(point: Matrix, problem: RoundProblem = problem) -> float:
            shares = np.exp(point[:4] - point[:4].max())
            state = (BELL.T * (shares / shares.sum())) @ BELL
            angles = [qubit_effect(angle) for angle in point[4:]]
            return -one_round_excess(problem, state, angles[:2], angles[2:])

        for _ in range(max(1, instances // 100)):
            start = np.concatenate((4 * random.standard_normal(4), 2 * math.pi * random.random(4)))
            found = minimize(cost, start, method="Nelder-Mead", options={"maxiter": 1500, "fatol": 1e-10})
            worst = max(worst, -float(found.fun) - certified)
    return worst


def lemma_one(random: np.random.Generator, instances: int) -> float:
    """Relative deviation of Q(Tr_R Z phi || sigma) from c^alpha Tr (tau^(1/2a) Z tau^(1/2a))^alpha."""
    worst = 0.0
    for _ in range(instances):
        order, dims = 1.0 + float(random.choice([0.01, 0.3, 1.0])), random.integers(2, 5, 2)
        vector = random.standard_normal(dims) + 1j * random.standard_normal(dims)  # (R, E)
        sigma = random_state(random, int(dims[1]), int(dims[1]))
        effect = random_effect(random, int(dims[0]))
        marginal = vector.T @ effect.T @ vector.conj()
        side = power(sigma, (1 - order) / (2 * order))
        left = schatten(side @ marginal @ side, order)
        weighted = vector @ power(sigma, (1 - order) / order).T @ vector.conj().T
        scale = schatten(weighted, order)
        tau = power(weighted, order) / scale
        root = power(tau, 1 / (2 * order))
        right = scale * schatten(root @ effect @ root, order)
        worst = max(worst, abs(left - right) / max(right, 1e-9))
    return worst - 1e-6  # of a projector's spectrum, small eigenvalues lose digits


def entropic_part(random: np.random.Generator, instances: int) -> float:
    """q_x - q(x M x) for random real two-qubit states without planar marginals: section 5.1.

    Alice measures z; how well Bob could know her x decides.
    """
    pauli = [np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.array([[1, 0], [0, -1]])]
    worst = -math.inf
    for _ in range(instances):
        order = 1.0 + float(random.choice([0.001, 0.1, 1.0]))
        state = random_state(random, 4, int(random.integers(1, 5)))
        state = _without_marginals((state + state.conj()) / 2, pauli[1])
        correlations = [np.trace(state @ np.kron(pauli[0], p)).real for p in (pauli[0], pauli[2])]
        root = power(state, 1 / (2 * order))
        value = sum(
            schatten(root @ np.kron(np.diag(axis), np.eye(2)) @ root, order) for axis in ((1, 0), (0, 1))
        )
        error = (1 - math.sqrt(min(1.0, float(np.dot(correlations, correlations))))) / 2
        bound = 2 ** (1 - order) * (error ** (1 / order) + (1 - error) ** (1 / order)) ** order
        worst = max(worst, value - bound)
    return worst


def _without_marginals(state: Matrix, pauli_y: Matrix) -> Matrix:
    """Average with the state after sigma_y on both sides: planar marginals vanish, correlations stay."""
    flip = np.kron(pauli_y, pauli_y)
    return (state + flip @ state @ flip.conj().T) / 2


def geometry(random: np.random.Generator, instances: int) -> float:
    """S^2/4 - F(l, u) for random correlation matrices and Alice's axes: section 5.3."""
    worst = -math.inf
    for _ in range(10 * instances):
        correlation = random.standard_normal((2, 2))
        correlation *= random.random() ** 0.2 / np.linalg.norm(correlation, 2)
        axes = [np.array([math.cos(t), math.sin(t)]) for t in 2 * math.pi * random.random(2)]
        score = sum(np.linalg.norm(correlation.T @ (axes[0] + sign * axes[1])) for sign in (1, -1))
        across = [np.array([-axis[1], axis[0]]) for axis in axes]
        low, high = sorted(float(np.sum((correlation.T @ axis) ** 2)) for axis in across)
        mean, slack = (low + high) / 2, 1.6 * low**3 / (1 + 1.6 * low * (1 - low))
        form = 1 + low - mean + math.sqrt(max(mean * mean - slack * (1 - high), 0.0))
        worst = max(worst, score * score / 4 - form)
    return worst


def hashing(random: np.random.Generator, instances: int) -> float:
    """Distance of a Toeplitz key from uniform over the bound of section 6, averaged over all seeds."""
    worst = -math.inf
    for _ in range(max(1, instances // 15)):
        n, length, order = 3, int(random.integers(1, 3)), 1.0 + float(random.choice([0.1, 0.5, 1.0]))
        weights = random.dirichlet(np.full(2**n, 0.5)) * random.random()
        states = [w * random_state(random, 2, int(random.integers(1, 3))) for w in weights]
        sigma = random_state(random, 2, 2)
        side = power(sigma, (1 - order) / (2 * order))
        entropy = sum(schatten(side @ state @ side, order) for state in states)
        total = sum(states)
        distance = 0.0
        for seed in itertools.product((0, 1), repeat=n + length - 1):
            matrix = toeplitz(seed[n - 1 :], seed[n - 1 :: -1])
            blocks: dict[tuple[int, ...], Matrix] = {}
            for bits, state in zip(itertools.product((0, 1), repeat=n), states, strict=True):
                key = tuple(matrix @ bits % 2)
                blocks[key] = blocks.get(key, 0) + state
            for key in itertools.product((0, 1), repeat=length):
                rest = blocks.get(key, np.zeros((2, 2))) - total / 2**length
                distance += 0.5 * np.abs(np.linalg.eigvalsh(rest)).sum() / 2 ** (n + length - 1)
        bound = 2 ** (2 / order - 2) * 2 ** (length * (order - 1) / order) * entropy ** (1 / order)
        worst = max(worst, float(distance / bound) - 1.0)
    return worst


def soundness(random: np.random.Generator, instances: int) -> float:
    """Exact secrecy error of small protocols against switching attacks, minus the theorem's bound.

    In every round Eve picks, and remembers, deterministic devices (outcome known to her, a test lost with
    probability 1/4) or perfect quantum ones (outcome uniform, lost with probability (2 - sqrt 2)/4). Without
    messages, with a uniformly random Toeplitz matrix.
    """
    worst = -math.inf
    gamma, quantum = 1.0, (2 - math.sqrt(2)) / 4
    problems = [RoundProblem(d, k, gamma) for d in (0.05, 0.2, 0.6, 1.0) for k in (0.0, 1.0, 3.0, 8.0)]
    maxima = [certify(problem, "full", 1e-5).upper for problem in problems]
    for n in (3, 4, 5):
        for length in range(1, n + 1):
            ranks = _mean_key_distance(random, n, length)
            for limit in range(n):
                exact = 0.0
                for known in range(n + 1):
                    losses = sum(
                        binom.pmf(j, known, 0.25) * binom.cdf(limit - j, n - known, quantum)
                        for j in range(min(known, limit) + 1)
                    )
                    exact = max(exact, float(losses) * ranks[known])
                for problem, excess in zip(problems, maxima, strict=True):
                    d = problem.order_minus_one
                    entropy = -n / d * math.log2(1 + excess) - problem.loss_weight * limit
                    exponent = (length - entropy - 2) * d / (1 + d)
                    worst = max(worst, exact - 2**exponent)
    return worst


def _mean_key_distance(random: np.random.Generator, n: int, length: int) -> list[float]:
    """By number of rounds whose outcome Eve knows: mean over all matrices of 1 - 2^(rank - l).

    Which rounds they are matters a little; the worst choice is taken.
    """
    distances = []
    for known in range(n + 1):
        worst = 0.0
        for unknown in itertools.combinations(range(n), n - known):
            total = 0.0
            for seed in itertools.product((0, 1), repeat=n + length - 1):
                matrix = toeplitz(seed[n - 1 :], seed[n - 1 :: -1])[:, list(unknown)]
                total += 1.0 - 2.0 ** (_rank(matrix) - length)
            worst = max(worst, total / 2 ** (n + length - 1))
        distances.append(worst)
    return distances


def _rank(matrix: Matrix) -> int:
    """Rank over GF(2)."""
    rows = [int("".join(map(str, row)) or "0", 2) for row in matrix.astype(int)]
    rank = 0
    while rows:
        pivot = rows.pop()
        if pivot:
            rank += 1
            low = pivot & -pivot
            rows = [row ^ pivot if row & low else row for row in rows]
    return rank


def tightness() -> dict[str, float]:
    """How far the certified maxima are from attained ones, and the simple from the full bound."""
    problem = RoundProblem(4.344e-4, 189.517, float(Fraction(13, 256)))
    full = certify(problem, "full", 1e-10)
    return {
        "full: certified minus attained": full.upper - full.lower,
        "simple minus full": approximate_maximum(problem, "simple")[0] - full.lower,
    }


CHECKS: dict[str, Callable[[np.random.Generator, int], float]] = {
    "one round: random strategies minus certified maximum": random_strategies,
    "one round: optimised strategies minus certified maximum": optimised_strategies,
    "Lemma 1: relative deviation": lemma_one,
    "entropic part: q_x minus q(x M x)": entropic_part,
    "geometry: S^2/4 minus F": geometry,
    "hashing: distance over bound, minus 1": hashing,
    "soundness at n = 3, 4, 5: exact error minus bound": soundness,
}


def main() -> int:
    """Run all checks; exit code 1 if any claim is violated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    worst = {name: check(random, options.instances) for name, check in CHECKS.items()}
    violated = [name for name, value in worst.items() if value > SLACK]
    report = {"worst": worst, "violated": violated, "tightness": tightness()}
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in worst.items():
            print(f"{name:<58} {value:+.3e} {'VIOLATED' if value > SLACK else 'ok'}")
        for name, value in report["tightness"].items():
            print(f"{name:<58} {value:.3e}")
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
