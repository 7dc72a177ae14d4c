"""The node configuration: published values, pulses of every setting, refusals."""

import json

import pytest

from diqkd_node.configuration import NodeConfiguration
from diqkd_postproc.protocol.errors import ParameterError


def test_published_times() -> None:
    configuration = NodeConfiguration(role="alice")
    assert configuration.cooling_time == 300e-6
    assert configuration.window_time == 500e-6
    assert configuration.attempt_time == 1e-6
    assert configuration.settling_time == 30e-6
    assert configuration.scrambling_time == 100e-6
    assert configuration.round_type_latency == 25e-6


def test_alice_pulses() -> None:
    configuration = NodeConfiguration(role="alice")
    shelving = (configuration.frequency_shelve, 0.0, configuration.pi_time)
    for index in range(4):
        assert configuration.analysis_pulse(0, index) == shelving
        assert configuration.analysis_pulse(1, index) == (configuration.frequency_qubit, 0.0, 2.5e-6)


def test_bob_pulses() -> None:
    configuration = NodeConfiguration(role="bob", pattern_phase_turns=(0.1, 0.2, 0.6, 0.9))
    assert configuration.analysis_pulse(2, 1) == (configuration.frequency_shelve, 0.0, configuration.pi_time)
    for index, phase in enumerate((0.1, 0.2, 0.6, 0.9)):
        plus, minus = configuration.analysis_pulse(0, index), configuration.analysis_pulse(1, index)
        assert plus == (configuration.frequency_qubit, pytest.approx(phase), 1.25e-6)
        # Rxy(-theta, phi) = Rxy(theta, phi + pi)
        assert (minus[1] - plus[1]) % 1.0 == pytest.approx(0.5)
        assert minus[2] == plus[2]


def test_outcome_inversion() -> None:
    assert NodeConfiguration(role="alice").bright_outcome == 0
    assert NodeConfiguration(role="bob").bright_outcome == 1


def test_json_round_trip(tmp_path) -> None:
    configuration = NodeConfiguration(
        role="bob", readout_threshold=17, connected_voltages=(0.1, 0.2, 0.3, 0.4)
    )
    path = tmp_path / "node.json"
    path.write_text(configuration.to_json())
    assert NodeConfiguration.load(path, "bob") == configuration
    assert NodeConfiguration.load(path, "bob", readout_threshold=9).readout_threshold == 9


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        ('{"coolin_time": 1}', "coolin_time"),
        ('{"role": "bob"}', "this node is alice"),
        ('{"settling_time": 2e-5}', "30 us"),
        ('{"scrambling_time": 5e-5}', "100 us"),
        ('{"cooling_time": 0}', "positive"),
        ('{"pattern_phase_turns": [0.1]}', "one for each"),
        ('{"windows_per_search": 2000}', "lower it"),
        ('{"ready_gate": 1e-4}', "ready_interval"),
        ('{"isolated_voltages": [1.0]}', "electrodes"),
        ('{"frequency_map": "94e6"}', "frequency_map='94e6'.*a number is expected"),
        ('{"readout_threshold": 15.5}', "a whole number is expected"),
        ('{"photon_window": [1e-8]}', "a list of 2"),
        ('{"isolated_voltages": 1.0}', "a list is expected"),
        ('{"attempt_time": 1e-5}', "entangler core's counter"),
        ('{"herald_patterns": [3, 3, 5, 10]}', "herald_patterns"),
        ('{"shuttle_channels": [15, 16, 23, 32]}', "0 to 31"),
        ('{"isolated_voltages": [1, 1, 1, 11]}', "10 V"),
        ('{"amplitude_674": 1.5}', "full scale"),
    ],
)
def test_refusals(text: str, problem: str) -> None:
    with pytest.raises(ParameterError, match=problem):
        NodeConfiguration.from_json(text, "alice")


def test_missing_file(tmp_path) -> None:
    with pytest.raises(ParameterError, match="cannot read"):
        NodeConfiguration.load(tmp_path / "absent.json", "alice")


def test_unknown_role() -> None:
    with pytest.raises(ParameterError, match="charlie"):
        NodeConfiguration(role="charlie")


def test_defaults_are_json(tmp_path) -> None:
    assert json.loads(NodeConfiguration(role="alice").to_json())["role"] == "alice"


def test_pi_times_follow_the_qubits_unless_they_are_set() -> None:
    configuration = NodeConfiguration(role="alice", pi_time=6e-6, pi_time_shelve=7e-6)
    assert [configuration.pi_time_of(name) for name in ("map", "qubit", "shelve")] == [6e-6, 6e-6, 7e-6]
    assert configuration.analysis_pulse(0, 0)[2] == 7e-6
    assert configuration.differences() == {"pi_time": 6e-6, "pi_time_shelve": 7e-6}


def test_whole_numbers_become_what_the_compiler_takes() -> None:
    """A kernel gets 94000000 and [1, 1, 1, 1] as integers otherwise, and is not compiled."""
    text = '{"frequency_map": 94000000, "isolated_voltages": [1, 1, 0, 1], "pi_time_map": null}'
    configuration = NodeConfiguration.from_json(text, "bob")
    assert type(configuration.frequency_map) is float
    assert {type(volts) for volts in configuration.isolated_voltages} == {float}
    assert configuration.pi_time_map is None
    assert type(NodeConfiguration.from_json('{"readout_threshold": 9}', "bob").readout_threshold) is int
