"""Heralding station as one node sees it: clicks of four detectors, from its own ion and dark counts.

The ion's photons come in two ways. Under cooling light they come at a rate, in proportion to the coupling
at each moment; that is what an isolation scan counts. A picosecond pulse on a pumped ion gives at most one,
after a delay and an exponential decay. The light of the other node's ion, and heralds, are the laboratory's
business.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sim_devices.apparatus.electrodes import Electrodes
from sim_devices.apparatus.trapped_ion import TrappedIon
from sim_devices.physics.node_parameters import Nature

NUM_DETECTORS = 4
DETECTOR_KEYS = tuple(f"apd{index}" for index in range(NUM_DETECTORS))


class Station:
    """Clicks in a gate are drawn when the first detector is asked for it, for all four at once.

    :param lit: the part of [start, stop), mu, in which a bright ion fluoresces
    """

    def __init__(
        self,
        nature: Nature,
        rng: np.random.Generator,
        electrodes: Electrodes,
        ion: TrappedIon,
        lit: Callable[[int, int], tuple[int, int]],
    ) -> None:
        self._nature = nature
        self._rng = rng
        self._electrodes = electrodes
        self._ion = ion
        self._lit = lit
        self._start = self._stop = -1
        self._clicks: list[list[int]] = [[] for _ in range(NUM_DETECTORS)]
        self._pulsed: list[tuple[int, int]] = []  # (time, detector) of photons of pulses

    def switch_picosecond(self, time_mu: int, value: int) -> None:
        """The switch of the picosecond pulses; on an ion that was not pumped they do nothing."""
        alone = self._ion.alone
        if value and alone.coherent and not self._ion.lost:
            alone.forget()
            self.excite(time_mu)

    def excite(self, time_mu: int) -> None:
        """A picosecond pulse on a pumped ion, switched at `time_mu`."""
        nature, rng = self._nature, self._rng
        if rng.random() >= nature.photon_probability * self._coupling_at(time_mu):
            return
        flight = nature.photon_delay + rng.exponential(nature.photon_lifetime)
        flight += rng.normal(0.0, nature.photon_jitter)
        del self._pulsed[:-16]
        self._pulsed.append((int(time_mu + 1e9 * flight), int(rng.integers(NUM_DETECTORS))))

    def first_click(self, detector: int, start_mu: int, stop_mu: int) -> int:
        """First click of a detector in [start, stop), or -1."""
        for time in self._clicks_in(detector, start_mu, stop_mu):
            if start_mu <= time < stop_mu:
                return time
        return -1

    def count(self, detector: int, start_mu: int, stop_mu: int) -> int:
        """Clicks of a detector in [start, stop)."""
        clicks = self._clicks_in(detector, start_mu, stop_mu)
        return sum(start_mu <= time < stop_mu for time in clicks)

    def _clicks_in(self, detector: int, start_mu: int, stop_mu: int) -> Sequence[int]:
        if start_mu >= self._stop or start_mu < self._start:
            self._start = start_mu
            self._clicks = self._draw(start_mu, stop_mu)
            self._stop = stop_mu
        elif stop_mu > self._stop:
            for clicks, more in zip(self._clicks, self._draw(self._stop, stop_mu), strict=True):
                clicks += more
            self._stop = stop_mu
        return self._clicks[detector]

    def _draw(self, start_mu: int, stop_mu: int) -> list[list[int]]:
        clicks: list[list[int]] = [[] for _ in range(NUM_DETECTORS)]
        for time, detector in self._pulsed:
            if start_mu <= time < stop_mu:
                clicks[detector].append(time)
        self._draw_at_rate(clicks, self._nature.station_dark_rate, start_mu, stop_mu, fluorescence=False)
        lit_start, lit_stop = self._lit(start_mu, stop_mu)
        if lit_stop > lit_start:
            self._draw_at_rate(
                clicks, self._nature.station_count_rate, lit_start, lit_stop, fluorescence=True
            )
        for times in clicks:
            times.sort()
        return clicks

    def _draw_at_rate(
        self, clicks: list[list[int]], rate: float, start_mu: int, stop_mu: int, fluorescence: bool
    ) -> None:
        rng = self._rng
        number = rng.poisson(1e-9 * rate * (stop_mu - start_mu))
        if not number:
            return
        times = rng.uniform(start_mu, stop_mu, number)
        if fluorescence:
            times = times[rng.random(number) < self._coupling(times)]
        for time, detector in zip(times.tolist(), rng.integers(NUM_DETECTORS, size=len(times)), strict=True):
            clicks[detector].append(int(time))

    def _coupling(self, times_mu: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = self._electrodes.displacement_um(times_mu) / self._nature.focus_radius_um
        return np.maximum(np.exp(-(distance**2)), self._nature.coupling_floor)

    def _coupling_at(self, time_mu: int) -> float:
        return float(self._coupling(np.array([float(time_mu)]))[0])
