"""Characterisation of the link: its run, what both nodes' records say (Fig. 3, Table S4), and its live view.

The rounds are those of a key run with a test probability of about 1/2; inputs and outcomes of both nodes are
put together. Parameters of such a run allow no key, its records are marked, and records of a run that is to
make a key are refused here: comparing their outcomes would give it away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.link.statistics import (
    NUM_CHSH_TERMS,
    Estimate,
    MovingWindows,
    OutcomeProbabilities,
    SignallingCheck,
    chsh_score,
    chsh_score_of_probabilities,
    local_realism_p_value,
    moving_windows,
    no_signalling_checks,
    outcome_counts,
    outcome_probabilities,
    probabilities_of_counts,
    qber,
    wilson_bounds,
    winning_probability,
)
from diqkd_postproc.link.timeline import Timeline, elapsed_seconds, timeline_of
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import KEYLESS, ProtocolParameters
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.security.min_tradeoff import MAX_CHSH_SCORE

TEST_BITS = 8
MAX_WINDOW = 100_000
"""Rounds of a window in Fig. 3; a shorter run takes a tenth of its rounds."""

BLOCK_ROUNDS = 2_000
"""Rounds behind a point of the live view."""


def characterisation_parameters(num_rounds: int, test_probability: float) -> ProtocolParameters:
    """Parameters of a characterisation run, which allow no key.

    The test probability is rounded to k/256. Raises ParameterError for fewer than two rounds, or where the
    rounded probability is 0 or 1.
    """
    gamma = Fraction(round(test_probability * 2**TEST_BITS), 2**TEST_BITS)
    if not 0 < gamma < 1 or num_rounds < 2:
        raise ParameterError(
            f"num_rounds={num_rounds}, test_probability={test_probability}: give at least 2 rounds and a "
            "probability from 1/256 to 255/256"
        )
    test_bits = max(1, int(math.log2(gamma.denominator)))
    return ProtocolParameters(
        num_rounds=num_rounds,
        test_numerator=gamma.numerator * 2**test_bits // gamma.denominator,
        test_bits=test_bits,
        **KEYLESS,
    )


def default_window(num_rounds: int) -> int:
    """Rounds of a window of the moving averages: a tenth of the run, at most MAX_WINDOW.

    Fig. 3 of the paper averages over 100 000 rounds.
    """
    return min(MAX_WINDOW, max(1, num_rounds // 10))


def check_shared(alice: RoundRecord, bob: RoundRecord) -> None:
    """Raise ParameterError unless the two records are Alice's and Bob's of one run that makes no key.

    Comparing outcomes of a run that makes a key would give the key away.
    """
    if (alice.role, bob.role) != ("alice", "bob"):
        raise ParameterError(f"these are records of {alice.role} and {bob.role}; give Alice's, then Bob's")
    if (alice.run_id, alice.parameters.digest) != (bob.run_id, bob.parameters.digest):
        raise ParameterError("the two records belong to different runs; give both records of one run")
    if alice.parameters.key_bits > 0:
        raise ParameterError(
            f"this run is to make a key of {alice.parameters.key_bits:,} bits: its outcomes may not be "
            "compared; characterise the link in a run of its own, with parameters that have key_bits = 0"
        )


def read_records(first: Path, second: Path) -> tuple[RoundRecord, RoundRecord]:
    """Alice's and Bob's record of one characterisation run, whatever the order of the two files.

    Raises ParameterError unless they are that; StorageError where one cannot be read.
    """
    records = [RoundRecord.read(path) for path in (first, second)]
    by_role = {record.role: record for record in records}
    if len(by_role) != 2:
        raise ParameterError(
            f"{first} and {second} are both {records[0].role}'s; give Alice's and Bob's record"
        )
    try:
        check_shared(by_role["alice"], by_role["bob"])
    except ParameterError as error:
        raise ParameterError(f"{first}, {second}: {error}") from None
    return by_role["alice"], by_role["bob"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Characterisation:
    """S, Q and P(A, B | X, Y) of the whole run, moving averages, and when its heralds came.

    qber: None without key rounds. p_value: see `local_realism_p_value`. chsh_by_pattern: of each herald
    pattern with rounds of all test settings. elapsed_s: (n,) float64, time of every herald since the first,
    by the clock of one node; zeros where the record has no times.
    """

    run_id: str
    num_rounds: int
    num_lost: int
    chsh_score: Estimate
    qber: Estimate | None
    p_value: float
    no_signalling: tuple[SignallingCheck, ...]
    chsh_by_pattern: dict[str, Estimate]
    winning_probability: Estimate
    probabilities: OutcomeProbabilities
    windows: MovingWindows
    timeline: Timeline
    elapsed_s: npt.NDArray[np.float64]
    herald_patterns: dict[str, int]
    provenance: dict[str, Any]

    @property
    def qber_text(self) -> str:
        """Q with its standard error, or what is known where there are no errors or no key rounds."""
        if self.qber is None:
            return "unknown: no key rounds"
        rounds = f"{self.qber.num_rounds:,} key rounds"
        if self.qber.value == 0.0:
            limit = wilson_bounds([0], [self.qber.num_rounds])[1][0]
            return f"0, at most {100 * limit:.3g} % with 95 % confidence ({rounds})"
        return f"{100 * self.qber.value:.3f} ± {100 * self.qber.standard_error:.3f} % ({rounds})"

    def design_point(self, deviations: float) -> tuple[float, float]:
        """(S, Q) worse than measured by so many standard errors, kept inside their domain.

        Raises ParameterError where that S is not above 2.
        """
        score = self.chsh_score.value - deviations * self.chsh_score.standard_error
        if self.qber is None:
            raise ParameterError(
                "the characterisation run has no key rounds (y = 2), so no bit error rate; give --s and --q, "
                "or characterise with a lower test probability"
            )
        # The score interval: above 0 also where no error was seen.
        n, z = self.qber.num_rounds, deviations
        spread = z * math.sqrt(self.qber.value * (1 - self.qber.value) / n + (z / (2 * n)) ** 2)
        error = (self.qber.value + z * z / (2 * n) + spread) / (1 + z * z / n)
        if score <= 2.0:
            raise ParameterError(
                f"the characterisation run gives S = {self.chsh_score.value:.4f} +- "
                f"{self.chsh_score.standard_error:.4f}, not {deviations:g} deviations above 2; take more "
                "rounds or improve the link"
            )
        return min(score, MAX_CHSH_SCORE), min(max(error, 0.0), 0.5)


def characterise(
    alice: RoundRecord, bob: RoundRecord, window: int | None = None, timed: RoundRecord | None = None
) -> Characterisation:
    """Put both records of a characterisation run together.

    window: rounds of the moving averages. timed: the record whose clock and gaps are used; default: Bob's,
    or Alice's where Bob's was received from him and has none. Raises ParameterError for a run that could
    make a key or lacks a setting, StorageError where the records do not fit.
    """
    check_shared(alice, bob)
    if timed is None:
        timed = bob if "gaps" in bob.attributes or "gaps" not in alice.attributes else alice
    shared = (alice.setting, bob.setting, alice.outcome, bob.outcome)
    num_rounds = alice.parameters.num_rounds
    probabilities = outcome_probabilities(*shared)
    won = winning_probability(*shared)
    patterns, counts = np.unique(timed.herald_pattern[timed.herald_pattern > 0], return_counts=True)
    return Characterisation(
        run_id=alice.run_id,
        num_rounds=num_rounds,
        num_lost=int(np.count_nonzero(alice.lost | bob.lost)),
        chsh_score=chsh_score(*shared),
        qber=qber(*shared) if probabilities.counts[NUM_CHSH_TERMS].any() else None,
        p_value=local_realism_p_value(round(won.value * won.num_rounds), won.num_rounds),
        no_signalling=no_signalling_checks(probabilities.counts),
        chsh_by_pattern=_chsh_by_pattern(shared, timed.herald_pattern),
        winning_probability=won,
        probabilities=probabilities,
        windows=moving_windows(*shared, window=window or default_window(num_rounds)),
        timeline=timeline_of(timed),
        elapsed_s=elapsed_seconds(timed),
        herald_patterns={
            f"{pattern:04b}": int(count) for pattern, count in zip(patterns, counts, strict=True)
        },
        provenance={"role": timed.role, "run_id": timed.run_id} | timed.attributes.get("provenance", {}),
    )


def _chsh_by_pattern(
    shared: tuple[npt.NDArray[np.uint8], ...], herald_pattern: npt.NDArray[np.uint8]
) -> dict[str, Estimate]:
    scores = {}
    for pattern in np.unique(herald_pattern[herald_pattern > 0]).tolist():
        chosen = herald_pattern == pattern
        table = outcome_probabilities(*(column[chosen] for column in shared))
        if table.counts[:NUM_CHSH_TERMS].any(axis=(1, 2)).all():
            scores[f"{pattern:04b}"] = chsh_score_of_probabilities(table)
    return scores


class BlockScores:
    """S and Q of block after block while a characterisation runs, for live views.

    rows: (k, 5) float64: when the block ended (unix s), S, its standard error, Q, its standard error.
    """

    def __init__(self, block_rounds: int = BLOCK_ROUNDS) -> None:
        self.rows: npt.NDArray[np.float64] = np.empty((0, 5))
        self._block_rounds = block_rounds
        self._counts = np.zeros((NUM_CHSH_TERMS + 1, 2, 2), dtype=np.int64)

    def add(
        self, unix: float, x: npt.ArrayLike, y: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike
    ) -> None:
        """Take the rounds that follow. A block ends with the first chunk that gives it enough rounds, some
        of every setting."""
        self._counts = self._counts + outcome_counts(x, y, a, b)
        by_setting = self._counts.sum(axis=(1, 2))
        if by_setting.sum() < self._block_rounds or not by_setting.all():
            return
        score = chsh_score_of_probabilities(probabilities_of_counts(self._counts))
        key = self._counts[NUM_CHSH_TERMS]
        error_rate = (key[0, 1] + key[1, 0]) / key.sum()
        error = math.sqrt(error_rate * (1 - error_rate) / key.sum())
        row = [unix, score.value, score.standard_error, error_rate, error]
        self.rows = np.vstack([self.rows, row])
        self._counts = np.zeros_like(self._counts)
