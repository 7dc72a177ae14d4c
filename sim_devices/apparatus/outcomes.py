"""Outcome of a round's readout from the effect of its pulses: drawn at Bob's node, requested at Alice's.

Bob's process holds his reduced state and draws. Alice's is never given the state of her ion; it has results
from the laboratory (`alice_results`).
"""

from collections.abc import Callable
from typing import Any

from sim_devices.apparatus import wire
from sim_devices.apparatus.alice_results import Effect, rounded
from sim_devices.apparatus.client import LaboratoryClient
from sim_devices.apparatus.heralded_round import HeraldedRound
from sim_devices.apparatus.isolation_audit import IsolationAudit
from sim_devices.physics.ion import Ion, Pulse

MAX_EFFECTS = 4096
# Any effect of trace one half in a round that was not read out leaves Alice her reduced state.
UNREAD: Effect = (0.5, 0.5, 0.0, 0.0)


class PulseEffects:
    """Effect of "bright" that a round's pulses make, remembered for the rounds that repeat them.

    :param on_grid: round the effects, so that those that differ by a rounding error are one
    """

    def __init__(self, ion: Ion, on_grid: bool) -> None:
        self._ion = ion
        self._on_grid = on_grid
        self._effects: dict[Any, Effect] = {}

    def of(self, key: tuple[Any, ...]) -> Effect:
        """Effect of (readout, *pulses), all times in mu after the herald; see `HeraldedRound.pulses`."""
        effect = self._effects.get(key)
        if effect is None:
            if len(self._effects) >= MAX_EFFECTS:
                self._effects.clear()
            effect = self._effects[key] = self._evolve(key)
        return effect

    def _evolve(self, key: tuple[Any, ...]) -> Effect:
        pulses = tuple(
            Pulse(1e-9 * start, 1e-9 * duration, frequency, phase, amplitude, 1e-9 * reference)
            for start, duration, frequency, phase, amplitude, reference in key[1:]
        )
        matrix = self._ion.bright_effect(pulses, 1e-9 * key[0])
        e00, e11, e10 = float(matrix[0, 0].real), float(matrix[1, 1].real), complex(matrix[1, 0])
        effect = e00, e11, e10.real, e10.imag
        return rounded(effect) if self._on_grid else effect


class DrawnOutcomes:
    """Bob's: drawn from the reduced state in the entry of the tape, and returned to the laboratory."""

    def __init__(self, audit: IsolationAudit) -> None:
        self._audit = audit
        # Electrode steps by the last round: more than one since means that the node has rested.
        self._last_isolation = -1

    def connect(self, client: LaboratoryClient, uniform: Callable[[], float]) -> None:
        """Return results to this laboratory; draw by these numbers in [0, 1)."""
        self._add_result = client.add_result
        self._uniform = uniform

    def measure(self, current: HeraldedRound, effect: Effect) -> bool:
        """Whether the ion is bright in the round."""
        entry: Any = current.entry
        if entry[wire.PRESET]:
            bright: bool = entry[wire.PRESET] == 1
        else:
            e00, e11, real, imaginary = effect
            population = entry[wire.POPULATION]
            coherent = entry[wire.REAL] * real - entry[wire.IMAGINARY] * imaginary
            bright = self._uniform() < population * e00 + (1.0 - population) * e11 + 2.0 * coherent
        self._return(current, bright, effect)
        return bright

    def skip(self, current: HeraldedRound) -> None:
        """The round ends without a readout."""
        self._return(current, True, UNREAD)

    def enter_epoch(self, epoch: int) -> None:
        """The light has drifted: nothing to do, since every effect is computed here."""

    def _return(self, current: HeraldedRound, bright: bool, effect: Effect) -> None:
        isolation = self._audit.num_isolations
        rested = isolation > self._last_isolation + 1
        self._last_isolation = isolation
        entry: Any = current.entry
        self._add_result((entry[wire.INDEX], current.round_type, current.strobe_mu, bright, rested, *effect))


class RequestedOutcomes:
    """Alice's: in the entry of the tape for effects that the laboratory knows, else by a request.

    :ivar registered: effects by their number in `results` of coming entries
    """

    def __init__(self) -> None:
        self.registered: dict[Effect, int] = {}
        self._epoch = -1

    def connect(self, client: LaboratoryClient, uniform: Callable[[], float]) -> None:
        """Request results of this laboratory, where the numbers are drawn, too."""
        self._request = client.measure

    def measure(self, current: HeraldedRound, effect: Effect) -> bool:
        """Whether the ion is bright in the round."""
        entry: Any = current.entry
        if entry[wire.PRESET]:
            return bool(entry[wire.PRESET] == 1)
        number = self.registered.get(effect, wire.MAX_REGISTERED)
        if number < entry[wire.NUM_RESULTS]:
            return bool(entry[wire.RESULTS] >> number & 1)
        bright, number = self._request(entry[wire.INDEX], effect)
        if number < wire.MAX_REGISTERED:
            self.registered[effect] = number
        return bright

    def skip(self, current: HeraldedRound) -> None:
        """The round ends without a readout, of which the laboratory need not know."""

    def enter_epoch(self, epoch: int) -> None:
        """The light has drifted: the laboratory forgets the registered effects as well."""
        if epoch != self._epoch:
            self._epoch = epoch
            self.registered.clear()
