"""Calibration graph: calibrations, their ages and their dependences, declared as data.

A calibration determines fields of the node configuration. It is due when it is older than `max_age_s`, when
one of those it `depends_on` has changed a field by more than its tolerance, after an event in `after`, or
when a public statistic that it `watches` has drifted. Both nodes hold the same graph.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Self

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.configuration.flat_names import field_name
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import ROLES

RELOCK = "relock"
RELOAD = "reload"
EVENTS = (RELOCK, RELOAD)
HERALD_RATE = "herald_rate"
PATTERN_FRACTIONS = "pattern_fractions"
ION_LOSS_RATE = "ion_loss_rate"
STATISTICS = (HERALD_RATE, PATTERN_FRACTIONS, ION_LOSS_RATE)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """One calibration experiment.

    :param file: experiment file in the repository
    :param class_name: its class, where the file has several
    :param arguments: further arguments of the experiment
    :param joint: it needs both nodes at the same time
    :param roles: nodes that run it
    :param updates: nodes whose configuration it changes
    :param max_age_s: longest time between two of them
    :param duration_s: how long one takes; ten times as long is a failure
    :param tolerances: field of the node configuration -> change, in the field's unit, above which the
        calibrations that depend on this one are due again
    """

    name: str
    file: str
    class_name: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    joint: bool = False
    roles: tuple[str, ...] = ROLES
    updates: tuple[str, ...] = ROLES
    max_age_s: float
    duration_s: float = 60.0
    tolerances: Mapping[str, float] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    watches: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isascii() or not self.name.replace("_", "").isalnum():
            raise ParameterError(f"calibration name {self.name!r} must be letters (a to z), digits and _")
        if self.max_age_s <= 0 or self.duration_s <= 0:
            raise ParameterError(f"{self.name}: max_age_s and duration_s must be positive")
        if self.joint and set(self.roles) != set(ROLES):
            raise ParameterError(f"{self.name}: a joint calibration needs both roles")
        # Lists of calibrations from before the configuration had sections name its fields otherwise.
        tolerances = {field_name(name): value for name, value in self.tolerances.items()}
        object.__setattr__(self, "tolerances", tolerances)
        for what, given, allowed in (
            ("roles", self.roles, ROLES),
            ("updates", self.updates, ROLES),
            ("after", self.after, EVENTS),
            ("watches", self.watches, STATISTICS),
            ("tolerances", tuple(tolerances), NodeConfiguration.field_names()),
        ):
            wrong = [item for item in given if item not in allowed]
            if wrong:
                raise ParameterError(
                    f"{self.name}: {what} has {', '.join(map(repr, wrong))}; choose from "
                    f"{', '.join(sorted(allowed))}"
                )

    def moved(self, before: NodeConfiguration, after: NodeConfiguration) -> dict[str, float]:
        """Changes of this calibration's fields that exceed their tolerances."""
        changes = {name: _distance(before.value(name), after.value(name)) for name in self.tolerances}
        return {name: change for name, change in changes.items() if change > self.tolerances[name]}


def _distance(before: Any, after: Any) -> float:
    """Largest change of a number, or of the entries of a tuple of numbers; a first value is no change."""
    if before is None or after is None:
        return 0.0
    if isinstance(before, tuple):
        if len(before) != len(after):
            return float("inf")
        return max((_distance(one, other) for one, other in zip(before, after, strict=True)), default=0.0)
    return abs(float(after) - float(before))


class CalibrationGraph:
    """Calibrations in an order in which each comes after those it depends on."""

    def __init__(self, calibrations: Iterable[Calibration]) -> None:
        given = list(calibrations)
        by_name = {item.name: item for item in given}
        if len(by_name) != len(given):
            raise ParameterError("two calibrations have the same name")
        for item in given:
            missing = [name for name in item.depends_on if name not in by_name]
            if missing:
                raise ParameterError(f"{item.name} depends on {', '.join(missing)}, which is not declared")
            if not item.joint and any(by_name[name].joint for name in item.depends_on):
                raise ParameterError(
                    f"{item.name} depends on a joint calibration, so it must be joint: each node calibrates "
                    "by itself first"
                )
        try:
            order = TopologicalSorter({item.name: item.depends_on for item in given}).static_order()
            self._calibrations = {name: by_name[name] for name in order}
        except CycleError as error:
            raise ParameterError(f"calibrations depend on each other: {' -> '.join(error.args[1])}") from None

    def __iter__(self) -> Iterator[Calibration]:
        return iter(self._calibrations.values())

    def __getitem__(self, name: str) -> Calibration:
        return self._calibrations[name]

    def __contains__(self, name: object) -> bool:
        return name in self._calibrations

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the graph."""
        return tuple(self._calibrations)

    def of_role(self, role: str) -> tuple[Calibration, ...]:
        """Calibrations of a node, in order."""
        return tuple(item for item in self._calibrations.values() if role in item.roles)

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the whole graph; the nodes compare it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The graph as an indented JSON list."""
        return json.dumps([dataclasses.asdict(item) for item in self._calibrations.values()], indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The graph of a JSON list; raises ParameterError."""
        try:
            entries = json.loads(text)
            return cls(
                Calibration(**{key: _tuples(value) for key, value in item.items()}) for item in entries
            )
        except (json.JSONDecodeError, AttributeError, TypeError) as error:
            raise ParameterError(f"not a list of calibrations: {error}") from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a JSON file; an empty path gives the graph of this package."""
        if not str(path):
            return cls(CALIBRATIONS)
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"cannot read the calibrations {path}: {error}") from None


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _transition(name: str) -> tuple[Calibration, Calibration]:
    """Frequency and pi time of one 674 nm transition. The qubit's scans begin with a mapping pulse."""
    before = () if name != "qubit" else ("frequency_map", "pi_time_map")
    return (
        Calibration(
            name=f"frequency_{name}",
            file="calibrations/transition_frequency.py",
            arguments={"transition": name, "num_points": 21, "num_shots": 50},
            max_age_s=2700.0,
            duration_s=30.0,
            tolerances={f"analysis.frequency_{name}": 1000.0},
            depends_on=before,
            after=(RELOCK,),
        ),
        Calibration(
            name=f"pi_time_{name}",
            file="calibrations/pi_pulse_time.py",
            arguments={"transition": name, "num_points": 21, "num_shots": 50},
            max_age_s=7200.0,
            duration_s=30.0,
            tolerances={f"analysis.pi_time_{name}": 0.1e-6},
            depends_on=(f"frequency_{name}", *before),
        ),
    )


# The reference cavity drifts by up to a hertz a second. Both nodes share the light and the heralded states
# have one excitation, so only the 20 us between the two analysis pulses turn an offset into a phase: 1 kHz is
# 0.13 rad, 0.4 % of S (and 1 % of the Rabi frequency). Light power changes by per cents in hours.
# The phases of the heralded states move with the fibres within an hour, and with the light of the analysis
# pulses: 2000 rounds find them to 0.07 rad, which is 0.1 % of S.
CALIBRATIONS = (
    *(calibration for name in ("map", "qubit", "shelve") for calibration in _transition(name)),
    Calibration(
        name="pattern_phases",
        file="link/pattern_phases.py",
        arguments={"num_rounds": 2000, "num_phases": 8},
        joint=True,
        updates=("bob",),
        max_age_s=3600.0,
        duration_s=120.0,
        tolerances={"analysis.pattern_phase_turns": 0.03},
        depends_on=("frequency_qubit", "pi_time_qubit"),
        watches=(PATTERN_FRACTIONS,),
    ),
)
