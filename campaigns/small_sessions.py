"""Protocol V with two or three rounds, computed exactly: Eve's states for every public history.

`soundness` compares the exact error of its keys, over all Toeplitz seeds, with the bound of
docs/variable_length.md, section 4.5; `weighted` is the sum that the chain rule of section 4.4 bounds by g^n.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import toeplitz

from campaigns.renyi_evidence import Matrix, power, schatten
from diqkd_postproc.security.exact_round import ExactRound
from diqkd_postproc.security.exact_round_search import certify_exact

Random = np.random.Generator
Setting = tuple[float, int, int, int]
"""Probability, type T, x and y of a round."""
Branch = tuple[tuple[int, ...], tuple[int, ...], Matrix]
"""Outcomes of Alice, which tests were lost, Eve's unnormalised state."""
Blocks = dict[tuple[int, ...], Matrix]
Event = tuple[int, int, tuple[int, ...]]
"""k, j - 1 and the syndrome."""


@dataclass(frozen=True)
class Rule:
    """Parameters of the theorem, gamma and the number of key bases."""

    order: float
    kappa: float
    eta: float
    gamma: float
    num_key_bases: int = 1

    @property
    def one_round(self) -> ExactRound:
        """The program's one-round value."""
        return ExactRound(self.order - 1, self.kappa, self.eta, self.gamma, self.num_key_bases)

    def settings(self) -> list[Setting]:
        """The law of a round."""
        bases = self.num_key_bases
        keys = [((1 - self.gamma) / bases, 0, x, 2) for x in range(bases)] if self.gamma < 1 else []
        return keys + [(self.gamma / 4, 1, x, y) for x in (0, 1) for y in (0, 1)]

    def certified(self) -> float:
        """g."""
        return 1 + certify_exact(self.one_round, 1e-4 * (self.order - 1)).upper

    def weight(self, num_tests: int, num_losses: int, num_late: int = 0) -> float:
        """2^((alpha - 1) (eta N_t - kappa k - v))."""
        return float(2 ** ((self.order - 1) * (self.eta * num_tests - self.kappa * num_losses - num_late)))


def axis_effect(angle: float, outcome: int = 0) -> Matrix:
    """Projector on an axis at `angle` from z in the plane of z and x."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return (np.eye(2) + (1 - 2 * outcome) * np.array([[cosine, sine], [sine, -cosine]])) / 2


def renyi(rho: Matrix, sigma: Matrix, order: float) -> float:
    """Q(rho || sigma) of positive matrices."""
    if np.abs(rho).max() < 1e-15:
        return 0.0
    values, vectors = np.linalg.eigh(sigma)
    kept = vectors[:, values > 1e-13 * values[-1]]  # Eve's states have no support outside
    side = power(kept.conj().T @ sigma @ kept, (1 - order) / (2 * order))
    return schatten(side @ kept.conj().T @ rho @ kept @ side, order)


def gaussian(random: Random, *shape: int) -> Matrix:
    """Independent complex normal numbers."""
    return random.standard_normal(shape) + 1j * random.standard_normal(shape)


def near_one(random: Random, dimension: int, size: float) -> Matrix:
    """A unitary; `size` 0 gives the identity, a large one any."""
    unitary, triangle = np.linalg.qr(np.eye(dimension) + size * gaussian(random, dimension, dimension))
    return unitary * (np.diag(triangle) / np.abs(np.diag(triangle)))


class Devices(Protocol):
    """Devices and Eve, for given settings of all rounds."""

    num_rounds: int

    def play(self, rounds: tuple[Setting, ...]) -> tuple[Matrix, list[Branch]]:
        """Eve's reference state, and the branches."""


def effects_of(effects: Matrix, setting: Setting) -> Iterator[tuple[int, int, int, Matrix, Matrix]]:
    """(a, b, lost, Alice's effect, Bob's effect) of a round; effects: (4, 2, 2), at x and at 2 + y."""
    _, is_test, x, y = setting
    for a, b in itertools.product((0, 1), (0, 1) if is_test else (0,)):
        alice = effects[x] if a == 0 else np.eye(2) - effects[x]
        bob = np.eye(2) if not is_test else effects[2 + y] if b == 0 else np.eye(2) - effects[2 + y]
        yield a, b, int(bool(is_test) and a ^ b != x & y), alice, bob


IDEAL = np.array([axis_effect(angle) for angle in (0, math.pi / 2, math.pi / 4, -math.pi / 4)])
LIST = np.array([np.eye(2)] * 4)
"""Outcome 0 always."""


