"""SIGKILL of a recording process at random points, resumed each time until the run is complete."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.records.round_spool import RoundSpool
from tests.support.spool_child import outcome_of

NUM_KILLS = 12


def run_until_killed(path: Path, num_lines: int) -> list[list[str]]:
    """Let the child print at least `num_lines` lines, kill it, and return all that it printed."""
    command = [sys.executable, "-m", "tests.support.spool_child", str(path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = list(itertools.islice(child.stdout, num_lines))
    child.kill()
    lines += child.stdout.readlines()
    child.stdout.close()
    child.wait(timeout=300)
    return [line.split() for line in lines if line.endswith("\n")]


def test_kills_lose_no_acknowledged_round_and_reuse_no_bit(
    tmp_path: Path, make_parameters: Callable[..., ProtocolParameters]
) -> None:
    tmp_path.chmod(0o700)
    path, num_rounds = tmp_path / "spool", 25_000
    pool = np.random.default_rng(11).bytes(num_rounds)
    with RoundSpool.create(path, "alice", make_parameters(num_rounds), {}, "0" * 32) as spool:
        spool.fill_pool(lambda count: pool[:count], len(pool))
    rng = random.Random(12)
    issued: list[np.ndarray] = []
    effective: dict[int, int] = {}
    lost: set[int] = set()
    for _ in range(NUM_KILLS):
        lines = run_until_killed(path, rng.randrange(1, 60))
        acknowledged = max([int(words[1]) for words in lines if words[0] == "acknowledged"], default=0)
        batches = [
            (int(words[1]), np.frombuffer(bytes.fromhex(words[2]), dtype=np.uint8))
            for words in lines
            if words[0] == "batch"
        ]
        with RoundSpool.open(path) as spool:
            assert spool.rounds_acknowledged >= acknowledged
            pending = spool.pending_batch
            printed_until = max((first + settings.size for first, settings in batches), default=0)
            if pending is not None and pending.first_round >= printed_until:
                # Killed between the commit of a batch and its line.
                batches.append((pending.first_round, pending.settings))
            for first, settings in batches:
                issued.append(settings)
                effective.update((first + i, int(x) * ((first + i) % 2)) for i, x in enumerate(settings))
            if pending is not None:
                heralded = rng.randrange(0, min(5, pending.num_rounds + 1))
                if heralded:
                    indices = range(spool.rounds_done, spool.rounds_done + heralded)
                    spool.record_lost(heralded, [i % 2 for i in indices], 0, "killed")
                    lost.update(indices)
                spool.end_batch()

    with RoundSpool.open(path) as spool:
        while spool.rounds_done < num_rounds:
            settings = spool.begin_batch(num_rounds - spool.rounds_done)
            first = spool.rounds_done
            index = np.arange(first, num_rounds)
            issued.append(settings)
            effective.update((first + i, int(x) * ((first + i) % 2)) for i, x in enumerate(settings))
            spool.store(first, outcome_of(index), index % 2, np.full(index.size, 3), index)
            spool.end_batch()
        record = spool.seal(tmp_path / "record.h5")

    # Every issued setting is the next bit of the pool: none twice, none skipped.
    all_issued = np.concatenate(issued)
    pool_bits = np.unpackbits(np.frombuffer(pool, dtype=np.uint8))
    np.testing.assert_array_equal(all_issued, pool_bits[: all_issued.size])
    np.testing.assert_array_equal(record.setting, [effective[i] for i in range(num_rounds)])
    np.testing.assert_array_equal(np.flatnonzero(record.lost), sorted(lost))
    index = np.arange(num_rounds)
    np.testing.assert_array_equal(record.outcome, np.where(record.lost == 1, 0, outcome_of(index)))
