"""Node configuration: published values, ranges and rules, its file, and files from before the sections."""

import json
from pathlib import Path

import pytest

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.configuration.flat_names import DROPPED, FIELDS
from diqkd_node.sequence.pulse_table import NO_KEY_SETTING, PulseTable
from diqkd_postproc.protocol.errors import ParameterError

FLAT_FILE = Path(__file__).with_name("flat_configuration.json")


def test_published_times() -> None:
    configuration = NodeConfiguration(role="alice")
    assert configuration.cooling.time == 300e-6
    assert configuration.attempts.window_time == 500e-6
    assert configuration.attempts.attempt_time == 1e-6
    assert configuration.isolation.settling_time == 30e-6
    assert configuration.scrambling.time == 100e-6
    assert configuration.lines.latency == 25e-6


def test_alice_pulses() -> None:
    configuration = NodeConfiguration(role="alice")
    analysis = configuration.analysis
    shelving = (analysis.frequency_of("shelve"), 0.0, analysis.pi_time_qubit)
    table = PulseTable.of_rounds(configuration)
    assert table.pulses == ((shelving,) * 5, ((analysis.frequency_of("qubit"), 0.0, 2.5e-6),) * 5)
    assert table.key_setting == 0


def test_bob_pulses() -> None:
    phases = (0.1, 0.2, 0.6, 0.9)
    analysis = NodeConfiguration.of("bob", {"analysis.pattern_phase_turns": phases}).analysis
    table = PulseTable.of_rounds(NodeConfiguration(role="bob", analysis=analysis))
    assert table.pulses[2] == ((analysis.frequency_of("shelve"), 0.0, analysis.pi_time_qubit),) * 5
    assert table.key_setting == 2
    for index, phase in enumerate(phases):
        plus, minus = table.pulses[0][index], table.pulses[1][index]
        assert plus == (analysis.frequency_of("qubit"), pytest.approx(phase), 1.25e-6)
        # Rxy(-theta, phi) = Rxy(theta, phi + pi)
        assert (minus[1] - plus[1]) % 1.0 == pytest.approx(0.5)
        assert minus[2] == plus[2]
        # y = 3 is the basis of x = 1: twice the rotation of y = 0.
        assert table.pulses[3][index] == (plus[0], plus[1], 2.5e-6)
    # A herald whose pattern Bob's core has not seen is played as after the first.
    assert all(row[4] == row[0] for row in table.pulses)


def test_a_scan_plays_its_pulses_after_every_pattern_and_no_key_round() -> None:
    table = PulseTable.of_scan([(1e6, 0.0, 1e-6), (2e6, 0.5, 2e-6)])
    assert table.pulses == (((1e6, 0.0, 1e-6),) * 5, ((2e6, 0.5, 2e-6),) * 5)
    assert table.key_setting == NO_KEY_SETTING


def test_json_round_trip(tmp_path) -> None:
    changes = {"readout.threshold": 17, "isolation.connected_voltages": (0.1, 0.2, 0.3, 0.4)}
    configuration = NodeConfiguration.of("bob", changes)
    path = tmp_path / "node.json"
    path.write_text(configuration.to_json())
    assert json.loads(path.read_text())["readout"] == {"time": 250e-6, "threshold": 17}
    assert NodeConfiguration.load(path, "bob") == configuration
    assert NodeConfiguration.load(path, "bob", {"readout.threshold": 9}).readout.threshold == 9
    assert NodeConfiguration.load("", "bob", changes) == configuration


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        ('{"coolin_time": 1}', "coolin_time is no field; correct its name"),
        ('{"cooling": {"tim": 1}}', r"cooling\.tim is no field"),
        ('{"cooling": 3}', "cooling=3: Input should be"),
        ('{"role": "bob"}', "this node is alice"),
        (
            '{"isolation": {"settling_time": 2e-5}}',
            "settling_time=2e-05 is outside 3e-05 to 0.001 s",
        ),
        ('{"scrambling": {"time": 5e-5}}', "scrambling.time=5e-05 is outside 0.0001 to 0.01 s"),
        ('{"cooling": {"time": 0}}', "cooling.time=0 is outside 1e-09 to 0.1 s; give a value within"),
        ('{"cooling": {"time": NaN}}', "cooling.time=nan is outside"),
        ('{"readout": {"threshold": -5}}', "readout.threshold=-5 is outside 0 to 10000 counts"),
        ('{"ion_watch": {"upper_threshold": 15}}', "upper_threshold=15 is not above threshold=15"),
        ('{"readout": {"threshold": true}}', "readout.threshold=True: Input should be a valid integer"),
        (
            '{"analysis": {"frequency_map": 9e9}}',
            r"frequency_map=9000000000.0 is outside 1e\+06 to 4e\+08 Hz",
        ),
        (
            '{"analysis": {"frequency_map": "94e6"}}',
            "frequency_map='94e6': Input should be a valid number",
        ),
        ('{"analysis": {"amplitude": 1.5}}', "analysis.amplitude=1.5 is outside 0.001 to 1 of full scale"),
        ('{"analysis": {"pattern_phase_turns": [0.1]}}', r"analysis.pattern_phase_turns.1 is missing"),
        (
            '{"attempts": {"photon_window": [6e-8, 2e-8]}}',
            r"=\[6e-08, 2e-08\] ends before it begins",
        ),
        ('{"attempts": {"photon_window": [1e-8]}}', "photon_window.1 is missing; give a value"),
        ('{"attempts": {"attempt_time": 1e-5}}', "entangler core's counter"),
        (
            '{"attempts": {"attempt_time": 6e-7}}',
            "stop at 7e-07 s, after attempt_time=6e-07 s",
        ),
        ('{"attempts": {"source": "lamp"}}', "attempts.source='lamp': Input should be 'entangler' or 'ttl'"),
        (
            '{"attempts": {"herald_patterns": [1, 2, 4, 8]}}',
            r"4, 8\] is no permutation of \[3, 5, 10, 12\]",
        ),
        ('{"attempts": {"herald_patterns": [3, 3, 5, 10]}}', "is no permutation"),
        ('{"attempts": {"windows_per_search": 2000}}', "check_interval=0.2 s; lower it"),
        ('{"handshake": {"ready_gate": 1e-4}}', "ready_interval"),
        ('{"lines": {"basis_delay": 7e-5}}', "Alice's pulse must not follow the type; raise basis_delay"),
        ('{"lines": {"sample_delay": 3e-5}}', "raise latency"),
        ('{"isolation": {"isolated_voltages": [1.0]}}', "has 1 entries for 4 electrodes; give one for each"),
        ('{"isolation": {"isolated_voltages": 1.0}}', "isolated_voltages=1.0: Input should be a valid list"),
        (
            '{"isolation": {"isolated_voltages": [1, 1, 1, 11]}}',
            "voltages.3=11 is outside -9.999 to 9.999 V",
        ),
        ('{"isolation": {"channels": [15, 16, 23, 32]}}', "channels.3=32 is outside 0 to 31"),
        ('{"isolation": {"channels": [15, 16, 16, 23]}}', "names none, or one twice"),
        ('{"batches": {"chunk_rounds": 15.5}}', "batches.chunk_rounds=15.5: Input should be a valid integer"),
        ('{"cooling_time": 1e-4, "cooling": {"time": 1e-4}}', "cooling.time is named twice"),
        ('{"cooling_time": 1e-4, "cooling": 3}', "cooling=3: Input should be"),
    ],
)
def test_refusals(text: str, problem: str) -> None:
    with pytest.raises(ParameterError, match=problem) as refusal:
        NodeConfiguration.from_json(text, "alice")
    assert "\n" not in str(refusal.value)


