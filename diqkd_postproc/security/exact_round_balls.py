"""Theorem 5's bounds of one round, evaluated again in ball arithmetic (Arb) over a given cover.

`exact_round_search` finds states and rectangles of angles in double precision; here every rectangle is
bounded once more with intervals that provably hold the true values, so that nothing rests on rounding. The
states are taken as the exact dyadic numbers that they are stored as, the angles as exact multiples of pi.

The algebra is written down a second time: real two-by-two matrices and explicit vectors instead of complex
coordinates, powers instead of differences of exponentials. Derived for this project, not peer-reviewed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from diqkd_postproc.security.exact_round_search import Leaves

PRECISION_BITS = 128
"""Differences of eigenvalues 1e-8 apart leave some hundred digits' bits."""

Ball = Any
"""flint.arb; python-flint is optional."""

Vector = tuple[Ball, Ball]
Matrix = tuple[Ball, Ball, Ball]
"""Symmetric two-by-two matrix: entries 11, 12, 22."""


@dataclass(frozen=True, slots=True)
class _Block:
    """One block of the dual operator at a corner: m, z = (u, v), derivatives of z, and the two remainders."""

    mean: Ball
    axis: Vector
    by_theta: Vector
    by_phi: Vector
    remainder_all: Ball
    remainder_tests: Ball


