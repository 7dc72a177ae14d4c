"""A node process for the kill tests: records rounds until the run is complete or the process is killed.

Prints, one line each: `batch FIRST SETTINGS TOKENS` before it uses them, `acknowledged N` after every store.
"""

from __future__ import annotations

import sys

import numpy as np

from diqkd_postproc.records import round_spool


def outcome_of(index: np.ndarray) -> np.ndarray:
    """Outcome that the test expects for a round index."""
    return ((index * 2654435761) >> 7 & 1).astype(np.uint8)


def store_rounds(spool: round_spool.RoundSpool, first: int, end: int) -> None:
    """Store the rounds from `first` to `end` - 1; odd ones are tests."""
    index = np.arange(first, end)
    none = np.full(index.size, 2)
    spool.store(
        first,
        outcome=outcome_of(index),
        received=index % 2,
        received_setting=none,
        received_end=none,
        herald_pattern=np.full(index.size, 3),
        timestamp_mu=index,
        edge_mu=index + 1,
        lost=np.zeros(index.size),
    )


def main(path: str) -> None:
    round_spool.COMMIT_ROUNDS = 100
    spool = round_spool.RoundSpool.open(path)
    while spool.rounds_done < spool.parameters.num_rounds:
        draws = spool.begin_batch(min(500, spool.parameters.num_rounds - spool.rounds_done))
        first = spool.rounds_done
        print("batch", first, bytes(draws.settings).hex(), bytes(draws.tokens).hex(), flush=True)
        for start in range(first, first + draws.num_rounds, 40):
            store_rounds(spool, start, min(start + 40, first + draws.num_rounds))
            print("acknowledged", spool.rounds_acknowledged, flush=True)
        spool.end_batch()


if __name__ == "__main__":
    main(sys.argv[1])
