"""Lines of the ion: the published figures, the simulated ion's own, and one field that moves all three."""

import pytest

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.configuration.ion_lines import (
    LINES,
    PUBLISHED_FIELD,
    ZERO_FIELD_FREQUENCY,
    field_of,
    lande_factor,
    line_frequency,
    line_shift,
)
from sim_devices.physics import constants
from sim_devices.physics.node_parameters import Nature

LEVELS = {
    "map": constants.MAP_LEVELS,
    "qubit": constants.QUBIT_LEVELS,
    "shelve": constants.SHELVE_LEVELS,
}


def test_published_lines() -> None:
    """SI Table S3 and section S2 B: 11.2 MHz/mT of the qubit, mapping 14.0 MHz below it at 0.500 mT."""
    analysis = NodeConfiguration(role="alice").analysis
    assert analysis.frequency_of("qubit") == pytest.approx(108.0e6, abs=0.01)
    assert analysis.frequency_of("map") == pytest.approx(94.0e6, abs=0.05e6)
    assert analysis.frequency_of("shelve") == pytest.approx(119.2e6, abs=0.05e6)
    assert [line_shift(line, 1e-3) for line in LINES] == pytest.approx([-39.2e6, -11.2e6, 11.2e6], rel=2e-3)


def test_lande_factors() -> None:
    """Measured: 2.002 and 1.2 (88Sr+)."""
    assert lande_factor(0, 0.5) == pytest.approx(2.0023, abs=1e-4)
    assert lande_factor(2, 2.5) == pytest.approx(1.2005, abs=1e-4)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("field", [0.3e-3, 0.5e-3, 0.9e-3])
def test_the_simulated_ion_agrees(line: str, field: float) -> None:
    """Its levels' moments come from stretched states, not from Landé's formula."""
    assert constants.line_frequency(LEVELS[line], field) == pytest.approx(
        line_frequency(line, field), abs=1.0
    )
    moved = Nature.of_role("alice", magnetic_field=field)
    assert getattr(moved, f"{line}_frequency") == pytest.approx(line_frequency(line, field), abs=1.0)


def test_one_field_moves_all_three_lines() -> None:
    before = NodeConfiguration(role="alice")
    after = before.with_fields({"analysis.magnetic_field": 0.501e-3})
    moves = [after.analysis.frequency_of(line) - before.analysis.frequency_of(line) for line in LINES]
    assert moves == pytest.approx([-39.2e3, -11.2e3, 11.2e3], rel=2e-3)
    assert after.value("analysis.frequency_shelve") == after.analysis.frequency_of("shelve")
    assert NodeConfiguration.from_json(after.to_json(), "alice") == after


def test_a_line_that_was_calibrated_stays() -> None:
    configuration = NodeConfiguration.of(
        "bob", {"analysis.magnetic_field": 0.501e-3, "frequency_map": 94.01e6}
    )
    assert configuration.analysis.frequency_of("map") == 94.01e6
    assert configuration.analysis.frequency_of("qubit") == pytest.approx(108.0e6 - 11.2e3, abs=50)


def test_two_lines_give_field_and_origin() -> None:
    field, origin = field_of(line_frequency("map", 0.487e-3), line_frequency("qubit", 0.487e-3))
    assert field == pytest.approx(0.487e-3, rel=1e-9)
    assert origin == pytest.approx(ZERO_FIELD_FREQUENCY, abs=1e-3)
    assert PUBLISHED_FIELD == constants.MAGNETIC_FIELD
