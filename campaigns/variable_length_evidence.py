"""Numerical evidence for keys of variable length (docs/variable_length.md), at a scale of some minutes.

Every lemma is confronted with random and climbed instances of what it claims for all; a violation is printed
with its size and ends the program with exit code 1. Beside them stand controls, in which one term of the
theorem is left out: each has to be violated, otherwise the attack is too weak to show anything. Nothing here
replaces the proof.

    python -m campaigns.variable_length_evidence [--instances 60] [--seed 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from campaigns.renyi_evidence import Matrix, power, random_effect, random_state, schatten
from campaigns.small_sessions import (
    IDEAL,
    LIST,
    Random,
    Remembering,
    Rule,
    Session,
    Switching,
    axis_effect,
    fixed_devices,
)
from diqkd_postproc.security.closed_round import chsh_form_of_both
from diqkd_postproc.security.exact_round import LogStates, cell_bounds
from diqkd_postproc.security.exact_round_search import local_maxima

SLACK = 1e-9
CONTROL = "control: "
RULES = [
    Rule(2.0, 1.0, 0.5, 0.5),
    Rule(1.5, 4.0, 1.0, 0.75, 2),
    Rule(1.05, 100.0, 12.0, 0.5),
    Rule(1.1, 20.0, 3.0, 0.25, 2),
]


@cache
def certified(rule: Rule) -> float:
    """g."""
    return rule.certified()


@cache
def highest_angles(rule: Rule) -> tuple[float, float]:
    """theta and phi of the best strategy that is found."""
    found = local_maxima(rule.one_round)
    return float(found.theta[found.value.argmax()]), float(found.phi[found.value.argmax()])


def value_of(rule: Rule, state: Matrix, theta: float, phi: float) -> float:
    """f(tau; theta, phi) by 4 x 4 matrices, for any state."""
    lost, root = 2 ** (-(rule.order - 1) * rule.kappa / rule.order), power(state, 1 / (2 * rule.order))
    total = 0.0
    for probability, is_test, x, y in rule.settings():
        for a in (0, 1):
            wins = axis_effect(phi * (1 - 2 * y), a ^ (x & y)) if is_test else np.eye(2)
            effect = np.kron(axis_effect(theta * (1 - 2 * x), a), lost * np.eye(2) + (1 - lost) * wins)
            total += probability * rule.weight(is_test, 0) * schatten(root @ effect @ root, rule.order)
    return total


def rectangles(random: Random, instances: int) -> dict[str, float]:
    """Strategies inside a rectangle minus its bound, from any states at its corners, over alpha - 1.

    The strategies are random complex states and the best ones, the rectangles random or about the maximum.
    Control: the corners' dual operators are mixed, but not rotated.
    """
    worst = control = -math.inf
    for index in range(instances):
        rule, width = RULES[index % len(RULES)], float(random.choice([0.3, 0.1, 0.03]))
        low, one_round = random.random(2) * (math.pi / 4 - width), rule.one_round
        if index // len(RULES) % 2:
            low = np.array(highest_angles(rule)) - width / 2
        thetas, phis = low[0] + width * np.array([0, 1, 0, 1]), low[1] + width * np.array([0, 0, 1, 1])
        mean, axis = random.normal(-1.5, 0.7, (2, 4)), random.normal(0, 0.7, (2, 2, 4))
        states = LogStates(mean, axis[0] + 1j * axis[1]).normalised()
        states = one_round.ascend(thetas, phis, states, int(random.choice([0, 10, 80])))
        duals, corners = one_round.duals(thetas, phis, states), np.arange(4)[None]
        inside = low[:, None] + width * random.random((2, 30))
        best = one_round.ascend(*inside, LogStates.start(30), 60)
        highest = float(one_round.duals(*inside, best).value.max())
        for theta, phi in inside[:, :6].T:
            tau = random_state(random, 4, int(random.integers(1, 5)))
            highest = max(highest, value_of(rule, tau, theta, phi))
        bound = float(cell_bounds(duals, corners, width, width)[0])
        unrotated = float(cell_bounds(duals, corners, 0.0, 0.0)[0])
        worst = max(worst, (highest - bound) / (rule.order - 1))
        control = max(control, (highest - unrotated) / (rule.order - 1))
    name = "rectangle: strategies minus bound"
    return {name: worst, f"{CONTROL}{name}, not rotated": control}


def test_part(random: Random, instances: int) -> dict[str, float]:
    """Tr (Z^(1/2) tau^(1/a) Z^(1/2))^a minus w q + (1 - w) omega, local dimensions 1 to 4."""
    worst = control = -math.inf
    for _ in range(10 * instances):
        order, lost = 1 + float(random.choice([0.01, 0.3, 1.0])), random.random()
        dims = [int(d) for d in random.integers(1, 5, 2)]
        state = random_state(random, math.prod(dims), int(random.integers(1, math.prod(dims) + 1)))
        root = power(state, 1 / (2 * order))
        alice, bob = (np.linalg.eigh(random_effect(random, d)) for d in dims)
        alice, bob = ((vectors * (values > 0.5)) @ vectors.conj().T for values, vectors in (alice, bob))
        both, one = np.kron(alice, bob), np.kron(alice, np.eye(dims[1]))
        exact = schatten(root @ (lost * one + (1 - lost) * both) @ root, order)
        won = (1 - lost**order) * np.trace(state @ both).real
        worst = max(worst, exact - won - lost**order * schatten(root @ one @ root, order))
        control = max(control, exact - won)
    name = "test part: exact minus bound"
    return {name: worst, f"{CONTROL}{name}, lost tests free": control}


def geometry(random: Random, instances: int) -> dict[str, float]:
    """S^2/4 minus F2((a + b)/2) for random correlation matrices and axes. Control: F2(t) = 2t."""
    worst = control = -math.inf
    for _ in range(20 * instances):
        turns = [np.linalg.svd(random.standard_normal((2, 2)))[0] for _ in range(2)]
        correlation = turns[0] @ np.diag([1.0 - 0.3 * random.random(), random.random()]) @ turns[1]
        axes = [np.array([math.cos(t), math.sin(t)]) for t in 2 * math.pi * random.random(2)]
        score = sum(float(np.linalg.norm(correlation.T @ (axes[0] + s * axes[1]))) for s in (1, -1))
        mean = sum(float(np.sum((correlation.T @ np.array([-v[1], v[0]])) ** 2)) for v in axes) / 2
        worst = max(worst, score**2 / 4 - float(chsh_form_of_both(np.array([mean]))[0]))
        control = max(control, score**2 / 4 - 2 * mean)
    name = "geometry: S^2/4 minus F2"
    return {name: worst, f"{CONTROL}{name} = 2t": control}


def concavity(random: Random, instances: int) -> dict[str, float]:
    """Chord of q minus q in the middle, relative to alpha - 1. Control: q as a function of sqrt t."""
    order = 1 + 10 ** random.uniform(-3, 0, 1000 * instances)
    ends = random.random((2, order.size))

    def q(root: Matrix) -> Matrix:
        return 2 ** (1 - order) * (((1 - root) / 2) ** (1 / order) + ((1 + root) / 2) ** (1 / order)) ** order

    chord = (q(np.sqrt(ends[0])) + q(np.sqrt(ends[1]))) / 2
    worst = float(((chord - q(np.sqrt(ends.mean(axis=0)))) / (order - 1)).max())
    convex = float(((q(ends.mean(axis=0)) - (q(ends[0]) + q(ends[1])) / 2) / (order - 1)).max())
    return {"q: chord minus q": worst, f"{CONTROL}q: chord minus q, convex instead": convex}


def chain(random: Random, instances: int) -> dict[str, float]:
    """log of sum 2^((alpha-1)(eta N_t - kappa k - v)) Q / g^n, over alpha - 1, climbed; n = 2 with memory."""
    worst = no_kappa = no_v = -math.inf
    for index in range(instances):
        rule = RULES[index % len(RULES)]
        session, size = Session.drawn(random, Remembering.drawn(random)), 0.2
        limit, scale = 2 * math.log(certified(rule)), rule.order - 1
        value = math.log(session.weighted(rule))
        for _ in range(12):
            moved = replace(session, devices=session.devices.moved(random, size))
            if (other := math.log(moved.weighted(rule))) > value:
                session, value = moved, other
            else:
                size *= 0.7
        worst = max(worst, (value - limit) / scale)
        free = replace(rule, kappa=0.0)
        no_kappa = max(no_kappa, (math.log(session.weighted(free)) - limit) / scale)
    # Ideal devices of which every key round is voided, in the knowledge of its type.
    rule, bell = RULES[2], np.array([[1, 0], [0, 0], [0, 0], [1, 0]]) / math.sqrt(2)
    voided = Session(fixed_devices(2, bell, IDEAL), (1, 0), np.zeros(4, dtype=int), np.eye(2, dtype=int))
    limit = 2 * math.log(certified(rule))
    worst = max(worst, (math.log(voided.weighted(rule)) - limit) / (rule.order - 1))
    no_v = (math.log(voided.weighted(rule, charge_late=False)) - limit) / (rule.order - 1)
    name = "two rounds: log of sum / g^2"
    return {name: worst, f"{CONTROL}{name}, no kappa": no_kappa, f"{CONTROL}{name}, no v": no_v}


def soundness(random: Random, instances: int) -> dict[str, float]:
    """Exact error over all seeds, n = 2 and 3, over the bound with the devices' own sum or g^n; climbed."""
    worst = {"own sum": 0.0, "g^n": 0.0}
    for index in range(instances):
        rule = RULES[index % len(RULES)]
        devices: Switching | Remembering = Remembering.drawn(random)
        if index % 3 == 0:
            devices = Switching.drawn(random, 3 if index % 12 == 0 else 2)
        session, n, best = Session.drawn(random, devices), devices.num_rounds, 0.0
        for _ in range(6):
            moved, constant = session, float(random.uniform(0, n))
            if isinstance(session.devices, Remembering):
                moved = replace(session, devices=session.devices.moved(random, 0.1))
            ratio = moved.soundness(rule, charge_of(rule), constant) * (2 * (n + 1)) ** (1 / rule.order - 1)
            own = moved.weighted(rule) / certified(rule) ** n
            worst["own sum"] = max(worst["own sum"], ratio)
            worst["g^n"] = max(worst["g^n"], ratio * own ** (1 / rule.order))
            if ratio > best:
                session, best = moved, ratio
    name = "soundness: error over bound, minus 1"
    found = {f"{name}, {key}": value - 1 for key, value in worst.items()}
    return found | {f"{CONTROL}{name}, {key}": value - 1 for key, value in soundness_controls().items()}