def test_missing_file(tmp_path) -> None:
    with pytest.raises(ParameterError, match="cannot read"):
        NodeConfiguration.load(tmp_path / "absent.json", "alice")


def test_unknown_role() -> None:
    with pytest.raises(ParameterError, match="charlie"):
        NodeConfiguration.of("charlie", {})


def test_herald_patterns_may_come_in_another_order() -> None:
    configuration = NodeConfiguration.of("alice", {"attempts.herald_patterns": [12, 3, 5, 10]})
    assert configuration.attempts.herald_patterns == (12, 3, 5, 10)


def test_pi_times_follow_the_qubits_unless_they_are_set() -> None:
    fields = {"analysis.pi_time_qubit": 6e-6, "analysis.pi_time_shelve": 7e-6}
    configuration = NodeConfiguration.of("alice", fields)
    pi_times = [configuration.analysis.pi_time_of(name) for name in ("map", "qubit", "shelve")]
    assert pi_times == [6e-6, 6e-6, 7e-6]
    assert PulseTable.of_rounds(configuration).pulses[0][0][2] == 7e-6
    assert configuration.differences() == {"analysis": {"pi_time_qubit": 6e-6, "pi_time_shelve": 7e-6}}


def test_whole_numbers_become_what_the_compiler_takes() -> None:
    """A kernel gets 94000000 and [1, 1, 1, 1] as integers otherwise, and is not compiled."""
    text = (
        '{"analysis": {"frequency_map": 94000000, "pi_time_map": null},'
        ' "isolation": {"isolated_voltages": [1, 1, 0, 1]}, "readout": {"threshold": 9}}'
    )
    configuration = NodeConfiguration.from_json(text, "bob")
    assert type(configuration.analysis.frequency_map) is float
    assert {type(volts) for volts in configuration.isolation.isolated_voltages} == {float}
    assert configuration.analysis.pi_time_map is None
    assert type(configuration.readout.threshold) is int


def test_a_flat_file_still_opens_with_its_values() -> None:
    """As the last version with a flat configuration wrote it, every field with its default of then: the lines
    did not follow from the field, shelving was elsewhere, and a level was read later."""
    text = FLAT_FILE.read_text()
    assert set(json.loads(text)) == set(FIELDS) | DROPPED | {"role"}
    lines = {"frequency_map": 94.0e6, "frequency_qubit": 108.0e6, "frequency_shelve": 71.6e6}
    expected = NodeConfiguration.of("bob", lines | {"lines.sample_delay": 15e-6})
    assert NodeConfiguration.from_json(text, "bob") == expected
    changed = {"pi_time": 6e-6, "readout_threshold": 9, "lock_check_rounds": 4}
    configuration = NodeConfiguration.from_json(json.dumps(json.loads(text) | changed), "bob")
    assert configuration.analysis.pi_time_qubit == 6e-6 and configuration.readout.threshold == 9


def test_every_field_has_its_place_in_the_table_of_old_names() -> None:
    younger = {
        "analysis.magnetic_field",
        "analysis.zero_field_frequency",
        "ion_watch.upper_threshold",
        "lines.token_window",
        "lines.late_token_window",
        "lines.type_window",
        "lines.basis_delay",
        "lines.setting_window",
        "lines.outcome_latency",
        "lines.end_token_delay",
        "lines.end_token_window",
    }
    assert set(FIELDS.values()) == set(NodeConfiguration.field_names()) - younger