@dataclass(frozen=True)
class Switching:
    """Fresh devices in every round, chosen by its number and the type of the round before; Eve keeps a qubit
    of each."""

    num_rounds: int
    vectors: dict[tuple[int, int], Matrix]
    effects: dict[tuple[int, int], Matrix]

    @staticmethod
    def drawn(random: Random, num_rounds: int) -> Switching:
        """Lists, the best quantum devices, and anything near these."""
        vectors, effects = {}, {}
        for place in itertools.product(range(num_rounds), (0, 1)):
            kind, vector = random.random(), np.zeros((4, 2), dtype=complex)
            vector[[0] if kind < 0.35 else [0, 3], 0] = 1.0
            vector += random.random() * (kind > 0.6) * gaussian(random, 4, 2)
            angles = np.array([0, math.pi / 2, math.pi / 4, -math.pi / 4]) + random.normal(0, 0.4, 4)
            noisy = np.array([axis_effect(angle) for angle in angles])
            effects[place] = LIST if kind < 0.35 else noisy if kind > 0.6 else IDEAL
            vectors[place] = vector / np.linalg.norm(vector)
        return Switching(num_rounds, vectors, effects)

    def play(self, rounds: tuple[Setting, ...]) -> tuple[Matrix, list[Branch]]:
        """As `Devices`."""
        sigma, branches = np.eye(1), [((), (), np.eye(1))]
        for index, setting in enumerate(rounds):
            place = index, rounds[index - 1][1] if index else 0
            vector, found = self.vectors[place], []
            sigma = np.kron(sigma, vector.T @ vector.conj())
            for a, _, lost, alice, bob in effects_of(self.effects[place], setting):
                rho = vector.T @ np.kron(alice, bob).T @ vector.conj()
                found += [((*o, a), (*f, lost), np.kron(r, rho)) for o, f, r in branches]
            branches = found
        return sigma, branches


@dataclass(frozen=True)
class Remembering:
    """Two rounds with memory: devices that meet in between and know both outcomes, and an active Eve.

    vector: (2,) * 6, of A1, B1, A2, B2, F and E. After round 1 Eve acts on F and E by its type and hands F
    over; then the devices act on all that they hold, by both outcomes.
    """

    vector: Matrix
    effects: tuple[Matrix, Matrix, Matrix]
    """Of round 1, and of round 2 by the type of round 1."""
    eve: Matrix
    meeting: Matrix
    num_rounds: int = 2

    @staticmethod
    def drawn(random: Random) -> Remembering:
        """Lists and ideal devices by turns, more or less changed."""
        listed, size = random.integers(0, 2, 2), float(random.choice([0.0, 0.1, 1.0]))
        vector = np.zeros((2,) * 6, dtype=complex)
        for first, second in itertools.product(*((0,) if kind else (0, 1) for kind in listed)):
            vector[first, first, second, second, 0, 0] = 1.0
        effects = [LIST if listed[i] else IDEAL for i in (0, 1, 1)]
        eve = np.array([near_one(random, 4, 0.0) for _ in range(2)])
        meeting = np.array([near_one(random, 32, 0.0) for _ in range(4)])
        return Remembering(vector, (effects[0], effects[1], effects[2]), eve, meeting).moved(random, size)

    def moved(self, random: Random, size: float) -> Remembering:
        """Everything changed a little."""
        vector = self.vector / np.linalg.norm(self.vector)
        vector = vector + 0.2 * size * gaussian(random, *vector.shape)
        turned = []
        for effects in self.effects:
            turns = [near_one(random, 2, size) for _ in range(4)]
            turned.append(np.array([u @ e @ u.conj().T for u, e in zip(turns, effects, strict=True)]))
        eve = np.array([near_one(random, 4, size) @ u for u in self.eve])
        meeting = np.array([near_one(random, 32, 0.3 * size) @ u for u in self.meeting])
        effects_now = (turned[0], turned[1], turned[2])
        return Remembering(vector / np.linalg.norm(vector), effects_now, eve, meeting)

    def play(self, rounds: tuple[Setting, ...]) -> tuple[Matrix, list[Branch]]:
        """As `Devices`."""
        kind = rounds[0][1]
        by_eve = np.einsum("gf,af->ag", self.eve[kind], self.vector.reshape(16, 4))
        sigma = np.einsum("afe,afd->ed", by_eve.reshape(16, 2, 2), by_eve.reshape(16, 2, 2).conj())
        branches: list[Branch] = []
        for a, b, lost, alice, bob in effects_of(self.effects[0], rounds[0]):
            projected = np.kron(alice, bob) @ by_eve.reshape(4, 16)
            met = (self.meeting[2 * a + b] @ projected.reshape(32, 2)).reshape(4, 4, 2, 2)
            for a2, _, lost2, alice2, bob2 in effects_of(self.effects[1 + kind], rounds[1]):
                rho = np.einsum("pq,rqfe,rpfd->ed", np.kron(alice2, bob2), met, met.conj())
                branches.append(((a, a2), (lost, lost2), rho))
        return sigma, branches


