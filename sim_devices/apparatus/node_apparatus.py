"""Hardware of one simulated node behind its drivers: switches, synthesisers, electrodes, counters, lines.

The drivers bind one callable a device key at construction and call it with the times that the kernel
programmed. From these calls the apparatus follows its ion: where it is, which pulses it saw since the herald,
what light is on. When the readout light goes on, the effect that the pulses made decides the outcome
(`outcomes`); what a node sends to the other one goes there directly (`round_lines`). Nobody ever passes a
basis. The hot path is plain Python on integers: a round has about fifty calls.

Between rounds a node may work with its ion alone (`local_ion`, `station`): that is what calibrations do. They
need no laboratory, so the apparatus connects to it only for what has to do with the other node.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import ROLES
from sim_devices.apparatus.attempts import Attempts
from sim_devices.apparatus.client import LaboratoryClient, LaboratoryError, observe
from sim_devices.apparatus.coming_rounds import ComingRounds
from sim_devices.apparatus.effects import PulseEffects
from sim_devices.apparatus.electrodes import Electrodes
from sim_devices.apparatus.heralded_round import HeraldedRound
from sim_devices.apparatus.ion_light import IonLight
from sim_devices.apparatus.isolation_audit import Beam, IsolationAudit
from sim_devices.apparatus.laboratory_time import LaboratoryTime, LaserLock
from sim_devices.apparatus.laser_674 import Laser674
from sim_devices.apparatus.line_tampering import Eve
from sim_devices.apparatus.local_ion import LocalIon
from sim_devices.apparatus.outcomes import RoundOutcomes
from sim_devices.apparatus.partner_connection import LINES
from sim_devices.apparatus.readout import Readout
from sim_devices.apparatus.round_lines import HANDSHAKE_LATENCY_MU, RoundLines
from sim_devices.apparatus.station import DETECTOR_KEYS, Station
from sim_devices.apparatus.trapped_ion import TrappedIon
from sim_devices.engines.entangler_core import ClickSource
from sim_devices.physics.fluorescence import PhotonCounter
from sim_devices.physics.ion import Ion
from sim_devices.physics.node_parameters import Nature

Sink = Callable[..., None]
STROBES = tuple(f"{line}_strobe" for line in LINES)


def _ignore(*_: Any) -> None:
    return None


class NodeApparatus:
    """Device "apparatus" of a node (see `device_db/*_sim.py`).

    :param role: "alice" or "bob"
    :param laboratory: "host:port"; default from the environment variable DIQKD_LABORATORY
    :param nature: JSON file with what is true of this node, see `sim_devices.physics.node_parameters`
    :param seed: of what the node draws when it works alone; default: fresh
    """

    def __init__(
        self,
        device_mgr: Any = None,
        role: str = "",
        laboratory: str | None = None,
        nature: str | None = None,
        seed: int | None = None,
        **_: Any,
    ) -> None:
        if role not in ROLES:
            raise ParameterError(f"apparatus of role {role!r}; roles are alice and bob")
        self._role = role
        own = Nature.load(nature, role)
        rng = np.random.default_rng(seed)
        idle = PhotonCounter(rng, own.bright_count_rate, own.dark_count_rate)
        cooling, repump, deshelving = Beam(), Beam(), Beam()
        alone = LocalIon(own)
        self.audit = audit = IsolationAudit((cooling, repump, deshelving))
        self.time = LaboratoryTime(role, *observe(laboratory))
        self.ion = ion = TrappedIon(alone, idle.uniform)
        self.outcomes = outcomes = RoundOutcomes(role)
        self.round = current = HeraldedRound(outcomes)
        lock = LaserLock(self.time)
        self.laser = laser = Laser674(own, current, alone, lock, self.time, audit)
        self.rounds = rounds = ComingRounds(
            current,
            ion,
            lock,
            self.time,
            lambda: LaboratoryClient(role, laboratory, port),
            self._begin_rounds,
        )
        self.lines = lines = RoundLines(role, rounds, ion, audit, outcomes)
        port = lines.partner.port
        self.electrodes = electrodes = Electrodes(own)
        self.attempts = Attempts(own, rounds, electrodes, audit)
        effects = PulseEffects(Ion(own.coherence_time, own.pulse_error, own.transitions))
        self.readout = readout = Readout(idle, (cooling, repump), ion, current, effects, audit)
        self._own, self._rng = own, rng
        self.station = station = Station(own, rng, electrodes, ion, readout.fluorescing)
        light = IonLight(cooling, deshelving, 1e9 * own.deshelving_time, ion, current, readout, self.time)
        self._level_sinks: dict[str, Sink] = {
            "ttl_422_cool": light.switch_cooling,
            "ttl_1092": repump.switch,
            "ttl_1033": light.switch_deshelving,
            "ttl_674": laser.switch,
            "ttl_422_sigma": light.switch_pumping,
            "ttl_422_ps": station.switch_picosecond,
        }
        for line, key in enumerate(LINES):
            self._level_sinks[key] = partial(lines.drive_level, line)
            self._level_sinks[f"{key}_strobe"] = partial(lines.drive_strobe, line)

    def connect(self) -> None:
        """Connect to the laboratory as this node, unless that is done.

        :raises LaboratoryError: no laboratory answers
        """
        self.rounds.connect()

    def _begin_rounds(self, client: LaboratoryClient) -> None:
        if client.electrode_stuck:
            self.electrodes.disconnect_one()
        self.readout.begin_rounds(np.random.default_rng([client.seed, 0]))
        self.outcomes.connect(client)
        self.attempts.photons.seed(client.seed)
        if client.line_tampering.attack:
            self._let_in(Eve(client.line_tampering, client.eve_seed, self._role))
        self.time.use(client.drift)
        self.time.catch_up(client.time_s)

    def _let_in(self, eve: Eve) -> None:
        self.lines.eve = eve
        if not eve.has_list:
            return

        def listed(current: HeraldedRound) -> bool:
            if eve.skews and self._role == "alice" and eve.attacks(self.rounds.index):
                self.lines.await_type()
            return eve.device_lists(current)

        self.outcomes.listed = listed

    @property
    def time_s(self) -> float:
        """Laboratory time of this node."""
        return self.time.seconds

    # What the drivers bind.

    def level_sink(self, key: str) -> Sink:
        """Called with (time in mu, level) at every change of an output."""
        if key in HANDSHAKE_LATENCY_MU:
            self.connect()  # only rounds have a handshake
        return self._level_sinks.get(key, _ignore)

    def dds_sink(self, key: str) -> Sink:
        """Called with (time in mu, frequency in Hz, phase in turns, amplitude, phase reference in mu)."""
        return self.laser.set if key == "dds_674" else _ignore

    def dac_sink(self, key: str) -> Sink:
        """Called with (time in mu, channel, V)."""
        return self.electrodes.noting(self.audit.set_electrode)

    def edge_source(self, key: str) -> Callable[[int, int], int]:
        """Gives the number of rising edges in a gate [start, stop), mu."""
        if key in DETECTOR_KEYS:
            return partial(self.station.count, DETECTOR_KEYS.index(key))
        return self.readout.count if key in ("pmt", "pmt_counter") else lambda open_mu, close_mu: 0

    def first_edge_source(self, key: str) -> Callable[[int, int], int]:
        """Gives the time of the first rising edge in a gate [start, stop), mu, or -1."""
        if key in HANDSHAKE_LATENCY_MU:
            return partial(self.lines.handshake, HANDSHAKE_LATENCY_MU[key])
        if key in STROBES:
            return partial(self.lines.edge, STROBES.index(key))
        if key in DETECTOR_KEYS:
            return partial(self.station.first_click, DETECTOR_KEYS.index(key))
        return lambda open_mu, close_mu: -1

    def level_source(self, key: str) -> Callable[[int], int]:
        """Gives the level of an input at a time in mu."""
        if key == "ttl_laser_lock":
            return self.laser.lock.level
        if key in LINES:
            return partial(self.lines.level, LINES.index(key))
        return lambda time_mu: 0

    def entangler_source(self, key: str) -> ClickSource:
        """Gives the clicks of the entangler's runs."""
        return self.attempts

    def reload_ion(self) -> None:
        """A new ion in the trap, or two. With one ion in it this does nothing."""
        ion = self.ion
        if ion.lost or ion.crowded:
            self.time.catch_up(self.time_s + self.time.drift.loading_s)
            chance = self._own.pair_probability
            ion.crowded = chance > 0 and self._rng.random() < chance
        ion.lost = False

    def ping(self) -> bool:
        return True

    def close(self) -> None:
        """End the round at hand and the connection to the laboratory."""
        with suppress(LaboratoryError):  # it may have gone before
            self.round.close()
        self.lines.partner.close()
        if self.rounds.client is not None:
            self.rounds.client.close(self.rounds.index + (self.round.entry is None))
