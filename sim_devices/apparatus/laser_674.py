"""674 nm laser: its synthesiser, its switch, and the pulses that reach the ion."""

from sim_devices.apparatus.heralded_round import HeraldedRound
from sim_devices.apparatus.isolation_audit import IsolationAudit
from sim_devices.apparatus.laboratory_time import LaboratoryTime, LaserLock
from sim_devices.apparatus.local_ion import LocalIon
from sim_devices.physics.ion import driven_transition
from sim_devices.physics.node_parameters import Nature


class Laser674:
    """A pulse belongs to the sequence of a node that works alone, or to the current round until its readout.

    An unlocked laser is far from every transition: its pulses do nothing.
    """

    def __init__(
        self,
        nature: Nature,
        current: HeraldedRound,
        alone: LocalIon,
        lock: LaserLock,
        laboratory_time: LaboratoryTime,
        audit: IsolationAudit,
    ) -> None:
        self._nature = nature
        self._current = current
        self._alone = alone
        self.lock = lock
        self._time = laboratory_time
        self._audit = audit
        self._synthesiser = (0.0, 0.0, 0.0, -1)
        self._start_mu = -1  # of the pulse that is on
        self._depends_on_basis: dict[float, bool] = {}

    def set(
        self, time_mu: int, frequency: float, phase_turns: float, amplitude: float, ref_time_mu: int
    ) -> None:
        """Set the synthesiser: Hz, turns tracked from `ref_time_mu`, amplitude over full scale."""
        self._synthesiser = (frequency, phase_turns, amplitude, ref_time_mu)

    def switch(self, time_mu: int, value: int) -> None:
        """Switch the light; a pulse counts once it is over."""
        if value:
            self._start_mu = time_mu
            return
        start, self._start_mu = self._start_mu, -1
        if start < 0:
            return
        nominal, phase, amplitude, reference = self._synthesiser
        frequency = nominal + self._time.light_offset
        amplitude *= self._time.light_scale
        if self._alone.coherent:
            if self.lock.level(start):
                self._alone.drive(start, time_mu, frequency, phase, amplitude, reference)
            return
        current = self._current
        if not current.open or current.measured:
            return
        depends_on_basis = self._depends_on_basis.get(nominal)
        if depends_on_basis is None:
            driven = driven_transition(frequency, self._nature.transitions)
            depends_on_basis = driven is not None and driven[0] != self._nature.map_frequency
            self._depends_on_basis[nominal] = depends_on_basis
        if depends_on_basis:
            self._audit.private(start, "an analysis pulse began")
        lock = self.lock
        if (start < lock.lost_until_mu or self._time.drift.outages) and not lock.level(start):
            return
        herald = current.herald_mu
        current.pulses.append(
            (start - herald, time_mu - start, frequency, phase, amplitude, reference - herald)
        )
