"""What the spool knows of rounds without an outcome: and which may have begun."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.records.round_spool import RoundSpool
from tests.diqkd_postproc.records.test_round_spool import MakeParameters, make_spool, store_random

NUM_ROUNDS = 40
BATCH = 20


@pytest.fixture
def make(tmp_path: Path, make_parameters: MakeParameters) -> Callable[[str], RoundSpool]:
    (tmp_path / "run").mkdir(mode=0o700)
    parameters = make_parameters(NUM_ROUNDS)
    return lambda role: make_spool(tmp_path / "run" / "spool.sqlite", role, parameters, bytes(range(256)))


def test_every_setting_of_an_open_batch_may_have_been_applied(make: Callable[[str], RoundSpool]) -> None:
    with make("bob") as spool:
        assert spool.rounds_begun == 0
        store_random(spool, spool.begin_batch(BATCH).part(0, 5), np.random.default_rng(1))
        assert spool.rounds_begun == BATCH
    with RoundSpool.open(spool.path) as spool:
        assert (spool.rounds_done, spool.rounds_begun) == (5, BATCH)
        spool.record_used(7, "interrupted")
        spool.end_batch()
        assert spool.rounds_begun == 7


def test_a_node_that_stopped_in_order_says_so(make: Callable[[str], RoundSpool]) -> None:
    with make("bob") as spool:
        store_random(spool, spool.begin_batch(BATCH).part(0, 5), np.random.default_rng(1))
        for end in (4, BATCH + 1):
            with pytest.raises(StorageError, match="none ends at"):
                spool.note_begun(end)
        spool.note_begun(6)
        assert spool.rounds_acknowledged == 5
    with RoundSpool.open(spool.path) as spool:
        assert (spool.rounds_done, spool.rounds_begun) == (5, 6)
        spool.record_used(7, "interrupted")
        assert spool.rounds_begun == 7
        spool.end_batch()
        spool.begin_batch(BATCH)
    with RoundSpool.open(spool.path) as spool:  # the note was about the batch before
        assert spool.rounds_begun == 7 + BATCH
