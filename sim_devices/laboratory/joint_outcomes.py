"""Outcomes of both ions: the joint states, one uniform number a round and node, and who measures first.

Neither node's process holds a state, nor the other's results. In each round one node measures first: Bob in
`ordered`, where Alice's pulse follows T at a fixed time; Alice in `late-type`, where T exists only after her
outcome. The first one's result is u < tr(rho E) with the reduced state, the second one's the same with the
state that the first one's effect and result leave. The numbers u follow from the laboratory's seed, so that
no outcome depends on which request comes first, or on whether a result was requested or came with an entry.

Entries carry results for effects that a node has registered. Those of the first one need nothing else. Those
of the second one are conditional on the effect that the first one makes in key rounds: in `ordered` the usual
one of Bob's key rounds, in `late-type` the one of Alice's with which the effect of Bob's has been registered
(y = 2 + x). They hold in key rounds only. In a test the second one's result exists after the first one has
measured and not before: her apparatus names its effect (REPORT), or has requested its result.

In `late-type` Alice has results for both of her settings, since she chooses before T exists. That is no local
model of the tests: Bob's outcomes of these are drawn afterwards, conditional on what she has done.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sim_devices.apparatus import wire
from sim_devices.apparatus.effects import UNREAD, Effect, check_effect
from sim_devices.laboratory.tape import Tape
from sim_devices.physics.drift import Drift
from sim_devices.physics.heralding import PUBLISHED, Heralding

ALICE, BOB = 0, 1


def bright_chance(state: NDArray[np.complex128], effect: Effect) -> NDArray[np.float64]:
    """(n,) tr(rho E) of (n, 2, 2) states."""
    e00, e11, real, imaginary = effect
    coherence = state[:, 0, 1]
    population = state[:, 0, 0].real
    return (
        population * e00
        + (1.0 - population) * e11
        + 2.0 * (coherence.real * real - coherence.imag * imaginary)
    )


def conditional_states(
    joint: NDArray[np.complex128], role: int, effect: Effect, bright: NDArray[np.bool_]
) -> NDArray[np.complex128]:
    """(n, 2, 2) states of the other ion after `role` has found (n,) `bright` under an effect."""
    e00, e11, real, imaginary = effect
    matrix = np.array([[e00, real - 1j * imaginary], [real + 1j * imaginary, e11]])
    found = np.where(bright[:, None, None], matrix, np.eye(2) - matrix)
    traced = "nabcd,ndb->nac" if role == BOB else "nabcd,nca->nbd"
    state: NDArray[np.complex128] = np.einsum(traced, joint, found)
    norm = np.einsum("naa->n", state).real
    # What no ion does, a device with an answer of its own may report: it tells nothing about the other ion.
    impossible = norm < 1e-12
    state[impossible] = reduced_states(joint[impossible], 1 - role)
    state /= np.where(impossible, 1.0, norm)[:, None, None]
    return state


def reduced_states(joint: NDArray[np.complex128], role: int) -> NDArray[np.complex128]:
    """(n, 2, 2) states of one ion."""
    state: NDArray[np.complex128] = np.einsum("nabcb->nac" if role == ALICE else "nabad->nbd", joint)
    return state


@dataclass
class _Registry:
    """Effects of an epoch, by their numbers; `partners` are those of the first one, for the second one's."""

    effects: tuple[list[Effect], list[Effect]] = field(default_factory=lambda: ([], []))
    partners: list[int] = field(default_factory=list)
    usual: int = wire.MAX_REGISTERED  # of Bob's key rounds in `ordered`

    def register(self, role: int, effect: Effect) -> int:
        """Number of an effect, or MAX_REGISTERED if there are too many."""
        effects = self.effects[role]
        if effect in effects:
            return effects.index(effect)
        if len(effects) < wire.MAX_REGISTERED:
            effects.append(effect)
            return len(effects) - 1
        return wire.MAX_REGISTERED


