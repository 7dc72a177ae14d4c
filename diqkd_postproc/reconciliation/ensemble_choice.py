"""Choice of a shipped ensemble for a channel and a syndrome length, and the shortest possible syndrome.

Designs are tried in order, robust ones before near-limit ones and each by distance of its channel, until
density evolution on the actual channel decodes with a margin for the finite block. A length that none serves
is refused: the run would end in an abort after hours of measurement.

Both parties must choose the same ensemble on whatever machines they have. Lengths are therefore compared as
integers, efficiencies in whole thousandths; what remains in floating point is whether density evolution
decodes at one of these, a question that rounding could only answer in two ways if the threshold fell on it to
ten digits. Then the codes' digests, which the parties compare, differ: an error, not a wrong key.
"""

from __future__ import annotations

import math
from functools import lru_cache

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import chsh_score_of_losing, lost_test_probability
from diqkd_postproc.reconciliation.density_evolution import COARSE_GRID, decodes
from diqkd_postproc.reconciliation.ensemble import (
    DESIGNS,
    ENSEMBLES,
    NESTED_ENSEMBLES,
    DegreeEnsemble,
    conditional_entropy,
)

FINITE_LENGTH_MARGIN = 20
"""Efficiency that density evolution must leave, in units of 1 / sqrt(n): 1.6 % at 1.5e6 rounds.
Near the limit that it sets, 6 frames of 200 were lost at 1e5 rounds, 3 of 300 at 2e4; with 15, 51 of 500
at 1e5."""
QUIET_QBER = 0.003
"""Key error below which density evolution is too hopeful: it averages test edges over all checks, while the
graph spreads them evenly, and on a quiet link it is the checks with few of them that begin."""
QUIET_MARGIN, QUIET_MARGIN_MANY_TESTS, MANY_TESTS = 1_500, 300, 1 / 8
"""What a code needs in addition then, in ten-thousandths, the second from MANY_TESTS on. At n = 3e5, S = 2.68
to 2.82, Q = 0 to 0.2 %, gamma = 1/20 to 1/14, all frames were lost without, and none of 16 with 10 %; at
gamma = 1/4 one of four without."""
MIN_QBER = 1e-5
MAX_ITERATIONS = 400
NUM_NEAREST_DESIGNS = 4
"""Number of nearest channels whose ensembles are tried."""
MAX_EFFICIENCY_PERMILLE = 4000
"""Syndrome length over Shannon limit, in thousandths, to which greater ones are cut."""
MIN_ROUNDS = 1000
"""Shorter blocks say nothing of a link and follow no density evolution: they are not refused."""

_PARTS = 10_000


def ensembles_by_preference(gamma: float, qber: float) -> list[DegreeEnsemble]:
    """Shipped ensembles of the nearest channels: robust before near-limit, nearer channels first."""
    designs = sorted(DESIGNS, key=lambda candidate: candidate.distance(gamma, qber))[:NUM_NEAREST_DESIGNS]
    ranks = range(max(len(d.ensembles) for d in designs))
    return [d.ensembles[rank] for rank in ranks for d in designs if rank < len(d.ensembles)]


