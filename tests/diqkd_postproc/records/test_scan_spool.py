"""The journal of a scan: its schedule, and that no key can come of it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.records.round_spool import RoundSpool
from diqkd_postproc.records.scan_spool import ScanParameters, ScanSpool, scheduled_settings

PAIRS = [(0, 0), (0, 1), (1, 0), (1, 4), (1, 4)]
PARAMETERS = ScanParameters.make("test", PAIRS, 40)
RUN_ID = "5" * 32


def play(spool: ScanSpool, count: int, outcome: int = 1) -> list[int]:
    settings = spool.begin_batch(count).settings.tolist()
    spool.store(
        spool.rounds_done,
        outcome=np.full(count, outcome),
        received=np.ones(count),
        received_setting=np.full(count, 2),
        received_end=np.full(count, 2),
        herald_pattern=np.full(count, 3),
        timestamp_mu=np.arange(count),
        edge_mu=np.arange(count),
        lost=np.zeros(count),
    )
    spool.end_batch()
    return settings


def test_every_cycle_holds_every_pair_in_an_order_of_its_own() -> None:
    rows = scheduled_settings(PARAMETERS, RUN_ID, 0, 40)
    cycles = [tuple(map(tuple, rows[start : start + 5].tolist())) for start in range(0, 40, 5)]
    assert all(Counter(cycle) == Counter(PAIRS) for cycle in cycles)
    assert len(set(cycles)) > 1
    np.testing.assert_array_equal(scheduled_settings(PARAMETERS, RUN_ID, 7, 11), rows[7:18])
    assert not np.array_equal(scheduled_settings(PARAMETERS, "6" * 32, 0, 40), rows)


def test_schedule_does_not_change_between_versions() -> None:
    """Two labs may run different versions; computed once by hand from SHA-256."""
    import hashlib

    digests = [hashlib.sha256(f"{RUN_ID} 0 {position}".encode()).hexdigest() for position in range(5)]
    expected = [PAIRS[position] for position in sorted(range(5), key=digests.__getitem__)]
    assert scheduled_settings(PARAMETERS, RUN_ID, 0, 5).tolist() == [list(pair) for pair in expected]


def test_both_nodes_play_the_schedule_through_a_restart(tmp_path: Path) -> None:
    schedule = scheduled_settings(PARAMETERS, RUN_ID, 0, 40)
    for column, role in enumerate(("alice", "bob")):
        path = tmp_path / f"{role}.sqlite"
        with ScanSpool.create(path, role, PARAMETERS, {}, RUN_ID) as spool:
            played = play(spool, 13)
            spool.begin_batch(4)
        with ScanSpool.open(path, role, PARAMETERS) as spool:
            spool.record_used(17, "interrupted")
            spool.end_batch()
            played += schedule[13:17, column].tolist() + play(spool, 23)
            shared = spool.shared_rounds(10)
        assert played == schedule[:, column].tolist()
        np.testing.assert_array_equal(shared["setting"], schedule[10:, column])
        np.testing.assert_array_equal(np.flatnonzero(shared["lost"]), [3, 4, 5, 6])


def test_no_key_can_come_of_a_scan(tmp_path: Path) -> None:
    path = tmp_path / "scan.sqlite"
    with ScanSpool.create(path, "bob", PARAMETERS, {}, RUN_ID) as spool:
        play(spool, 40)
        with pytest.raises(ParameterError, match="not sealed"):
            spool.seal(tmp_path / "record.h5")
    with pytest.raises(ParameterError, match="scan"):
        RoundSpool.open(path)
    other = ScanParameters.make("other", PAIRS, 40)
    with pytest.raises(StorageError, match="was recorded with parameters"):
        ScanSpool.open(path, "bob", other)


def test_impossible_scans_are_refused() -> None:
    with pytest.raises(ParameterError, match="less than one cycle of 5"):
        ScanParameters.make("test", PAIRS, 4)
    with pytest.raises(ParameterError, match="cycle"):
        ScanParameters.from_toml(PARAMETERS.to_toml().replace("0:0", "0-0"))
