"""Entanglement attempts of the entangler core, up to the herald of the current round."""

from typing import Any

import numpy as np

from sim_devices.apparatus import wire
from sim_devices.apparatus.coming_rounds import ComingRounds
from sim_devices.apparatus.electrodes import Electrodes
from sim_devices.apparatus.isolation_audit import HERALD, IsolationAudit
from sim_devices.physics.node_parameters import Nature

ENTANGLER_TIMEOUT = 0x3FFF
FOCUS_TIME_MU = 200_000  # after reconnection, when the ion is as good as in the focus


class Attempts:
    """Counts a round's attempts down; an ion on its way back to the focus makes fewer of them count."""

    def __init__(
        self,
        nature: Nature,
        rounds: ComingRounds,
        electrodes: Electrodes,
        audit: IsolationAudit,
    ) -> None:
        self._nature = nature
        self._rounds = rounds
        self._current = rounds.current
        self._electrodes = electrodes
        self._audit = audit

    def run(self, start_mu: int, cycle_mu: int, duration_mu: int, patterns: Any) -> tuple[int, int]:
        """(end in mu, reason) of a run of the entangler: the index bit of the herald's pattern in `patterns`,
        or ENTANGLER_TIMEOUT.
        """
        current = self._current
        if current.open:
            current.close()
        audit = self._audit
        if audit.private_mu >= 0 or audit.failure is not None:
            audit.attempt()
        num_attempts = duration_mu // cycle_mu
        if not current.agreed or (current.entry is None and not self._have_another(start_mu)):
            return start_mu + duration_mu, ENTANGLER_TIMEOUT
        current.searched = True
        if start_mu < audit.connected_mu + FOCUS_TIME_MU:
            displacement_um = self._electrodes.displacement_um(np.array([float(start_mu)]))[0]
            coupled = self._nature.coupling(float(displacement_um))
            if coupled < 0.999:
                num_attempts = int(num_attempts * coupled)
        left = current.attempts_left
        if left > num_attempts:
            current.attempts_left = left - num_attempts
            return start_mu + duration_mu, ENTANGLER_TIMEOUT
        herald_mu = start_mu + left * cycle_mu
        current.begin(herald_mu)
        audit.note(herald_mu, f"{HERALD}{self._rounds.index}")
        entry: Any = current.entry
        if entry[wire.PATTERN] not in patterns:
            current.close()  # the station clicked, but this node does not take the pattern for a herald
            return start_mu + duration_mu, ENTANGLER_TIMEOUT
        return herald_mu, 1 << patterns.index(entry[wire.PATTERN])

    def _have_another(self, time_mu: int) -> bool:
        """Go on with the next entry after a pattern that is no herald. No other herald comes without both
        ions."""
        if not self._rounds.take_next(time_mu, 0.0):
            return False
        entry: Any = self._current.entry
        self._current.agreed = not entry[wire.FAULT] & (wire.ION_LOST | wire.PARTNER_ION_LOST)
        return self._current.agreed
