"""Light on the ion besides 674 nm: cooling and readout, repumping, deshelving, optical pumping."""

import math

from sim_devices.apparatus.heralded_round import HeraldedRound
from sim_devices.apparatus.isolation_audit import Beam
from sim_devices.apparatus.laboratory_time import LaboratoryTime
from sim_devices.apparatus.readout import Readout
from sim_devices.apparatus.trapped_ion import TrappedIon

# 1033 nm light for longer than so many time constants leaves no ion in D5/2, and no number is drawn.
COMPLETE_DESHELVING = 20


class IonLight:
    """Switches of the beams. 422 nm light measures, whether or not anybody counts photons."""

    def __init__(
        self,
        cooling: Beam,
        deshelving: Beam,
        deshelving_mu: float,
        ion: TrappedIon,
        current: HeraldedRound,
        readout: Readout,
        laboratory_time: LaboratoryTime,
    ) -> None:
        self._cooling = cooling
        self._deshelving = deshelving
        self._deshelving_mu = deshelving_mu
        self._ion = ion
        self._current = current
        self._readout = readout
        self._time = laboratory_time
        self._deshelving_on_mu = self._pumping_on_mu = -1

    def switch_cooling(self, time_mu: int, value: int) -> None:
        """422 nm cooling light: reads out a round that has not been, or ends a sequence."""
        self._time.last_mu = time_mu
        if not value:
            self._cooling.off_mu = time_mu
            return
        ion, current = self._ion, self._current
        if current.open and not current.measured:
            self._readout.measure(time_mu)
        elif ion.alone.coherent:
            ion.project()
        ion.lit_bright_before = ion.lit_bright
        ion.lit_bright = ion.bright
        self._cooling.switch(time_mu, 1)

    def switch_deshelving(self, time_mu: int, value: int) -> None:
        """1033 nm light: from D5/2 back to S1/2, after the deshelving time (1/e)."""
        self._deshelving.switch(time_mu, value)
        ion = self._ion
        if value:
            self._deshelving_on_mu = time_mu
            if ion.alone.coherent:
                ion.project()
        elif not ion.bright:
            time_constants = (time_mu - self._deshelving_on_mu) / self._deshelving_mu
            complete = time_constants > COMPLETE_DESHELVING
            ion.deshelve(0.0 if complete else math.exp(-time_constants))

    def switch_pumping(self, time_mu: int, value: int) -> None:
        """422 nm sigma light: its end begins a sequence of the node alone, unless a round is open."""
        ion, current = self._ion, self._current
        if value:
            self._pumping_on_mu = time_mu
            if current.open and current.measured:
                current.close()  # the last round before the node works alone
            if ion.alone.coherent:
                ion.project()
        elif ion.bright and not current.open:
            self._time.follow_drift()
            ion.alone.pump(self._pumping_on_mu, time_mu)
