"""A node process for the kill tests: records rounds until the run is complete or the process is killed.

Prints, one line each: `batch FIRST SETTINGS` before it uses settings, `acknowledged N` after every store.
"""

from __future__ import annotations

import sys

import numpy as np

from diqkd_postproc.records import round_spool


def outcome_of(index: np.ndarray) -> np.ndarray:
    """Outcome that the test expects for a round index."""
    return ((index * 2654435761) >> 7 & 1).astype(np.uint8)


def main(path: str) -> None:
    round_spool.COMMIT_ROUNDS = 100
    spool = round_spool.RoundSpool.open(path)
    while spool.rounds_done < spool.parameters.num_rounds:
        settings = spool.begin_batch(min(500, spool.parameters.num_rounds - spool.rounds_done))
        first = spool.rounds_done
        print("batch", first, bytes(settings).hex(), flush=True)
        for start in range(first, first + settings.size, 40):
            index = np.arange(start, min(start + 40, first + settings.size))
            spool.store(start, outcome_of(index), index % 2, np.full(index.size, 3), index)
            print("acknowledged", spool.rounds_acknowledged, flush=True)
        spool.end_batch()


if __name__ == "__main__":
    main(sys.argv[1])