def choose_ensemble(
    num_rounds: int, syndrome_bits: int, gamma: float, qber: float, test_error: float
) -> DegreeEnsemble:
    """The first ensemble that decodes with margin; of those for syndromes in parts only where no other does.

    Raises ParameterError if there is none, naming the shortest syndrome that is served.
    """
    limit, margin = _limit_and_margin(num_rounds, gamma, qber, test_error)
    efficiency = min(1000 * _PARTS * syndrome_bits // (limit * margin), MAX_EFFICIENCY_PERMILLE)
    candidates = ensembles_by_preference(gamma, qber)
    if efficiency > 1000:
        for ensemble in (*candidates, *NESTED_ENSEMBLES):
            if _decodes(ensemble.name, efficiency, gamma, qber, test_error):
                return ensemble
    if num_rounds < MIN_ROUNDS:
        return candidates[0]
    shortest = _shortest(num_rounds, gamma, qber, test_error)
    remedy = (
        f"the shortest that is served has {shortest} ({shortest / limit:.3f} n H); raise syndrome_bits, "
        "or expect a better link"
        if shortest < num_rounds
        else "none below num_rounds is served; measure more rounds, or expect a better link"
    )
    raise ParameterError(
        f"syndrome_bits={syndrome_bits} is {syndrome_bits / limit:.3f} times the Shannon limit of "
        f"{num_rounds} rounds with gamma={gamma:.4g}, S={chsh_score_of_losing(test_error):.4g}, "
        f"Q={qber:.4g}, at which no shipped code decodes reliably; {remedy} (to measure a code nevertheless, "
        "name its design)"
    )


def minimum_syndrome_bits(num_rounds: int, gamma: float, chsh_score: float, qber: float) -> int:
    """Shortest syndrome for which `code_for` has a code at this design point; a few seconds at first.

    Raises ParameterError if it would not be shorter than the block.
    """
    test_error = lost_test_probability(chsh_score)
    if not (num_rounds > 1 and 0.0 < gamma < 1.0 and 0.0 <= qber <= 0.5 and 0.0 < test_error <= 0.5):
        raise ParameterError(
            f"num_rounds={num_rounds}, gamma={gamma}, S={chsh_score}, Q={qber}: not a link; "
            "gamma in (0, 1), 0 <= S < 4, 0 <= Q <= 0.5"
        )
    shortest = _shortest(num_rounds, float(gamma), qber, test_error)
    if shortest >= num_rounds:
        raise ParameterError(
            f"at gamma={float(gamma):.4g}, S={chsh_score}, Q={qber}, no shipped code serves a block of "
            f"{num_rounds} rounds with a shorter syndrome: measure more rounds, or expect a better link"
        )
    return shortest


def _shortest(num_rounds: int, gamma: float, qber: float, test_error: float) -> int:
    limit, margin = _limit_and_margin(num_rounds, gamma, qber, test_error)
    return -(-lowest_efficiency(gamma, qber, test_error) * limit * margin // (1000 * _PARTS))


def _limit_and_margin(num_rounds: int, gamma: float, qber: float, test_error: float) -> tuple[int, int]:
    """n H, bits, and the factor that a finite block needs on top of a threshold, in ten-thousandths."""
    limit = max(1, round(num_rounds * conditional_entropy(gamma, max(qber, MIN_QBER), test_error)))
    margin = _PARTS + FINITE_LENGTH_MARGIN * _PARTS // max(1, math.isqrt(num_rounds))
    if qber < QUIET_QBER:
        margin += QUIET_MARGIN if gamma < MANY_TESTS else QUIET_MARGIN_MANY_TESTS
    return limit, margin


@lru_cache(maxsize=1024)
def _decodes(name: str, efficiency: int, gamma: float, qber: float, test_error: float) -> bool:
    """Density evolution of a shipped ensemble at an efficiency in thousandths."""
    channel = (gamma, max(qber, MIN_QBER), test_error)
    return decodes(ENSEMBLES[name], efficiency / 1000, *channel, COARSE_GRID, MAX_ITERATIONS)


def lowest_efficiency(gamma: float, qber: float, test_error: float) -> int:
    """Lowest threshold on the channel, in thousandths, from above; at most MAX_EFFICIENCY_PERMILLE."""
    return lowest_threshold(gamma, qber, test_error)[0]


@lru_cache(maxsize=64)
def lowest_threshold(
    gamma: float, qber: float, test_error: float, further: tuple[str, ...] = ()
) -> tuple[int, str]:
    """`lowest_efficiency` and the name of the ensemble that has it; `further` ones are tried too."""
    candidates = [*ensembles_by_preference(gamma, qber), *(ENSEMBLES[name] for name in further)]
    lowest, name_of_lowest = MAX_EFFICIENCY_PERMILLE, candidates[0].name
    for ensemble in sorted(candidates, key=lambda e: e.threshold):

        def works(efficiency: int, name: str = ensemble.name) -> bool:
            return _decodes(name, efficiency, gamma, qber, test_error)

        if works(lowest - 1):
            # Thresholds vary little between channels: search from the known one outwards.
            above, step = min(lowest - 1, round(1000 * ensemble.threshold) + 4), 4
            while above < lowest - 1 and not works(above):
                above, step = min(lowest - 1, above + step), 2 * step
            below, step = above - 8, 8
            while below > 1000 and works(below):
                above, below, step = below, below - step, 2 * step
            below = max(below, 1000)
            while above - below > 1:
                middle = (below + above) // 2
                below, above = (below, middle) if works(middle) else (middle, above)
            lowest, name_of_lowest = above, ensemble.name
    return lowest, name_of_lowest
