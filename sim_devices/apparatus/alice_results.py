"""Alice's ion after Bob's readout: states that stay in the laboratory, and the results that leave it.

Alice plays a round after Bob in wall-clock time, so her ion's state depends on his setting y and his outcome.
Her process gets results only: the bit that the effect of her pulses finds in that state. One uniform number u
a round, fixed by the seed, decides: bright if u < tr(rho E). It does not matter when or how she asks.

A request costs a round trip, so in key rounds (y = 2 for all to see, x = 0) the results of the few effects
that her key rounds have had come with the herald. Test rounds have to be asked: who held the results for both
of her settings before choosing one could tell y, or else the devices would be local (Bell's theorem). A round
answers one request, as an ion gives one result.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_devices.apparatus import wire

Effect = tuple[float, float, float, float]

# Effects are rounded to this step before Alice's apparatus uses them, so that those that differ by the
# rounding of a phase or a time are one. It moves the probability of a result by less than 1e-4.
EFFECT_STEP = 2.0**-14

# rho00 and rho01 of Alice's ion, and u.
STATE = np.dtype([("population", "<f8"), ("real", "<f8"), ("imaginary", "<f8"), ("uniform", "<f8")])


def rounded(effect: Effect) -> Effect:
    """The effect on the grid of `EFFECT_STEP`."""
    e00, e11, real, imaginary = (round(value / EFFECT_STEP) * EFFECT_STEP for value in effect)
    return e00, e11, real, imaginary


def check_effects(e00: Any, e11: Any, real: Any, imaginary: Any) -> None:
    """Raise WireError unless all eigenvalues are in [0, 1], but for rounding. Scalars or arrays (n,)."""
    with np.errstate(invalid="ignore", over="ignore"):
        middle = (e00 + e11) / 2
        radius = np.hypot((e00 - e11) / 2, np.hypot(real, imaginary))
        within = (middle - radius >= -2 * EFFECT_STEP) & (middle + radius <= 1 + 2 * EFFECT_STEP)
    if not np.all(within):  # NaN fails, too
        raise wire.WireError("an effect with eigenvalues outside [0, 1]")


_check_effect = lru_cache(maxsize=1024)(check_effects)  # of scalars; most rounds repeat one


def bright_chance(state: Iterable[Any], effect: Iterable[Any]) -> Any:
    """tr(rho E) of (population, real, imaginary) and (e00, e11, real, imaginary), scalars or arrays."""
    population, real, imaginary = state
    e00, e11, effect_real, effect_imaginary = effect
    coherent = real * effect_real - imaginary * effect_imaginary
    return population * e00 + (1.0 - population) * e11 + 2.0 * coherent


class AliceResults:
    """The rounds that Alice has in hand, and the effects whose results she gets in advance."""

    def __init__(self) -> None:
        self._effects: dict[Effect, int] = {}
        self._first = 0
        self._states = np.empty(0, dtype=STATE)
        self._round_types = np.empty(0, dtype=np.int64)
        self._asked: set[int] = set()
        self._epoch = 0
        self._epochs = np.empty(0, dtype=np.int64)

    def start(self) -> None:
        """A new process of Alice's: it holds no rounds and has registered nothing."""
        self._effects.clear()
        self._states = self._states[:0]

    def hand_out(
        self, entries: NDArray[np.void], states: NDArray[np.void], epochs: NDArray[np.int64] | None = None
    ) -> None:
        """Fill in the results that go with `entries`; earlier rounds cannot be asked any more.

        `epochs` (n,) tell when the 674 nm light has drifted: the same pulses then make other effects, so a
        new epoch begins without any, and the entries of a chunk's later epochs come without results. None:
        it never drifts.
        """
        if epochs is None:
            epochs = np.zeros(len(entries), dtype=np.int64)
        if epochs[0] != self._epoch:
            self._epoch = int(epochs[0])
            self._effects.clear()
        self._epochs = epochs
        self._first = int(entries["index"][0])
        self._states = states
        self._round_types = entries["round_type"]
        self._asked.clear()
        if not self._effects:
            return
        effects = np.array(list(self._effects), dtype=np.float64).T
        state = (states[name][:, None] for name in ("population", "real", "imaginary"))
        chance = bright_chance(state, effects)
        key_round = (self._round_types == 0) & (epochs == self._epoch)
        bright = (states["uniform"][:, None] < chance) & key_round[:, None]
        weights = np.left_shift(np.uint64(1), np.arange(len(self._effects), dtype=np.uint64))
        entries["results"] = np.where(bright, weights, np.uint64(0)).sum(axis=1, dtype=np.uint64)
        entries["num_results"] = len(self._effects) * key_round

    def measure(self, index: int, effect: Effect) -> tuple[bool, int]:
        """Whether Alice's ion is bright in round `index`, and the number of the effect in coming entries or
        `wire.MAX_REGISTERED` if they will not have it.

        :raises WireError: not her round, asked before, or no effect
        """
        _check_effect(*effect)
        offset = index - self._first
        if not 0 <= offset < len(self._states) or index in self._asked:
            raise wire.WireError("a measurement of a round that this node does not have")
        self._asked.add(index)
        *state, uniform = self._states[offset].item()
        bright = uniform < bright_chance(state, effect)
        if self._epochs[offset] != self._epoch:
            return bright, wire.MAX_REGISTERED
        number = self._effects.get(effect, wire.MAX_REGISTERED)
        room = len(self._effects) < wire.MAX_REGISTERED
        if number == wire.MAX_REGISTERED and room and self._round_types[offset] == 0:
            number = self._effects[effect] = len(self._effects)
        return bright, number


def conditional_states(
    joint: NDArray[np.complex128], results: NDArray[np.void]
) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Alice's rho00 and rho01 after Bob's results: the partial trace with the effect of what he found.

    :raises WireError: an effect of Bob's has eigenvalues outside [0, 1]
    """
    check_effects(results["e00"], results["e11"], results["e10_real"], results["e10_imaginary"])
    effect = np.empty((len(results), 2, 2), dtype=np.complex128)
    effect[:, 0, 0] = results["e00"]
    effect[:, 1, 1] = results["e11"]
    effect[:, 1, 0] = results["e10_real"] + 1j * results["e10_imaginary"]
    effect[:, 0, 1] = effect[:, 1, 0].conj()
    dark = results["bright"] == 0
    effect[dark] = np.eye(2) - effect[dark]
    state = np.einsum("nabcd,ndb->nac", joint, effect)
    norm = np.einsum("naa->n", state).real
    # What no ion does, a device with an answer of its own may report: it tells nothing about Alice's ion.
    impossible = norm < 1e-12
    state[impossible] = np.einsum("nabcb->nac", joint[impossible])
    norm = np.where(impossible, 1.0, norm)
    return state[:, 0, 0].real / norm, state[:, 0, 1] / norm
