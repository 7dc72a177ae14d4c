"""Time for the CPU within a round, as compiled code: what it does between two edges may take twice as long.

A Kasli takes at most 500 ns an output event. A Kasli-SoC with 810 ns takes 1.62 times that; 1.2 is left.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from diqkd_node.sequence.conditions import MEASURED, RUNNING
from sim_devices.engines.cpu_model import CpuModel
from tests.diqkd_node.sequence.test_node import PROTOCOLS, ROLES, TOKEN, US
from tests.sim_devices.engines.kasli.test_compiled_nodes import Coordinator, pytestmark  # noqa: F401
from tests.support import scripted_node

DRAWS = {
    "alice": [setting | token for setting in (0, 1) for token in (0, TOKEN)],
    "bob": [setting | token for setting in (0, 1, 2) for token in (0, TOKEN)],
}


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Coordinator, list[int]]]:
    """`DRAWS` of a role, at `slower` times the cost of events: what the kernel reported, and its searches."""
    pytest.importorskip("entangler.driver")

    def run(
        role: str, protocol: str, slower: int, edge_delay_us: int, source: str
    ) -> tuple[Coordinator, list[int]]:
        class Database(scripted_node.DeviceDatabase):
            def __init__(self, path: Path) -> None:
                super().__init__(path.with_name(path.name.replace("_sim", "_compiled")))
                costs = {name: slower * getattr(CpuModel(), name) for name in ("output_mu", "input_mu")}
                self.entries["core"]["arguments"]["cpu_model"] = costs

        monkeypatch.setattr(scripted_node, "DeviceDatabase", Database)
        coordinator = Coordinator(DRAWS[role])
        node, apparatus = scripted_node.make_node(
            role, coordinator, protocol, end_token=True, attempts={"source": source}
        )
        apparatus.edge_delay_mu = edge_delay_us * US
        handshakes: list[int] = []
        apparatus.handshake = lambda: handshakes.append(1) or True
        node.run_batches()
        return coordinator, handshakes

    return run


@pytest.mark.parametrize("source", ["entangler", "ttl"])
@pytest.mark.parametrize("edge_delay_us", [0, 49])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_no_underflow_at_twice_the_cost(
    play: Callable[..., tuple[Coordinator, list[int]]],
    role: str,
    protocol: str,
    edge_delay_us: int,
    source: str,
) -> None:
    """Edges at both ends of the shortest window. Every round is one handshake: none was begun again."""
    coordinator, handshakes = play(role, protocol, 2, edge_delay_us, source)
    assert [stored.loss for stored in coordinator.rounds] == [MEASURED] * len(DRAWS[role])
    assert coordinator.ends == [(len(DRAWS[role]), RUNNING)]
    assert len(handshakes) == len(DRAWS[role])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_more_is_too_much(play: Callable[..., tuple[Coordinator, list[int]]], protocol: str) -> None:
    """The engine counts: at three times the cost Bob loses every round after he has announced it."""
    coordinator, _ = play("bob", protocol, 3, 0, "entangler")
    assert not any(stored.loss == MEASURED for stored in coordinator.rounds)