def charge_of(
    rule: Rule, kappa: float = 1.0, syndrome: float = 1.0, late: float = 1.0
) -> Callable[..., float]:
    """eta N_t - kappa k - m_j - v; factors 0 leave a term out."""
    return lambda t, k, m, v: rule.eta * t - kappa * rule.kappa * k - syndrome * m - late * v


def soundness_controls() -> dict[str, float]:
    """Error over bound at n = 2 where a term is left out of the length, or |P| = 4 of the bound.

    kappa = 8 makes a key only without losses, so that L_max = 0 serves, but where kappa is left out.
    """
    n, seldom, often = 2, Rule(2.0, 8.0, 0.0, 1 / 64), Rule(2.0, 8.0, 0.0, 7 / 8)
    bell, alone = (np.array([[1], [0], [0], [c]]) / math.sqrt(1 + c) for c in (1, 0))
    ideal = Session(fixed_devices(n, bell, IDEAL), (0, 0), np.zeros(2**n, dtype=int), np.eye(n, dtype=int))
    losing = replace(ideal, devices=fixed_devices(n, alone, np.concatenate([LIST[:2], 0 * LIST[:2]])))
    told, sent = (replace(ideal, increments=j) for j in (np.arange(2**n) + 2, ideal.increments + 1))
    return {
        "no |P|": told.soundness(seldom, charge_of(seldom), 1.0),
        "no kappa": (n + 1) ** -0.5 * losing.soundness(often, charge_of(often, kappa=0.0), 1.0),
        "no m": sent.soundness(seldom, charge_of(seldom, syndrome=0.0), 1.0),
        "no v": replace(ideal, voided=(1, 1)).soundness(seldom, charge_of(seldom, late=0.0), 1.0),
    }


CHECKS: list[Callable[[Random, int], dict[str, float]]] = [
    rectangles,
    test_part,
    geometry,
    concavity,
    chain,
    soundness,
]


def main() -> int:
    """Run all checks; exit code 1 if a claim is violated or a control is not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    random, worst = np.random.default_rng(options.seed), {}
    for check in CHECKS:
        worst |= check(random, options.instances)
    wrong = [name for name, value in worst.items() if (value > SLACK) != name.startswith(CONTROL)]
    if options.json:
        print(json.dumps({"worst": worst, "wrong": wrong}, indent=2))
    else:
        for name, value in worst.items():
            print(f"{name:<66} {value:+.3e} {'WRONG' if name in wrong else 'ok'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