@dataclass(frozen=True, slots=True)
class ExactRoundInBalls:
    """f of Theorem 5 at exact parameters: alpha - 1, kappa, eta, gamma, and one or two key bases."""

    order_minus_one: Fraction
    loss_price: Fraction
    test_credit: Fraction
    gamma: Fraction
    num_key_bases: int

    def largest_excess(self, leaves: list[Leaves]) -> Ball:
        """A ball whose upper end bounds f - 1 for all strategies whose angles `leaves` cover."""
        from flint import ctx

        before = ctx.prec
        ctx.prec = PRECISION_BITS
        try:
            largest = _exact(0)
            for level in leaves:
                largest = largest.max(self._largest_of_level(level))
            return (largest - 1).upper()
        finally:
            ctx.prec = before

    def disordered_excess(self) -> Ball:
        """f1 - 1 = gamma h + (1 - gamma) w - 1 (docs/order.md, section 3)."""
        tests, loss = self._exponential(self.test_credit), self._exponential(-self.loss_price)
        return _exact(self.gamma) * tests + (1 - _exact(self.gamma)) * loss - 1

    def _exponential(self, exponent: Fraction) -> Ball:
        """2^((alpha - 1) exponent)."""
        return _exact(2) ** _exact(self.order_minus_one * exponent)

    def _largest_of_level(self, level: Leaves) -> Ball:
        from flint import arb

        width = arb.pi() / (4 * level.divisions)
        known: dict[int, tuple[_Block, _Block]] = {}
        largest = _exact(0)
        for corners in level.corners.tolist():
            for corner in corners:
                if corner not in known:
                    known[corner] = self._blocks_at(level, corner, width)
            for block in (0, 1):
                at_corners = [known[corner][block] for corner in corners]
                largest = largest.max(_rectangle_bound(at_corners, width))
        return largest

    def _blocks_at(self, level: Leaves, corner: int, width: Ball) -> tuple[_Block, _Block]:
        theta, phi = int(level.columns[corner]) * width, int(level.rows[corner]) * width
        means, axes = level.states.mean[:, corner].tolist(), level.states.axis[:, corner].tolist()
        first, second = self._eigenvectors(means[0], axes[0]), self._eigenvectors(means[1], axes[1])
        return self.blocks(theta, phi, first, second)

    def _eigenvectors(self, mean: float, axis: complex) -> _Eigen:
        """Eigenvalues of a block from its logarithm, and the first eigenvector in the block's basis."""
        u, v = _exact(axis.real), _exact(axis.imag)
        radius = (u * u + v * v).sqrt()
        # Half angles without a branch: the larger component by a square root, the other by division.
        if axis.real >= 0:
            cosine = ((1 + u / radius) / 2).sqrt()
            vector = (cosine, v / radius / (2 * cosine))
        else:
            sine = ((1 - u / radius) / 2).sqrt()
            vector = (v / radius / (2 * sine), sine)
        return _Eigen((_exact(mean) + radius).exp(), (_exact(mean) - radius).exp(), vector)

    def blocks(self, theta: Ball, phi: Ball, first: _Eigen, second: _Eigen) -> tuple[_Block, _Block]:
        """sum_i c_i D_i at the state with these eigenvalues, as the two blocks with their derivatives."""
        sums = [[_exact(0) for _ in range(9)] for _ in (0, 1)]
        for weight, sign_x, sign_y, gradients in self._gradients(theta, phi, first, second):
            for block, (d11, d12, d22) in enumerate(gradients):
                mean, u, v = (weight * value for value in ((d11 + d22) / 2, (d11 - d22) / 2, d12))
                size = _length(u, v) / 2
                eta_theta = sign_x if block else -sign_x
                # d/d eta of z exp(i eta) is i z: (u, v) -> (-v, u).
                rest = size if sign_y else 0
                terms = (-eta_theta * v, eta_theta * u, -sign_y * v, sign_y * u, size, rest)
                sums[block] = [a + b for a, b in zip(sums[block], (mean, u, v, *terms), strict=True)]
        one, two = (_Block(s[0], (s[1], s[2]), (s[3], s[4]), (s[5], s[6]), s[7], s[8]) for s in sums)
        return one, two

    def _gradients(
        self, theta: Ball, phi: Ball, first: _Eigen, second: _Eigen
    ) -> Iterator[tuple[Ball, int, int, list[Matrix]]]:
        """c_i, s_x, s_y and the blocks of D_i summed over a, for every (x, y)."""
        order = _exact(1 + self.order_minus_one)
        roots = [(e.larger ** (1 / order), e.smaller ** (1 / order)) for e in (first, second)]
        slopes = [
            (
                t[0] / e.larger,
                order * (t[0] - t[1]) / (e.larger - e.smaller),
                t[1] / e.smaller,
            )
            for e, t in zip((first, second), roots, strict=True)
        ]
        loss = self._exponential(-self.loss_price / (1 + self.order_minus_one))
        test_weight = _exact(self.gamma / 4) * self._exponential(self.test_credit)
        key_weight = _exact((1 - self.gamma) / self.num_key_bases)
        for sign_x in (1, -1):
            # a = 0 leaves Bob: Phi+ -> m, Psi- -> m turned by pi/2; Phi- -> m mirrored, Psi+ -> that turned.
            sine, cosine = (sign_x * theta / 2).sin_cos()
            frames = [_rotated(first.vector, cosine, sine), _rotated(second.vector, cosine, -sine)]
            bob = _state_of_bob(frames, roots)
            if sign_x == 1 or self.num_key_bases == 2:
                power = _power_between(bob, None, order - 1)
                yield key_weight, sign_x, 0, self._pulled_back(power, frames, slopes, (first, second))
            for sign_y in (1, -1):
                sine_y, cosine_y = (sign_y * phi).sin_cos()
                flip = -1 if sign_x == sign_y == -1 else 1
                mean, half = (1 + loss) / 2, flip * (1 - loss) / 2
                effect = (mean + half * cosine_y, half * sine_y, mean - half * cosine_y)
                power = _power_between(bob, effect, order - 1)
                yield test_weight, sign_x, sign_y, self._pulled_back(power, frames, slopes, (first, second))

    def _pulled_back(
        self, power: Matrix, frames: list[Vector], slopes: list[Matrix], eigen: tuple[_Eigen, _Eigen]
    ) -> list[Matrix]:
        """D = alpha K o Lambda in the eigenbasis of each block, turned back into the block's basis."""
        blocks = []
        for (c, s), (s11, s12, s22), e in zip(frames, slopes, eigen, strict=True):
            k11, k12, k22 = power
            along = k11 * c * c + 2 * k12 * c * s + k22 * s * s
            across = k11 * s * s - 2 * k12 * c * s + k22 * c * c
            mixed = (k22 - k11) * c * s + k12 * (c * c - s * s)
            d11, d12, d22 = s11 * along, s12 * mixed, s22 * across
            c, s = e.vector
            blocks.append(
                (
                    d11 * c * c - 2 * d12 * c * s + d22 * s * s,
                    (d11 - d22) * c * s + d12 * (c * c - s * s),
                    d11 * s * s + 2 * d12 * c * s + d22 * c * c,
                )
            )
        return blocks


@dataclass(frozen=True, slots=True)
class _Eigen:
    """Eigenvalues of one block of the state and the eigenvector of the larger."""

    larger: Ball
    smaller: Ball
    vector: Vector


