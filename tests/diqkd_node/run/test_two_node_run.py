"""What every run of both nodes does around its batches, without nodes."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.run.two_node_run import TwoNodeRun


def test_a_configuration_that_changed_in_the_queue_is_used() -> None:
    """`prepare` reads it while the calibrations before this run still play: the first batch has the new."""
    spool = SimpleNamespace(rounds_done=0)
    played: list[str] = []

    def node(name: str) -> Any:
        def run_batches() -> None:
            played.append(name)
            spool.rounds_done = 10

        return SimpleNamespace(coordinator=None, run_batches=run_batches)

    configuration = NodeConfiguration(role="alice")
    run = MagicMock(num_rounds=10, batch_rounds=5, views=(), configuration=configuration)
    run.recalibrated.side_effect = lambda old: node("as the file is now")
    TwoNodeRun.acquire(run, node("as in prepare"), spool, MagicMock())
    assert played == ["as the file is now"]
