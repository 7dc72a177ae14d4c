"""Tape of a run: what happens in each round that neither node decides.

Attempts until the herald, its pattern, and faults, drawn from the laboratory's seed alone, so that a run is
the same whatever the nodes' processes do; and what an adversary has done to them. Rounds are numbered from
0 by herald and never skipped."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.apparatus.herald_photons import labelled
from sim_devices.apparatus.wire import ENTRY, ION_LOST, LOCK_LOST, PARTNER_ION_LOST
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
        # Patterns as Alice's core, the slave, sees them, from a stream of its own as well.
        self._labels_rng = np.random.default_rng(np.random.SeedSequence([configuration.seed, 5]))
        self._labels = np.empty(0, dtype=np.int64)
        self._uniforms = np.empty((0, 2), dtype=np.float64)
        states = {pattern: configuration.link.state(pattern) for pattern in HERALD_PATTERNS}
        self._states = np.array([states[pattern] for pattern in HERALD_PATTERNS])
        self._position = np.zeros(16, dtype=np.int64)
        for position, pattern in enumerate(HERALD_PATTERNS):
            self._position[pattern] = position
        self._turned: dict[tuple[float, ...], NDArray[np.complex128]] = {}

    def entries(self, role: int, index: int, count: int) -> NDArray[np.void]:
        """Entries for a node (0 Alice, 1 Bob), without results; Alice's patterns are labelled."""
        window = self._window(index, count)
        entries = self._entries[window].copy()
        if role == 0:
            entries["pattern"] = self._labels[window]
        loss = (self._alice_loss[window], self._bob_loss[window])
        entries["fault"] = ION_LOST * loss[role] + PARTNER_ION_LOST * loss[1 - role]
        entries["fault"] += LOCK_LOST * self._lock_loss[window]
        # Alice's bit 0 is bright, and Bob's bit 1.
        answers = 2 - self._answers[window] if role else 1 + self._answers[window]
        entries["preset"] = answers * (self._treatment[window] == LISTED)
        entries["answer"] = answers * self._tampering.lines.has_list
        return entries

    def uniforms(self, index: int, count: int) -> NDArray[np.float64]:
        """(count, 2) numbers in [0, 1), one a round and node, that decide what the ions are found in."""
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
        self._labels = self._labels[cut:]
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
        self._uniforms = np.concatenate([self._uniforms, self._results_rng.random((_BLOCK, 2))])
        treatment = self._tampering.treatment(self._tampering_rng, _BLOCK)
        self._treatment = np.concatenate([self._treatment, treatment])
        self._labels = np.concatenate([self._labels, self._labelled(entries["pattern"])])

    def _labelled(self, patterns: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slave's labels: one that differs lacks the one click, the other, or is another pattern."""
        rng, first = self._labels_rng, patterns & -patterns
        others = (self._position[patterns] + rng.integers(1, 4, len(patterns))) % len(HERALD_PATTERNS)
        seen = np.choose(
            rng.integers(0, 3, len(patterns)), [first, patterns - first, np.array(HERALD_PATTERNS)[others]]
        )
        differs = rng.random(len(patterns)) < self._configuration.label_mismatch
        return np.where(differs, labelled(patterns, seen), patterns)
