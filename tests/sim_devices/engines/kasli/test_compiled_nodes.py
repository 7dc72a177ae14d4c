"""The kernel of both nodes as compiled code: rounds, faults and rest, by the host engine's tests of it."""

from pathlib import Path

import pytest
from artiq.experiment import TBool, TInt32, TList, TNone, rpc

from sim_devices.engines.kasli import missing
from tests.diqkd_node.sequence import test_node
from tests.diqkd_node.sequence.test_node import (  # noqa: F401
    test_alices_pulse_does_not_tell_when_the_type_came,
    test_alices_underflow_in_a_used_round_leaves_her_without_type,
    test_bob_announces_nothing_without_a_token,
    test_bob_measures_a_key_round_in_the_basis_that_was_named,
    test_bob_plays_his_settings,
    test_bobs_underflow_after_he_announced_is_a_lost_round,
    test_failure_of_the_host_leaves_the_node_at_rest,
    test_lost_lock,
    test_order_of_a_round,
    test_the_end_token,
    test_too_many_edges_end_the_round_and_not_the_run,
    test_underflow_before_the_herald_is_retried,
    test_without_a_type_alice_leaves_the_batch,
)
from tests.support import scripted_node

pytestmark = [
    pytest.mark.artiq,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]


class Coordinator(scripted_node.NotingCoordinator):
    """With the annotations from which the compiler takes the types of remote calls."""

    def begin_batch(self) -> TList(TInt32):
        return super().begin_batch()

    @rpc(flags={"async"})
    def store(self, count, outcomes, received, settings, ends, patterns, heralds, edges, losses) -> TNone:
        super().store(count, outcomes, received, settings, ends, patterns, heralds, edges, losses)

    def check(self, done, condition) -> TInt32:
        return super().check(done, condition)

    def end_batch(self, done, condition) -> TNone:
        super().end_batch(done, condition)

    def abandon_batch(self, done) -> TNone:
        super().abandon_batch(done)

    def wait_for_recovery(self, locked, ion_present) -> TBool:
        return super().wait_for_recovery(locked, ion_present)


@pytest.fixture(autouse=True)
def compiled_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes that the tests make are on the compiled engine."""
    pytest.importorskip("entangler.driver")

    class Database(scripted_node.DeviceDatabase):
        def __init__(self, path: Path) -> None:
            super().__init__(path.with_name(path.name.replace("_sim", "_compiled")))

    monkeypatch.setattr(scripted_node, "DeviceDatabase", Database)
    monkeypatch.setattr(test_node, "NotingCoordinator", Coordinator)


@pytest.mark.parametrize("role", test_node.ROLES)
@pytest.mark.parametrize("herald_source", ["entangler", "ttl"])
def test_no_event_of_a_round_is_dropped(
    role: str, herald_source: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The lanes of the event dispatcher go round within a round; here the herald comes in the first window,
    while a gate that was given its end in advance would still be open."""
    coordinator = Coordinator([0, 1, 0, 1])
    node, _ = scripted_node.make_node(role, coordinator, attempts={"source": herald_source})
    node.run_batches()
    assert len(coordinator.rounds) == 4
    assert "no lane takes" not in caplog.text