def _rotated(vector: Vector, cosine: Ball, sine: Ball) -> Vector:
    return cosine * vector[0] - sine * vector[1], sine * vector[0] + cosine * vector[1]


def _state_of_bob(frames: list[Vector], roots: list[tuple[Ball, Ball]]) -> Matrix:
    """C = <m| tau^(1/alpha) |m>; each Bell state contributes half a projector."""
    entries = [_exact(0), _exact(0), _exact(0)]
    for (c, s), (larger, smaller) in zip(frames, roots, strict=True):
        entries[0] += (larger * c * c + smaller * s * s) / 2
        entries[1] += (larger - smaller) * c * s / 2
        entries[2] += (larger * s * s + smaller * c * c) / 2
    return entries[0], entries[1], entries[2]


def _power_between(state: Matrix, effect: Matrix | None, exponent: Ball) -> Matrix:
    """W^(1/2) (W^(1/2) C W^(1/2))^p W^(1/2); W = 1 if `effect` is None.

    It is (W C)^p W, a function of W C, whose eigenvalues are those of the symmetric product.
    """
    w11, w12, w22 = effect if effect is not None else (_exact(1), _exact(0), _exact(1))
    c11, c12, c22 = state
    trace = w11 * c11 + 2 * w12 * c12 + w22 * c22
    det = (w11 * w22 - w12 * w12) * (c11 * c22 - c12 * c12)
    root = (trace * trace - 4 * det).nonnegative_part().sqrt()
    larger = (trace + root) / 2
    smaller = det / larger
    high, low = larger**exponent, smaller**exponent
    # t^p on both eigenvalues equals `shift` + `slope` t; where they may be equal, by the mean value theorem.
    slope = exponent * larger.union(smaller) ** (exponent - 1) if root.contains(0) else (high - low) / root
    shift = high - slope * larger
    # W C W, symmetric.
    a11, a12 = w11 * c11 + w12 * c12, w11 * c12 + w12 * c22
    a21, a22 = w12 * c11 + w22 * c12, w12 * c12 + w22 * c22
    return (
        shift * w11 + slope * (a11 * w11 + a12 * w12),
        shift * w12 + slope * (a11 * w12 + a12 * w22),
        shift * w22 + slope * (a21 * w12 + a22 * w22),
    )


def _rectangle_bound(corners: list[_Block], width: Ball) -> Ball:
    """Upper bound of one block's largest eigenvalue on a square of angles; corners as `cell_bounds` has them.

    p = sum of N_c(p) times (m_c, z_c + derivatives): Bernstein coefficients (i, j), i, j in 0..2, of degree
    two.
    """
    half = width / 2
    largest = _exact(0)
    for i in range(3):
        for j in range(3):
            mean, u, v = _exact(0), _exact(0), _exact(0)
            for corner, block in enumerate(corners):
                x, y = corner % 2, corner // 2
                # Degree-one weights (1 or 0) raised to degree two: 1, 1/2, 0 from the corner's own end.
                weight_x, weight_y = 2 - abs(2 * x - i), 2 - abs(2 * y - j)
                if weight_x == 0 or weight_y == 0:
                    continue
                share = _exact(Fraction(weight_x * weight_y, 4))
                mean += share * block.mean
                u += share * block.axis[0]
                v += share * block.axis[1]
                if i == 1:
                    lever = (1 - 2 * x) * half * weight_y / 2
                    u += lever * block.by_theta[0]
                    v += lever * block.by_theta[1]
                if j == 1:
                    lever = (1 - 2 * y) * half * weight_x / 2
                    u += lever * block.by_phi[0]
                    v += lever * block.by_phi[1]
            largest = largest.max(mean + _length(u, v))
    remainder_all, remainder_tests = corners[0].remainder_all, corners[0].remainder_tests
    for block in corners[1:]:
        remainder_all = remainder_all.max(block.remainder_all)
        remainder_tests = remainder_tests.max(block.remainder_tests)
    return largest + width * width * (remainder_all + 3 * remainder_tests) / 4


def _length(u: Ball, v: Ball) -> Ball:
    return (u * u + v * v).nonnegative_part().sqrt()


def _exact(value: float | Fraction | int) -> Ball:
    """A ball around an exact number: a double is the dyadic fraction that it is."""
    from flint import arb, fmpq

    if isinstance(value, float):
        return arb(value)
    fraction = Fraction(value)
    return arb(fmpq(fraction.numerator, fraction.denominator))
