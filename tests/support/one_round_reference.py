"""Value of one round at a strategy, written out in four dimensions in forty digits: an oracle for Theorem 5.

f = sum pi(x, y) h^T sum_a Tr[(Z^(1/2) tau^(1/alpha) Z^(1/2))^alpha], straight from docs/proofs.md, section 3,
for arbitrary symmetric four-by-four tau; no blocks, no gradients.
"""

import itertools

import mpmath as mp


def projector(angle: mp.mpf, outcome: int) -> mp.matrix:
    sign = 1 - 2 * outcome
    c, s = sign * mp.cos(angle), sign * mp.sin(angle)
    return mp.matrix([[1 + c, s], [s, 1 - c]]) / 2


def kron(a: mp.matrix, b: mp.matrix) -> mp.matrix:
    out = mp.matrix(4, 4)
    for i, j, k, m in itertools.product(range(2), repeat=4):
        out[2 * i + k, 2 * j + m] = a[i, j] * b[k, m]
    return out


def power(matrix: mp.matrix, exponent: mp.mpf) -> mp.matrix:
    values, vectors = mp.eigsy(matrix)
    scaled = vectors.copy()
    for j in range(4):
        factor = values[j] ** exponent if values[j] > mp.mpf(10) ** -45 else mp.mpf(0)
        for i in range(4):
            scaled[i, j] = vectors[i, j] * factor
    return scaled * vectors.T


def value(tau, theta, phi, order_minus_one, kappa, eta, gamma, num_key_bases) -> mp.mpf:
    """f at a strategy; tau: symmetric, trace one."""
    d, kappa, eta, gamma = (mp.mpf(v) for v in (order_minus_one, kappa, eta, gamma))
    order = 1 + d
    loss, credit = mp.mpf(2) ** (-d * kappa / order), mp.mpf(2) ** (d * eta)
    root = power(tau, 1 / order)
    one = mp.eye(2)
    total = mp.mpf(0)
    for x, a in itertools.product((0, 1), repeat=2):
        alice = projector((1 - 2 * x) * theta, a)
        terms = []
        if x < num_key_bases:
            terms.append(((1 - gamma) / num_key_bases, one))
        for y in (0, 1):
            win = projector((1 - 2 * y) * phi, a ^ (x & y))
            terms.append((gamma * credit / 4, win + loss * (one - win)))
        for weight, effect in terms:
            half = power(kron(alice, effect), mp.mpf(1) / 2)
            values = mp.eigsy(half * root * half, eigvals_only=True)
            total += weight * sum(max(v, mp.mpf(0)) ** order for v in values)
    return total


def from_blocks(first, second) -> mp.matrix:
    """tau of blocks (m, u, v) in (Phi+, Psi-) and (Phi-, Psi+)."""
    bell = {
        "phi+": mp.matrix([1, 0, 0, 1]) / mp.sqrt(2),
        "psi-": mp.matrix([0, 1, -1, 0]) / mp.sqrt(2),
        "phi-": mp.matrix([1, 0, 0, -1]) / mp.sqrt(2),
        "psi+": mp.matrix([0, 1, 1, 0]) / mp.sqrt(2),
    }
    tau = mp.zeros(4, 4)
    for (m, u, v), (p, q) in ((first, ("phi+", "psi-")), (second, ("phi-", "psi+"))):
        m, u, v = mp.mpf(m), mp.mpf(u), mp.mpf(v)
        one, two = bell[p], bell[q]
        tau += (m + u) * one * one.T + (m - u) * two * two.T + v * (one * two.T + two * one.T)
    return tau
