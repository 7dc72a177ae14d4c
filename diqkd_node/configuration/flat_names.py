"""Names that the fields had when the configuration was one flat list.

Files of a node, results of calibrations, their histories and lists of calibrations from before the
configuration was split by step name its fields so. All of them still open: `FIELDS` is the one place where an
old name becomes a new one, SECTION.FIELD, and new files have the new names only.
"""

from collections.abc import Mapping
from typing import Any

from diqkd_postproc.protocol.errors import ParameterError

FIELDS = {
    "herald_source": "attempts.source",
    "attempt_time": "attempts.attempt_time",
    "ttl_attempt_time": "attempts.ttl_attempt_time",
    "window_time": "attempts.window_time",
    "windows_per_search": "attempts.windows_per_search",
    "herald_patterns": "attempts.herald_patterns",
    "attempt_outputs": "attempts.outputs",
    "photon_window": "attempts.photon_window",
    "cooling_time": "cooling.time",
    "recooling_delay": "cooling.recooling_delay",
    "ready_interval": "handshake.ready_interval",
    "ready_gate": "handshake.ready_gate",
    "trigger_time": "handshake.trigger_time",
    "handshake_latency": "handshake.latency",
    "handshake_tries": "handshake.tries",
    "herald_latency": "analysis.herald_latency",
    "frequency_map": "analysis.frequency_map",
    "frequency_qubit": "analysis.frequency_qubit",
    "frequency_shelve": "analysis.frequency_shelve",
    "amplitude_674": "analysis.amplitude",
    "pi_time": "analysis.pi_time_qubit",
    "pi_time_map": "analysis.pi_time_map",
    "pi_time_shelve": "analysis.pi_time_shelve",
    "pattern_phase_turns": "analysis.pattern_phase_turns",
    "pulse_gap": "analysis.pulse_gap",
    "dds_set_time": "analysis.dds_set_time",
    "shuttle_channels": "isolation.channels",
    "connected_voltages": "isolation.connected_voltages",
    "isolated_voltages": "isolation.isolated_voltages",
    "settling_time": "isolation.settling_time",
    "strobe_delay": "lines.strobe_delay",
    "strobe_setup": "lines.strobe_setup",
    "strobe_time": "lines.strobe_time",
    "strobe_sample_delay": "lines.sample_delay",
    "round_type_latency": "lines.latency",
    "pumping_time": "state_preparation.pumping_time",
    "readout_time": "readout.time",
    "readout_threshold": "readout.threshold",
    "scrambling_time": "scrambling.time",
    "ion_check_rounds": "ion_watch.check_rounds",
    "ion_threshold": "ion_watch.threshold",
    "frequency_422": "beams.frequency_422",
    "frequency_1092": "beams.frequency_1092",
    "frequency_1033": "beams.frequency_1033",
    "attenuation": "beams.attenuation",
    "beam_gap": "beams.gap",
    "chunk_rounds": "batches.chunk_rounds",
    "check_interval": "batches.check_interval",
    "recovery_interval": "batches.recovery_interval",
    "max_underflows": "batches.max_underflows",
}

DROPPED = {"lock_check_rounds", "strobe_timeout"}
"""Names of fields that nothing reads any more: passed over."""


def field_name(name: str) -> str:
    """The present name SECTION.FIELD of a field; any other name is returned as it is."""
    return FIELDS.get(name, name)


def by_section(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` as the document of a `NodeConfiguration`, {section: {field: value}}.

    A name may be a section, a field as SECTION.FIELD, or the old name of a field. Raises ParameterError for a
    field that is there twice.
    """
    sections: dict[str, Any] = {}
    for name, value in values.items():
        if name in DROPPED:
            continue
        section, _, field = field_name(name).partition(".")
        given = {field: value} if field else value
        if not isinstance(given, dict):
            sections[section] = given
        elif isinstance(known := sections.setdefault(section, {}), dict):
            if twice := known.keys() & given.keys():
                raise ParameterError(
                    f"{section}.{min(twice)} is named twice in the node configuration; remove one of them"
                )
            known.update(given)
    return sections