class JointOutcomes:
    """Rounds that the nodes have in hand."""

    def __init__(self, tape: Tape, drift: Drift, protocol: str) -> None:
        self._tape, self._drift = tape, drift
        self._late = protocol == "late-type"
        self.first = ALICE if self._late else BOB
        self._registries: dict[int, _Registry] = {}
        self._start = 0
        self._joint = np.empty((0, 2, 2, 2, 2), dtype=np.complex128)
        self._uniforms = np.empty((0, 2))
        self._epochs = np.empty(0, dtype=np.int64)
        self._asked: tuple[set[int], set[int]] = set(), set()
        self._found: dict[int, tuple[Effect, bool]] = {}  # what the first one has measured, and the result
        self._reached = -1  # the last round in which the first one is known to be

    def add(
        self, patterns: NDArray[np.int64], times_s: NDArray[np.float64], heralding: Heralding = PUBLISHED
    ) -> None:
        """The next rounds of the tape, at these laboratory times, heralded like this."""
        start = self._start + len(self._joint)
        epochs = np.array([self._drift.epoch(time_s) for time_s in times_s.tolist()])
        joint = np.empty((len(patterns), 2, 2, 2, 2), dtype=np.complex128)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            phases = self._drift.state(float(times_s[chosen][0])).phase_offsets
            joint[chosen] = self._tape.states(patterns[chosen], phases)
        joint = heralding.states(joint)
        self._joint = np.concatenate([self._joint, self._tape.tampered(start, joint)])
        self._uniforms = np.concatenate([self._uniforms, self._tape.uniforms(start, len(patterns))])
        self._epochs = np.concatenate([self._epochs, epochs])

    def forget(self, index: int) -> None:
        """Rounds before `index` are over at both nodes."""
        cut = index - self._start
        if cut <= 0:
            return
        self._joint, self._uniforms = self._joint[cut:], self._uniforms[cut:]
        self._epochs = self._epochs[cut:]
        self._start = index
        for asked in self._asked:
            asked.difference_update([other for other in asked if other < index])
        for other in [other for other in self._found if other < index]:
            del self._found[other]
        if len(self._epochs):
            for epoch in [epoch for epoch in self._registries if epoch < self._epochs[0]]:
                del self._registries[epoch]

    def fill_in(self, role: int, entries: NDArray[np.void]) -> None:
        """Results that go with a node's entries."""
        start = int(entries["index"][0]) - self._start
        epochs = self._epochs[start : start + len(entries)]
        for epoch in np.unique(epochs):
            registry = self._registries.get(int(epoch))
            if registry is None or not registry.effects[role]:
                continue
            chosen = np.flatnonzero(epochs == epoch)
            joint, uniforms = self._joint[start + chosen], self._uniforms[start + chosen]
            effects = registry.effects[role]
            reduced = reduced_states(joint, self.first)
            conditional: dict[int, NDArray[np.complex128]] = {}
            results = np.zeros(len(chosen), dtype=np.uint64)
            for number, effect in enumerate(effects):
                state = reduced
                if role != self.first:
                    partner = registry.partners[number] if self._late else registry.usual
                    if partner not in conditional:
                        of_first = registry.effects[self.first][partner]
                        bright = uniforms[:, self.first] < bright_chance(reduced, of_first)
                        conditional[partner] = conditional_states(joint, self.first, of_first, bright)
                    state = conditional[partner]
                bright = uniforms[:, role] < bright_chance(state, effect)
                results |= np.left_shift(bright.astype(np.uint64), np.uint64(number))
            entries["results"][chosen] = results
            entries["num_results"][chosen] = len(effects)

    def report(self, role: int, index: int, effect: Effect) -> None:
        """The first one has measured this effect, with the result that it had in advance.

        :raises WireError: not its round, or no effect
        """
        self._check(role, index, effect)
        self._asked[role].add(index)
        if role == self.first:
            self._find(index, effect)

    def measure(
        self, role: int, index: int, effect: Effect, kind: int, partner: int, waits: bool
    ) -> tuple[bool, int, int] | None:
        """Whether the ion of `role` is bright in a round, the number of the effect in coming entries and that
        of the partner's on which their results are conditional, or MAX_REGISTERED; once a round.

        None if the first one has not measured in this round, unless it is in a later one, or `waits` is
        False: then what the first one's key effect gives counts as found.

        :param kind: KEY, TEST, USUAL_KEY or NO_ROUND_TYPE of `wire`
        :param partner: number of the first one's effect, if that is known
        :raises WireError: not its round, asked before, or no effect
        """
        self._check(role, index, effect)
        offset = index - self._start
        registry = self._registries.setdefault(int(self._epochs[offset]), _Registry())
        if role == self.first:
            self._asked[role].add(index)
            bright = self._find(index, effect)
            number = wire.MAX_REGISTERED
            if self._late or kind == wire.USUAL_KEY:
                number = registry.register(role, effect)
                if not self._late and number < wire.MAX_REGISTERED:
                    registry.usual = number
            return bright, number, wire.MAX_REGISTERED
        firsts = registry.effects[self.first]
        known = partner if self._late else registry.usual
        in_key_round = kind == wire.KEY and known < len(firsts)
        if in_key_round:
            of_first = firsts[known]
        elif index in self._found:
            of_first = self._found[index][0]
        elif waits and self._reached <= index:
            return None
        else:
            of_first = self._usual_of_first(registry, effect)
        self._asked[role].add(index)
        joint, uniforms = self._joint[offset : offset + 1], self._uniforms[offset : offset + 1]
        first_bright = uniforms[:, self.first] < bright_chance(reduced_states(joint, self.first), of_first)
        state = conditional_states(joint, self.first, of_first, first_bright)
        bright = bool((uniforms[:, role] < bright_chance(state, effect))[0])
        number = wire.MAX_REGISTERED
        if in_key_round:
            number = registry.register(role, effect)
            if number == len(registry.partners):
                registry.partners.append(known)
        return bright, number, registry.partners[number] if number < wire.MAX_REGISTERED else known

    def _usual_of_first(self, registry: _Registry, effect: Effect) -> Effect:
        """What the first one makes in key rounds beside this effect of the second one, as far as is known."""
        firsts, seconds = registry.effects[self.first], registry.effects[1 - self.first]
        if self._late and effect in seconds:
            return firsts[registry.partners[seconds.index(effect)]]
        number = 0 if self._late else registry.usual
        return firsts[number] if number < len(firsts) else UNREAD

    def reached(self, role: int, index: int) -> None:
        """A node is in this round, and has left those before."""
        if role == self.first:
            self._reached = max(self._reached, index)

    def _find(self, index: int, effect: Effect) -> bool:
        """Result of the first one."""
        offset = index - self._start
        state = reduced_states(self._joint[offset : offset + 1], self.first)
        bright = bool(self._uniforms[offset, self.first] < bright_chance(state, effect)[0])
        self._found[index] = effect, bright
        self._reached = max(self._reached, index)
        return bright

    def _check(self, role: int, index: int, effect: Effect) -> None:
        check_effect(*effect)
        if not 0 <= index - self._start < len(self._joint) or index in self._asked[role]:
            raise wire.WireError("a measurement of a round that this node does not have")
