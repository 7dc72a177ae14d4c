"""Position of the ion: four electrode voltages behind their low-pass filters, as a function of time.

The steps are only noted as they come, since a round makes eight and never asks; whoever asks for the position
pays for it.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sim_devices.physics import constants
from sim_devices.physics.node_parameters import Nature

_MAX_NOTED = 4096
_MAX_PIECES = 64
_SETTLED = 50.0  # time constants after which what is left of a step is below the precision of a float


class Electrodes:
    """Displacement of the ion from the focus. Times in mu (1 ns)."""

    def __init__(self, nature: Nature) -> None:
        self._distance_um = nature.shuttle_distance_um
        self._time_constant_mu = 1e9 * nature.electrode_time_constant
        self._volts = dict.fromkeys(constants.ELECTRODE_CHANNELS, 0.0)
        self._noted: list[tuple[int, int, float]] = []
        self._disconnected: set[int] = set()
        # Pieces of the motion: from `start` on, towards `target` from where it was then.
        self._pieces: list[tuple[int, float, float]] = [(-(1 << 62), 0.0, 0.0)]

    def noting(self, then: Callable[[int, int, float], None]) -> Callable[[int, int, float], None]:
        """A sink for the DAC's events that notes them and passes them on."""
        noted, disconnected = self._noted, self._disconnected

        def note(time_mu: int, channel: int, volts: float) -> None:
            if channel in disconnected:
                return
            noted.append((time_mu, channel, volts))
            if len(noted) > _MAX_NOTED:
                self._forget()
            then(time_mu, channel, volts)

        return note

    def disconnect_one(self) -> None:
        """A link that stays up: the node sets four voltages, and three arrive."""
        self._disconnected.add(constants.ELECTRODE_CHANNELS[-1])

    def displacement_um(self, times_mu: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) displacement at each of (n,) times, as far back as the last few steps."""
        self._follow()
        starts, origins, targets = np.array(self._pieces).T
        piece = np.maximum(np.searchsorted(starts, times_mu, side="right") - 1, 0)
        elapsed = np.maximum(times_mu - starts[piece], 0.0)
        lag = np.exp(-elapsed / self._time_constant_mu)
        displacement: NDArray[np.float64] = targets[piece] + (origins[piece] - targets[piece]) * lag
        return displacement

    def _forget(self) -> None:
        """Drop noted steps, but the last few: where they have led is known without following them."""
        noted = self._noted
        rest_mu = _SETTLED * self._time_constant_mu
        for index in range(len(noted) - _MAX_PIECES, 0, -1):
            settled_mu = noted[index - 1][0]
            if noted[index][0] - settled_mu > rest_mu:
                for _, channel, volts in noted[:index]:
                    if channel in self._volts:
                        self._volts[channel] = volts
                position = self._position_um()
                self._pieces = [(settled_mu, position, position)]
                del noted[:index]
                return
        self._follow()

    def _position_um(self) -> float:
        """Where the voltages move the ion in the end."""
        return self._distance_um * sum(self._volts.values()) / len(self._volts)

    def _follow(self) -> None:
        if not self._noted:
            return
        volts_of, pieces = self._volts, self._pieces
        start, origin, target = pieces[-1]
        for time_mu, channel, volts in self._noted:
            if volts_of.get(channel, volts) == volts:
                continue
            volts_of[channel] = volts
            origin = target + (origin - target) * math.exp((start - time_mu) / self._time_constant_mu)
            start, target = time_mu, self._position_um()
            pieces.append((start, origin, target))
        self._noted.clear()
        del self._pieces[:-_MAX_PIECES]
