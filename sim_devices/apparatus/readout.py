"""Readout of the ion by 422 nm light: the measurement of a round, and photon counts of any gate."""

import numpy as np

from sim_devices.apparatus.effects import PulseEffects
from sim_devices.apparatus.heralded_round import HeraldedRound
from sim_devices.apparatus.isolation_audit import Beam, IsolationAudit
from sim_devices.apparatus.trapped_ion import TrappedIon
from sim_devices.physics.fluorescence import PhotonCounter


class Readout:
    """The light measures when it goes on; the counts of a gate follow from what it found and the beams."""

    def __init__(
        self,
        idle: PhotonCounter,
        beams: tuple[Beam, Beam],
        ion: TrappedIon,
        current: HeraldedRound,
        effects: PulseEffects,
        audit: IsolationAudit,
    ) -> None:
        self._cooling, self._repump = beams
        self._ion = ion
        self._current = current
        self._effects = effects
        self._audit = audit
        # Rounds draw from a stream of their own: how often a node looks at its ion while it waits depends on
        # the speed of both processes, and must not change outcomes.
        self._idle = self._of_rounds = idle
        self._start_mu = -1  # of the last light that measured a round
        self._coupled_start_mu = -1  # of the last such light on an ion in reach of the link

    def begin_rounds(self, rng: np.random.Generator) -> None:
        """Draw the counts of rounds from this stream."""
        self._of_rounds = self._idle.with_stream(rng)

    def measure(self, time_mu: int) -> None:
        """Readout light on an ion that may be entangled: its outcome.

        :raises IsolationViolation: a private readout while the link is up
        """
        audit, current = self._audit, self._current
        if audit.private_mu >= 0 or time_mu >= audit.settled_mu:
            audit.private(time_mu, "the readout began")
        else:
            self._coupled_start_mu = time_mu  # cooling after a herald, unless somebody counts it
        effect = self._effects.of((time_mu - current.herald_mu, *current.pulses))
        self._ion.bright = current.outcomes.measure(current, effect)
        self._start_mu = time_mu
        current.measured = True

    def fluorescing(self, start_mu: int, stop_mu: int) -> tuple[int, int]:
        """The part of an interval in which the ion scatters cooling light."""
        ion = self._ion
        bright = ion.lit_bright if self._cooling.on_mu < stop_mu else ion.lit_bright_before
        if ion.lost or not bright:
            return start_mu, start_mu
        cooling, repump = self._cooling.light(start_mu, stop_mu), self._repump.light(start_mu, stop_mu)
        return max(cooling[0], repump[0]), min(cooling[1], repump[1])

    def count(self, open_mu: int, close_mu: int) -> int:
        """Counts of a gate; called when the kernel fetches them, perhaps after the next pulses."""
        cooling, ion = self._cooling, self._ion
        start, stop = cooling.light(open_mu, close_mu)
        repump_start, repump_stop = self._repump.light(open_mu, close_mu)
        if start < repump_start:  # in plain steps, since it is done every round
            start = repump_start
        if stop > repump_stop:
            stop = repump_stop
        bright = ion.lit_bright if cooling.on_mu < close_mu else ion.lit_bright_before
        if open_mu <= self._coupled_start_mu < close_mu:
            self._audit.fail("the readout began while the ion was in reach of the link")
        gate = close_mu - open_mu
        counter = self._of_rounds if open_mu <= self._start_mu < close_mu else self._idle
        if stop - start < gate:
            return self._count_partly_lit(gate, max(stop - start, 0), bright)
        if ion.lost:
            return counter.background(1e-9 * gate)
        count = counter.bright(1e-9 * gate) if bright else counter.dark(1e-9 * gate)
        return count + self._idle.bright(1e-9 * gate) if ion.crowded else count

    def _count_partly_lit(self, gate_mu: int, lit_mu: int, bright: bool) -> int:
        counts = self._idle.background(1e-9 * (gate_mu - lit_mu))
        if lit_mu and bright and not self._ion.lost:
            return counts + self._idle.bright(1e-9 * lit_mu)
        return counts + self._idle.background(1e-9 * lit_mu)
