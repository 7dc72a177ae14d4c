"""True parameters of one simulated node, which its calibrations are to find.

The defaults are those of `constants`, where their sources stand. Another laboratory is a JSON file with an
object for each role that names what differs,

    {"alice": {"qubit_frequency": 108.021e6, "deshelving_time": 4.4e-6}}

given to the simulated node by the environment variable DIQKD_NATURE. It is read whenever an experiment
starts, so that whoever rewrites it between two experiments makes a drift.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from diqkd_postproc.protocol.errors import ParameterError
from sim_devices.physics import constants
from sim_devices.physics.link import coupling

MAP, QUBIT, SHELVE = constants.TRANSITIONS


@dataclass(frozen=True, kw_only=True)
class Nature:
    """Units: s, Hz, counts/s, um, T, rad. Pi times are those at `constants.PI_AMPLITUDE`; `pulse_area` of the
    picosecond pulse is in units of pi."""

    magnetic_field: float = constants.MAGNETIC_FIELD  # T; what `of_role` takes the three lines from
    map_frequency: float = MAP[0]
    qubit_frequency: float = QUBIT[0]
    shelve_frequency: float = SHELVE[0]
    map_pi_time: float = constants.PI_TIME
    qubit_pi_time: float = constants.PI_TIME
    shelve_pi_time: float = constants.PI_TIME
    coherence_time: float = constants.COHERENCE_TIME["alice"]  # 1/e of the qubit transition, Gaussian
    pulse_error: float = constants.PULSE_ERROR
    pumping_error: float = constants.PUMPING_ERROR
    pumping_time: float = constants.PUMPING_TIME
    repumping_time: float = constants.REPUMPING_TIME
    pulse_area: float = 1.0
    polarisation_angle: float = 0.0
    bright_count_rate: float = constants.BRIGHT_COUNT_RATE
    dark_count_rate: float = constants.DARK_COUNT_RATE
    deshelving_time: float = constants.DESHELVING_TIME["alice"]
    pair_probability: float = 0.0  # that loading brings two ions
    shuttle_distance_um: float = constants.SHUTTLE_DISTANCE_UM
    electrode_time_constant: float = constants.ELECTRODE_TIME_CONSTANT
    focus_radius_um: float = constants.FOCUS_RADIUS_UM
    coupling_floor: float = constants.COUPLING_FLOOR
    photon_probability: float = constants.PHOTON_PROBABILITY
    photon_delay: float = constants.PHOTON_DELAY
    photon_lifetime: float = constants.PHOTON_LIFETIME
    photon_jitter: float = constants.PHOTON_JITTER
    station_count_rate: float = constants.STATION_COUNT_RATE
    station_dark_rate: float = constants.STATION_DARK_RATE

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ParameterError(f"nature: {field.name}={value!r} must be a number and not negative")
        for name in (
            "pulse_error",
            "pumping_error",
            "pair_probability",
            "coupling_floor",
            "photon_probability",
        ):
            if getattr(self, name) > 1:
                raise ParameterError(f"nature: {name}={getattr(self, name)} must be at most 1")
        for name in ("coherence_time", "deshelving_time", "electrode_time_constant", "focus_radius_um"):
            if getattr(self, name) == 0:
                raise ParameterError(f"nature: {name} must be positive")

    @property
    def transitions(self) -> tuple[tuple[float, int, int, float], ...]:
        """(resonance in Hz, lower level, upper level, pi time in s) of mapping, qubit and shelving."""
        return (
            (self.map_frequency, *MAP[1:], self.map_pi_time),
            (self.qubit_frequency, *QUBIT[1:], self.qubit_pi_time),
            (self.shelve_frequency, *SHELVE[1:], self.shelve_pi_time),
        )

    def coupling(self, displacement_um: float) -> float:
        """Photon collection relative to an ion in focus (SI Fig. S5)."""
        return coupling(displacement_um, self.focus_radius_um, self.coupling_floor)

    @classmethod
    def of_role(cls, role: str, **differences: Any) -> Self:
        """The published node of a role, but for `differences`; a magnetic field moves the lines that are not
        among them. Raises ParameterError for an unknown name."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(differences.keys() - known)
        if unknown:
            raise ParameterError(f"nature has no {', '.join(unknown)}; it has: {', '.join(sorted(known))}")
        published = {
            "coherence_time": constants.COHERENCE_TIME[role],
            "deshelving_time": constants.DESHELVING_TIME[role],
        }
        field = differences.get("magnetic_field")
        if isinstance(field, int | float):
            published |= {
                "map_frequency": constants.line_frequency(constants.MAP_LEVELS, field),
                "qubit_frequency": constants.line_frequency(constants.QUBIT_LEVELS, field),
                "shelve_frequency": constants.line_frequency(constants.SHELVE_LEVELS, field),
            }
        return cls(**(published | differences))

    @classmethod
    def load(cls, path: str | Path | None, role: str) -> Self:
        """The nature of a role's node in a JSON file; no path gives the published one."""
        if not path:
            return cls.of_role(role)
        try:
            contents = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(contents, dict):
                raise ValueError("an object with the roles as keys is expected")
            differences = contents.get(role, {})
            if not isinstance(differences, dict):
                raise ValueError(f"the entry {role!r} must be an object")
        except (OSError, ValueError) as error:
            raise ParameterError(f"cannot read the simulated nature {path}: {error}") from None
        return cls.of_role(role, **differences)
