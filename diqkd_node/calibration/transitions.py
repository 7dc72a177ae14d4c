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
    frequency_setting: str
    pi_time_setting: str
    preparation: tuple[ScanPulse, ...]


def transition(name: str, configuration: NodeConfiguration) -> Transition:
    """One of `TRANSITIONS`."""
    mapping = ScanPulse(
        configuration.frequency_map, configuration.pi_time_of("map"), configuration.amplitude_674
    )
    return Transition(
        frequency=getattr(configuration, f"frequency_{name}"),
        pi_time=configuration.pi_time_of(name),
        frequency_setting=f"frequency_{name}",
        pi_time_setting="pi_time" if name == "qubit" else f"pi_time_{name}",
        preparation=(mapping,) if name == "qubit" else (),
    )
