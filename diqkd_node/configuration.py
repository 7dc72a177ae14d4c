"""Every time, frequency, phase and voltage of a node, in SI units, with the values of the published run.

Times come from the sequence of SI section S2 (Fig. S2b). Frequencies and pi times are calibration
results; they are configuration, so that a recalibration changes no code. A `NodeConfiguration` is public:
the experiment writes the one in use next to the record.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args, get_origin

from diqkd_postproc.protocol.errors import ParameterError

ROLES = ("alice", "bob")
EXPECTED = {float: "a number", int: "a whole number", str: "text"}
HERALD_SOURCES = ("entangler", "ttl")
LONGEST_CYCLE = 1023 * 8e-9  # ten bits of coarse cycles
HERALD_PATTERNS = (0b0011, 0b0101, 0b1010, 0b1100)
NUM_SETTINGS = {"alice": 2, "bob": 3}
# Phase of Bob's analysis pulses after each herald pattern, in turns: half a turn minus the phase of the state
# (|01> + e^{i phase} |10>)/sqrt(2) that the pattern announces (SI Table S2), so that test rounds are won.
PATTERN_PHASE_TURNS = tuple(0.5 - phase / math.tau for phase in (1.728, -1.332, -1.470, 1.759))


@dataclass(frozen=True, kw_only=True)
class NodeConfiguration:
    """Settings of a node. Units: s, Hz, turns of phase, V, dB of attenuation."""

    role: str

    herald_source: str = "entangler"  # or "ttl", for a node without the entangler core

    # Cooling and the entanglement attempts (PROTOCOL 3.1 and 3.2).
    cooling_time: float = 300e-6
    recooling_delay: float = 10e-6  # from the end of a window to cooling: the CPU's turn
    attempt_time: float = 1e-6
    window_time: float = 500e-6
    windows_per_search: int = 200  # windows between two looks at ion, lock and peer: below 0.2 s
    herald_patterns: tuple[int, ...] = HERALD_PATTERNS
    # Start and stop within an attempt of the entangler's outputs: 422 sigma, 1092, picosecond trigger, spare.
    attempt_outputs: tuple[tuple[float, float], ...] = (
        (0.0, 0.50e-6),
        (0.0, 0.60e-6),
        (0.65e-6, 0.70e-6),
        (0.0, 0.0),
    )
    photon_window: tuple[float, float] = (0.02e-6, 0.06e-6)  # after the pulse, all APDs
    ttl_attempt_time: float = 40e-6  # a kernel plays and reads an attempt in less than this

    # Ready/trigger handshake. Bob's gate is longer than Alice's interval between two `ready` edges.
    ready_interval: float = 500e-6
    ready_gate: float = 1000e-6
    trigger_time: float = 1e-6
    handshake_latency: float = 10e-6
    handshake_tries: int = 120

    # Mapping, basis and shelving pulses at 674 nm (PROTOCOL 3.4 and 3.7).
    herald_latency: float = 30e-6
    frequency_map: float = 94.0e6
    frequency_qubit: float = 108.0e6
    frequency_shelve: float = 71.6e6
    amplitude_674: float = 0.5
    pi_time: float = 5.0e-6  # of the optical qubit; analysis pulses are fractions of it
    pi_time_map: float | None = None  # None: the same
    pi_time_shelve: float | None = None
    pattern_phase_turns: tuple[float, ...] = PATTERN_PHASE_TURNS
    pulse_gap: float = 2e-6  # from the end of a DDS setting to the pulse that uses it
    dds_set_time: float = 6e-6

    # Isolation (PROTOCOL 3.5): electrodes Q15, Q16, Q23, Q24 move the ion by 3 um.
    shuttle_channels: tuple[int, ...] = (15, 16, 23, 24)
    connected_voltages: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    isolated_voltages: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    settling_time: float = 30e-6

    # Round-type line (PROTOCOL 3.6).
    strobe_delay: float = 5e-6  # after settling, so that Alice's gate is open
    strobe_setup: float = 2e-6
    strobe_time: float = 5e-6
    strobe_timeout: float = 200e-6
    strobe_sample_delay: float = 15e-6
    round_type_latency: float = 25e-6

    # Optical pumping into S1/2 m=+1/2 before the shots of a calibration.
    pumping_time: float = 5e-6

    # Readout, scrambling (PROTOCOL 3.8 and 3.9).
    readout_time: float = 250e-6
    readout_threshold: int = 15
    scrambling_time: float = 100e-6
    beam_gap: float = 1e-6

    # Looking after ion and lasers.
    ion_check_rounds: int = 20
    ion_threshold: int = 15  # counts during one cooling time
    lock_check_rounds: int = 1
    recovery_interval: float = 0.1

    frequency_422: float = 210.0e6
    frequency_1092: float = 200.0e6
    frequency_1033: float = 200.0e6
    attenuation: float = 10.0

    # The batch loop.
    chunk_rounds: int = 50
    check_interval: float = 0.2
    max_underflows: int = 20  # in a batch; more point at times that this machine cannot keep

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ParameterError(f"role={self.role!r} is not one of {', '.join(ROLES)}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_time = field.name.endswith(("_time", "_interval", "_gate", "_delay", "_latency"))
            if (is_time or field.name.startswith("pi_time_")) and value is not None and value <= 0:
                raise ParameterError(f"{field.name}={value} s must be positive")
        if self.herald_source not in HERALD_SOURCES:
            raise ParameterError(
                f"herald_source={self.herald_source!r} is not one of {', '.join(HERALD_SOURCES)}"
            )
        if not 1 <= len(self.herald_patterns) <= 4:
            raise ParameterError(
                f"herald_patterns has {len(self.herald_patterns)} entries; the entangler core holds 1 to 4"
            )
        if len(self.pattern_phase_turns) != len(self.herald_patterns):
            raise ParameterError(
                f"pattern_phase_turns has {len(self.pattern_phase_turns)} entries for "
                f"{len(self.herald_patterns)} herald patterns; give one for each"
            )
        if self.herald_source == "entangler" and not 0 < self.attempt_time <= LONGEST_CYCLE:
            raise ParameterError(
                f"attempt_time={self.attempt_time} s does not fit the entangler core's counter, which "
                f"ends at {LONGEST_CYCLE} s"
            )
        if len(set(self.herald_patterns)) < len(self.herald_patterns) or not all(
            0 < pattern < 16 for pattern in self.herald_patterns
        ):
            raise ParameterError(
                f"herald_patterns={list(self.herald_patterns)} must be different numbers from 1 to 15, "
                "a bit a detector"
            )
        if len(self.attempt_outputs) != 4:
            raise ParameterError(
                f"attempt_outputs has {len(self.attempt_outputs)} entries; the core has 4 outputs"
            )
        num_electrodes = len(self.shuttle_channels)
        if not len(self.connected_voltages) == len(self.isolated_voltages) == num_electrodes:
            raise ParameterError(
                f"give one voltage, connected and isolated, for each of {num_electrodes} electrodes"
            )
        if not all(0 <= channel < 32 for channel in self.shuttle_channels):
            raise ParameterError(
                f"shuttle_channels={list(self.shuttle_channels)}: the Fastino has channels 0 to 31"
            )
        if not all(abs(volts) < 10 for volts in self.connected_voltages + self.isolated_voltages):
            raise ParameterError("connected_voltages and isolated_voltages must be within 10 V of 0")
        if not 0 < self.amplitude_674 <= 1:
            raise ParameterError(f"amplitude_674={self.amplitude_674} is not a part of full scale, 0 to 1")
        if self.settling_time < 30e-6:
            raise ParameterError(
                f"settling_time={self.settling_time} s is below the electrode filter's 30 us"
            )
        if self.scrambling_time < 100e-6:
            raise ParameterError(
                f"scrambling_time={self.scrambling_time} s is below 100 us, ten time constants"
            )
        ready_period = self.ready_interval + self.handshake_latency + self.cooling_time
        if self.ready_gate <= ready_period:
            raise ParameterError(
                f"ready_gate={self.ready_gate} s must exceed the time between two of Alice's edges, "
                f"ready_interval + handshake_latency + cooling_time = {ready_period:.6f} s"
            )
        search_time = self.windows_per_search * (self.window_time + self.cooling_time + self.recooling_delay)
        if search_time > self.check_interval:
            raise ParameterError(
                f"windows_per_search={self.windows_per_search} takes {search_time:.3f} s, above "
                f"check_interval={self.check_interval} s; lower it"
            )

    @property
    def num_settings(self) -> int:
        """Number of measurement settings: x in {0, 1} for Alice, y in {0, 1, 2} for Bob."""
        return NUM_SETTINGS[self.role]

    @property
    def key_setting(self) -> int:
        """The setting of key rounds: x = 0, y = 2."""
        return 0 if self.role == "alice" else 2

    @property
    def bright_outcome(self) -> int:
        """Outcome bit of a bright ion; Alice inverts hers, so that key rounds agree (PROTOCOL 3.8)."""
        return 0 if self.role == "alice" else 1

    def pi_time_of(self, transition: str) -> float:
        """Pi time (s) of "map", "qubit" or "shelve"."""
        own = self.pi_time if transition == "qubit" else getattr(self, f"pi_time_{transition}")
        return self.pi_time if own is None else float(own)

    def analysis_pulse(self, setting: int, pattern_index: int) -> tuple[float, float, float]:
        """(frequency, phase in turns, duration) of the 674 nm pulse that selects the basis.

        Rxy(theta, phi) rotates by theta about an axis at phi in the equator; Rxy(-theta, phi) equals
        Rxy(theta, phi + pi). The computational basis takes the shelving pulse instead.
        """
        shelving = (self.frequency_shelve, 0.0, self.pi_time_of("shelve"))
        if self.role == "alice":
            return shelving if setting == 0 else (self.frequency_qubit, 0.0, self.pi_time / 2)
        if setting == 2:
            return shelving
        phase = self.pattern_phase_turns[pattern_index] + (0.0 if setting == 0 else 0.5)
        return (self.frequency_qubit, phase % 1.0, self.pi_time / 4)

    def to_json(self) -> str:
        """All settings as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def differences(self) -> dict[str, Any]:
        """Settings that are not the defaults, as JSON has them."""
        plain = json.loads(self.to_json())
        defaults = json.loads(type(self)(role=self.role).to_json())
        return {name: value for name, value in plain.items() if value != defaults[name]}

    @classmethod
    def from_json(cls, text: str, role: str, **settings: Any) -> Self:
        """Settings from JSON; `settings` go first, defaults last. Raises ParameterError."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ParameterError(f"the node configuration is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise ParameterError("the node configuration must be a JSON object of settings")
        known = {field.name: field.type for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ParameterError(f"unknown settings in the node configuration: {', '.join(unknown)}")
        if values.setdefault("role", role) != role:
            raise ParameterError(f"the node configuration is {values['role']}'s, but this node is {role}")
        typed = {}
        for name, value in (values | settings).items():
            try:
                typed[name] = _typed(known[name], value)
            except TypeError as error:
                raise ParameterError(f"{name}={value!r} in the node configuration: {error}") from None
        return cls(**typed)

    @classmethod
    def load(cls, path: str | Path, role: str, **settings: Any) -> Self:
        """Read a JSON file; an empty path gives the defaults. `settings` override both."""
        if not str(path):
            return cls(role=role, **settings)
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"), role, **settings)
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"cannot read the node configuration {path}: {error}") from None


def _typed(kind: Any, value: Any) -> Any:
    """`value` from JSON as a field's type: 1 is as good as 1.0 for a voltage in JSON, not for the compiler of
    kernels. Raises TypeError."""
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError("a list is expected")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise TypeError(f"a list of {len(kinds)} is expected")
        return tuple(_typed(kind, item) for kind, item in zip(kinds, value, strict=True))
    if arguments:  # a type or None
        return None if value is None else _typed(arguments[0], value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{EXPECTED[kind]} is expected")
    return value
