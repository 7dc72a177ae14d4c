"""The three 674 nm transitions, how to reach each from optical pumping, and which settings are theirs.

Pumping leaves the ion in S1/2 m=+1/2, where mapping and shelving start. The qubit transition is driven from
its upper level, which a mapping pulse fills; what of that pulse is missing stays bright and only costs
contrast.
"""

from dataclasses import dataclass

from diqkd_node.calibration.pulse_scan import ScanPulse
from diqkd_node.configuration import NodeConfiguration

TRANSITIONS = ("map", "qubit", "shelve")


@dataclass(frozen=True)
class Transition:
    """Frequency (Hz) and pi time (s) that the configuration has, the fields they stand in, and the pulses
    that lead to the transition's first level."""

    frequency: float
    pi_time: float
    frequency_field: str
    pi_time_field: str
    preparation: tuple[ScanPulse, ...]


def transition(name: str, configuration: NodeConfiguration) -> Transition:
    """One of `TRANSITIONS`."""
    analysis = configuration.analysis
    mapping = ScanPulse(analysis.frequency_of("map"), analysis.pi_time_of("map"), analysis.amplitude)
    return Transition(
        frequency=analysis.frequency_of(name),
        pi_time=analysis.pi_time_of(name),
        frequency_field=f"analysis.frequency_{name}",
        pi_time_field=f"analysis.pi_time_{name}",
        preparation=(mapping,) if name == "qubit" else (),
    )
