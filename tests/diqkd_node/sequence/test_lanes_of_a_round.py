"""A round on the host engine leaves no event that the core device's eight lanes would drop.

The trace has one event for a DDS update, which is sixteen on hardware, so it shows less than the compiled
engine does; but it needs no ARTIQ.
"""

from pathlib import Path

import pytest

from sim_devices.engines.kasli.lanes import Lanes
from tests.support import scripted_node
from tests.support.scripted_node import WINDOW_ENDED, NotingCoordinator, make_node


class TracedDatabase(scripted_node.DeviceDatabase):
    """A device database whose core keeps its events."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.entries["core"]["arguments"]["trace"] = True


def dropped(trace: list[tuple]) -> list[tuple]:
    """Events of a trace, in the order in which the kernel wrote them, that no lane takes."""
    lanes = Lanes()
    return [event for event in trace if not lanes.take(event[0])]


@pytest.mark.parametrize("role", ["alice", "bob"])
@pytest.mark.parametrize("herald_source", ["entangler", "ttl"])
@pytest.mark.parametrize("num_windows", [0, 3])
def test_no_event_of_a_round_is_dropped(
    role: str, herald_source: str, num_windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted_node, "DeviceDatabase", TracedDatabase)
    coordinator = NotingCoordinator([0, 1, 0, 1, 0, 1])
    node, apparatus = make_node(role, coordinator, attempts={"source": herald_source})
    apparatus.on_run = lambda call: WINDOW_ENDED if call % (num_windows + 1) < num_windows else 1
    node.run_batches()
    assert len(coordinator.rounds) == 6
    assert len(node.core.trace) > 200
    assert dropped(node.core.trace) == []


def test_a_gate_that_ends_far_ahead_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted_node, "DeviceDatabase", TracedDatabase)
    node, _ = make_node("bob", NotingCoordinator([0, 1]))
    line = node.handshake.ttl_ready
    open_for_ever = line._set_sensitivity

    def open_for_a_millisecond(value: int) -> None:
        now = node.core.timeline.now
        open_for_ever(value)
        if value:
            node.core.trace.append((now + 1_000_000, "end of the gate", 0))

    monkeypatch.setattr(line, "_set_sensitivity", open_for_a_millisecond)
    node.run_batches()
    assert dropped(node.core.trace)
