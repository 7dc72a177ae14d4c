"""Entanglement attempts of the entangler core, up to the herald of the current round."""

from collections.abc import Set
from typing import Any

import numpy as np

from sim_devices.apparatus import wire
from sim_devices.apparatus.client import LaboratoryClient
from sim_devices.apparatus.coming_rounds import ComingRounds
from sim_devices.apparatus.electrodes import Electrodes
from sim_devices.apparatus.herald_photons import HeraldPhotons, pattern_of
from sim_devices.apparatus.isolation_audit import HERALD, IsolationAudit
from sim_devices.engines.entangler_core import (
    PUMPING_OUTPUT,
    REPUMPING_OUTPUT,
    Clicks,
    NodeCore,
    Window,
)
from sim_devices.physics.node_parameters import Nature
from sim_devices.physics.photon_source import PUBLISHED_SOURCE, AttemptLight, photon_source

FOCUS_TIME_MU = 200_000  # after reconnection, when the ion is as good as in the focus
COOLING_LIGHT = frozenset(("ttl_422_cool", "ttl_1092"))


class Attempts:
    """Counts a round's attempts down; an ion on its way back to the focus makes fewer of them count.

    Whether its clicks herald, and when the run ends, is the entangler core's to say.
    """

    def __init__(
        self,
        nature: Nature,
        rounds: ComingRounds,
        electrodes: Electrodes,
        audit: IsolationAudit,
    ) -> None:
        self._nature = nature
        self.photons = HeraldPhotons(nature)
        self._rounds = rounds
        self._current = rounds.current
        self._electrodes = electrodes
        self._audit = audit
        self._core: NodeCore | None = None
        self._source = PUBLISHED_SOURCE  # as the laboratory knows it
        rounds.before_fetch = self._describe

    def attach(self, core: NodeCore) -> None:
        """The core that plays the attempts."""
        self._core = core

    def _describe(self, client: LaboratoryClient) -> None:
        """Tell the laboratory what this node's photons are like, where that has changed."""
        core = self._core
        if core is None or not core.ready:
            return  # TTL outputs play the attempts: their light is taken for the published one
        light = AttemptLight(core.lit_ns(PUMPING_OUTPUT), core.lit_ns(REPUMPING_OUTPUT), core.trigger_ns)
        source = photon_source(self._nature, light)
        if source != self._source:
            client.shine(source)
            self._source = source

    def clicks(self, start_mu: int, window: Window) -> Clicks | None:
        """Clicks of the attempt that heralds, if it is one of those of a run of the entangler."""
        current = self._current
        if current.open:
            current.close()
        audit = self._audit
        if audit.private_mu >= 0 or audit.failure is not None:
            audit.attempt()
        if not current.agreed or (current.entry is None and not self._have_another(start_mu)):
            return None
        current.searched = True
        trigger_ns = window.trigger_ns
        if trigger_ns is None:
            return None
        num_attempts = window.num_attempts
        if start_mu < audit.connected_mu + FOCUS_TIME_MU:
            displacement_um = self._electrodes.displacement_um(np.array([float(start_mu)]))[0]
            coupled = self._nature.coupling(float(displacement_um))
            if coupled < 0.999:
                num_attempts = int(num_attempts * coupled)
        left = current.attempts_left
        if left > num_attempts:
            current.attempts_left = left - num_attempts
            return None
        entry: Any = current.entry
        if pattern_of(entry[wire.PATTERN]) not in window.patterns:
            current.begin(start_mu)
            current.close()  # the station clicked, but this node does not take the pattern for a herald
            return None
        return self.photons.clicks(left - 1, trigger_ns, window.cycle_ns, entry[wire.PATTERN])

    def dark_runs_ahead(self, start_mu: int, window: Window, outputs: Set[str]) -> int:
        """Runs up to the one with the herald, of an ion in the focus that is only cooled in between."""
        current = self._current
        if (
            not current.agreed
            or current.entry is None
            or start_mu < self._audit.connected_mu + FOCUS_TIME_MU
            or not outputs <= COOLING_LIGHT
        ):
            return 0
        return (current.attempts_left - 1) // window.num_attempts

    def skip_dark_runs(self, window: Window, num: int) -> None:
        """As many attempts less."""
        self._current.attempts_left -= num * window.num_attempts

    def end_run(self, end_mu: int, success: bool) -> None:
        """A round begins with the end of the run that heralds, to which the phase of its pattern refers.

        Where this node's gates cut a photon off, the herald comes as many attempts later: both nodes count
        the same rounds, and the rate falls.
        """
        current = self._current
        if current.entry is None:
            return
        if success:
            current.begin(end_mu)
            self._audit.note(end_mu, f"{HERALD}{self._rounds.index}")
        else:
            entry: Any = current.entry
            current.attempts_left = entry[wire.ATTEMPTS]

    def _have_another(self, time_mu: int) -> bool:
        """Go on with the next entry after a pattern that is no herald. No other herald comes without both
        ions."""
        if not self._rounds.take_next(time_mu, 0.0):
            return False
        entry: Any = self._current.entry
        self._current.agreed = not entry[wire.FAULT] & (wire.ION_LOST | wire.PARTNER_ION_LOST)
        return self._current.agreed
