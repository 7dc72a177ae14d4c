"""Tape of a run: what happens in each round that neither node decides.

Attempts until the herald, its pattern, and faults, drawn from the laboratory's seed alone, so that a run is
the same whatever the nodes' processes do; and what an adversary has done to them. Rounds are numbered from
0 by herald and never skipped."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.apparatus.wire import ALICE_ENTRY, BOB_ENTRY, ENTRY, ION_LOST, LOCK_LOST, NO_ROUND_TYPE
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.tampering import LISTED, MEASURED, product_states
from sim_devices.physics.link import attempts_until_herald

_BLOCK = 1024


class Tape:
    """Rounds from `first` on; `entries(index, count)` may be asked again until `forget`."""

    def __init__(self, configuration: LaboratoryConfiguration) -> None:
        self._configuration = configuration
        self._rng = np.random.default_rng(np.random.SeedSequence([configuration.seed, 0]))
        self._results_rng = np.random.default_rng(np.random.SeedSequence([configuration.seed, 3]))
        self._first = 0
        self._entries = np.empty(0, dtype=ENTRY)
        self._alice_loss = np.empty(0, dtype=bool)
        self._bob_loss = np.empty(0, dtype=bool)
        self._lock_loss = np.empty(0, dtype=bool)
        self._answers = np.empty(0, dtype=np.int64)
        # What the adversary has done to each round, from a stream of its own: it changes no other draw.
        self._tampering = configuration.tampering
        if configuration.link.kind == "local":
            self._tampering = replace(self._tampering, local_fraction=1.0)
        self._tampering_rng = np.random.default_rng(np.random.SeedSequence([configuration.seed, 4]))
        self._treatment = np.empty(0, dtype=np.uint8)
        self._uniforms = np.empty(0, dtype=np.float64)
        states = {pattern: configuration.link.state(pattern) for pattern in HERALD_PATTERNS}
        self._states = np.array([states[pattern] for pattern in HERALD_PATTERNS])
        self._position = np.zeros(16, dtype=np.int64)
        for position, pattern in enumerate(HERALD_PATTERNS):
            self._position[pattern] = position
        self._turned: dict[tuple[float, ...], NDArray[np.complex128]] = {}

    def bob_entries(self, index: int, count: int) -> NDArray[np.void]:
        """Entries for Bob, with his faults and his reduced state."""
        window = self._window(index, count)
        entries = _entries_as(self._entries[window], BOB_ENTRY)
        reduced = np.einsum("nabad->nbd", self.tampered(index, self.states(entries["pattern"])))
        entries["population"] = reduced[:, 0, 0].real
        entries["real"] = reduced[:, 0, 1].real
        entries["imaginary"] = reduced[:, 0, 1].imag
        entries["fault"] = ION_LOST * self._bob_loss[window] + LOCK_LOST * self._lock_loss[window]
        # Bob's bit 1 is bright.
        entries["preset"] = (2 - self._answers[window]) * (self._treatment[window] == LISTED)
        return entries

    def alice_entries(self, index: int, count: int) -> NDArray[np.void]:
        """Entries for Alice before Bob's results are known: attempts, pattern, her faults."""
        window = self._window(index, count)
        entries = _entries_as(self._entries[window], ALICE_ENTRY)
        entries["fault"] = ION_LOST * self._alice_loss[window] + LOCK_LOST * self._lock_loss[window]
        # Alice's bit 0 is bright.
        entries["preset"] = (1 + self._answers[window]) * (self._treatment[window] == LISTED)
        return entries

    def uniforms(self, index: int, count: int) -> NDArray[np.float64]:
        """(count,) numbers in [0, 1), one a round, that decide what Alice's ion is found in."""
        return self._uniforms[self._window(index, count)]

    def notebook(self, index: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(count,) each: what the adversary has done to a round (`tampering`), and the bit that she noted:
        the devices' answer, or the state of Alice's qubit that she measured."""
        window = self._window(index, count)
        return self._treatment[window], self._answers[window]

    def tampered(self, index: int, states: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Joint states of the rounds from `index` on, after the adversary's measurements."""
        if not self._tampering.measured_fraction:
            return states
        treatment, noted = self.notebook(index, len(states))
        after = states.copy()
        measured = treatment == MEASURED
        after[measured] = product_states()[noted[measured]]
        return after

    def alice_loss_before(self, index: int, count: int) -> int:
        """Number of rounds from `index` before the next loss of Alice's ion, at most `count`."""
        window = self._window(index, count)  # first: it may extend the tape
        lost = np.flatnonzero(self._alice_loss[window])
        return int(lost[0]) if lost.size else count

    def states(
        self, patterns: NDArray[np.int64], phase_offsets: tuple[float, ...] = ()
    ) -> NDArray[np.complex128]:
        """(n, 2, 2, 2, 2) joint states of the patterns; `phase_offsets` (rad) add to their Bell phases."""
        if not any(phase_offsets):
            return self._states[self._position[patterns]]
        if phase_offsets not in self._turned:
            turned = self._states.copy()
            turn = np.exp(-1j * np.array(phase_offsets))
            turned[:, 0, 1, 1, 0] *= turn
            turned[:, 1, 0, 0, 1] *= turn.conj()
            self._turned.clear()
            self._turned[phase_offsets] = turned
        return self._turned[phase_offsets][self._position[patterns]]

    def forget(self, index: int) -> None:
        """Drop rounds before `index`."""
        cut = index - self._first
        if cut < _BLOCK:
            return
        self._entries = self._entries[cut:]
        self._alice_loss, self._bob_loss = self._alice_loss[cut:], self._bob_loss[cut:]
        self._lock_loss, self._answers = self._lock_loss[cut:], self._answers[cut:]
        self._uniforms, self._treatment = self._uniforms[cut:], self._treatment[cut:]
        self._first = index

    def _window(self, index: int, count: int) -> slice:
        while index + count > self._first + len(self._entries):
            self._extend()
        return slice(index - self._first, index - self._first + count)

    def _extend(self) -> None:
        configuration, rng = self._configuration, self._rng
        entries = np.zeros(_BLOCK, dtype=ENTRY)
        start = self._first + len(self._entries)
        entries["index"] = np.arange(start, start + _BLOCK)
        entries["attempts"] = attempts_until_herald(rng, configuration.link.success_probability, _BLOCK)
        entries["pattern"] = rng.choice(np.array(HERALD_PATTERNS), _BLOCK)
        entries["lock_mu"] = round(configuration.lock_loss_duration * 1e9)
        entries["round_type"] = NO_ROUND_TYPE
        entries["strobe_mu"] = -1
        alice_loss = rng.random(_BLOCK) < configuration.ion_loss_probability_alice
        bob_loss = rng.random(_BLOCK) < configuration.ion_loss_probability_bob
        lock_loss = rng.random(_BLOCK) < configuration.lock_loss_probability
        for index, kind in configuration.scheduled_faults:
            if start <= index < start + _BLOCK:
                chosen = {"alice_ion_loss": alice_loss, "bob_ion_loss": bob_loss, "lock_loss": lock_loss}[
                    kind
                ]
                chosen[index - start] = True
        self._entries = np.concatenate([self._entries, entries])
        self._alice_loss = np.concatenate([self._alice_loss, alice_loss])
        self._bob_loss = np.concatenate([self._bob_loss, bob_loss])
        self._lock_loss = np.concatenate([self._lock_loss, lock_loss])
        self._answers = np.concatenate([self._answers, rng.integers(0, 2, _BLOCK)])
        self._uniforms = np.concatenate([self._uniforms, self._results_rng.random(_BLOCK)])
        treatment = self._tampering.treatment(self._tampering_rng, _BLOCK)
        self._treatment = np.concatenate([self._treatment, treatment])


def _entries_as(entries: NDArray[np.void], dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """The entries in a role's own format, its further fields 0."""
    wider = np.zeros(len(entries), dtype=dtype)
    for name in ENTRY.names or ():
        wider[name] = entries[name]
    return wider
