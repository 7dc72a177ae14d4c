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
from tests.support.spool_child import outcome_of, store_rounds

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
    pool = np.random.default_rng(11).bytes(2 * num_rounds)
    with RoundSpool.create(path, "alice", make_parameters(num_rounds), {}, "0" * 32) as spool:
        spool.fill_pool(lambda count: pool[:count], len(pool))
    rng = random.Random(12)
    issued: list[tuple[list[int], list[int]]] = []
    effective: dict[int, int] = {}
    lost: set[int] = set()

    def note(first: int, settings: list[int], tokens: list[int]) -> None:
        issued.append((settings, tokens))
        effective.update((first + i, x * ((first + i) % 2)) for i, x in enumerate(settings))

    for _ in range(NUM_KILLS):
        lines = run_until_killed(path, rng.randrange(1, 60))
        acknowledged = max([int(words[1]) for words in lines if words[0] == "acknowledged"], default=0)
        printed_until = 0
        for words in lines:
            if words[0] == "batch":
                note(int(words[1]), list(bytes.fromhex(words[2])), list(bytes.fromhex(words[3])))
                printed_until = int(words[1]) + len(words[2]) // 2
        with RoundSpool.open(path) as spool:
            assert spool.rounds_acknowledged >= acknowledged
            done, begun = spool.rounds_done, spool.rounds_begun
            if begun > done >= printed_until:
                # Killed between the commit of a batch and its line.
                draws = spool._open_batch().draws_from(done)
                note(done, draws.settings.tolist(), draws.tokens.tolist())
            if begun > done:
                used = done + rng.randrange(0, min(5, begun - done + 1))
                spool.record_used(used, "killed")
                lost.update(range(done, used))
                spool.end_batch()

    with RoundSpool.open(path) as spool:
        if spool.rounds_done < num_rounds:
            draws, first = spool.begin_batch(num_rounds - spool.rounds_done), spool.rounds_done
            note(first, draws.settings.tolist(), draws.tokens.tolist())
            store_rounds(spool, first, num_rounds)
            spool.end_batch()
        bits = np.zeros(num_rounds, dtype=np.uint8)
        spool.store_peer(
            0, {name: bits for name in ("sent", "received", "end_token", "lost", "herald_pattern")}
        )
        record = spool.seal(tmp_path / "record.h5")

    # Every issued pair is the next two bits of the pool: none twice, none skipped.
    all_issued = np.array([np.concatenate([part[i] for part in issued]) for i in range(2)]).T.ravel()
    pool_bits = np.unpackbits(np.frombuffer(pool, dtype=np.uint8))
    np.testing.assert_array_equal(all_issued, pool_bits[: all_issued.size])
    expected = [0 if i in lost else effective[i] for i in range(num_rounds)]
    np.testing.assert_array_equal(record.setting, expected)
    np.testing.assert_array_equal(np.flatnonzero(record.late_loss), sorted(lost))
    index = np.arange(num_rounds)
    np.testing.assert_array_equal(record.outcome, np.where(record.lost == 1, 0, outcome_of(index)))
