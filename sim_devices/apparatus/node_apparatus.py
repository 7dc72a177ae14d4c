"""The hardware of one simulated node behind its drivers: switches, synthesisers, electrodes, counters, lines.

The drivers bind one callable a device key at construction and call it with the times that the kernel
programmed. From these calls the apparatus follows its ion: where it is, which pulses it saw since the herald,
what light is on. When the readout light goes on, the effect that the pulses made decides the outcome: Bob's
apparatus draws it from his reduced state; Alice's, which is never told the state of her ion, has the result
from the laboratory (see `alice_results`). Nobody ever passes a basis. The hot path is plain Python on
integers: a round has about fifty calls.

Between rounds a node may work with its ion alone (`local_ion`, `station`): that is what calibrations do. They
need no laboratory, so the apparatus connects to it only for what has to do with the other node.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from diqkd_postproc.protocol.errors import ParameterError
from sim_devices.apparatus import wire
from sim_devices.apparatus.alice_results import Effect, rounded
from sim_devices.apparatus.client import LaboratoryClient, observe
from sim_devices.apparatus.electrodes import Electrodes
from sim_devices.apparatus.isolation_audit import Beam, IsolationAudit
from sim_devices.apparatus.local_ion import LocalIon
from sim_devices.apparatus.station import DETECTOR_KEYS, Station
from sim_devices.physics.fluorescence import PhotonCounter
from sim_devices.physics.ion import Ion, Pulse, driven_transition
from sim_devices.physics.node_parameters import Nature

ENTANGLER_TIMEOUT = 0x3FFF
PATIENCE = 0.5  # s of wall clock that a handshake line waits for the partner
IMPATIENCE = 0.002  # s, once the partner was found absent
HANDSHAKE_LATENCY_MU = {"ttl_ready": 2_000, "ttl_trigger": 4_000}
STROBE_LATENCY_MU = 40
FOCUS_TIME_MU = 200_000  # after reconnection, when the ion is as good as in the focus
MAX_EFFECTS = 4096

Sink = Callable[..., None]


def _ignore(*_: Any) -> None:
    return None


class NodeApparatus:
    """Device "apparatus" of a node (see `device_db/*_sim.py`).

    :param role: "alice" or "bob"
    :param laboratory: "host:port"; default from the environment variable DIQKD_LABORATORY
    :param nature: JSON file with what is true of this node, see `sim_devices.physics.node_parameters`
    :param seed: of what the node draws when it works alone; default: fresh
    """

    _client: LaboratoryClient
    _readout: PhotonCounter

    def __init__(
        self,
        device_mgr: Any = None,
        role: str = "",
        laboratory: str | None = None,
        nature: str | None = None,
        seed: int | None = None,
        **_: Any,
    ) -> None:
        if role not in wire.ROLES:
            raise ParameterError(f"apparatus of role {role!r}; roles are alice and bob")
        self.role = role
        self._draws_outcomes = role == "bob"
        self._laboratory = laboratory
        self._connected = False
        self.nature = nature_of_node = Nature.load(nature, role)
        local_rng = np.random.default_rng(seed)
        rates = nature_of_node.bright_count_rate, nature_of_node.dark_count_rate
        self._idle = PhotonCounter(local_rng, *rates)
        self._readout = self._idle  # until there are rounds, see `connect`
        self._readout_mu = -1  # start of the last light that measured
        self._transitions = nature_of_node.transitions
        self._ion = Ion(nature_of_node.coherence_time, nature_of_node.pulse_error, self._transitions)
        self._local_ion = LocalIon(nature_of_node)
        self._electrodes = Electrodes(nature_of_node)
        self._station = Station(nature_of_node, local_rng, self._electrodes, self._fluorescing)
        self._deshelving_mu = 1e9 * nature_of_node.deshelving_time
        self._sigma_mu = self._deshelve_on_mu = -1
        self._effects: dict[Any, Effect] = {}
        self._registered: dict[Effect, int] = {}  # Alice's effects by their number in `results`
        self._basis_dependent: dict[float, bool] = {}
        self._cooling, self._repump, self._deshelve = Beam(), Beam(), Beam()
        self.audit = IsolationAudit((self._cooling, self._repump, self._deshelve))
        # The round: an entry of the tape is taken at the handshake, open from herald to next handshake.
        self._queue: list[tuple[Any, ...]] = []
        self._entry: tuple[Any, ...] | None = None
        self._attempts_left = 0
        self._open = False
        self._measured = False
        self._herald_mu = 0
        self._pulses: list[tuple[Any, ...]] = []
        self._round_type = wire.NO_ROUND_TYPE
        self._strobe_mu = -1
        self._bright = True
        # Whether the ion was bright under the last 422 nm pulse and the one before, and which of them was a
        # readout of a coupled ion.
        self._lit_bright = self._previous_lit_bright = True
        self._coupled_readout_mu = -1
        self._last_edge_mu = -1
        # Electrode steps by the last round: more than one since means that the node has rested. Out of step:
        # Alice waits for the first round after Bob's next rest, see `_strobe_edge`.
        self._last_isolation = -1
        self._out_of_step = False
        self._partner_present = True
        # Faults.
        self._ion_lost = False
        self._lost_index = -1
        self._lock_until_mu = -1
        self._lock_back_at = 0.0
        # Laboratory time: that of the last entry, or of a step, and from there on this node's own clock.
        self._drift, time_s = observe(laboratory)
        self._anchor_s, self._anchor_mu, self._last_mu = time_s, 0, 0
        self._epoch = self._entry_epoch = -1
        self._light_offset, self._light_scale = 0.0, 1.0  # Hz; Rabi frequency over the nominal one
        self._follow_drift(self._anchor_s)
        # 674 nm.
        self._synthesiser = (0.0, 0.0, 0.0, -1)
        self._pulse_start_mu = -1
        self._line_level = 0

    def connect(self) -> None:
        """Meet the laboratory as this node, unless that is done. Raises LaboratoryError if there is none."""
        if self._connected:
            return
        self._client = LaboratoryClient(self.role, self._laboratory)
        if self._client.electrode_stuck:
            self._electrodes.disconnect_one()
        # Rounds draw from a stream of their own: how often a node looks at its ion while it waits depends on
        # the speed of both processes, and must not change outcomes.
        rates = self.nature.bright_count_rate, self.nature.dark_count_rate
        self._readout = PhotonCounter(np.random.default_rng([self._client.seed, 0]), *rates)
        self._uniform = self._readout.uniform
        self._drift = self._client.drift
        self._epoch = -1
        self._connected = True
        self.catch_up(self._client.time_s)

    @property
    def time_s(self) -> float:
        """Laboratory time of this node."""
        return self._anchor_s + 1e-9 * (self._last_mu - self._anchor_mu)

    def catch_up(self, time_s: float) -> None:
        """Laboratory time is at least this; the light's parameters follow."""
        if time_s > self.time_s:
            self._anchor_s, self._anchor_mu = time_s, self._last_mu
        self._follow_drift(self.time_s)

    def _follow_drift(self, time_s: float) -> None:
        epoch = self._drift.epoch(time_s)
        if epoch != self._epoch:
            self._epoch = epoch
            state = self._drift.state(time_s)
            self._light_offset = state.frequency_offset
            self._light_scale = state.rabi_scale[self.role]

    # What the drivers bind.

    def level_sink(self, key: str) -> Sink:
        if key in HANDSHAKE_LATENCY_MU:
            self.connect()  # only rounds have a handshake
        sinks: dict[str, Sink] = {
            "ttl_422_cool": self._switch_cooling,
            "ttl_1092": self._repump.switch,
            "ttl_1033": self._switch_deshelving,
            "ttl_674": self._switch_674,
            "ttl_422_sigma": self._switch_sigma,
            "ttl_422_ps": self._switch_picosecond,
            "ttl_round_type": self._set_round_type,
            "ttl_round_type_strobe": self._strobe,
        }
        return sinks.get(key, _ignore)

    def dds_sink(self, key: str) -> Sink:
        return self._set_674 if key == "dds_674" else _ignore

    def dac_sink(self, key: str) -> Sink:
        return self._electrodes.noting(self.audit.set_electrode)

    def edge_source(self, key: str) -> Callable[[int, int], int]:
        if key in DETECTOR_KEYS:
            return partial(self._station.count, DETECTOR_KEYS.index(key))
        return self._count if key in ("pmt", "pmt_counter") else lambda t_open, t_close: 0

    def first_edge_source(self, key: str) -> Callable[[int, int], int]:
        if key in HANDSHAKE_LATENCY_MU:
            latency = HANDSHAKE_LATENCY_MU[key]
            return lambda t_open, t_close: self._handshake(t_open, t_close, latency)
        if key == "ttl_round_type_strobe":
            return self._strobe_edge
        if key in DETECTOR_KEYS:
            return partial(self._station.first_click, DETECTOR_KEYS.index(key))
        return lambda t_open, t_close: -1

    def level_source(self, key: str) -> Callable[[int], int]:
        if key == "ttl_laser_lock":
            return self._lock_level
        if key == "ttl_round_type":
            return lambda time_mu: int(self._round_type == 1)
        if key in HANDSHAKE_LATENCY_MU:
            return lambda time_mu: int(self._entry is not None or self._next_entry(time_mu))
        return lambda time_mu: 0

    def entangler_source(self, key: str) -> Callable[[int, int, int, Any], tuple[int, int]]:
        return self._attempt

    def reload_ion(self) -> None:
        """A new ion in the trap. Without a loss this does nothing."""
        if self._ion_lost:
            self.catch_up(self.time_s + self._drift.loading_s)
        self._ion_lost = False
        if self._lost_index >= 0:
            self._client.report_reload(self._lost_index)
            self._lost_index = -1

    def ping(self) -> bool:
        return True

    def close(self) -> None:
        self._close_round()
        if self._connected:
            self._client.close()

    # Lines and attempts.

    def _handshake(self, t_open: int, t_close: int, latency: int) -> int:
        if t_open == self._last_edge_mu + 1:
            return -1  # the rest of a gate that has had its edge
        if self._open:
            self._close_round()
        # An ion lost here does not keep the partner from answering.
        if self._entry is None and not self._ion_lost and not self._next_entry(t_open) and not self._ion_lost:
            return -1
        edge = t_open + latency
        if edge >= t_close:
            return -1
        self._last_edge_mu = edge
        return edge

    def _attempt(self, t_start: int, t_cycle: int, duration: int, patterns: Any) -> tuple[int, int]:
        if self._open:
            self._close_round()
        audit = self.audit
        if audit.private_mu >= 0 or audit.failure is not None:
            audit.attempt()
        num_attempts = duration // t_cycle
        if self._ion_lost or (self._entry is None and not self._next_entry(t_start)) or self._ion_lost:
            return t_start + duration, ENTANGLER_TIMEOUT
        if t_start < audit.connected_mu + FOCUS_TIME_MU:
            displacement_um = self._electrodes.displacement_um(np.array([float(t_start)]))[0]
            coupled = self.nature.coupling(float(displacement_um))
            if coupled < 0.999:
                num_attempts = int(num_attempts * coupled)
        left = self._attempts_left
        if left > num_attempts:
            self._attempts_left = left - num_attempts
            return t_start + duration, ENTANGLER_TIMEOUT
        entry: Any = self._entry
        self._open = True
        self._measured = False
        self._herald_mu = herald_mu = t_start + left * t_cycle
        self._pulses.clear()
        self._round_type = entry[6]
        self._strobe_mu = entry[7]
        if entry[2] not in patterns:
            self._close_round()  # the station clicked, but this node does not take the pattern for a herald
            return t_start + duration, ENTANGLER_TIMEOUT
        return herald_mu, 1 << patterns.index(entry[2])

    def _strobe_edge(self, t_open: int, t_close: int) -> int:
        if not self._open:
            return -1
        if self._strobe_mu < 0:
            # Bob failed in this round, so she will leave the batch here, in step with him. The rounds that he
            # plays until he notices, which in this process were played already, she misses.
            self._out_of_step = True
            return -1
        edge = self._herald_mu + self._strobe_mu + STROBE_LATENCY_MU
        return edge if t_open <= edge < t_close else -1

    def _set_round_type(self, time_mu: int, value: int) -> None:
        if value != self._line_level and self._open:
            self.audit.private(time_mu, "the round-type line changed")
        self._line_level = value

    def _strobe(self, time_mu: int, value: int) -> None:
        if value and self._open:
            self.audit.private(time_mu, "the round type was sent")
            self._round_type = self._line_level
            self._strobe_mu = time_mu - self._herald_mu

    def _lock_level(self, time_mu: int) -> int:
        if self._drift.outages:
            self._last_mu = time_mu
            self._follow_drift(self.time_s)
            if not self._drift.locked(self.time_s):
                return 0
        return int(time_mu >= self._lock_until_mu or time.monotonic() > self._lock_back_at)

    # The tape.

    def _next_entry(self, time_mu: int) -> bool:
        queue = self._queue
        if not queue:
            self.connect()
            self._queue = queue = self._client.fetch(
                PATIENCE if self._partner_present else IMPATIENCE, self.time_s
            )
            self._partner_present = bool(queue)
            if not queue:
                return False
        entry = queue.pop()
        while self._out_of_step and not entry[3] & wire.NOTICE:
            if entry[8]:
                self._out_of_step = False
            elif queue:
                entry = queue.pop()
            else:
                return False
        fault = entry[3]
        if fault:
            if fault & wire.LOCK_LOST:
                self._lock_until_mu = time_mu + entry[4]
                self._lock_back_at = time.monotonic() + max(1.0, 1e-9 * entry[4])
            if fault & wire.ION_LOST:
                self._ion_lost = True
            if fault & wire.NOTICE:
                if fault & wire.ION_LOST:
                    self._lost_index = entry[0]
                return False
        self._entry = entry
        self._attempts_left = entry[1]
        self._local_ion.forget()
        self._last_mu = time_mu
        if not self._drift.still or self._drift.time_scale > 1.0:
            epoch = self._drift.epoch(entry[-1])
            if epoch != self._entry_epoch:
                self._entry_epoch = epoch
                self._registered.clear()  # as the laboratory does
            self.catch_up(entry[-1])
        return True

    def _close_round(self) -> None:
        """The round is over for this node, read out or not."""
        if not self._open:
            return
        if not self._measured and self._draws_outcomes:
            # Nobody looked: any effect of trace one half leaves Alice her reduced state.
            entry: Any = self._entry
            self._add_result(entry[0], True, (0.5, 0.5, 0.0, 0.0))
        self._open = False
        self._entry = None

    def _add_result(self, index: int, bright: bool, effect: Effect) -> None:
        isolation = self.audit.num_isolations
        rested = isolation > self._last_isolation + 1
        self._last_isolation = isolation
        self._client.add_result((index, self._round_type, self._strobe_mu, bright, rested, *effect))

    # Light on the ion.

    def _set_674(
        self, time_mu: int, frequency: float, phase_turns: float, amplitude: float, ref_time_mu: int
    ) -> None:
        self._synthesiser = (frequency, phase_turns, amplitude, ref_time_mu)

    def _switch_674(self, time_mu: int, value: int) -> None:
        if value:
            self._pulse_start_mu = time_mu
            return
        start, self._pulse_start_mu = self._pulse_start_mu, -1
        if start < 0:
            return
        frequency, phase, amplitude, reference = self._synthesiser
        nominal = frequency
        frequency += self._light_offset
        amplitude *= self._light_scale
        if self._local_ion.coherent:
            if self._lock_level(start):
                self._local_ion.drive(start, time_mu, frequency, phase, amplitude, reference)
            return
        if not self._open or self._measured:
            return
        basis_dependent = self._basis_dependent.get(nominal)
        if basis_dependent is None:
            driven = driven_transition(frequency, self._transitions)
            basis_dependent = driven is not None and driven[0] != self.nature.map_frequency
            self._basis_dependent[nominal] = basis_dependent
        if basis_dependent:
            self.audit.private(start, "an analysis pulse began")
        if (start < self._lock_until_mu or self._drift.outages) and not self._lock_level(start):
            return
        herald = self._herald_mu
        self._pulses.append(
            (start - herald, time_mu - start, frequency, phase, amplitude, reference - herald)
        )

    def _switch_deshelving(self, time_mu: int, value: int) -> None:
        self._deshelve.switch(time_mu, value)
        if value:
            self._deshelve_on_mu = time_mu
            if self._local_ion.coherent:
                self._project()
        elif not self._bright:
            time_constants = (time_mu - self._deshelve_on_mu) / self._deshelving_mu
            self._bright = time_constants > 20 or self._idle.uniform() >= math.exp(-time_constants)

    def _switch_sigma(self, time_mu: int, value: int) -> None:
        if value:
            self._sigma_mu = time_mu
            if self._open and self._measured:
                self._close_round()  # the last round before the node works alone
            if self._local_ion.coherent:
                self._project()
        elif self._bright and not self._open:
            self._follow_drift(self.time_s)
            self._local_ion.pump(self._sigma_mu, time_mu)

    def _switch_picosecond(self, time_mu: int, value: int) -> None:
        if value and self._local_ion.coherent and not self._ion_lost:
            self._local_ion.forget()
            self._station.excite(time_mu)

    def _project(self) -> None:
        """Light that tells S1/2 from D5/2, on an ion that this node alone has prepared."""
        self._bright = self._idle.uniform() < self._local_ion.ground_population()

    def _fluorescing(self, start_mu: int, stop_mu: int) -> tuple[int, int]:
        """The part of an interval in which the ion scatters cooling light."""
        bright = self._lit_bright if self._cooling.on_mu < stop_mu else self._previous_lit_bright
        if self._ion_lost or not bright:
            return start_mu, start_mu
        cooling, repump = self._cooling.light(start_mu, stop_mu), self._repump.light(start_mu, stop_mu)
        return max(cooling[0], repump[0]), min(cooling[1], repump[1])

    def _switch_cooling(self, time_mu: int, value: int) -> None:
        self._last_mu = time_mu
        if not value:
            self._cooling.off_mu = time_mu
            return
        # The light measures, whether or not anybody counts.
        if self._open and not self._measured:
            self._measure(time_mu)
        elif self._local_ion.coherent:
            self._project()
        self._previous_lit_bright = self._lit_bright
        self._lit_bright = self._bright
        self._cooling.switch(time_mu, 1)

    def _count(self, t_open: int, t_close: int) -> int:
        """Counts of a gate; called when the kernel fetches them, perhaps after the next pulses."""
        cooling = self._cooling
        start, stop = cooling.light(t_open, t_close)
        repump_start, repump_stop = self._repump.light(t_open, t_close)
        if start < repump_start:
            start = repump_start
        if stop > repump_stop:
            stop = repump_stop
        bright = self._lit_bright if cooling.on_mu < t_close else self._previous_lit_bright
        if t_open <= self._coupled_readout_mu < t_close:
            self.audit.fail("the readout began while the ion was in reach of the link")
        gate = t_close - t_open
        counter = self._readout if t_open <= self._readout_mu < t_close else self._idle
        if stop - start < gate:
            return self._count_partly_lit(gate, max(stop - start, 0), bright)
        if self._ion_lost:
            return counter.background(1e-9 * gate)
        return counter.bright(1e-9 * gate) if bright else counter.dark(1e-9 * gate)

    def _count_partly_lit(self, gate_mu: int, lit_mu: int, bright: bool) -> int:
        counts = self._idle.background(1e-9 * (gate_mu - lit_mu))
        if lit_mu and bright and not self._ion_lost:
            return counts + self._idle.bright(1e-9 * lit_mu)
        return counts + self._idle.background(1e-9 * lit_mu)

    def _measure(self, time_mu: int) -> None:
        """Readout light on an ion that may be entangled: draw its outcome."""
        audit = self.audit
        if audit.private_mu >= 0 or time_mu >= audit.settled_mu:
            audit.private(time_mu, "the readout began")
        else:
            self._coupled_readout_mu = time_mu  # cooling after a herald, unless somebody counts it
        entry: Any = self._entry
        key = (time_mu - self._herald_mu, *self._pulses)
        effect = self._effects.get(key)
        if effect is None:
            effect = self._effect(key)
        if entry[5]:
            bright = entry[5] == 1
        elif self._draws_outcomes:
            e00, e11, real, imaginary = effect
            population = entry[9]
            chance = (
                population * e00 + (1.0 - population) * e11 + 2.0 * (entry[10] * real - entry[11] * imaginary)
            )
            bright = self._uniform() < chance
        else:
            number = self._registered.get(effect, wire.MAX_REGISTERED)
            if number < entry[10]:
                bright = bool(entry[9] >> number & 1)
            else:
                bright, number = self._client.measure(entry[0], effect)
                if number < wire.MAX_REGISTERED:
                    self._registered[effect] = number
        self._bright = bright
        self._readout_mu = time_mu
        self._measured = True
        if self._draws_outcomes:
            self._add_result(entry[0], bright, effect)

    def _effect(self, key: tuple[Any, ...]) -> Effect:
        pulses = tuple(
            Pulse(1e-9 * start, 1e-9 * duration, frequency, phase, amplitude, 1e-9 * reference)
            for start, duration, frequency, phase, amplitude, reference in key[1:]
        )
        matrix = self._ion.bright_effect(pulses, 1e-9 * key[0])
        if len(self._effects) >= MAX_EFFECTS:
            self._effects.clear()
        effect = (
            float(matrix[0, 0].real),
            float(matrix[1, 1].real),
            float(matrix[1, 0].real),
            float(matrix[1, 0].imag),
        )
        if not self._draws_outcomes:
            effect = rounded(effect)
        self._effects[key] = effect
        return effect