@dataclass(frozen=True)
class Session:
    """Devices, rounds voided by their type (late losses), j - 1 by Alice's outcomes, and a syndrome.

    The syndrome, parities of A', is sent where j = 2; all other increments are empty.
    """

    devices: Devices
    voided: tuple[int, int]
    increments: Matrix
    parities: Matrix
    """(m, n)."""

    @staticmethod
    def drawn(random: Random, devices: Devices) -> Session:
        """A session in which a fifth of the types is voided and j depends on the outcomes."""
        voided, n = random.random(2) < 0.2, devices.num_rounds
        increments, parities = random.integers(0, 2, 2**n), random.integers(0, 2, (1, n))
        return Session(devices, (int(voided[0]), int(voided[1])), increments, parities)

    def histories(self, rule: Rule) -> Iterator[tuple[int, int, Matrix, dict[Event, Blocks]]]:
        """N_t, v, Eve's reference state, and by event her states by A'."""
        for rounds in itertools.product(rule.settings(), repeat=self.devices.num_rounds):
            probability, void = math.prod(r[0] for r in rounds), [self.voided[r[1]] for r in rounds]
            sigma, branches = self.devices.play(rounds)
            events: dict[Event, Blocks] = {}
            for outcomes, lost, rho in branches:
                record = tuple(0 if v else a for a, v in zip(outcomes, void, strict=True))
                k = sum(r[1] if v else f for f, v, r in zip(lost, void, rounds, strict=True))
                j = int(self.increments[int("".join(map(str, outcomes)), 2)])
                sent = tuple((self.parities @ record % 2).tolist()) if j == 1 else ()
                blocks = events.setdefault((k, j, sent), {})
                blocks[record] = blocks.get(record, 0) + probability * rho
            yield sum(r[1] for r in rounds), sum(void), probability * sigma, events

    def weighted(self, rule: Rule, charge_late: bool = True) -> float:
        """sum of 2^((alpha - 1) (eta N_t - kappa k - v)) Q over public histories and all that is labelled."""
        return sum(
            rule.weight(num_tests, k, v if charge_late else 0) * renyi(rho, sigma, rule.order)
            for num_tests, v, sigma, events in self.histories(rule)
            for (k, _, _), blocks in events.items()
            for rho in blocks.values()
        )

    def soundness(self, rule: Rule, charge: Callable[[int, int, int, int], float], constant: float) -> float:
        """Exact error over the bound of section 4.5 with these devices' own sum in place of g^n, without |P|.

        charge: of N_t, k, m_j and v, what is added to `constant`; lengths are rounded down.
        """
        n, error, top = self.devices.num_rounds, 0.0, -math.inf
        for num_tests, v, _, events in self.histories(rule):
            for (k, j, _), blocks in events.items():
                credit = charge(num_tests, k, len(self.parities) * (j == 1), v)
                length = max(0, min(math.floor(constant + credit), n))
                if length:
                    error += key_distance(blocks, n, length)
                    top = max(top, length - credit)
        if error == 0.0:
            return 0.0
        order = rule.order
        return error / (2 ** (2 / order - 2 + (order - 1) * top / order) * self.weighted(rule) ** (1 / order))


def key_distance(blocks: Blocks, n: int, length: int) -> float:
    """Mean over all Toeplitz seeds of half the trace distance of the key to a uniform one."""
    records, states = np.array(list(blocks)), np.array(list(blocks.values()))
    rest, distances = states.sum(axis=0) / 2**length, []
    for seed in itertools.product((0, 1), repeat=n + length - 1):
        keys = (records @ toeplitz(seed[n - 1 :], seed[n - 1 :: -1]).T % 2) @ (1 << np.arange(length))
        sums = np.repeat(-rest[None], 2**length, axis=0)
        np.add.at(sums, keys, states)
        distances.append(0.5 * np.abs(np.linalg.eigvalsh(sums)).sum())
    return float(np.mean(distances))


def fixed_devices(num_rounds: int, vector: Matrix, effects: Matrix) -> Switching:
    """The same devices in every round."""
    places = list(itertools.product(range(num_rounds), (0, 1)))
    return Switching(num_rounds, dict.fromkeys(places, vector), dict.fromkeys(places, effects))
