"""What the spool knows of rounds without an outcome: which may have begun, and which are taken back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError, StorageError
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
        assert (spool.batch_start, spool.rounds_begun) == (0, 0)
        settings = spool.begin_batch(BATCH)
        store_random(spool, settings[:5], np.random.default_rng(1))
        assert (spool.batch_start, spool.rounds_begun) == (0, BATCH)
    with RoundSpool.open(spool.path) as spool:
        assert (spool.rounds_done, spool.batch_start, spool.rounds_begun) == (5, 0, BATCH)
        spool.record_lost(2)
        spool.end_batch()
        assert (spool.batch_start, spool.rounds_begun) == (7, 7)


def test_a_node_that_stopped_in_order_says_so(make: Callable[[str], RoundSpool]) -> None:
    with make("bob") as spool:
        settings = spool.begin_batch(BATCH)
        store_random(spool, settings[:5], np.random.default_rng(1))
        for end in (4, BATCH + 1):
            with pytest.raises(StorageError, match="none ends at"):
                spool.note_begun(end)
        spool.note_begun(6)
        assert spool.rounds_acknowledged == 5
    with RoundSpool.open(spool.path) as spool:
        assert (spool.rounds_done, spool.rounds_begun) == (5, 6)
        spool.record_lost(2)
        assert spool.rounds_begun == 7
        spool.end_batch()
        spool.begin_batch(BATCH)
    with RoundSpool.open(spool.path) as spool:  # the note was about the batch before
        assert spool.rounds_begun == 7 + BATCH


@pytest.mark.parametrize("role", ["alice", "bob"])
@pytest.mark.parametrize("first", [8, 9, 11, 12, 14, 15])
def test_rounds_in_doubt_become_lost(make: Callable[[str], RoundSpool], role: str, first: int) -> None:
    """A batch of chunks 8..11, 12..14 (lost) and 15..16, from every place in and between them."""
    rng = np.random.default_rng(2)
    with make(role) as spool:
        before = store_random(spool, spool.begin_batch(8), rng)
        spool.end_batch()
        settings = spool.begin_batch(BATCH)
        parts = [store_random(spool, settings[:4], rng)]
        spool.flush()
        types = (settings[4:7] != 2).astype(np.uint8)
        spool.record_lost(3, types, 0, "a reason")
        parts.append(store_random(spool, settings[7:9], rng))
        spool.flush()
        count = 17 - first
        new_types = (settings[first - 8 : 9] != 2).astype(np.uint8) if role == "bob" else np.arange(count) % 2
        spool.replace_by_lost(first, new_types, np.zeros(count, np.uint8), "another reason")
        assert (spool.rounds_done, spool.rounds_acknowledged) == (17, 17)
        for _ in range(2):  # now, and as another process sees it
            columns = spool._columns()
            assert columns["lost"][first:].all() and not columns["outcome"][first:].any()
            np.testing.assert_array_equal(columns["round_type"][first:], new_types)
            drawn = settings[first - 8 : 9]
            expected = drawn if role == "bob" else drawn & new_types
            np.testing.assert_array_equal(columns["setting"][first:], expected)
            for name, values in before.items():
                np.testing.assert_array_equal(columns[name][:8], values)
                kept = min(first, 12)
                np.testing.assert_array_equal(columns[name][8:kept], parts[0][name][: kept - 8])
            losses = spool._table.losses()
            noted = {round_ for loss in losses for round_ in range(*_range(loss))}
            assert noted == set(np.flatnonzero(columns["lost"]).tolist())
            spool.close()
            spool = RoundSpool.open(spool.path)
        spool.end_batch()
        spool.close()


def _range(loss: dict[str, int]) -> tuple[int, int]:
    return loss["first_round"], loss["first_round"] + loss["num_rounds"]


def test_only_rounds_of_the_open_batch_are_taken_back(make: Callable[[str], RoundSpool]) -> None:
    with make("bob") as spool:
        store_random(spool, spool.begin_batch(5), np.random.default_rng(3))
        spool.end_batch()
        with pytest.raises(StorageError, match="open batch"):
            spool.replace_by_lost(2, [0] * 3, [0] * 3, "")
        spool.begin_batch(5)
        with pytest.raises(StorageError, match="open batch"):
            spool.replace_by_lost(4, [0], [0], "")
        with pytest.raises(ParameterError, match="1 round types, 0 rounds"):
            spool.replace_by_lost(5, [0], [0], "")
